/**
 * What AVA says while it runs, read line by line.
 *
 * Owns the counting, and which lines a person wants to see: everything but tests that pass and what those logged. Does
 * not know who runs what. AVA's TAP output is not used because its writer crashes on a timeout, the one event whose
 * report matters most.
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

export const formatCounts = ({ passed, failed, skipped }: Counts): string =>
  `${passed} passed, ${failed} failed, ${skipped} skipped`

export interface ReportLine {
  /** What the line adds. */
  readonly counts: Counts
  readonly isShown: boolean
}

/** Marks of AVA's reporter on a terminal that knows Unicode. */
const marks = [
  { pattern: /^ {2}✔ (?!\[)/, counts: { ...noCounts, passed: 1 }, isShown: false },
  { pattern: /^ {2}✔ \[expected fail\]/, counts: { ...noCounts, passed: 1 }, isShown: true },
  { pattern: /^ {2}✘ \[(fail|unexpected pass)\]/, counts: { ...noCounts, failed: 1 }, isShown: true },
  { pattern: /^ {2}- \[(skip|todo)\]/, counts: { ...noCounts, skipped: 1 }, isShown: true }
] as const

/** The files whose tests failed, or undefined when a failure belongs to none of them (a file that could not be run, a
 * test run that hung). */
export function filesOfFailures (
  failures: readonly string[],
  files: readonly string[],
  root: string
): readonly string[] | undefined {
  const prefixes = files.map((file) => ({
    file, prefix: `${file.slice(root.length).replace(/\.test\.ts$/, '').replaceAll('/', ' › ')} › `
  }))
  const found = failures.map((failure) => prefixes.find(({ prefix }) => failure.startsWith(prefix))?.file)
  return found.includes(undefined) ? undefined : [...new Set(found as string[])]
}

export class ReportReader {
  #isAfterPass = false
  /** After the line that ends the list of tests come details and a summary; marks there repeat. */
  #isSummary = false
  #hasFailed = false
  readonly #failures: string[] = []

  /** What has failed, as AVA names it: with the parts of the file's path before the title when there are several
   * files. */
  get failures (): readonly string[] { return this.#failures }

  read (line: string): ReportLine {
    if (/^ {2}─$/.test(line)) this.#isSummary = true
    const mark = this.#isSummary ? undefined : marks.find(({ pattern }) => pattern.test(line))
    if (mark !== undefined) {
      this.#isAfterPass = !mark.isShown
      if (mark.counts.failed > 0) {
        this.#hasFailed = true
        this.#failures.push(line.replace(mark.pattern, '').replace(/^: /, ''))
      }
      return { counts: mark.counts, isShown: mark.isShown }
    }
    if (!/^( {4}|$)/.test(line)) this.#isAfterPass = false
    return {
      counts: noCounts,
      isShown: !this.#isAfterPass && (line !== '' || (this.#isSummary && this.#hasFailed)) &&
        !/^ {2}(─|\d+ tests? (passed|skipped))$/.test(line)
    }
  }
}
