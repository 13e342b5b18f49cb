/**
 * Who may work on what. Owns exclusive names and per-key order. Does not know what is done under a lock.
 * Check and take happen in one tick, with no await between them, so two calls never both pass.
 */

/** Exclusive names: a caller that does not get them is told so, it does not wait (the CO repeats). */
export class NameLocks {
  readonly #held = new Set<string>()

  /** All of the names or none. Returns the function that gives them back. */
  tryAcquire (names: readonly string[]): (() => void) | undefined {
    if (names.some((name) => this.#held.has(name))) return undefined
    for (const name of names) this.#held.add(name)
    let held = true
    return () => {
      if (!held) return
      held = false
      for (const name of names) this.#held.delete(name)
    }
  }

  isHeld (name: string): boolean {
    return this.#held.has(name)
  }
}

/** Work of one key in order, of different keys at once. */
export class KeyedQueue {
  readonly #tails = new Map<string, Promise<unknown>>()

  async run<T> (key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve()
    const turn = before.then(work, work)
    const tail = turn.catch(() => undefined)
    this.#tails.set(key, tail)
    try {
      return await turn
    } finally {
      if (this.#tails.get(key) === tail) this.#tails.delete(key)
    }
  }
}

/** One piece of work per key for everyone who asks while it runs; its failure is everyone's failure. */
export class SharedWork<T> {
  readonly #running = new Map<string, Promise<T>>()

  async run (key: string, work: () => Promise<T>): Promise<T> {
    const running = this.#running.get(key)
    if (running !== undefined) return await running
    const started = work()
    this.#running.set(key, started)
    try {
      return await started
    } finally {
      this.#running.delete(key)
    }
  }
}

/** Deeds to take back, last first. A failure on the way does not stop the others; the first is returned. */
export class UndoStack {
  readonly #steps: Array<() => Promise<void>> = []

  add (step: () => Promise<void>): void {
    this.#steps.push(step)
  }

  async run (): Promise<unknown> {
    let first: unknown
    for (const step of this.#steps.splice(0).reverse()) {
      try {
        await step()
      } catch (error) {
        first ??= error
      }
    }
    return first
  }
}
