/**
 * One of the project's scripts as a person in a terminal starts and interrupts it.
 *
 * Owns a folder that is the script's only place for files, its process group, and the look around afterwards. Does not
 * know what the script does.
 */
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { pause } from '../../../agent/base/deadline.ts'

const root = path.resolve(import.meta.dirname, '../../..')

export interface Interruption {
  /** Sent once the output matches, or once the script has made its first file. */
  readonly when: RegExp | 'first file'
  readonly signal: NodeJS.Signals
  /** As Ctrl-C does it: to every process of the terminal's group. Else to the script alone. */
  readonly toGroup: boolean
  readonly afterMs?: number
}

export interface Ended {
  readonly code: number | null
  readonly output: string
  /** Names below the script's folder, mounts and processes that mention it, cgroups named like what was in it. */
  readonly left: readonly string[]
}

function remains (folder: string, names: ReadonlySet<string>): readonly string[] {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter((line) => line.includes(folder)).map(
    (line) => `mount ${line}`
  )
  const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
      return line.includes(folder) ? [`process ${pid} ${line}`] : []
    } catch {
      return []
    }
  })
  const groups = [
    '/sys/fs/cgroup',
    ...readdirSync('/sys/fs/cgroup', { withFileTypes: true }).filter((entry) => entry.isDirectory()).map(({ name }) =>
      `/sys/fs/cgroup/${name}`
    )
  ]
    .flatMap((group) => readdirSync(group).filter((name) => names.has(name)).map((name) => `cgroup ${group}/${name}`))
  return [...readdirSync(folder).map((name) => `file ${name}`), ...mounts, ...processes, ...groups]
}

/** Runs the script to its end. Nothing here takes minutes; 10 of them mean a hang. */
export async function runScript (name: string, args: readonly string[], interruption?: Interruption): Promise<Ended> {
  const base = process.env['TMPDIR'] ?? '/var/tmp'
  mkdirSync(base, { recursive: true })
  const folder = mkdtempSync(path.join(base, 's-'))
  const child = spawn(path.join(root, 'scripts', name), [...args], {
    env: { ...process.env, TMPDIR: folder }, stdio: ['ignore', 'pipe', 'pipe'], detached: true
  })
  const hang = setTimeout(() => { process.kill(-(child.pid ?? 0), 'SIGKILL') }, 600_000)
  const names = new Set<string>()
  let output = ''
  let isSent = false
  const look = (): void => {
    for (const made of readdirSync(folder)) names.add(made)
    if (interruption === undefined || isSent) return
    const { when, toGroup, signal, afterMs = 0 } = interruption
    if (when === 'first file' ? names.size === 0 : !when.test(output)) return
    isSent = true
    setTimeout(() => { process.kill(toGroup ? -(child.pid ?? 0) : child.pid ?? 0, signal) }, afterMs)
  }
  const looking = setInterval(look, 20)
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => { output += text; look() })
  }
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  clearTimeout(hang)
  clearInterval(looking)
  // A process that has been killed may be listed until it is reaped.
  let left = remains(folder, names)
  for (let tries = 0; left.length > 0 && tries < 20; tries++) {
    await pause(50)
    left = remains(folder, names)
  }
  if (left.length === 0) rmSync(folder, { recursive: true })
  return { code, output, left }
}
