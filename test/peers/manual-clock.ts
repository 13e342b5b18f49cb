/**
 * A clock that stands still until told. Owns pending timers; does not know what they are for.
 */
import type { Clock } from '../../agent/base/clock.ts'

export class ManualClock implements Clock {
  #now = 1_000
  #timers: { readonly at: number, readonly task: () => void }[] = []

  nowMs (): number { return this.#now }

  after (ms: number, task: () => void): () => void {
    const timer = { at: this.#now + ms, task }
    this.#timers.push(timer)
    return () => { this.#timers = this.#timers.filter((other) => other !== timer) }
  }

  /** Lets time pass, running what becomes due, in order. */
  advance (ms: number): void {
    const end = this.#now + ms
    for (;;) {
      const due = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0]
      if (due === undefined) break
      this.#timers = this.#timers.filter((other) => other !== due)
      this.#now = Math.max(this.#now, due.at)
      due.task()
    }
    this.#now = end
  }
}

/** Lets everything run that needs no time and no outside event. */
export async function turns (count = 20): Promise<void> {
  for (let index = 0; index < count; index++) await new Promise((resolve) => { setImmediate(resolve) })
}
