/**
 * The table as a bar chart, in SVG. Owns the drawing. Does not know what was measured.
 */
export interface Bar { readonly name: string, readonly value: number, readonly unit: string, readonly ratio: number }

const rowHeight = 26
const labelWidth = 300
const barWidth = 360

const escape = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')

/** Bars show the ratio to the yardstick on a logarithmic scale: 0.01 … 10, with a line at 1. */
export function drawChart (title: string, bars: readonly Bar[]): string {
  const height = 50 + bars.length * rowHeight
  const at = (ratio: number): number => labelWidth + (Math.log10(Math.min(10, Math.max(0.01, ratio))) + 2) / 3 * barWidth
  const rows = bars.map((bar, index) => {
    const y = 40 + index * rowHeight
    return `<text x="${labelWidth - 8}" y="${y + 13}" text-anchor="end">${escape(bar.name)}</text>` +
      `<rect x="${labelWidth}" y="${y}" width="${(at(bar.ratio) - labelWidth).toFixed(1)}" height="17" fill="#3a7ca5"/>` +
      `<text x="${(at(bar.ratio) + 6).toFixed(1)}" y="${y + 13}">${escape(`${bar.value.toLocaleString('en')} ${bar.unit} (${bar.ratio.toFixed(2)} ×)`)}</text>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${labelWidth + barWidth + 240}" height="${height}" font-family="sans-serif" font-size="12">` +
    `<rect width="100%" height="100%" fill="#fff"/><text x="12" y="20" font-size="14" font-weight="bold">${escape(title)}</text>` +
    `<line x1="${at(1)}" y1="32" x2="${at(1)}" y2="${height - 8}" stroke="#999" stroke-dasharray="4 3"/>${rows.join('')}</svg>\n`
}
