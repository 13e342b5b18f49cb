/**
 * How many sessions start at once. Owns the line of those that wait. Does not know what a start is.
 *
 * A start takes a CPU for a third of a second and 60 MiB from then on: sixty at once on two CPUs take longer than one
 * after the other, and none is ready before the last. What a start waits for at a server is no part of it, so a dead
 * one holds up nobody.
 */
import { VolumeError } from '../../base/errors.ts'

export interface StartGateParts {
  /** How many may be under way now; asked whenever one could begin. */
  readonly atOnce: () => number
  /** How long one waits for its turn. */
  readonly waitMs: number
}

interface Waiting {
  readonly go: () => void
}

export class StartGate {
  readonly #parts: StartGateParts
  readonly #waiting = new Set<Waiting>()
  #running = 0

  constructor (parts: StartGateParts) {
    this.#parts = parts
  }

  get waiting (): number { return this.#waiting.size }

  /** @throws VolumeError UNAVAILABLE when its turn does not come in time; whoever repeats the call waits anew. */
  async run<T> (work: () => Promise<T>): Promise<T> {
    if (this.#waiting.size === 0 && this.#hasRoom()) this.#running++
    else await this.#turn()
    try {
      return await work()
    } finally {
      this.#running--
      this.#admit()
    }
  }

  /** One may always run: what else is short must not stop everything. */
  #hasRoom (): boolean {
    return this.#running === 0 || this.#running < this.#parts.atOnce()
  }

  #admit (): void {
    for (const next of this.#waiting) {
      if (!this.#hasRoom()) return
      this.#waiting.delete(next)
      this.#running++
      next.go()
    }
  }

  async #turn (): Promise<void> {
    const { waitMs } = this.#parts
    await new Promise<void>((resolve, reject) => {
      const waiting: Waiting = { go: () => { clearTimeout(timer); resolve() } }
      const timer = setTimeout(() => {
        this.#waiting.delete(waiting)
        reject(
          new VolumeError(
            'UNAVAILABLE',
            `${this.#running} sessions are being started and ${this.#waiting.size} more wait: no turn within ${waitMs / 1000} s`,
            {
              remedy: 'it is tried again by itself; if it stays so the node is short of CPU or memory'
            }
          )
        )
      }, waitMs)
      this.#waiting.add(waiting)
    })
  }
}
