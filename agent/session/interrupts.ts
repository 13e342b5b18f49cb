/**
 * When a waiting request is given up.
 *
 * Owns the rule and the watch list. The kernel sends INTERRUPT for any signal, once per request, and then waits for an answer unless
 * the request was never read. Programs written for local disks do not expect EINTR from a handled SIGALRM or SIGURG, so it is
 * answered only when the caller is dying: looked at when INTERRUPT comes and every second while the request is still blocked.
 * Knows /proc/<tid>/status, read through an injected function; does not know how a request is answered.
 */
import type { ReadStatus } from './credentials.ts'

/** SIGKILL is signal 9, bit 8 of the pending masks. Fatal signals without a handler become SIGKILL for every thread of the group. */
const SIGKILL_BIT = 0x100
const lookAgainMs = 1000

/** Is the task gone, or about to be? A pid of 0 is a caller we cannot see: it is let be. */
export function isDying (tid: number, readStatus: ReadStatus): boolean {
  if (tid === 0) return false
  const status = readStatus(tid)
  if (status === undefined) return true
  if (/^State:\s*[ZX]/m.test(status)) return true
  return [...status.matchAll(/^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)$/gm)]
    .some(([, mask = '']) => (parseInt(mask.slice(-8), 16) & SIGKILL_BIT) !== 0)
}

/** A request that may be given up. */
export interface Interruptible {
  readonly pid: number
  /** Answers EINTR to the kernel; the work itself goes on and its result is dropped. */
  giveUp (): void
}

export class Interrupts {
  readonly #readStatus: ReadStatus
  readonly #watched = new Set<Interruptible>()
  #timer: NodeJS.Timeout | undefined

  constructor (readStatus: ReadStatus) { this.#readStatus = readStatus }

  /** A signal reached the caller of this blocked request. */
  interrupt (request: Interruptible): void {
    if (isDying(request.pid, this.#readStatus)) {
      this.forget(request)
      request.giveUp()
      return
    }
    this.#watched.add(request)
    this.#timer ??= setInterval(() => { this.look() }, lookAgainMs).unref()
  }

  /** The request was answered. */
  forget (request: Interruptible): void {
    this.#watched.delete(request)
    if (this.#watched.size > 0 || this.#timer === undefined) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Gives up what waits for a caller that has meanwhile been killed. */
  look (): void {
    for (const request of [...this.#watched]) this.interrupt(request)
  }

  get watched (): number { return this.#watched.size }

  close (): void {
    this.#watched.clear()
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}
