/**
 * The transport of one mount: nconnect channels to one server, one timer for all of them.
 *
 * Owns the choice of the channel and the tick. With more than one channel the first carries no file data, so that a
 * LOOKUP never waits behind a megabyte. Does not know NFS: procedures come as table rows.
 */
import { randomInt } from 'node:crypto'
import type { Procedure } from '../../proto/rpc/procedure.ts'
import type { BulkResult, Caller, CallTrace, RecoveryOptions } from './call.ts'
import { Channel } from './channel.ts'
import { type Clock, systemClock } from '../base/clock.ts'
import { newCounters, type RpcCounters, type RpcObserver } from './events.ts'
import type { Route } from './reconnector.ts'
import { RecordPool } from './record-pool.ts'

export interface RpcClientOptions {
  readonly route: Route
  readonly nconnect: number
  readonly recovery: RecoveryOptions
  readonly resvport: boolean
  /** One attempt to connect. */
  readonly connectMs?: number
  readonly observe?: RpcObserver
  readonly clock?: Clock
  readonly random?: () => number
  /** Where xids begin: anywhere, so that a server does not take calls of this client for repeated ones of the last. */
  readonly firstXid?: number
}

/** Large enough to cost nothing, small enough for the shortest `timeo` there is (100 ms). */
const tickMsMax = 250
const tickMsMin = 10
/** A client without calls for this long gives its free memory back. */
const idleTrimMs = 10_000
/** Positive 31-bit xids stay small integers in V8, which keeps the table of calls in flight fast. */
export const xidMax = 0x7fff_ffff

export class RpcClient implements Caller {
  readonly pool = new RecordPool()
  readonly #counters = newCounters()
  readonly #clock: Clock
  readonly #channels: readonly Channel[]
  readonly #metadata: Channel
  /** Where file data goes. */
  readonly #bulk: readonly Channel[]
  readonly #tickMs: number
  /** Procedures whose answers were told to have bytes behind their end; at most all there are. */
  readonly #trailing = new Set<string>()
  #nextBulk = 0
  #xid: number
  #cancelTick: (() => void) | undefined
  #cancelTrim: (() => void) | undefined
  #isClosed = false

  constructor ({
    route,
    nconnect,
    recovery,
    resvport,
    connectMs = 10_000,
    observe = () => undefined,
    clock = systemClock,
    random = Math.random,
    firstXid = randomInt(xidMax)
  }: RpcClientOptions) {
    this.#xid = firstXid
    this.#clock = clock
    this.#tickMs = Math.min(tickMsMax, Math.max(tickMsMin, recovery.timeoMs / 8))
    const parts = { clock, pool: this.pool, counters: this.#counters }
    const options = {
      route,
      resvport,
      connectMs,
      observe,
      random,
      recovery,
      nextXid: () => { this.#xid = this.#xid >= xidMax ? 1 : this.#xid + 1; return this.#xid },
      onPending: () => { this.#startTick() },
      onTrailing: (procedure: string, bytes: number) => {
        this.#counters.trailing++
        if (this.#trailing.has(procedure)) return
        this.#trailing.add(procedure)
        observe({ kind: 'trailing', procedure, bytes })
      }
    }
    this.#metadata = new Channel(options, parts)
    const others = Array.from({ length: Math.max(0, nconnect - 1) }, () => new Channel(options, parts))
    this.#channels = [this.#metadata, ...others]
    this.#bulk = others.length > 0 ? others : this.#channels
  }

  get counters (): Readonly<RpcCounters> { return this.#counters }
  get pending (): number { return this.#channels.reduce((sum, channel) => sum + channel.pending, 0) }
  get connections (): number { return this.#channels.filter((channel) => channel.isConnected).length }
  get isNotResponding (): boolean {
    const heardMs = this.#lastReplyMs
    return this.#channels.some((channel) => channel.isNotResponding(heardMs))
  }

  /** Address and port in use, or used last; empty before the first connection. */
  get address (): string { return this.#channels.find((channel) => channel.address !== '')?.address ?? '' }
  /** Why the server cannot be reached, as far as known. */
  get trouble (): string { return this.#channels.find((channel) => channel.trouble !== '')?.trouble ?? '' }

  /** -1 before the first reply. */
  sinceLastReplyMs (): number {
    const last = this.#lastReplyMs
    return last < 0 ? -1 : this.#clock.nowMs() - last
  }

  get #lastReplyMs (): number {
    return this.#channels.reduce((latest, channel) => Math.max(latest, channel.lastReplyMs ?? -1), -1)
  }

  call<A, R> (procedure: Procedure<A, R>, args: A, credential: Buffer, trace?: CallTrace): Promise<R> {
    return this.#channelFor(procedure.bulk !== 'none').call(procedure, args, credential, trace)
  }

  callBulk<A, R> (procedure: Procedure<A, R>, args: A, credential: Buffer): Promise<BulkResult<R>> {
    return this.#channelFor(true).callBulk(procedure, args, credential)
  }

  close (): void {
    this.#isClosed = true
    this.#cancelTick?.()
    this.#cancelTrim?.()
    this.#cancelTick = this.#cancelTrim = undefined
    for (const channel of this.#channels) channel.close()
    this.pool.trim()
  }

  #channelFor (isBulk: boolean): Channel {
    if (!isBulk) return this.#metadata
    this.#nextBulk = (this.#nextBulk + 1) % this.#bulk.length
    return this.#bulk[this.#nextBulk] ?? this.#metadata
  }

  #startTick (): void {
    this.#cancelTrim?.()
    this.#cancelTrim = undefined
    if (this.#cancelTick !== undefined || this.#isClosed) return
    this.#cancelTick = this.#clock.after(this.#tickMs, () => { this.#tick() })
  }

  #tick (): void {
    this.#cancelTick = undefined
    const nowMs = this.#clock.nowMs()
    for (const channel of this.#channels) channel.tick(nowMs)
    if (this.#isClosed) return
    if (this.pending > 0) this.#startTick()
    else this.#cancelTrim ??= this.#clock.after(idleTrimMs, () => { this.#cancelTrim = undefined; this.pool.trim() })
  }
}
