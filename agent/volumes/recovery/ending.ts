/**
 * What is to go goes: an unpublish, an unstage or an undo that fails half-way is gone on with, whether it is called
 * again or not.
 *
 * Owns the order of an end (the bind, then the shared mount if nobody else uses it, then the bind's record) and the
 * timer that repeats it. Keeps no list of its own: a bind that is `detaching` and a mount without users are unfinished,
 * and the table says which there are. So a repeat of the call, this timer and the next agent all find the same.
 */
import { messageOf } from '../../base/errors.ts'
import type { AbsolutePath, StageKey } from '../../base/brands.ts'
import type { Attaching, DetachRequest } from '../attaching.ts'
import type { EngineParts } from '../parts.ts'
import type { NameLocks } from '../locks.ts'
import type { BindRecord, MountRecord } from '../records/records.ts'

/** A process that dies late, a busy mount: the first repeat comes soon, later ones cost little. */
const waitMinMs = 1000
const waitMaxMs = 60_000

export class Endings {
  readonly #parts: EngineParts
  readonly #attaching: Attaching
  readonly #locks: NameLocks
  /** Why the last try to end something of a key failed. Forgotten with the mount. */
  readonly #problems = new Map<StageKey, { readonly reason: string, readonly tries: number }>()
  #timer: NodeJS.Timeout | undefined
  #rounds = 0
  #isRunning = false
  #isStopped = false

  constructor (parts: EngineParts, attaching: Attaching, locks: NameLocks) {
    this.#parts = parts
    this.#attaching = attaching
    this.#locks = locks
  }

  /** Takes a bind away, and the shared mount with its last one. What fails is thrown, and gone on with. */
  async end (request: DetachRequest, hurry = false): Promise<{ readonly lostBytes: number }> {
    try {
      return await this.#endNow(request, hurry)
    } catch (error) {
      this.#rounds = 0
      this.#schedule()
      throw error
    }
  }

  /** Something may be unfinished: it is looked after from now on. What a round of ours tells is no news: it waits ever
   * longer. */
  goOn (): void {
    if (!this.#isRunning) this.#rounds = 0
    this.#schedule()
  }

  /** How often, and why in vain, it was tried to end a mount; empty when nothing has failed. */
  problemOf (key: StageKey): string {
    const problem = this.#problems.get(key)
    return problem === undefined ? '' : ` (tries: ${problem.tries}): ${problem.reason}`
  }

  forget (key: StageKey): void {
    this.#problems.delete(key)
  }

  stop (): void {
    this.#isStopped = true
    clearTimeout(this.#timer)
  }

  /** The record goes last: as long as the mount is there, a repeat must find out whose it is. */
  async #endNow (request: DetachRequest, hurry: boolean): Promise<{ readonly lostBytes: number }> {
    const key = await this.#attaching.detach(request)
    const lost = key === undefined ? { lostBytes: 0 } : await this.#parts.shared.releaseIfUnused(key, { hurry })
    await this.#attaching.forget(request.path)
    return lost
  }

  #schedule (): void {
    clearTimeout(this.#timer)
    if (this.#isStopped || this.#isRunning) return
    const waitMs = Math.min(waitMaxMs, waitMinMs * 2 ** Math.min(this.#rounds, 10))
    this.#timer = setTimeout(() => { void this.round() }, waitMs).unref()
  }

  /** One try for everything that is unfinished; what fails is told and tried again later. Never rejects. */
  async round (): Promise<void> {
    if (this.#isRunning) return
    this.#rounds++
    this.#isRunning = true
    await Promise.all(
      this.#unfinished().map(async (each) => { await this.#tryAgain(each) })
    )
    this.#isRunning = false
    if (this.#unfinished().length > 0) this.#schedule()
  }

  /** Mounts whose last bind is still being taken away go with it. */
  #unfinished (): readonly (BindRecord | MountRecord)[] {
    const { table } = this.#parts
    const binds = table.binds().filter(({ phase }) => phase === 'detaching')
    return [...binds, ...table.mounts().filter(({ key }) => table.bindsOfKey(key).length === 0)]
  }

  async #tryAgain (record: BindRecord | MountRecord): Promise<void> {
    const { key } = record
    try {
      if (record.kind === 'bind') await this.#endBind(record.path)
      else await this.#parts.shared.releaseIfUnused(key)
      this.#problems.delete(key)
    } catch (error) {
      const tries = (this.#problems.get(key)?.tries ?? 0) + 1
      const reason = messageOf(error)
      this.#problems.set(key, { reason, tries })
      const path = record.kind === 'bind' ? record.path : record.mountPoint
      this.#parts.events({ kind: 'end-failed', key, path, reason, tries })
    }
  }

  /** A call that works on it meanwhile finishes it, or wants it back. */
  async #endBind (path: AbsolutePath): Promise<void> {
    const bind = this.#parts.table.bind(path)
    if (bind === undefined) return
    const release = this.#locks.tryAcquire([`volume ${bind.volume}`, `path ${path}`])
    if (release === undefined) return
    try {
      if (this.#parts.table.bind(path)?.phase === 'detaching') await this.#endNow(bind, false)
    } finally {
      release()
    }
  }
}
