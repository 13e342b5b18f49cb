/**
 * Unary calls over a unix socket, typed by the table of calls.
 *
 * Owns one gRPC channel. Does not know what the calls mean or who serves them, and never retries: the caller knows what
 * a repeat means.
 */
import { Client, Metadata, credentials, status } from '@grpc/grpc-js'
import type { ServiceError } from '@grpc/grpc-js'
import type { Services } from './load.ts'
import type { MethodName, RequestOf, ResponseOf, ServiceName } from './types.ts'

/** A call that was answered with another status than OK. `code` is the gRPC number, `details` the server's sentence. */
export class CallError extends Error {
  override readonly name = 'CallError'
  readonly code: number
  readonly details: string
  /** The agent itself gave this answer. False when it is the transport's: no connection, or no answer in time. */
  readonly agentAnswered: boolean
  constructor (method: string, code: number, details: string, options: ErrorOptions & { agentAnswered: boolean }) {
    super(`${method}: ${details}`, options)
    this.code = code
    this.details = details
    this.agentAnswered = options.agentAnswered
  }
}

/** Trailers of our agent's failures: the code of its own taxonomy, and the field at fault. */
export const codeTrailer = 'volbridge-code'
export const fieldTrailer = 'volbridge-field'
/** On the agent's own socket a client says which door it is. The CSI socket never looks at it. */
export const doorHeader = 'volbridge-door'
/** Said by a Flex driver whose mounts nobody asks for their size: they may be such that the question waits for a dead
 * server. */
export const unmeasuredHeader = 'volbridge-unmeasured'

export interface CallOptions {
  readonly deadlineMs: number
  readonly metadata?: Readonly<Record<string, string>>
}

/** The status of a volume with its last minutes has some 12 KB: gRPC's own 4 MiB end at 350 volumes, this at more than
 * a node can mount. */
const answerBytesMax = 64 * 1024 * 1024

export class CsiClient {
  readonly #client: Client
  readonly #services: Services

  constructor (services: Services, socketPath: string) {
    this.#services = services
    this.#client = new Client(`unix:${socketPath}`, credentials.createInsecure(), {
      // A socket in the file system is never behind the proxy that a node's environment may name.
      'grpc.enable_http_proxy': 0,
      'grpc.default_authority': 'localhost',
      'grpc.max_receive_message_length': answerBytesMax,
      // Two clients of one path (a restarted agent) must not share a channel that is backing off.
      'grpc.use_local_subchannel_pool': 1,
      'grpc.initial_reconnect_backoff_ms': 50,
      'grpc.max_reconnect_backoff_ms': 1000
    })
  }

  /** Sends what is given of the request; absent fields are the protocol's defaults. @throws CallError */
  async call<S extends ServiceName, M extends MethodName<S>> (
    service: S, method: M, request: Partial<RequestOf<S, M>>, { deadlineMs, metadata = {} }: CallOptions
  ): Promise<ResponseOf<S, M>> {
    const definition = this.#services[service][method]
    if (definition === undefined) {
      throw new CallError(method, status.UNIMPLEMENTED, 'this build does not know the call', { agentAnswered: false })
    }
    const headers = new Metadata()
    for (const [key, value] of Object.entries(metadata)) headers.set(key, value)
    return await new Promise((resolve, reject) => {
      const settle = (error: ServiceError | null, response?: object): void => {
        if (error === null) resolve(response as ResponseOf<S, M>)
        else {reject(
            new CallError(method, error.code, error.details, {
              cause: error, agentAnswered: error.metadata?.get(codeTrailer).length > 0
            })
          )}
      }
      this.#client.makeUnaryRequest(
        definition.path, definition.requestSerialize, definition.responseDeserialize as (bytes: Buffer) => object,
        request, headers, { deadline: Date.now() + deadlineMs }, settle
      )
    })
  }

  close (): void { this.#client.close() }
}
