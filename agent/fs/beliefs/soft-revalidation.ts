/**
 * Answers from last known values when the server is silent (nfs(5) softreval). Owns when that is allowed: after the
 * configured time, and at once while the server has not answered since. Does not know what is asked, and never invents
 * a value.
 */
import { Errno } from '../../base/errno.ts'
import type { Clock } from '../clock.ts'

export class SoftRevalidation {
  readonly #clock: Clock
  readonly #afterMs: number | undefined
  #isSilent = false

  constructor (clock: Clock, afterMs: number | undefined) {
    this.#clock = clock
    this.#afterMs = afterMs
  }

  /** True while answers come from last values. */
  get isSilent (): boolean { return this.#isSilent }

  /** The answer of `ask`, or `known` when that is not undefined and the server is silent. `ask` goes on and ends the
   * silence. */
  async or<T> (ask: () => Promise<T | Errno>, known: () => T | undefined): Promise<T | Errno> {
    const afterMs = this.#afterMs
    if (afterMs === undefined) return ask()
    const last = known()
    if (last === undefined) return ask()
    if (this.#isSilent) return last
    return new Promise<T | Errno>((resolve, reject) => {
      const cancel = this.#clock.after(afterMs, () => {
        this.#isSilent = true
        resolve(known() ?? last)
      })
      ask().then((answer) => {
        cancel()
        // A soft mount's own time-out is no sign of life.
        if (answer !== Errno.ETIMEDOUT && answer !== Errno.EIO) this.#isSilent = false
        resolve(answer)
      }, reject)
    })
  }
}
