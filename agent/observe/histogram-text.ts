/**
 * A histogram in Prometheus' text form, of counts that were made elsewhere: prom-client's own only observes single
 * values.
 *
 * Owns that form and the choice of bounds that are worth a time series each. Does not know what is measured.
 */
import { inSlices } from '../base/slices.ts'
import type { LatencyView } from '../volumes/operations.ts'

export interface HistogramRow extends LatencyView { readonly labels: Readonly<Record<string, string>> }

/** Of the bounds that sessions count by: each costs a series per session and operation. */
const shownSeconds: ReadonlySet<number> = new Set([0.0005, 0.0025, 0.01, 0.05, 0.25, 1, 5, 30])

const escapeValue = (text: string): string =>
  text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')

function lineOf (name: string, labels: Readonly<Record<string, string>>, value: number): string {
  return `${name}{${Object.entries(labels).map(([key, text]) => `${key}="${escapeValue(text)}"`).join(',')}} ${value}`
}

const linesOf = (name: string, { labels, count, sumSeconds, buckets }: HistogramRow): readonly string[] => [
  ...buckets.filter(({ upToSeconds }) => shownSeconds.has(upToSeconds)).map((bucket) =>
    lineOf(`${name}_bucket`, { le: `${bucket.upToSeconds}`, ...labels }, bucket.count)
  ),
  lineOf(`${name}_bucket`, { le: '+Inf', ...labels }, count),
  lineOf(`${name}_sum`, labels, sumSeconds),
  lineOf(`${name}_count`, labels, count)
]

/** Rows that are turned into text before others have a turn. */
const sliceRows = 200

/** Empty without rows. */
export async function histogramText (name: string, help: string, rows: readonly HistogramRow[]): Promise<string> {
  if (rows.length === 0) return ''
  const parts: string[] = []
  await inSlices(rows, sliceRows, (slice) => { parts.push(slice.flatMap((row) => linesOf(name, row)).join('\n')) })
  return `# HELP ${name} ${help}\n# TYPE ${name} histogram\n${parts.join('\n')}\n`
}
