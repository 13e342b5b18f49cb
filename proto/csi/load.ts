/**
 * Turns the compiled descriptors into gRPC service definitions.
 *
 * Owns the decoding options that `types.ts` describes, and what the descriptors say about secret fields.
 * Reads no file: `descriptors.ts` is compiled in. Costs tens of milliseconds, so each role loads once and passes the
 * result on.
 */
import { fromJSON } from '@grpc/proto-loader'
import type { ServiceDefinition } from '@grpc/grpc-js'
import { descriptors } from './descriptors.ts'
import type { ServiceName } from './types.ts'

export type Services = Readonly<Record<ServiceName, ServiceDefinition>>

const fullNames = {
  Identity: 'csi.v1.Identity',
  Node: 'csi.v1.Node',
  Registration: 'pluginregistration.Registration',
  Agent: 'volbridge.agent.v1.Agent'
} as const satisfies Record<ServiceName, string>

export function loadServices (): Services {
  const definitions = fromJSON(descriptors, { longs: String, enums: String, defaults: true, oneofs: true })
  const service = (name: ServiceName): ServiceDefinition => definitions[fullNames[name]] as ServiceDefinition
  return {
    Identity: service('Identity'), Node: service('Node'), Registration: service('Registration'),
    Agent: service('Agent')
  }
}
