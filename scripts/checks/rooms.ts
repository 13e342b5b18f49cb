/**
 * The drawn house: imports, types included, run one way, from file to file and from room to room. Who may import whom
 * at all is layers.ts.
 *
 * Owns what a room is and what a circle is. At every folder its parts are looked at: the files in it, and its folders
 * as one room each. An arrow is an import from anything in one part to anything in another. Parts that reach each other
 * both ways are a circle, or an arrow that runs back up: neither can be read, tested or moved without the other. Does
 * not know what the rooms are for.
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { importsOf } from './layers.ts'
import { projectRoot, sourceFiles } from './sources.ts'

/** `from` imports `to`; both are paths of files. */
export interface Arrow {
  readonly from: string
  readonly to: string
  readonly line: number
}

/** What runs on a node. Scripts and tests may import everything and are imported by nobody. */
const drawn = ['agent', 'flex', 'proto']
/** Not rooms but the floor on which rooms stand: what lies in them is looked at beside the other rooms. */
const corridors: readonly string[] = ['agent', 'proto']

/** The arrows of one file to the project's own files. */
export function arrowsOf (file: string, text: string): Arrow[] {
  return importsOf(file, text).filter(({ specifier }) => specifier.startsWith('.')).map(({ specifier, line }) => ({
    from: file, to: path.posix.normalize(path.posix.join(path.posix.dirname(file), specifier)), line
  }))
}

const stepsOf = (file: string): string[] => {
  const [first = '', second = '', ...rest] = file.split('/')
  return corridors.includes(first) ? [`${first}/${second}`, ...rest] : [first, second, ...rest]
}

/** Where two files part ways: the rooms (or files) of the innermost folder that holds both. */
function partsOf ({ from, to }: Arrow): readonly [string, string] | undefined {
  const [left, right] = [stepsOf(from), stepsOf(to)]
  const parting = left.findIndex((step, index) => step !== right[index])
  return parting < 0 ? undefined : [left.slice(0, parting + 1).join('/'), right.slice(0, parting + 1).join('/')]
}

/** Everything that can be reached from `start`, without `start` unless a way leads back. */
function reachable (start: string, next: ReadonlyMap<string, ReadonlySet<string>>): Set<string> {
  const found = new Set<string>()
  const open = [...next.get(start) ?? []]
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    if (found.has(at)) continue
    found.add(at)
    open.push(...next.get(at) ?? [])
  }
  return found
}

function graphOf (arrows: readonly Arrow[]): Map<string, Set<string>> {
  const next = new Map<string, Set<string>>()
  for (const arrow of arrows) {
    const [from, to] = partsOf(arrow) ?? []
    if (from === undefined || to === undefined) continue
    next.set(from, (next.get(from) ?? new Set<string>()).add(to))
  }
  return next
}

export interface Circle {
  readonly rooms: readonly string[]
  /** The imports it consists of. */
  readonly arrows: readonly Arrow[]
}

/** Sets of parts each of which reaches all the others, outermost first. */
export function circlesOf (arrows: readonly Arrow[]): Circle[] {
  const next = graphOf(arrows)
  const circles = new Map<string, string[]>()
  for (const room of [...next.keys()].sort()) {
    const back = [...reachable(room, next)].filter((other) => reachable(other, next).has(room)).sort()
    if (back.length > 0) circles.set(back.join(' '), back)
  }
  return [...circles.values()].map((rooms) => ({
    rooms,
    arrows: arrows.filter((arrow) => partsOf(arrow)?.every((part) => rooms.includes(part)) === true)
  })).sort((a, b) => (a.rooms[0] ?? '').split('/').length - (b.rooms[0] ?? '').split('/').length)
}

/** The circle, then the imports it consists of: one of them has to go. */
export function showCircle ({ rooms, arrows }: Circle): string[] {
  return [
    `${rooms.join(', ')} import each other:`, ...arrows.map(({ from, line, to }) => `  ${from}:${line} imports ${to}`)
  ]
}

if (import.meta.main) {
  const files = sourceFiles().filter((file) => drawn.includes(file.split('/')[0] ?? ''))
  const arrows = files.flatMap((file) => arrowsOf(file, readFileSync(path.join(projectRoot, file), 'utf8')))
    .filter(({ to }) => drawn.includes(to.split('/')[0] ?? ''))
  const circles = circlesOf(arrows)
  for (const line of circles.flatMap(showCircle)) console.error(line)
  console.log(`rooms: ${files.length} files, ${arrows.length} arrows, ${circles.length} circles`)
  process.exitCode = circles.length === 0 ? 0 : 1
}
