/**
 * Time as the product's parts see it: monotonic, never the wall clock, and replaceable by a test.
 * Owns the interface and the real clocks. Does not know what is timed.
 */
import { monotonicMs } from './deadline.ts'

export interface Clock {
  /** Milliseconds of a clock that never jumps. */
  nowMs (): number
  /** Runs `task` once after `ms`; the answer cancels it. */
  after (ms: number, task: () => void): () => void
}

/** A waiting timer keeps the process alive: somebody waits for what it will do. */
export const systemClock: Clock = {
  nowMs: monotonicMs,
  after (ms, task) {
    const timer = setTimeout(task, ms)
    return () => { clearTimeout(timer) }
  }
}

/** A waiting timer keeps nobody alive: what it will do is housekeeping. */
export const backgroundClock: Clock = {
  nowMs: monotonicMs,
  after (ms, task) {
    const timer = setTimeout(task, ms)
    timer.unref()
    return () => { clearTimeout(timer) }
  }
}
