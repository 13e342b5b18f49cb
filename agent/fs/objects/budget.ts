/**
 * Memory that can be had again from the server, up to a sum for the whole session. Owns the order of use, and that who
 * was used longest ago lets go first. Does not know what is held.
 */
import { UseOrder } from './use-order.ts'

export interface Holder {
  /** Lets go of what can be had again. It counts as nothing from then on. */
  shed (): void
}

export class Budget {
  readonly #bytesMax: number
  readonly #holders = new UseOrder<Holder, number>()
  #bytes = 0

  constructor (bytesMax: number) { this.#bytesMax = bytesMax }

  get bytes (): number { return this.#bytes }

  /** It has been used just now, and holds so much. Others make room; who alone holds too much has a bound of its own.
   */
  note (holder: Holder, bytes: number): void {
    this.#bytes += bytes - (this.#holders.get(holder) ?? 0)
    if (bytes === 0) this.#holders.delete(holder)
    else this.#holders.put(holder, bytes)
    while (this.#bytes > this.#bytesMax) {
      const { oldest } = this.#holders
      if (oldest === undefined || oldest === holder) return
      this.note(oldest, 0)
      oldest.shed()
    }
  }
}
