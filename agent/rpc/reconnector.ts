/**
 * Getting a connection, again and again.
 *
 * Owns back-off, the order of addresses and the choice of source ports. Does not know what is pending; the channel asks
 * for a connection when it needs one.
 */
import { messageOf, TransportError } from '../base/errors.ts'
import type { Clock } from '../base/clock.ts'
import { Connection, type ConnectionParts, type Endpoint, showEndpoint } from './connection.ts'
import type { DisconnectReason, RpcObserver } from './events.ts'

/** Where the server is. Asked anew for every round, because names and ports may change while it is away. */
export interface Route {
  /** Candidates in the order to try. `round` 0 may answer from memory. Rejects when nothing can be found out. */
  endpoints (round: number): Promise<readonly Endpoint[]>
  /** A connection was made: the next round 0 begins there, wherever the server was before. */
  reached? (endpoint: Endpoint): void
  /** Is this endpoint the same server? A sentence says why not. Asked for every endpoint but those already admitted. */
  admit (endpoint: Endpoint): Promise<string | undefined>
}

export interface ReconnectorOptions {
  readonly route: Route
  readonly resvport: boolean
  readonly connectMs: number
  readonly observe: RpcObserver
  readonly random: () => number
  /** How a connection is made, if not by TCP. */
  readonly open?: typeof Connection.open
}

const backoffFirstMs = 100
const backoffMsMax = 5_000
/** Calls that wait when a good connection ends: other nodes have lost theirs at this moment too. */
const spreadMs = 500
/**
 * After a connection that lived at least this long the next attempt is made soon, or at once if nobody waits. One that
 * answered something and died sooner costs the first pause; one that answered nothing, or garbage, a longer pause every
 * time: nothing a server does makes us spin.
 */
const healthyMs = 1_000
/** The kernel's sunrpc.min_resvport; below are well-known services. */
const reservedPortMin = 665
const reservedPortMax = 1023
const reservedPortTries = 8
const sourcePortErrors: ReadonlySet<unknown> = new Set(['EADDRINUSE', 'EADDRNOTAVAIL', 'EACCES', 'EPERM'])

export class Reconnector {
  readonly #options: ReconnectorOptions
  readonly #parts: ConnectionParts
  readonly #clock: Clock
  readonly #open: typeof Connection.open
  readonly #admitted = new Set<string>()
  #failures = 0
  #isCrowded = false
  #round = 0
  #last: { endpoint: Endpoint, sourcePort: number } | undefined
  #isStopped = false
  #wake: (() => void) | undefined
  /** Why the last round failed; empty after a success. */
  #trouble = ''

  constructor (options: ReconnectorOptions, parts: ConnectionParts) {
    this.#options = options
    this.#parts = parts
    this.#clock = parts.clock
    this.#open = options.open ?? (async (...how) => await Connection.open(...how))
  }

  get trouble (): string { return this.#trouble }

  stop (): void {
    this.#isStopped = true
    this.#wake?.()
  }

  /** Tries until there is a connection; undefined once stopped. */
  async connect (): Promise<Connection | undefined> {
    while (!this.#isStopped) {
      const waitMs = this.#backoffMs()
      if (waitMs > 0) await this.#pause(waitMs)
      if (this.#isStopped) return undefined
      const connection = await this.#attemptRound()
      if (connection !== undefined) {
        this.#round = 0
        this.#options.route.reached?.(connection.endpoint)
        this.#trouble = ''
        this.#last = { endpoint: connection.endpoint, sourcePort: connection.sourcePort }
        return connection
      }
      this.#failures++
      this.#round++
      this.#parts.counters.failedRounds++
      this.#options.observe({
        kind: 'unreachable', detail: this.#trouble, attempt: this.#failures,
        retryInMs: Math.round(this.#backoffMs(0.5))
      })
    }
    return undefined
  }

  /** What became of the connection last given out. */
  lost (reason: DisconnectReason, facts: { livedMs: number, replies: number, pending: number }): void {
    this.#isCrowded = facts.pending > 0
    if (reason === 'garbage' || facts.replies === 0) this.#failures++
    else this.#failures = facts.livedMs >= healthyMs ? 0 : 1
  }

  #backoffMs (random = this.#options.random()): number {
    if (this.#failures === 0) return this.#isCrowded ? random * spreadMs : 0
    const fullMs = Math.min(backoffMsMax, backoffFirstMs * 2 ** Math.min(this.#failures - 1, 16))
    // Half of it is chance: the nodes of a cluster lose a server at the same moment and should not return at the same
    // moment.
    return fullMs * (0.5 + random)
  }

  async #pause (ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const cancel = this.#clock.after(ms, resolve)
      this.#wake = () => { cancel(); resolve() }
    })
    this.#wake = undefined
  }

  async #attemptRound (): Promise<Connection | undefined> {
    try {
      const endpoints = await this.#options.route.endpoints(this.#round)
      for (const endpoint of this.#lastFirst(endpoints)) {
        const connection = await this.#attempt(endpoint)
        if (connection !== undefined) return connection
        if (this.#isStopped) return undefined
      }
      if (endpoints.length === 0) this.#trouble = 'the server has no address'
    } catch (error) {
      this.#trouble = messageOf(error)
    }
    return undefined
  }

  #lastFirst (endpoints: readonly Endpoint[]): readonly Endpoint[] {
    const last = this.#last
    if (last === undefined) return endpoints
    const isLast = (endpoint: Endpoint): boolean => endpoint.address === last.endpoint.address
    return [...endpoints.filter(isLast), ...endpoints.filter((endpoint) => !isLast(endpoint))]
  }

  async #attempt (endpoint: Endpoint): Promise<Connection | undefined> {
    try {
      if (!this.#admitted.has(endpoint.address)) {
        const objection = await this.#options.route.admit(endpoint)
        if (objection !== undefined) {
          this.#trouble = objection
          this.#options.observe({ kind: 'address-refused', address: showEndpoint(endpoint), detail: objection })
          return undefined
        }
        this.#admitted.add(endpoint.address)
      }
      const connection = await this.#openFromSource(endpoint)
      if (!this.#isStopped) return connection
      connection.close({ abrupt: false })
    } catch (error) {
      this.#trouble = messageOf(error)
    }
    return undefined
  }

  async #openFromSource (endpoint: Endpoint): Promise<Connection> {
    for (const sourcePort of this.#sourcePorts(endpoint)) {
      try {
        return await this.#open(endpoint, sourcePort, this.#options.connectMs, this.#parts)
      } catch (error) {
        if (isSourcePortError(error)) continue
        if (error instanceof TransportError && error.code === 'TIMED_OUT' && this.#last !== undefined) {
          // A half-open twin of ours on the way or at the server may swallow the SYN: do not insist on the port.
          this.#last = { ...this.#last, sourcePort: 0 }
        }
        throw error
      }
    }
    return await this.#open(endpoint, undefined, this.#options.connectMs, this.#parts)
  }

  /**
   * The port used last first, because servers find repeated calls by address and port; then some reserved ones, which
   * servers exporting with `secure` ask for. Any other port is the last resort.
   */
  * #sourcePorts (endpoint: Endpoint): Generator<number> {
    const last = this.#last
    if (last !== undefined && last.sourcePort !== 0 && last.endpoint.address === endpoint.address) yield last.sourcePort
    if (!this.#options.resvport) return
    const ports = reservedPortMax - reservedPortMin + 1
    const start = Math.floor(this.#options.random() * ports)
    for (let index = 0; index < reservedPortTries; index++) yield reservedPortMin + (start + index * 37) % ports
  }
}

function isSourcePortError (error: unknown): boolean {
  return error instanceof TransportError && error.cause instanceof Error &&
    sourcePortErrors.has((error.cause as NodeJS.ErrnoException).code)
}
