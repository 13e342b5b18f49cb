/**
 * When a waiting request is given up.
 *
 * Owns the rule. The kernel sends INTERRUPT for any signal, once per request, and then waits for an answer unless the
 * request was never read; asynchronous direct I/O sends none and waits uninterruptibly (kernel fs/fuse/file.c,
 * fuse_direct_IO). Programs written for local disks do not expect EINTR from a handled SIGALRM or SIGURG. So EINTR is
 * answered only when the caller is dying: looked at when INTERRUPT comes, and twice a second for whatever has been
 * blocked for a while. Knows the text of /proc/<tid>/status; does not know how it is read, nor how a request is
 * answered.
 */
import { monotonicMs } from '../base/deadline.ts'
import { statusHeadBytes } from './proc-status.ts'
import type { Tasks } from './tasks.ts'

/** The text of /proc/<tid>/status, or undefined when there is no such task. */
type ReadStatus = (tid: number) => string | undefined

/** SIGKILL is signal 9, bit 8 of the pending masks. Fatal signals without a handler become SIGKILL for every thread of
 * the group. */
const SIGKILL_BIT = 0x100
/** A killed process is to be gone within two seconds: a request is overdue after one period and looked at within the
 * next. */
export const lookEveryMs = 500
/** Many blocked callers are looked at in portions of so much time, with room for other work between them. */
const lookMs = 5
const goOnMs = 20

/**
 * Is the caller gone, or about to be? A pid of 0 is a caller we cannot see: it is let be. A thread that waits in the
 * kernel cannot be gone; one that is had asked without waiting (io_submit), and its process waits: what becomes of that
 * decides. `process` undefined is a request that nobody asks for without waiting, 0 a process that we could not see.
 */
export function isDying (tid: number, readStatus: ReadStatus, process?: number): boolean {
  if (tid === 0) return false
  const status = readStatus(tid)
  if (status !== undefined && !isOver(status)) return isKilled(status)
  return process === undefined || (process !== 0 && isProcessDying(readStatus(process)))
}

const isOver = (status: string): boolean => /^State:\s*[ZX]/m.test(status)

const isKilled = (status: string): boolean =>
  [...status.matchAll(/^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)$/gm)]
    .some(([, mask = '']) => (parseInt(mask.slice(-8), 16) & SIGKILL_BIT) !== 0)

/** A process goes on when its first thread has ended and others have not: that one stays a zombie until they have. */
function isProcessDying (leader: string | undefined): boolean {
  if (leader === undefined || isKilled(leader)) return true
  return isOver(leader) && Number(/^Threads:\s*(\d+)$/m.exec(leader)?.[1] ?? 1) <= 1
}

/** A request that may be given up. */
export interface Interruptible {
  readonly uid: number
  readonly pid: number
  /** The process that goes on waiting when the thread has ended; see `isDying`. */
  readonly process?: number | undefined
  /** Answers EINTR to the kernel; the work itself goes on and its result is dropped. */
  giveUp (): void
}

export class Interrupts {
  readonly #tasks: Tasks
  /** Their callers are being looked at by another thread. */
  readonly #lookedAt = new Set<Interruptible>()
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor (tasks: Tasks) { this.#tasks = tasks }

  /** Looks from now on at `overdue()`: the requests blocked for longer than a period. */
  start (overdue: () => Iterable<Interruptible>): void {
    let looking: Iterator<Interruptible> | undefined
    const look = (): void => {
      const untilMs = monotonicMs() + lookMs
      looking ??= overdue()[Symbol.iterator]()
      for (let next = looking.next();; next = looking.next()) {
        if (next.done === true) {
          looking = undefined
          break
        }
        this.consider(next.value)
        if (monotonicMs() > untilMs) break
      }
      if (!this.#isClosed) this.#timer = setTimeout(look, looking === undefined ? lookEveryMs : goOnMs).unref()
    }
    this.#timer ??= setTimeout(look, lookEveryMs).unref()
  }

  /** Gives the request up if its caller is dying. */
  consider (request: Interruptible): void {
    if (this.#lookedAt.has(request)) return
    const { uid, pid, process } = request
    if (this.#tasks.isSlow(uid)) {
      void this.#considerLater(request)
      return
    }
    let isCut = false
    const isDead = isDying(pid, (tid) => {
      const text = this.#tasks.head(uid, tid)
      isCut ||= text !== undefined && text.length >= statusHeadBytes
      return text
    }, process)
    // The signals come after the groups.
    if (isCut) void this.#considerLater(request)
    else if (isDead) request.giveUp()
  }

  async #considerLater (request: Interruptible): Promise<void> {
    const { uid, pid, process } = request
    this.#lookedAt.add(request)
    const read = new Map<number, string | undefined>()
    for (const tid of [pid, process ?? 0]) if (tid !== 0) read.set(tid, await this.#tasks.later(uid, tid))
    this.#lookedAt.delete(request)
    if (isDying(pid, (tid) => read.get(tid), process)) request.giveUp()
  }

  close (): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}
