/**
 * One answer for all who ask at about the same time. Owns nothing but that answer; does not know what it is.
 */
import { monotonicMs } from '../base/deadline.ts'

/** A failure is not kept: who asks next tries again. */
export function sharedFor<T> (
  keptMs: number,
  make: () => Promise<T>,
  nowMs: () => number = monotonicMs
): () => Promise<T> {
  let kept: { readonly answer: Promise<T>, readonly atMs: number } | undefined
  return async () => {
    if (kept !== undefined && nowMs() - kept.atMs < keptMs) return await kept.answer
    const made = { answer: make(), atMs: nowMs() }
    kept = made
    try {
      return await made.answer
    } catch (error) {
      if (kept === made) kept = undefined
      throw error
    }
  }
}
