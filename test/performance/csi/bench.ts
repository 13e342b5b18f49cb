/**
 * The control path as kubelet sees it: stage, publish, statistics with a live and with a stopped server, memory with
 * many volumes. Owns the measuring; prints a table beside the goals, and JSON. Asserts nothing.
 *
 *   bench.ts [--rounds N] [--json FILE]
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import { CsiClient } from '../../../proto/csi/client.ts'
import { loadServices } from '../../../proto/csi/load.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { Kubelet, type CsiVolume } from '../../peers/kubelet.ts'
import { TestNode } from '../../semantics/endtoend/node.ts'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '60' }, json: { type: 'string' } } })
const rounds = Math.max(2, Number(values.rounds))
const driver = 'csi.volbridge.io'
const many = 50
/** Longer than the agent waits before it gives memory back. */
const idleMs = 15_000

interface Row {
  readonly title: string
  readonly count: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly goal: string
}

const rows: Row[] = []
async function timed (work: () => Promise<unknown>): Promise<number> {
  const from = monotonicMs()
  await work()
  return monotonicMs() - from
}
function add (title: string, goal: string, samples: readonly number[]): void {
  const sorted = samples.toSorted((one, other) => one - other)
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
  rows.push({ title, count: samples.length, p50Ms: at(0.5), p99Ms: at(0.99), goal })
}

const server = await Ganesha.start()
const node = new TestNode()
const kubelet = new Kubelet(node.kubelet)
const agentMebibytes = (): number =>
  Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${node.agentPid}/status`, 'utf8'))?.[1]) / 1024)
function volumeOf (n: number): CsiVolume {
  mkdirSync(path.join(server.folder, `dir-${n}`), { recursive: true })
  return {
    handle: `pv-${n}`,
    attributes: { server: server.host, share: server.folder, subDir: `dir-${n}`, mountOptions: server.mountOptions }
  }
}

async function measureStaging (): Promise<void> {
  const [staging, publishing, unpublishing, unstaging]: [number[], number[], number[], number[]] = [[], [], [], []]
  for (let n = 0; n < rounds; n++) {
    const volume = volumeOf(n)
    staging.push(await timed(async () => await kubelet.stage(node.csiSocket, driver, volume)))
    for (let pod = 0; pod < 5; pod++) {
      publishing.push(
        await timed(async () => await kubelet.publish(node.csiSocket, driver, volume, `pod-${pod}`, 'pv'))
      )
      unpublishing.push(
        await timed(async () => {
          await kubelet.unpublish(node.csiSocket, volume.handle, kubelet.csiTarget(`pod-${pod}`, 'pv'))
        })
      )
    }
    unstaging.push(
      await timed(async () => { await kubelet.unstage(node.csiSocket, driver, volume.handle) })
    )
  }
  add('stage a new volume', 'p99 ≤ 500', staging)
  add('publish a staged volume', 'p99 ≤ 50', publishing)
  add('unpublish', '', unpublishing)
  add('unstage', '', unstaging)
}

async function measureStatistics (): Promise<void> {
  const volume = volumeOf(0)
  await kubelet.stage(node.csiSocket, driver, volume)
  const target = await kubelet.publish(node.csiSocket, driver, volume, 'pod', 'pv')
  const ask = async (): Promise<unknown> => await kubelet.stats(node.csiSocket, volume.handle, target)
  for (let n = 0; n < 20; n++) await ask()
  const samples: number[] = []
  for (let n = 0; n < rounds * 10; n++) samples.push(await timed(ask))
  add('statistics, a connection each', 'p50 ≤ 5, p99 ≤ 1000', samples)
  const client = new CsiClient(loadServices(), node.csiSocket)
  const onOne: number[] = []
  for (let n = 0; n < rounds * 10; n++) {
    onOne.push(
      await timed(async () =>
        await client.call('Node', 'NodeGetVolumeStats', { volumeId: volume.handle, volumePath: target }, {
          deadlineMs: 60_000
        })
      )
    )
  }
  client.close()
  add('statistics, one connection', '', onOne)
  server.stop()
  const stopped: number[] = []
  for (let n = 0; n < Math.max(10, rounds / 2); n++) stopped.push(await timed(ask))
  server.resume()
  add('statistics, server stopped', 'p99 ≤ 1000', stopped)
  await kubelet.unpublish(node.csiSocket, volume.handle, target)
  await kubelet.unstage(node.csiSocket, driver, volume.handle)
}

async function measureMany (): Promise<object> {
  const volumes = Array.from({ length: many }, (_, n) => volumeOf(n))
  const upMs = await timed(async () =>
    await Promise.all(volumes.map(async (volume) => {
      await kubelet.stage(node.csiSocket, driver, volume)
      await kubelet.publish(node.csiSocket, driver, volume, 'pod', volume.handle)
    }))
  )
  const busyMebibytes = agentMebibytes()
  await pause(idleMs)
  return { volumes: many, upMs: Math.round(upMs), busyMebibytes, idleMebibytes: agentMebibytes() }
}

try {
  await node.startAgent()
  await measureStaging()
  await measureStatistics()
  const fifty = await measureMany()
  console.log(
    `${'ms, packed binary, nfs-ganesha on loopback'.padEnd(44)} ${'calls'.padStart(6)} ${'p50'.padStart(8)} ${'p99'.padStart(8)}  goal`
  )
  for (const { title, count, p50Ms, p99Ms, goal } of rows) {
    console.log(
      `${title.padEnd(44)} ${String(count).padStart(6)} ${p50Ms.toFixed(1).padStart(8)} ${p99Ms.toFixed(1).padStart(8)}  ${goal}`
    )
  }
  console.log(`${many} volumes at once: ${JSON.stringify(fifty)}  goal: up in 30 s, 120 MiB`)
  if (values.json !== undefined) {
    mkdirSync(path.dirname(values.json), { recursive: true })
    writeFileSync(values.json, `${JSON.stringify({ rows, fifty }, null, 2)}\n`)
  }
} finally {
  server.resume()
  await node.close()
  await server.close()
  process.exitCode ??= 0
}
