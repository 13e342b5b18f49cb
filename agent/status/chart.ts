/**
 * Small line charts of the last minutes, as SVG in the page.
 *
 * Owns their geometry and what they say to those who cannot see them. Colours and strokes are the style sheet's: a
 * series has a class and a dash of its own, never a colour alone. Does not know what is drawn.
 */
import type { StatusTrend } from '../../proto/csi/types.ts'
import { html, nothing, type Html } from './html.ts'
import { trendLooks } from './trend.ts'
import { healthOf, largest } from './words.ts'

const width = 240
const height = 44
/** Room for the stroke at the largest value. */
const margin = 2

export interface Series {
  readonly kind: 'first' | 'second'
  readonly values: readonly number[]
}

export interface ChartOptions {
  /** What a screen reader says instead. */
  readonly label: string
  readonly series: readonly Series[]
  /** A chart of next to nothing is flat, not a mountain range of noise. */
  readonly topAtLeast: number
}

const place = (index: number, count: number): number => width - (count - 1 - index) * width / (trendLooks - 1)
const shown = (value: number): string => `${Math.round(value * 10) / 10}`

/** Lines between what is known; a gap is a gap. */
function strokesOf (values: readonly number[], top: number): readonly (readonly (readonly [number, number])[])[] {
  const strokes: (readonly [number, number])[][] = [[]]
  values.forEach((value, index) => {
    if (Number.isNaN(value)) strokes.push([])
    else {strokes.at(-1)?.push([
        place(index, values.length), height - margin - Math.min(1, value / top) * (height - 2 * margin)
      ])}
  })
  return strokes.filter((points) => points.length > 0)
}

function lineOf ({ kind, values }: Series, top: number): Html {
  const strokes = strokesOf(values, top)
  const path = (points: readonly (readonly [number, number])[]): string =>
    points.map(([x, y], index) => `${index === 0 ? 'M' : 'L'}${shown(x)} ${shown(y)}`).join('')
  // A single point has no length: it is drawn by the round end of a stroke of nothing.
  const line = strokes.map((points) => `${path(points)}${points.length === 1 ? 'h0' : ''}`).join('')
  const area = strokes.map((points) => `${path(points)}V${height}H${shown(points[0]?.[0] ?? 0)}Z`).join('')
  return html`${kind === 'first' ? html`<path class="area" d="${area}"/>` : nothing}<path class="line ${kind}" d="${line}"/>`
}

export function chart ({ label, series, topAtLeast }: ChartOptions): Html {
  const top = Math.max(topAtLeast, ...series.map(({ values }) => largest(values)))
  return html`<svg class="chart" role="img" aria-label="${label}" viewBox="0 0 ${width} ${height}" preserveAspectRatio="none"><path class="ground" d="M0 ${height - 0.5}H${width}"/>${series.map((each) => lineOf(each, top))}</svg>`
}

/** The health of the last minutes as a ribbon below the charts' time axis: what was well is thin, what was not is
 * high. */
export function healthRibbon ({ health, timeMs, intervalMs }: StatusTrend, label: string): Html {
  const endMs = Number(timeMs)
  const startMs = endMs - intervalMs * (trendLooks - 1)
  const at = (ms: number): number => Math.max(0, Math.min(width, (ms - startMs) / (endMs - startMs) * width))
  const spans = health.map((change, index) => {
    const from = at(Number(change.timeMs))
    const until = at(Number(health[index + 1]?.timeMs ?? timeMs))
    const { state } = healthOf(change.health)
    const high = state === 'healthy' ? 3 : 8
    return html`<rect class="span ${state}" x="${shown(from)}" y="${8 - high}" width="${shown(Math.max(index === health.length - 1 ? 2 : 0, until - from))}" height="${high}"/>`
  })
  return html`<svg class="ribbon" role="img" aria-label="${label}" viewBox="0 0 ${width} 8" preserveAspectRatio="none">${spans}</svg>`
}
