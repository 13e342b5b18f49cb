/**
 * Our NFS client against libnfs, on the same nfs-ganesha, file and loads, in turn and more than once.
 *
 * Owns the loads and the ratios. Run by scripts/bench-nfs, which builds the libnfs program; `--libnfs PROGRAM --seconds N --rounds N
 * --json FILE`. Asserts nothing.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { isErrno } from '../../../agent/base/errno.ts'
import type { NfsClient } from '../../../agent/nfs/client.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { good, mounted, name, root } from '../../semantics/nfs/mounted.ts'

const { values } = parseArgs({ options: {
  libnfs: { type: 'string' }, seconds: { type: 'string', default: '2' }, rounds: { type: 'string', default: '3' }, json: { type: 'string' }
} })
const seconds = Number(values.seconds)
const fileBytes = 256 * 1024 * 1024

const loads = [
  { title: 'GETATTR, 64 in flight', kind: 'getattr', countBytes: 0, depth: 64 },
  { title: 'GETATTR, 1 in flight', kind: 'getattr', countBytes: 0, depth: 1 },
  { title: 'READ 4 KiB, 32 in flight', kind: 'read', countBytes: 4096, depth: 32 },
  { title: 'READ 1 MiB, 8 in flight', kind: 'read', countBytes: 1024 * 1024, depth: 8 }
] as const
type Load = typeof loads[number]

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
  const args = [server.host, String(server.nfsPort), String(server.mountPort), server.folder, '/bench', kind, String(countBytes), String(depth), String(seconds)]
  return Number(execFileSync(program, args, { encoding: 'utf8' }))
}

const median = (all: readonly number[]): number => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)] ?? NaN

const server = await Ganesha.start()
writeFileSync(path.join(server.folder, 'bench'), randomBytes(fileBytes))
const client = await mounted(server)
await ours(client, { ...loads[2], countBytes: 1024 * 1024 } as unknown as Load)
const results = []
for (const load of loads) {
  const rounds = []
  for (let round = 0; round < Number(values.rounds); round++) {
    const own = await ours(client, load)
    rounds.push({ own, libnfs: values.libnfs === undefined ? NaN : theirs(server, values.libnfs, load) })
  }
  const own = median(rounds.map((round) => round.own))
  const libnfs = median(rounds.map((round) => round.libnfs))
  const rate = (calls: number): string => load.countBytes >= 65536 ? `${(calls * load.countBytes / 1e6).toFixed(0)} MB/s` : `${(calls / 1000).toFixed(1)} k/s`
  console.log(`${load.title.padEnd(26)} ours ${rate(own).padStart(10)}   libnfs ${rate(libnfs).padStart(10)}   ratio ${(own / libnfs).toFixed(2)}`)
  results.push({ title: load.title, ownPerSecond: own, libnfsPerSecond: libnfs, ratio: own / libnfs, rounds })
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ seconds, node: process.version, results }, null, 2)}\n`)
await client.close()
await server.close()
