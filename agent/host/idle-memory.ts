/**
 * A process that has nothing to do gives its memory back: the agent after a burst of calls, and sessions, of which a
 * node has many.
 *
 * Owns when: once, some seconds after the last request. Knows neither who counts requests nor how memory is given back.
 */

export interface IdleMemoryParts {
  /** Grows with every request. */
  readonly work: () => number
  /** Collects garbage and returns free memory to the system; may take some milliseconds. */
  readonly release: () => void
  readonly intervalMs?: number
}

/** Longer than the pause between two bursts of one program, shorter than an operator's patience with `top`. */
const intervalMsDefault = 5_000

export class IdleMemory {
  readonly #parts: IdleMemoryParts
  readonly #timer: NodeJS.Timeout
  #seen = 0
  #released = 0

  constructor (parts: IdleMemoryParts) {
    this.#parts = parts
    this.#timer = setInterval(() => { this.#look() }, parts.intervalMs ?? intervalMsDefault)
    this.#timer.unref()
  }

  close (): void { clearInterval(this.#timer) }

  #look (): void {
    const work = this.#parts.work()
    const isIdle = work === this.#seen
    this.#seen = work
    if (!isIdle || work === this.#released) return
    this.#released = work
    this.#parts.release()
  }
}
