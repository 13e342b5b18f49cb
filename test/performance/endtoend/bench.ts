/**
 * End-to-end benchmark: a user's mount against the exported folder itself.
 *
 * Owns rounds and output. Arguments: --load PROGRAM [--cable PROGRAM] [--rounds N] [--json FILE] [--rtt MS] [--only
 * NAME,…] [--peer COMMAND].
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { Ganesha } from '../../peers/ganesha.ts'
import { processesOf, shell, TestNode } from '../../semantics/endtoend/node.ts'
import { startDelayLine } from './delay-line.ts'
import { startPeer } from './peer.ts'
import { type Sample, type Workload, workloadsWith } from './workloads.ts'

const { values } = parseArgs({
  options: {
    load: { type: 'string' }, cable: { type: 'string', default: '' }, rounds: { type: 'string', default: '3' },
    json: { type: 'string' },
    rtt: { type: 'string', default: '0' }, only: { type: 'string' }, peer: { type: 'string' }
  }
})
const rounds = Number(values.rounds)
const rttMs = Number(values.rtt)
const workloads = workloadsWith(values.load ?? '')
const wanted = values.only?.split(',')

const median = (all: readonly number[]): number =>
  [...all].sort((one, other) => one - other)[Math.floor(all.length / 2)] ?? NaN

interface Row {
  readonly name: string
  readonly title: string
  readonly unit: string
  readonly ours: number
  readonly folder: number
  readonly ratio: number
  /** The other program's; absent without one, and where it failed. */
  readonly peer: number | undefined
  readonly p50Us: number | undefined
  readonly p99Us: number | undefined
  readonly cpuSeconds: number
  readonly residentMegabytes: number
  /** Processor time of the session: seconds per GB where the unit is MB/s, else microseconds per operation. */
  readonly cpuPerWork: number
}

async function sessionOf (node: TestNode): Promise<number> {
  const line = (await processesOf(node.runtime)).find((text) => text.includes(' session '))
  return Number(line?.split(' ')[0])
}

/** utime and stime, in ticks of 10 ms. */
function cpuSecondsOf (pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

/**
 * Takes and gives back as much memory as the largest file needs. A hypervisor that takes free pages back makes the
 * first use of each cost more than everything that is measured here (sequential reading: 330 MB/s, and 850 to 1,330
 * right after it).
 */
async function warmMemory (): Promise<void> {
  await shell('head -c 1300M /dev/zero > /dev/shm/volbridge-bench; rm /dev/shm/volbridge-bench')
}

async function measurePeer (
  command: string,
  workload: Workload,
  tag: string,
  { url, folder }: { readonly url: string, readonly folder: string }
): Promise<Sample | undefined> {
  if (workload.unit === 'MB/s') await warmMemory()
  const peer = await startPeer(command, { url, folder })
  try {
    await workload.ready?.(folder)
    return await workload.run(folder, tag)
  } catch (error) {
    process.stderr.write(
      `${workload.name}: the peer failed: ${(error instanceof Error ? error.message : String(error)).slice(-300)}\n`
    )
    return undefined
  } finally {
    await peer.close()
  }
}

async function measure (
  workload: Workload,
  at: { server: Ganesha, node: TestNode, mounted: string, options: string, peerUrl: string }
): Promise<Row> {
  const ours: Sample[] = []
  const folder: Sample[] = []
  const peer: Sample[] = []
  const cpu: number[] = []
  const cpuPerWork: number[] = []
  let residentMegabytes = 0
  for (let round = 0; round < rounds; round += 1) {
    await workload.prepare?.(at.server.folder)
    folder.push(await (workload.yardstick ?? workload.run)(at.server.folder, `${workload.name}-folder-${round}`))
    await workload.warm?.(at.server.folder)
    if (workload.unit === 'MB/s') await warmMemory()
    await at.node.mount(`${at.server.host}:${at.server.folder}`, at.mounted, at.options)
    const pid = await sessionOf(at.node)
    await workload.ready?.(at.mounted)
    const before = cpuSecondsOf(pid)
    ours.push(await workload.run(at.mounted, `${workload.name}-mount-${round}`))
    cpu.push(cpuSecondsOf(pid) - before)
    cpuPerWork.push((cpu.at(-1) ?? NaN) / (ours.at(-1)?.work ?? NaN) * (workload.unit === 'MB/s' ? 1e9 : 1e6))
    residentMegabytes = Math.max(
      residentMegabytes,
      Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
    )
    await at.node.unmount(at.mounted)
    const theirs = values.peer === undefined
      ? undefined
      : await measurePeer(values.peer, workload, `${workload.name}-peer-${round}`, {
        url: at.peerUrl, folder: at.mounted
      })
    if (theirs !== undefined) peer.push(theirs)
  }
  const of = (samples: readonly Sample[], key: keyof Sample): number | undefined =>
    samples[0]?.[key] === undefined ? undefined : median(samples.map((sample) => sample[key] ?? NaN))
  const [value, yardstick] = [of(ours, 'value') ?? NaN, of(folder, 'value') ?? NaN]
  return {
    name: workload.name, title: workload.title, unit: workload.unit, ours: Math.round(value),
    folder: Math.round(yardstick), ratio: value / yardstick,
    peer: peer.length === 0 ? undefined : Math.round(of(peer, 'value') ?? NaN),
    p50Us: of(ours, 'p50Us'), p99Us: of(ours, 'p99Us'), cpuSeconds: median(cpu), residentMegabytes,
    cpuPerWork: median(cpuPerWork)
  }
}

const machine =
  `${cpus().length} × ${cpus()[0]?.model ?? 'CPU'}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}`
const server = await Ganesha.start({ attributeCacheSeconds: 60 })
const cable = rttMs > 0 ? await startDelayLine(values.cable, server.nfsPort, rttMs) : undefined
const node = new TestNode()
try {
  await node.startAgent()
  const at = {
    server, node, mounted: node.makeFolder('mnt'),
    peerUrl: cable === undefined
      ? server.url()
      : server.url().replace(`nfsport=${server.nfsPort}&`, `nfsport=${cable.port}&`),
    options: cable === undefined
      ? server.mountOptions
      : server.mountOptions.replace(`port=${server.nfsPort},`, `port=${cable.port},`)
  }
  const right = (text: string, width: number): string => text.padStart(width)
  process.stdout.write(`${machine}${rttMs > 0 ? `, ${rttMs} ms round trip added` : ''}; median of ${rounds}\n`)
  process.stdout.write(
    `${'end to end'.padEnd(54)}${right('volbridge', 11)}${right('folder', 11)}${right('ratio', 8)}${values.peer === undefined ? '' : right('peer', 11)}${right('p50 µs', 9)}${right('p99 µs', 9)}${right('CPU', 11)}${right('MiB', 6)}\n`
  )
  const rows: Row[] = []
  for (const workload of workloads) {
    if (wanted !== undefined && !wanted.includes(workload.name)) continue
    const row = await measure(workload, at)
    rows.push(row)
    process.stdout.write(
      `${`${row.title}, ${row.unit}`.padEnd(54)}${right(row.ours.toLocaleString('en'), 11)}${right(row.folder.toLocaleString('en'), 11)}${right(row.ratio.toFixed(2), 8)}${values.peer === undefined ? '' : right(row.peer?.toLocaleString('en') ?? 'failed', 11)}` +
        `${right(row.p50Us?.toFixed(0) ?? '', 9)}${right(row.p99Us?.toFixed(0) ?? '', 9)}${right(row.unit === 'MB/s' ? `${row.cpuPerWork.toFixed(2)} s/GB` : `${row.cpuPerWork.toFixed(0)} µs`, 11)}${right(row.residentMegabytes.toFixed(0), 6)}\n`
    )
  }
  if (values.json !== undefined) {
    writeFileSync(values.json, `${JSON.stringify({ machine, rttMs, rounds, peer: values.peer, rows }, null, 2)}\n`)
  }
} finally {
  await node.close()
  await cable?.close()
  await server.close()
}
process.exit(0)
