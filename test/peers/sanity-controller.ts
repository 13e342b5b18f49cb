/**
 * A controller for csi-sanity to ask for volumes: each is a folder of an exported one, described as a PersistentVolume
 * would be.
 *
 * Owns those folders, its socket, and as much of the Controller service as csi-sanity calls before it tests a node. It
 * stands in for what an administrator does by hand and says nothing about the driver.
 */
import { mkdirSync, rmSync } from 'node:fs'
import path from 'node:path'
import { Server, ServerCredentials } from '@grpc/grpc-js'
import type { ServiceDefinition, handleUnaryCall } from '@grpc/grpc-js'
import { fromJSON } from '@grpc/proto-loader'
import { loadServices } from '../../proto/csi/load.ts'

const text = (id: number): object => ({ id, type: 'string' })
const map = (id: number): object => ({ id, keyType: 'string', type: 'string' })
const method = (name: string): object => ({ requestType: `${name}Request`, responseType: `${name}Response` })

/** Names and numbers of csi.proto; fields that nobody here reads are left out, as protobuf allows. */
const descriptors: object = {
  nested: {
    csi: {
      nested: {
        v1: {
          nested: {
            CreateVolumeRequest: { fields: { name: text(1), parameters: map(4) } },
            Volume: { fields: { volumeId: text(2), volumeContext: map(3) } },
            CreateVolumeResponse: { fields: { volume: { id: 1, type: 'Volume' } } },
            DeleteVolumeRequest: { fields: { volumeId: text(1) } },
            DeleteVolumeResponse: { fields: {} },
            ControllerGetCapabilitiesRequest: { fields: {} },
            ControllerGetCapabilitiesResponse: { fields: {} },
            Controller: {
              methods: Object.fromEntries(
                ['CreateVolume', 'DeleteVolume', 'ControllerGetCapabilities'].map((name) => [name, method(name)])
              )
            }
          }
        }
      }
    }
  }
}

interface CreateRequest { readonly name: string, readonly parameters: Readonly<Record<string, string>> }

export class SanityController {
  readonly #server = new Server()
  readonly #folder: string
  /** Parameters that csi-sanity gave with its volumes. */
  readonly created: Readonly<Record<string, string>>[] = []

  /** @param folder the exported folder, as this machine sees it */
  constructor (folder: string) {
    this.#folder = folder
    const controller = fromJSON(descriptors, { defaults: true })['csi.v1.Controller'] as ServiceDefinition
    const answer =
      <Request>(give: (request: Request) => object): handleUnaryCall<Request, object> => (call, callback) => {
        callback(null, give(call.request))
      }
    this.#server.addService(controller, {
      CreateVolume: answer((request: CreateRequest) => this.#create(request)),
      DeleteVolume: answer(({ volumeId }: { volumeId: string }) => {
        rmSync(path.join(this.#folder, volumeId), { recursive: true, force: true })
        return {}
      }),
      ControllerGetCapabilities: answer(() => ({}))
    })
    this.#server.addService(loadServices().Identity, {
      GetPluginInfo: answer(() => ({ name: 'csi.volbridge.io', vendorVersion: '0' })),
      GetPluginCapabilities: answer(() => ({ capabilities: [{ service: { type: 'CONTROLLER_SERVICE' } }] })),
      Probe: answer(() => ({ ready: { value: true } }))
    })
  }

  #create ({ name, parameters }: CreateRequest): object {
    this.created.push(parameters)
    mkdirSync(path.join(this.#folder, name), { recursive: true })
    return { volume: { volumeId: name, volumeContext: { ...parameters, subDir: name } } }
  }

  async listen (socket: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) => {
        if (error === null) resolve()
        else reject(error)
      })
    })
  }

  close (): void { this.#server.forceShutdown() }
}
