/**
 * Time as this folder sees it: monotonic, and replaceable by a test.
 * Owns the interface and the real clock.
 */
import { monotonicMs } from '../base/deadline.ts'

export interface Clock {
  /** Monotonic milliseconds. */
  nowMs (): number
  /** Runs once after `ms`; the returned function cancels. */
  after (ms: number, run: () => void): () => void
}

export const systemClock: Clock = {
  nowMs: monotonicMs,
  after (ms, run) {
    const timer = setTimeout(run, ms)
    return () => { clearTimeout(timer) }
  }
}
