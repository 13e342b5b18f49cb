/**
 * Time as the core needs it. Owns the interface and the system's implementation (monotonic, never the wall clock).
 * Does not know what is timed; tests bring a clock that stands still until told.
 */
import { monotonicMs } from '../base/deadline.ts'

export interface Clock {
  /** Milliseconds of a clock that never jumps. */
  nowMs (): number
  /** Runs `task` once after `ms`; the answer cancels it. A waiting timer does not keep the process alive. */
  after (ms: number, task: () => void): () => void
}

export const systemClock: Clock = {
  nowMs: monotonicMs,
  after (ms, task) {
    const timer = setTimeout(task, ms)
    timer.unref()
    return () => { clearTimeout(timer) }
  }
}
