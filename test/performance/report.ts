/**
 * One run of all benchmarks as JSON, as a chart, and as the table of README.
 *
 * Owns that form. Takes what the three benchmarks wrote, any of which may be missing; measures nothing.
 * Arguments: --json FILE --svg FILE [--readme FILE] [--endtoend FILE] [--nfs FILE] [--transport FILE].
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { type Bar, drawChart, type Group } from './chart.ts'

interface EndToEnd {
  readonly rttMs: number
  readonly rounds: number
  /** Command line of the other program. */
  readonly peer?: string
  readonly rows: ReadonlyArray<{
    readonly title: string
    readonly unit: string
    readonly ours: number
    readonly folder: number
    readonly ratio: number
    readonly peer?: number
    readonly p50Us?: number
    readonly p99Us?: number
    readonly cpuPerWork: number
    readonly residentMegabytes: number
  }>
}
interface NfsAlone {
  readonly results: ReadonlyArray<
    {
      readonly title: string
      readonly unit: string
      readonly own: number
      readonly libnfs: number
      readonly ratio: number
    }
  >
}
interface Transport {
  readonly rows: ReadonlyArray<
    { readonly what: string, readonly ours: number, readonly theirs: number, readonly ratio: number }
  >
  readonly cpuMicrosecondsPerLookup: { readonly ours: number, readonly theirs: number }
}
interface Figures {
  readonly endtoend: EndToEnd | undefined
  readonly nfs: NfsAlone | undefined
  readonly transport: Transport | undefined
}

const machine =
  `${cpus().length} × ${cpus()[0]?.model ?? 'CPU'}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, nfs-ganesha on loopback`
const whole = (value: number): string => Math.round(value).toLocaleString('en')
const table = (head: readonly string[], rows: ReadonlyArray<readonly string[]>): string =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')

function tablesOf ({ endtoend, nfs, transport }: Figures): readonly string[] {
  const tables: string[] = []
  if (transport !== undefined) {
    const { ours, theirs } = transport.cpuMicrosecondsPerLookup
    tables.push(table(['FUSE alone, answers from memory', 'volbridge', 'fuse-native', 'ratio'], [
      ...transport.rows.map((row) => [row.what, whole(row.ours), whole(row.theirs), row.ratio.toFixed(2)]),
      ['CPU per lookup with 4 clients, µs', ours.toFixed(1), theirs.toFixed(1), `1 : ${(theirs / ours).toFixed(1)}`]
    ]))
  }
  if (nfs !== undefined) {
    tables.push(
      table(
        ['NFS client alone, same server', 'volbridge', 'libnfs (C)', 'ratio'],
        nfs.results.map((row) => [`${row.title}, ${row.unit}`, whole(row.own), whole(row.libnfs), row.ratio.toFixed(2)])
      )
    )
  }
  if (endtoend !== undefined) {
    const title =
      `a user's mount, packed binary, median of ${endtoend.rounds}${endtoend.rttMs > 0 ? `, ${endtoend.rttMs} ms round trip` : ''}`
    const { peer } = endtoend
    const other = peer === undefined ? [] : [path.basename(peer.split(' ')[0] ?? '')]
    tables.push(
      table(
        [
          title, 'volbridge', ...other, 'the exported folder itself', 'p50 / p99, µs', 'CPU of the session',
          'peak memory, MiB'
        ],
        endtoend.rows.map(
          (row) => [
            `${row.title}, ${row.unit}`, whole(row.ours),
            ...peer === undefined ? [] : [row.peer === undefined ? 'fails' : whole(row.peer)], whole(row.folder),
            row.p50Us === undefined || row.p99Us === undefined ? '' : `${whole(row.p50Us)} / ${whole(row.p99Us)}`,
            row.unit === 'MB/s' ? `${row.cpuPerWork.toFixed(2)} s/GB` : `${row.cpuPerWork.toFixed(0)} µs each`,
            whole(row.residentMegabytes)
          ]
        )
      )
    )
  }
  return tables
}

function groupsOf ({ endtoend, nfs, transport }: Figures): readonly Group[] {
  const group = (title: string, bars: readonly Bar[] | undefined): readonly Group[] =>
    bars === undefined ? [] : [{ title, bars }]
  return [
    ...group(
      'FUSE alone; fuse-native = 1',
      transport?.rows.map(({ what, ours, ratio }) => ({ name: what, value: ours, unit: '', ratio }))
    ),
    ...group(
      'NFS client alone; libnfs = 1',
      nfs?.results.map(({ title, own, unit, ratio }) => ({ name: title, value: own, unit, ratio }))
    ),
    ...group(
      'a user’s mount; the exported folder itself = 1',
      endtoend?.rows.map(({ title, ours, unit, ratio }) => ({ name: title, value: ours, unit, ratio }))
    )
  ]
}

const begin = '<!-- figures: written by scripts/bench --readme -->'
const end = '<!-- figures end -->'

/** Puts the tables between the marks of `text`. */
function withFigures (text: string, section: string): string {
  const [from, to] = [text.indexOf(begin), text.indexOf(end)]
  if (from === -1 || to < from) throw new Error(`the page has no lines "${begin}" and "${end}"`)
  return `${text.slice(0, from + begin.length)}\n${section}\n${text.slice(to)}`
}

const { values } = parseArgs({
  options: {
    json: { type: 'string' }, svg: { type: 'string' }, readme: { type: 'string' },
    endtoend: { type: 'string', default: '' }, nfs: { type: 'string', default: '' },
    transport: { type: 'string', default: '' }
  }
})
const readJson = (file: string): unknown => existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined
const figures: Figures = {
  endtoend: readJson(values.endtoend) as EndToEnd | undefined,
  nfs: readJson(values.nfs) as NfsAlone | undefined,
  transport: readJson(values.transport) as Transport | undefined
}
const date = new Date().toISOString().slice(0, 10)
if (values.json !== undefined) {
  writeFileSync(values.json, `${JSON.stringify({ date, machine, node: process.version, ...figures }, null, 2)}\n`)
}
if (values.svg !== undefined) writeFileSync(values.svg, drawChart(`volbridge, ${machine}`, groupsOf(figures)))
if (values.readme !== undefined) {
  const chart = values.svg === undefined
    ? []
    : [`![the same as a chart](${path.relative(path.dirname(values.readme), values.svg)})`]
  const section = [`${machine}; one run, ${date}.`, ...tablesOf(figures), ...chart].join('\n\n')
  writeFileSync(values.readme, withFigures(readFileSync(values.readme, 'utf8'), section))
}
