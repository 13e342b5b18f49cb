/**
 * The Test Anything Protocol as AVA writes it, read while it comes.
 * Owns the counting. Does not know who runs what.
 */
export interface Counts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

export const noCounts: Counts = { passed: 0, failed: 0, skipped: 0 }

export const addCounts = (a: Counts, b: Counts): Counts => ({
  passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped
})

export const formatCounts = ({ passed, failed, skipped }: Counts): string => `${passed} passed, ${failed} failed, ${skipped} skipped`

export interface TapLine {
  /** What the line adds. */
  readonly counts: Counts
  /** The line belongs to a failure or is a skipped test: a person wants to see it. */
  readonly isShown: boolean
}

/** Reads line after line. Everything after a `not ok`, up to the next test point, belongs to it. */
export class TapReader {
  #isInFailure = false

  read (line: string): TapLine {
    const point = /^(ok|not ok)\b(.*)$/.exec(line)
    if (point === null) return { counts: noCounts, isShown: this.#isInFailure && !/^(1\.\.\d+|# (tests|pass|fail|skip)\b.*)$/.test(line) }
    const isSkipped = /# (SKIP|TODO)\b/i.test(point[2] ?? '')
    const isFailed = point[1] === 'not ok' && !isSkipped
    this.#isInFailure = isFailed
    return {
      counts: { passed: !isFailed && !isSkipped ? 1 : 0, failed: isFailed ? 1 : 0, skipped: isSkipped ? 1 : 0 },
      isShown: isFailed || isSkipped
    }
  }
}
