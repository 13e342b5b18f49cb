/**
 * Answers from last known values while the server is silent (nfs(5) softreval). Owns when that is allowed: for a
 * question that waits for the configured time, and at once while the server has answered nothing since. Meanwhile one
 * question at a time goes on, so that the end of the silence is noticed. Does not know what is asked, and never invents
 * a value.
 *
 * Silence ends with any answer of the server, to whatever call: with its own I/O error too, and not with a soft mount's
 * time-out, which is none. So it is a comparison of counts and has no end that could be missed.
 */
import type { Errno } from '../../base/errno.ts'
import type { Backend } from '../backend.ts'
import type { Clock } from '../../base/clock.ts'

export class SoftRevalidation {
  readonly #clock: Clock
  readonly #backend: Pick<Backend, 'answers'>
  readonly #afterMs: number | undefined
  /** How many answers there were when the server was found to be silent. */
  #silentAt: number | undefined
  /** A question that was asked during the silence, for the first answer. */
  #isProbing = false

  constructor (parts: { clock: Clock, backend: Pick<Backend, 'answers'>, afterMs: number | undefined }) {
    this.#clock = parts.clock
    this.#backend = parts.backend
    this.#afterMs = parts.afterMs
  }

  /** True while answers come from last values. */
  get isSilent (): boolean { return this.#silentAt === this.#backend.answers }

  /** The answer of `ask`, or `known` when that is not undefined and the server is silent. `ask` goes on then. */
  async or<T> (ask: () => Promise<T | Errno>, known: () => T | undefined): Promise<T | Errno> {
    const afterMs = this.#afterMs
    const last = afterMs === undefined ? undefined : known()
    if (afterMs === undefined || last === undefined) return ask()
    if (!this.isSilent) return this.#within(afterMs, ask, () => known() ?? last)
    if (!this.#isProbing) void this.#probe(ask)
    return last
  }

  #within<T> (afterMs: number, ask: () => Promise<T | Errno>, known: () => T): Promise<T | Errno> {
    const answersBefore = this.#backend.answers
    return new Promise<T | Errno>((resolve, reject) => {
      let isLate = false
      const cancel = this.#clock.after(afterMs, () => {
        isLate = true
        // One call that takes long while others are answered is no silence.
        if (this.#backend.answers === answersBefore) this.#silentAt = answersBefore
        resolve(known())
      })
      void ask().then((answer) => {
        cancel()
        resolve(answer)
      }, (error: unknown) => {
        cancel()
        // Whoever asked has been answered: a fault must not vanish for that.
        if (isLate) throw error
        reject(error instanceof Error ? error : new Error(String(error)))
      })
    })
  }

  /** What it learns is kept by the caches; here only that there was an answer counts. */
  async #probe (ask: () => Promise<unknown>): Promise<void> {
    this.#isProbing = true
    try {
      await ask()
    } finally {
      this.#isProbing = false
    }
  }
}
