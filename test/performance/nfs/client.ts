/**
 * Our NFS client against libnfs, on the same nfs-ganesha, file and loads, in turn and more than once.
 *
 * Owns the loads and the ratios. Run by scripts/bench-nfs, which builds the libnfs program; `--libnfs PROGRAM --seconds
 * N --rounds N
 * --json FILE`. Asserts nothing.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { isErrno } from '../../../agent/base/errno.ts'
import type { NfsClient } from '../../../agent/nfs/client.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { findProgram } from '../../peers/needs.ts'
import { good, mounted, name, root } from '../../semantics/nfs/mounted.ts'

const { values } = parseArgs({
  options: {
    libnfs: { type: 'string' }, seconds: { type: 'string', default: '2' }, rounds: { type: 'string', default: '3' },
    json: { type: 'string' }
  }
})
const seconds = Number(values.seconds)
const fileBytes = 256 * 1024 * 1024
const copyBytes = 1024 * 1024

const loads = [
  { title: 'GETATTR, 64 in flight', kind: 'getattr', countBytes: 0, depth: 64 },
  { title: 'GETATTR, 1 in flight', kind: 'getattr', countBytes: 0, depth: 1 },
  { title: 'READ 4 KiB, 32 in flight', kind: 'read', countBytes: 4096, depth: 32 },
  { title: 'READ 1 MiB, 8 in flight', kind: 'read', countBytes: 1024 * 1024, depth: 8 }
] as const
type Load = typeof loads[number]

interface Result {
  readonly title: string
  readonly unit: string
  readonly own: number
  readonly libnfs: number
  readonly ratio: number
}

const median = (all: readonly number[]): number => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)] ?? NaN

async function ours (client: NfsClient, { kind, countBytes, depth }: Load): Promise<number> {
  const { backend } = client
  const { handle } = good(await backend.lookup(backend.root.handle, name('bench'), root))
  const state = good(await backend.open(handle, root, { read: true, write: false }))
  let offset = 0
  let calls = 0
  const startMs = performance.now()
  const endMs = startMs + seconds * 1000
  const getattr = async (): Promise<void> => {
    if (isErrno(await backend.getattr(handle, root))) throw new Error('GETATTR failed')
  }
  const read = async (): Promise<void> => {
    const at = offset
    offset = offset + 2 * countBytes > fileBytes ? 0 : offset + countBytes
    const answer = good(await backend.read(state, at, countBytes))
    if (answer.data.length !== countBytes) throw new Error('short READ')
    answer.release()
  }
  const one = kind === 'read' ? read : getattr
  await Promise.all(Array.from({ length: depth }, async () => {
    while (performance.now() < endMs) {
      await one()
      calls++
    }
  }))
  return calls / ((performance.now() - startMs) / 1000)
}

function theirs (server: Ganesha, program: string, { kind, countBytes, depth }: Load): number {
  const args = [
    server.host, String(server.nfsPort), String(server.mountPort), server.folder, '/bench', kind, String(countBytes),
    String(depth), String(seconds)
  ]
  return Number(execFileSync(program, args, { encoding: 'utf8' }))
}

/** The whole file into a local one, 8 READs of 1 MiB in flight: seconds. */
async function copyOurs (client: NfsClient, to: string): Promise<number> {
  const { backend } = client
  const { handle } = good(await backend.lookup(backend.root.handle, name('bench'), root))
  const state = good(await backend.open(handle, root, { read: true, write: false }))
  const startMs = performance.now()
  const local = await open(to, 'w')
  let next = 0
  await Promise.all(Array.from({ length: 8 }, async () => {
    while (next < fileBytes) {
      const at = next
      next += copyBytes
      const { data, release } = good(await backend.read(state, at, copyBytes))
      if (data.length !== copyBytes) throw new Error('short READ')
      await local.write(data, 0, data.length, at)
      release()
    }
  }))
  await local.close()
  return (performance.now() - startMs) / 1000
}

/** The same by libnfs's own copier, which refuses a file that is there. */
function copyTheirs (server: Ganesha, program: string, to: string): number {
  rmSync(to, { force: true })
  const startMs = performance.now()
  execFileSync(program, [server.url('/bench'), to], { stdio: 'ignore' })
  return (performance.now() - startMs) / 1000
}

async function copies (server: Ganesha, client: NfsClient, rounds: number): Promise<Result | undefined> {
  const program = findProgram('nfs-cp')
  if (program === undefined) return undefined
  const folder = mkdtempSync(path.join(process.env['VOLBRIDGE_TEST_DIR'] ?? '/var/tmp', 'volbridge-bench-'))
  const to = path.join(folder, 'copy')
  const own = []
  const libnfs = []
  try {
    for (let round = 0; round < rounds; round++) {
      own.push(fileBytes / 1e6 / await copyOurs(client, to))
      libnfs.push(fileBytes / 1e6 / copyTheirs(server, program, to))
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  return {
    title: `copy ${fileBytes / 2 ** 20} MiB to a local file (nfs-cp)`, unit: 'MB/s', own: median(own),
    libnfs: median(libnfs), ratio: median(own) / median(libnfs)
  }
}

const server = await Ganesha.start()
writeFileSync(path.join(server.folder, 'bench'), randomBytes(fileBytes))
const client = await mounted(server)
await ours(client, { ...loads[2], countBytes: 1024 * 1024 } as unknown as Load)
const results: Result[] = []
function show (result: Result): void {
  const { title, unit, own, libnfs, ratio } = result
  const rate = (value: number): string => `${Math.round(value).toLocaleString('en')} ${unit}`
  console.log(
    `${title.padEnd(44)} ours ${rate(own).padStart(12)}   libnfs ${rate(libnfs).padStart(12)}   ratio ${ratio.toFixed(2)}`
  )
  results.push(result)
}
for (const load of loads) {
  const rounds = []
  for (let round = 0; round < Number(values.rounds); round++) {
    const own = await ours(client, load)
    rounds.push({ own, libnfs: values.libnfs === undefined ? NaN : theirs(server, values.libnfs, load) })
  }
  const own = median(rounds.map((round) => round.own))
  const libnfs = median(rounds.map((round) => round.libnfs))
  const isBulk = load.countBytes >= 65536
  const scale = isBulk ? load.countBytes / 1e6 : 1
  show({
    title: load.title, unit: isBulk ? 'MB/s' : '/s', own: own * scale, libnfs: libnfs * scale, ratio: own / libnfs
  })
}
const copied = await copies(server, client, Number(values.rounds))
if (copied !== undefined) show(copied)
if (values.json !== undefined) {
  writeFileSync(values.json, `${JSON.stringify({ seconds, node: process.version, results }, null, 2)}\n`)
}
await client.close()
await server.close()
