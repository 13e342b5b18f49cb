/**
 * How many lines may be written down: a burst, and then so many a second.
 *
 * Owns the count, and of what was left out. What others can cause (a server that answers nonsense, a thousand times a
 * second) must fill neither a disk nor the place of what came before. Does not know lines.
 */
import { monotonicMs } from './deadline.ts'

export class LineBudget {
  readonly #burst: number
  readonly #perSecond: number
  readonly #nowMs: () => number
  #left: number
  #lastMs: number
  #leftOut = 0

  constructor ({ burst, perSecond, nowMs = monotonicMs }: {
    readonly burst: number
    readonly perSecond: number
    readonly nowMs?: () => number
  }) {
    this.#burst = burst
    this.#perSecond = perSecond
    this.#nowMs = nowMs
    this.#left = burst
    this.#lastMs = nowMs()
  }

  /** Undefined: leave the line out. Else how many were left out before it. */
  take (): number | undefined {
    const now = this.#nowMs()
    this.#left = Math.min(this.#burst, this.#left + (now - this.#lastMs) / 1000 * this.#perSecond)
    this.#lastMs = now
    if (this.#left < 1) {
      this.#leftOut++
      return undefined
    }
    this.#left--
    const before = this.#leftOut
    this.#leftOut = 0
    return before
  }
}
