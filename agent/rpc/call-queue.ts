/**
 * Calls that wait for a place in flight, first come first served.
 * Owns the order; calls that were settled while waiting are passed over. Taking one costs the same however long the
 * queue is.
 */
import type { PendingCall } from './call.ts'

export class CallQueue {
  #calls: (PendingCall | undefined)[] = []
  #head = 0

  /** Counts settled ones that were not yet passed over. */
  get size (): number { return this.#calls.length - this.#head }

  push (call: PendingCall): void { this.#calls.push(call) }

  shift (): PendingCall | undefined {
    while (this.#head < this.#calls.length) {
      const call = this.#calls[this.#head]
      this.#calls[this.#head++] = undefined
      if (this.#head > 1024 && this.#head * 2 > this.#calls.length) {
        this.#calls = this.#calls.slice(this.#head)
        this.#head = 0
      }
      if (call !== undefined && !call.isSettled) return call
    }
    this.#calls = []
    this.#head = 0
    return undefined
  }

  /** All that wait, out of the queue. */
  drain (): readonly PendingCall[] {
    const calls = [...this]
    this.#calls = []
    this.#head = 0
    return calls
  }

  * [Symbol.iterator] (): Generator<PendingCall> {
    for (let index = this.#head; index < this.#calls.length; index++) {
      const call = this.#calls[index]
      if (call !== undefined && !call.isSettled) yield call
    }
  }
}
