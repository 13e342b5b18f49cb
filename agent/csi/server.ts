/**
 * A gRPC server on a unix socket.
 *
 * Owns the only place where bytes of a connection reach grpc-js: every one goes through the front that takes any
 * `:authority`. Does not know the services it carries.
 */
import type { Socket } from 'node:net'
import { Server, ServerCredentials } from '@grpc/grpc-js'
import type { Services } from '../../proto/csi/load.ts'
import type { ServiceName } from '../../proto/csi/types.ts'
import { within } from '../base/deadline.ts'
import { acceptAnyAuthority } from './authority/front.ts'
import { takingEncoded } from './large-answer.ts'
import { toHandlers } from './unary.ts'
import type { Implementation, UnaryOptions } from './unary.ts'
import { listenUnix } from './unix-listener.ts'
import type { UnixListener } from './unix-listener.ts'

export interface RpcServerOptions {
  readonly services: Services
  readonly socketPath: string
  /** Names the path in an error: the option that it came from. */
  readonly field: string
  readonly unary: UnaryOptions
}

export type Implementations = { readonly [S in ServiceName]?: Implementation<S> }

export class RpcServer {
  readonly #grpc: Server
  readonly #options: RpcServerOptions
  readonly #connections = new Set<Socket>()
  #listener: UnixListener | undefined

  constructor (options: RpcServerOptions, implementations: Implementations) {
    this.#options = options
    this.#grpc = new Server({
      // kubelet opens a connection per call and may die without closing it: such ones end by themselves.
      'grpc.max_connection_idle_ms': 300_000,
      'grpc.keepalive_time_ms': 60_000,
      'grpc.keepalive_timeout_ms': 20_000
    })
    for (const name of Object.keys(implementations) as ServiceName[]) {
      const service = takingEncoded(options.services[name])
      this.#grpc.addService(service, toHandlers(implementations[name] ?? {}, service, options.unary))
    }
  }

  /** Makes the socket. Everything that serves must be ready: the first call may come at once. */
  async listen (): Promise<void> {
    const { socketPath, field } = this.#options
    const injector = this.#grpc.createConnectionInjector(ServerCredentials.createInsecure())
    this.#listener = await listenUnix(socketPath, field, (socket) => {
      socket.on('error', () => socket.destroy())
      this.#connections.add(socket)
      socket.once('close', () => { this.#connections.delete(socket) })
      injector.injectConnection(acceptAnyAuthority(socket))
    })
  }

  get isInPlace (): boolean { return this.#listener?.isInPlace() ?? false }

  /** Takes no new calls, waits up to `graceMs` for those that run, then cuts the connections. */
  async close ({ graceMs, leaveFile = false }: { graceMs: number, leaveFile?: boolean }): Promise<void> {
    this.#listener?.close({ leaveFile })
    this.#listener = undefined
    // Every connection is told to go when its calls are answered. grpc-js calls back at once, before they are: Node's
    // own close() of a server has marked the sessions as closed by then. What counts is that the last byte is out and
    // the connection gone.
    this.#grpc.tryShutdown(() => undefined)
    const left = Promise.all([...this.#connections].map(async (socket) => {
      await new Promise((resolve) => { socket.once('close', resolve) })
    }))
    await within(graceMs, left.then(() => undefined), () => undefined)
    this.#grpc.forceShutdown()
  }
}
