/**
 * The tables as one bar chart, in SVG. Owns the drawing. Does not know what was measured.
 */
export interface Bar { readonly name: string, readonly value: number, readonly unit: string, readonly ratio: number }
export interface Group { readonly title: string, readonly bars: readonly Bar[] }

const rowHeight = 24
const groupHeight = 34
const labelWidth = 330
const barWidth = 360

const escape = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')

/** Logarithmic: 0.01 … 10 times the yardstick. */
const at = (ratio: number): number => labelWidth + (Math.log10(Math.min(10, Math.max(0.01, ratio))) + 2) / 3 * barWidth

function drawBar ({ name, value, unit, ratio }: Bar, y: number): string {
  return `<text x="${labelWidth - 8}" y="${y + 13}" text-anchor="end">${escape(name)}</text>` +
    `<rect x="${labelWidth}" y="${y}" width="${(at(ratio) - labelWidth).toFixed(1)}" height="17" fill="#3a7ca5"/>` +
    `<text x="${(at(ratio) + 6).toFixed(1)}" y="${y + 13}">${escape(`${Math.round(value).toLocaleString('en')} ${unit} (${ratio.toFixed(2)} ×)`)}</text>`
}

/** Bars show the ratio to the group's yardstick, with a line at 1. */
export function drawChart (title: string, groups: readonly Group[]): string {
  let y = 34
  const drawn: string[] = []
  for (const group of groups) {
    drawn.push(`<text x="12" y="${y + 20}" font-weight="bold">${escape(group.title)}</text>`)
    y += groupHeight
    const top = y - 4
    for (const bar of group.bars) {
      drawn.push(drawBar(bar, y))
      y += rowHeight
    }
    drawn.push(`<line x1="${at(1)}" y1="${top}" x2="${at(1)}" y2="${y}" stroke="#999" stroke-dasharray="4 3"/>`)
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${labelWidth + barWidth + 240}" height="${y + 12}" font-family="sans-serif" font-size="12">` +
    `<rect width="100%" height="100%" fill="#fff"/><text x="12" y="22" font-size="14" font-weight="bold">${escape(title)}</text>${drawn.join('')}</svg>\n`
}
