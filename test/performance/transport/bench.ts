/**
 * FUSE transport, ours against npm `fuse-native`, in one run on one machine: prints ratios, writes JSON.
 *
 * Owns the order of the runs: both servers are measured in turn, several rounds, and the median of each counts. How
 * long an idle CPU takes to wake decides much of it, so a machine that is busy with other work gives other ratios than
 * a quiet one; the server's CPU time per lookup, printed beside, does not depend on that. Knows neither server's
 * inside. Arguments: load program, folder of fuse-native, JSON file.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { cpus, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const [load = '', packages = '', json = ''] = process.argv.slice(2)
const fileBytes = 512 * 1024 * 1024
const rounds = 3
const seconds = 2
const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url))

interface Figures { lookups1: number, lookups4: number, cpuMicroseconds: number, readBytes: number }

/** Starts a server, waits for its mount point, measures, ends it. */
async function measure (program: readonly string[]): Promise<Figures> {
  const server = spawn(process.execPath, ['--no-warnings', ...program], { stdio: ['pipe', 'pipe', 'inherit'] })
  const [line] = await Promise.race([
    once(server.stdout, 'data'),
    once(server, 'exit').then(() => { throw new Error(`${program[0] ?? ''} ended before it had mounted`) })
  ]) as [Buffer]
  const path = line.toString().trim()
  const figure = async (...args: string[]): Promise<number> => Number((await run(load, args)).stdout)
  try {
    const lookups1 = await figure('lookup', path, '1', String(seconds))
    const before = await cpuSeconds(server.pid ?? 0)
    const lookups4 = await figure('lookup', path, '4', String(seconds))
    const cpuMicroseconds = (await cpuSeconds(server.pid ?? 0) - before) * 1e6 / (lookups4 * seconds)
    let readBytes = 0
    for (let index = 0; index < 3; index++) {
      readBytes = Math.max(readBytes, await figure('read', join(path, `file-${index}`)))
    }
    return { lookups1, lookups4, cpuMicroseconds, readBytes }
  } finally {
    const exited = once(server, 'exit')
    server.stdin.end()
    await exited
    // Ours is gone by itself; fuse-native leaves a dead mount.
    await run('umount', ['-l', path]).catch(() => undefined)
  }
}

/** utime and stime of /proc/PID/stat, in clock ticks of 10 ms. */
async function cpuSeconds (pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

function median (figures: readonly Figures[], key: keyof Figures): number {
  const sorted = figures.map((one) => one[key]).sort((one, other) => one - other)
  return sorted[Math.floor(sorted.length / 2)] ?? NaN
}

const folder = await mkdtemp(join(tmpdir(), 'volbridge-bench-'))
const ours: Figures[] = []
const theirs: Figures[] = []
for (let round = 0; round < rounds; round++) {
  ours.push(await measure([here('ours.ts'), String(fileBytes)]))
  theirs.push(await measure([here('fuse-native.cjs'), packages, join(folder, `mount-${round}`), String(fileBytes)]))
}
await rm(folder, { recursive: true, force: true })

const rows = ([
  { what: 'lookups/s, 1 client', key: 'lookups1', unit: 1, goal: 1 },
  { what: 'lookups/s, 4 clients', key: 'lookups4', unit: 1, goal: 4 },
  { what: 'sequential read, MB/s', key: 'readBytes', unit: 1e6, goal: 1 }
] as const).map(({ what, key, unit, goal }) => {
  const our = median(ours, key) / unit
  const their = median(theirs, key) / unit
  return { what, ours: our, theirs: their, ratio: our / their, goal }
})
const cpu = { ours: median(ours, 'cpuMicroseconds'), theirs: median(theirs, 'cpuMicroseconds') }
const right = (text: string, width: number): string => text.padStart(width)
process.stdout.write(
  `${'FUSE transport'.padEnd(24)}${right('volbridge', 12)}${right('fuse-native', 12)}${right('ratio', 8)}${right('goal', 8)}\n`
)
for (const { what, ours: our, theirs: their, ratio, goal } of rows) {
  process.stdout.write(
    `${what.padEnd(24)}${right(our.toFixed(0), 12)}${right(their.toFixed(0), 12)}${right(`${ratio.toFixed(1)}x`, 8)}${right(`>= ${goal}x`, 8)}\n`
  )
}
process.stdout.write(
  `${'CPU us per lookup (4)'.padEnd(24)}${right(cpu.ours.toFixed(1), 12)}${right(cpu.theirs.toFixed(1), 12)}${right(`${(cpu.theirs / cpu.ours).toFixed(1)}x`, 8)}\n`
)
if (json !== '') {
  await writeFile(
    json,
    `${JSON.stringify({ date: new Date().toISOString(), kernel: release(), cpus: cpus().length, node: process.version, peer: 'fuse-native 2.2.6', rows, cpuMicrosecondsPerLookup: cpu, rounds: { ours, theirs } }, undefined, 2)}\n`
  )
  process.stdout.write(`written to ${json}\n`)
}
