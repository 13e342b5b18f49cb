/**
 * The agent's HTTP port, and the same on a unix socket.
 *
 * Owns the listener: that it is tried again until it can be had, how long a peer may take, how many connections there
 * are. Whether it is open decides nothing: mounts, sockets and the agent's life do not wait for it. Does not know what
 * is told (`routes.ts`).
 */
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { pause } from '../../base/deadline.ts'
import { messageOf } from '../../base/errors.ts'
import { Connections } from './connections.ts'
import { parseListenAddress, showAddress, type ListenAddress } from './listen-address.ts'
import { pageOf, plain, type HttpContents, type Page } from './routes.ts'

/** `off`: nobody wants it. `waiting`: the address can't be had; it is tried again. */
export interface HttpState {
  readonly phase: 'off' | 'opening' | 'open' | 'waiting'
  /** As it is bound, or as it should be. */
  readonly address: string
  readonly error: string
}

export interface HttpDoorOptions extends HttpContents {
  readonly onChange?: (state: HttpState) => void
  /** A page could not be made. Whoever asked is not told why: it may name what is nobody's business. */
  readonly onFailure?: (error: unknown) => void
  readonly retry?: { readonly firstMs: number, readonly maxMs: number }
}

/** A scraper on the same network needs milliseconds. */
const headersMs = 5000
const requestMs = 8000
/** From the whole request to the last byte that the peer has taken; longer than the answer takes to be made. */
const answerMs = 10_000
/** Node looks for what is late so often; its own 30 s would make the limits above be ten times longer. */
const lookMs = 1000
const keepAliveMs = 5000
const retryDefault = { firstMs: 1000, maxMs: 60_000 }

function respond (response: ServerResponse, { status, contentType, body, headers = {} }: Page): void {
  const bytes = typeof body === 'string' ? Buffer.from(body) : body
  response.writeHead(status, {
    ...headers, 'content-type': contentType, 'content-length': bytes.length, 'x-content-type-options': 'nosniff',
    'cache-control': 'no-store'
  })
  // Node sends no body in answer to HEAD.
  response.end(bytes)
}

export class HttpDoor {
  readonly #options: HttpDoorOptions
  readonly #server: Server
  readonly #connections = new Connections()
  /** Connections of the unix socket: only root can make one. */
  readonly #trusted = new WeakSet<Socket>()
  readonly #stopped = new AbortController()
  #state: HttpState = { phase: 'off', address: '', error: '' }

  constructor (options: HttpDoorOptions) {
    this.#options = options
    this.#server = createServer({
      headersTimeout: headersMs, requestTimeout: requestMs, connectionsCheckingInterval: lookMs,
      keepAliveTimeout: keepAliveMs, maxHeaderSize: 8192
    }, (request, response) => { this.#answer(request, response) })
    this.#server.on('connection', (socket: Socket) => { this.#connections.admit(socket) })
    // One accept that failed (EMFILE) is not the end of the listener.
    this.#server.on('error', () => undefined)
  }

  get state (): HttpState { return this.#state }

  /** Opens the port, now or as soon as it can be had. @throws VolumeError INVALID when the text is no address. */
  start (text: string): void {
    const address = parseListenAddress(text)
    this.#become({ phase: 'opening', address: showAddress(address), error: '' })
    void this.#open(address)
  }

  /** Takes a connection that only root can have made. */
  acceptTrusted (socket: Socket): void {
    this.#trusted.add(socket)
    this.#server.emit('connection', socket)
  }

  close (): void {
    this.#stopped.abort()
    this.#server.close()
    this.#server.closeAllConnections()
  }

  async #open (address: ListenAddress): Promise<void> {
    const { firstMs, maxMs } = this.#options.retry ?? retryDefault
    for (let waitMs = firstMs; !this.#stopped.signal.aborted; waitMs = Math.min(waitMs * 2, maxMs)) {
      try {
        const { address: host, port } = await this.#listen(address)
        this.#become({ phase: 'open', address: showAddress({ host, port }), error: '' })
        return
      } catch (error) {
        this.#become({ phase: 'waiting', address: showAddress(address), error: messageOf(error) })
        await pause(waitMs, this.#stopped.signal)
      }
    }
  }

  async #listen (address: ListenAddress): Promise<AddressInfo> {
    await new Promise<void>((resolve, reject) => {
      const failed = (error: Error): void => { reject(error) }
      this.#server.once('error', failed)
      this.#server.listen(address, () => {
        this.#server.off('error', failed)
        resolve()
      })
    })
    if (this.#stopped.signal.aborted) this.#server.close()
    return this.#server.address() as AddressInfo
  }

  #become (state: HttpState): void {
    const isNews = state.phase !== this.#state.phase || state.error !== this.#state.error
    this.#state = state
    if (isNews) this.#options.onChange?.(state)
  }

  #answer (request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request
    const { done } = this.#connections.began(socket)
    const late = setTimeout(() => { socket.destroy() }, answerMs)
    response.once('close', () => {
      clearTimeout(late)
      done()
    })
    pageOf(request, this.#options, this.#trusted.has(socket)).catch((error: unknown) => {
      this.#options.onFailure?.(error)
      return plain(500, "this could not be made; the agent's log says why")
    }).then((page) => { respond(response, page) }).catch(() => { socket.destroy() })
  }
}
