/**
 * A mounted NFS file system: the back end, the state of its transport, and its end.
 *
 * Owns probing, statistics with a deadline, the check of the root after a reconnect, and closing. Does not know who
 * asks.
 */
import { within } from '../base/deadline.ts'
import { Errno, errnoName, isErrno } from '../base/errno.ts'
import type { Backend, FilesystemStatistics, Found } from '../fs/backend.ts'
import type { RpcClient } from '../rpc/client.ts'
import type { Clock } from '../base/clock.ts'
import type { Asker } from './asker.ts'
import { clientCredential } from './credentials.ts'
import { RootCheck, staleRoot, type RootVerdict } from './root-check.ts'

/** What the transport says of itself, for health and metrics. */
export interface NfsTransport {
  /** Address and port in use, or used last. */
  readonly serverAddress: string
  /** -1 before the first answer. */
  sinceLastReplyMs (): number
  counters (): Readonly<Record<string, number>>
  gauges (): Readonly<Record<string, number>>
}

export interface ProbeAnswer {
  readonly ok: boolean
  readonly health: 'healthy' | 'unreachable' | 'stale'
  readonly ms: number
  /** Empty when healthy, else a sentence with a remedy. */
  readonly reason: string
}

export interface DatedStatistics {
  readonly statistics: FilesystemStatistics
  /** The server did not answer in time: these are the last known values, `ageMs` old. */
  readonly stale: boolean
  readonly ageMs: number
  /** What the server answered instead of figures; undefined when it answered nothing, or with figures. */
  readonly errno?: Errno
}

export interface NfsClientParts {
  readonly backend: Backend
  readonly asker: Asker
  readonly rpc: RpcClient
  readonly clock: Clock
  /** See `RootCheckParts`. */
  readonly walkAgain: () => Promise<Found>
  readonly mountAgain: () => Promise<Found>
  readonly farewell: () => Promise<void>
}

export class NfsClient {
  readonly backend: Backend
  readonly transport: NfsTransport
  readonly #asker: Asker
  readonly #rpc: RpcClient
  readonly #clock: Clock
  readonly #rootCheck: RootCheck
  readonly #farewell: () => Promise<void>
  #statistics: { values: FilesystemStatistics, atMs: number } | undefined
  #isRechecking = false
  #isClosed = false

  constructor ({ backend, asker, rpc, clock, walkAgain, mountAgain, farewell }: NfsClientParts) {
    this.backend = backend
    this.#asker = asker
    this.#rpc = rpc
    this.#clock = clock
    this.#rootCheck = new RootCheck({
      root: backend.root, walkAgain, mountAgain,
      askRoot: async () => await backend.getattr(backend.root.handle, clientCredential)
    })
    this.#farewell = farewell
    this.transport = {
      get serverAddress () { return rpc.address },
      sinceLastReplyMs: () => rpc.sinceLastReplyMs(),
      counters: () => ({ ...rpc.counters, jukebox: asker.jukebox }),
      gauges: () => ({
        pending: rpc.pending,
        connections: rpc.connections,
        notResponding: rpc.isNotResponding ? 1 : 0,
        recordMemoryLeased: rpc.pool.leased,
        recordMemoryFreeBytes: rpc.pool.keptBytes
      })
    }
  }

  /** Asks the server now, past every cache. Always answers within `deadlineMs`. */
  async probe (deadlineMs: number): Promise<ProbeAnswer> {
    const startMs = this.#clock.nowMs()
    const result = await within(
      deadlineMs,
      this.backend.getattr(this.backend.root.handle, clientCredential),
      () => undefined
    )
    const ms = this.#clock.nowMs() - startMs
    if (result === Errno.ESTALE) {
      return { ok: false, health: 'stale', ms, reason: staleRoot }
    }
    if (result === undefined || isErrno(result)) {
      const why = result === undefined ? `no answer within ${deadlineMs} ms` : `the server answers ${errnoName(result)}`
      const trouble = this.#rpc.trouble === '' ? '' : ` (${this.#rpc.trouble})`
      return { ok: false, health: 'unreachable', ms, reason: `${why}${trouble}; check the server and the network` }
    }
    const { trouble } = this.#rootCheck
    // Seen by the next probe: the folder may have been put back.
    if (trouble !== '') void this.#rootCheck.look()
    if (trouble !== '') return { ok: false, health: 'stale', ms, reason: trouble }
    return { ok: true, health: 'healthy', ms, reason: '' }
  }

  /** FSSTAT within `deadlineMs`, or the last known values; an errno when there never were any. */
  async statistics (deadlineMs: number): Promise<DatedStatistics | Errno> {
    const result = await within(
      deadlineMs,
      this.backend.statfs(this.backend.root.handle, clientCredential),
      () => undefined
    )
    const nowMs = this.#clock.nowMs()
    if (result !== undefined && !isErrno(result)) {
      this.#statistics = { values: result, atMs: nowMs }
      return { statistics: result, stale: false, ageMs: 0 }
    }
    if (this.#statistics === undefined) return result ?? Errno.ETIMEDOUT
    const last = {
      statistics: this.#statistics.values, stale: true, ageMs: Math.round(nowMs - this.#statistics.atMs)
    }
    // A soft mount's time-out is an errno too.
    return result === undefined || result === Errno.ETIMEDOUT ? last : { ...last, errno: result }
  }

  /** After a reconnect: does the path still lead to the folder that is mounted? `probe` tells. */
  recheckRoot (): void {
    if (this.#isRechecking || this.#isClosed) return
    this.#isRechecking = true
    void this.#rootCheck.recheck().finally(() => { this.#isRechecking = false })
  }

  /** Whether a mount made now would show the same. Answers within `deadlineMs`; what cannot be found out is yes. */
  async checkRoot (deadlineMs: number): Promise<RootVerdict> {
    const unknown: RootVerdict = { isCurrent: true, reason: this.#rootCheck.trouble }
    if (this.#isClosed || this.#rpc.isNotResponding) return unknown
    return await within(deadlineMs, this.#rootCheck.look(), () => unknown)
  }

  /** Ends it: everything pending, and everything later, answers `errno`. Tells the server, if it listens. */
  async close (errno: Errno = Errno.EIO): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    const isServerThere = this.#rpc.connections > 0 && !this.#rpc.isNotResponding
    this.#asker.shut(errno)
    this.#rpc.close()
    if (isServerThere) await this.#farewell()
  }
}
