/**
 * When a waiting request is given up.
 *
 * Owns the rule. The kernel sends INTERRUPT for any signal, once per request, and then waits for an answer unless the
 * request was never read; asynchronous direct I/O sends none and waits uninterruptibly (kernel fs/fuse/file.c,
 * fuse_direct_IO). Programs written for local disks do not expect EINTR from a handled SIGALRM or SIGURG. So EINTR is
 * answered only when the caller is dying: looked at when INTERRUPT comes, and twice a second for whatever has been
 * blocked for a while. Knows /proc/<tid>/status, read through an injected function; does not know how a request is
 * answered.
 */
import type { ReadStatus } from './credentials.ts'

/** SIGKILL is signal 9, bit 8 of the pending masks. Fatal signals without a handler become SIGKILL for every thread of
 * the group. */
const SIGKILL_BIT = 0x100
/** A killed process is to be gone within two seconds: a request is overdue after one period and looked at within the
 * next. */
export const lookEveryMs = 500

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
  readonly pid: number
  /** The process that goes on waiting when the thread has ended; see `isDying`. */
  readonly process?: number | undefined
  /** Answers EINTR to the kernel; the work itself goes on and its result is dropped. */
  giveUp (): void
}

export class Interrupts {
  readonly #readStatus: ReadStatus
  #timer: NodeJS.Timeout | undefined

  constructor (readStatus: ReadStatus) { this.#readStatus = readStatus }

  /** Looks from now on at `overdue()`: the requests blocked for longer than a period. */
  start (overdue: () => Iterable<Interruptible>): void {
    this.#timer ??= setInterval(() => {
      for (const request of overdue()) this.consider(request)
    }, lookEveryMs).unref()
  }

  /** Gives the request up if its caller is dying. */
  consider (request: Interruptible): void {
    if (isDying(request.pid, this.#readStatus, request.process)) request.giveUp()
  }

  close (): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}
