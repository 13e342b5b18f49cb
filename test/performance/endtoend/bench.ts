/**
 * End-to-end benchmark: a user's mount against the exported folder itself.
 *
 * Owns workloads, rounds and output. Arguments: --load PROGRAM [--rounds N] [--json FILE] [--svg FILE] [--rtt MS] [--only NAME,…].
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { startDelayLine } from '../../peers/delay-line.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { processesOf, shell, TestNode } from '../../semantics/endtoend/node.ts'
import { drawChart } from './chart.ts'

const { values } = parseArgs({
  options: {
    load: { type: 'string' }, rounds: { type: 'string', default: '3' }, json: { type: 'string' }, svg: { type: 'string' },
    rtt: { type: 'string', default: '0' }, only: { type: 'string' }
  }
})
const load = values.load ?? ''
const rounds = Number(values.rounds)
const rttMs = Number(values.rtt)
const wanted = values.only?.split(',')

/** Figures of one run of a workload; more is better. */
interface Sample { readonly value: number, readonly p50Us?: number, readonly p99Us?: number }
interface Workload {
  readonly name: string
  readonly title: string
  readonly unit: string
  /** In the folder that the server exports; once a round, before both runs. */
  readonly prepare?: (exported: string) => Promise<unknown>
  readonly run: (folder: string, tag: string) => Promise<Sample>
}

async function seconds (command: string): Promise<number> {
  const from = performance.now()
  await shell(command)
  return (performance.now() - from) / 1000
}

async function loadRun (mode: string, folder: string, files: number): Promise<Sample> {
  const [value = 0, p50Us = 0, p99Us = 0] = (await shell(`${load} ${mode} ${folder} 4 ${files}`)).trim().split(' ').map(Number)
  return { value, p50Us, p99Us }
}

/** TESTING's fio settings: four jobs, 4 KiB, direct; `fsync` at the end for writes. */
async function fio (folder: string, mode: 'randread' | 'randwrite'): Promise<Sample> {
  const text = await shell(`fio --name=x --directory=${folder} --rw=${mode} --ioengine=psync --bs=4k --numjobs=4 --size=64M --time_based --runtime=5 ` +
    `--invalidate=1 --direct=1 --group_reporting --output-format=json ${mode === 'randwrite' ? '--end_fsync=1' : ''} 2>/dev/null`)
  const job = (JSON.parse(text.slice(text.indexOf('{'))) as { jobs: Array<Record<'read' | 'write', { iops: number, clat_ns: { percentile: Record<string, number> } }>> }).jobs[0]
  const side = job?.[mode === 'randread' ? 'read' : 'write']
  return { value: side?.iops ?? 0, p50Us: (side?.clat_ns.percentile['50.000000'] ?? 0) / 1000, p99Us: (side?.clat_ns.percentile['99.000000'] ?? 0) / 1000 }
}

const largeMegabytes = 1024
const smallFiles = 4000
const workloads: readonly Workload[] = [
  {
    name: 'read', title: 'sequential read, 1 MiB', unit: 'MB/s',
    prepare: async (exported) => await shell(`[ -e ${exported}/large ] || head -c ${largeMegabytes}M /dev/urandom > ${exported}/large; cat ${exported}/large > /dev/null`),
    run: async (folder) => ({ value: largeMegabytes * 1.048576 / await seconds(`dd if=${folder}/large of=/dev/null bs=1M status=none`) })
  },
  {
    // Against the row above: what read-ahead is worth, most of all with --rtt.
    name: 'read1', title: 'the same, one request at a time (O_DIRECT)', unit: 'MB/s',
    prepare: async (exported) => await shell(`[ -e ${exported}/large ] || head -c ${largeMegabytes}M /dev/urandom > ${exported}/large; cat ${exported}/large > /dev/null`),
    run: async (folder) => ({ value: 256 * 1.048576 / await seconds(`dd if=${folder}/large of=/dev/null bs=1M count=256 iflag=direct status=none`) })
  },
  {
    name: 'write', title: 'sequential write + fsync', unit: 'MB/s',
    run: async (folder, tag) => ({ value: 512 * 1.048576 / await seconds(`dd if=/dev/zero of=${folder}/written-${tag} bs=1M count=512 conv=fsync status=none`) })
  },
  {
    name: 'create', title: 'create + write 4 KiB + close, 4 threads', unit: '/s',
    run: async (folder, tag) => { mkdirSync(path.join(folder, tag)); return await loadRun('create', path.join(folder, tag), smallFiles) }
  },
  {
    name: 'stat', title: 'cold stat, 4 threads', unit: '/s',
    prepare: async (exported) => await shell(`[ -e ${exported}/small ] || { mkdir ${exported}/small; ${load} create ${exported}/small 4 ${smallFiles}; }`),
    run: async (folder) => await loadRun('stat', path.join(folder, 'small'), smallFiles)
  },
  {
    name: 'open', title: 'open + read 4 KiB + close, 4 threads', unit: '/s',
    prepare: async (exported) => await shell(`[ -e ${exported}/small ] || { mkdir ${exported}/small; ${load} create ${exported}/small 4 ${smallFiles}; }`),
    run: async (folder) => await loadRun('read', path.join(folder, 'small'), smallFiles)
  },
  {
    name: 'list', title: 'cold ls -l, 10,000 entries', unit: 'entries/s',
    prepare: async (exported) => await shell(`[ -e ${exported}/many ] || { mkdir ${exported}/many; cd ${exported}/many; seq -f e%g 10000 | xargs touch; }`),
    run: async (folder) => ({ value: 10_000 / await seconds(`ls -l ${folder}/many > /dev/null`) })
  },
  {
    name: 'randread', title: 'random read 4 KiB, 4 jobs, direct', unit: 'IOPS',
    prepare: async (exported) => { mkdirSync(path.join(exported, 'random'), { recursive: true }); await fio(path.join(exported, 'random'), 'randread') },
    run: async (folder) => await fio(path.join(folder, 'random'), 'randread')
  },
  {
    name: 'randwrite', title: 'random write 4 KiB, 4 jobs, direct, fsync at the end', unit: 'IOPS',
    prepare: async (exported) => { mkdirSync(path.join(exported, 'random'), { recursive: true }); await shell('true') },
    run: async (folder) => await fio(path.join(folder, 'random'), 'randwrite')
  }
]

const median = (all: readonly number[]): number => [...all].sort((one, other) => one - other)[Math.floor(all.length / 2)] ?? NaN

interface Row {
  readonly name: string, readonly title: string, readonly unit: string, readonly ours: number, readonly folder: number, readonly ratio: number
  readonly p50Us: number | undefined, readonly p99Us: number | undefined, readonly cpuSeconds: number, readonly residentMegabytes: number
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

async function measure (workload: Workload, at: { server: Ganesha, node: TestNode, mounted: string, options: string }): Promise<Row> {
  const ours: Sample[] = []
  const folder: Sample[] = []
  const cpu: number[] = []
  let residentMegabytes = 0
  for (let round = 0; round < rounds; round += 1) {
    await workload.prepare?.(at.server.folder)
    folder.push(await workload.run(at.server.folder, `${workload.name}-folder-${round}`))
    await at.node.mount(`${at.server.host}:${at.server.folder}`, at.mounted, at.options)
    const pid = await sessionOf(at.node)
    const before = cpuSecondsOf(pid)
    ours.push(await workload.run(at.mounted, `${workload.name}-mount-${round}`))
    cpu.push(cpuSecondsOf(pid) - before)
    residentMegabytes = Math.max(residentMegabytes, Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024)
    await at.node.unmount(at.mounted)
  }
  const of = (samples: readonly Sample[], key: keyof Sample): number | undefined =>
    samples[0]?.[key] === undefined ? undefined : median(samples.map((sample) => sample[key] ?? NaN))
  const [value, yardstick] = [of(ours, 'value') ?? NaN, of(folder, 'value') ?? NaN]
  return {
    name: workload.name, title: workload.title, unit: workload.unit, ours: Math.round(value), folder: Math.round(yardstick), ratio: value / yardstick,
    p50Us: of(ours, 'p50Us'), p99Us: of(ours, 'p99Us'), cpuSeconds: median(cpu), residentMegabytes
  }
}

const machine = `${cpus().length} × ${cpus()[0]?.model ?? 'CPU'}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}`
const server = await Ganesha.start({ attributeCacheSeconds: 60 })
const cable = rttMs > 0 ? await startDelayLine({ host: server.host, port: server.nfsPort }, rttMs) : undefined
const node = new TestNode()
try {
  await node.startAgent()
  const at = {
    server, node, mounted: node.makeFolder('mnt'),
    options: cable === undefined ? server.mountOptions : server.mountOptions.replace(`port=${server.nfsPort},`, `port=${cable.port},`)
  }
  const right = (text: string, width: number): string => text.padStart(width)
  process.stdout.write(`${machine}${rttMs > 0 ? `, ${rttMs} ms round trip added` : ''}; median of ${rounds}\n`)
  process.stdout.write(`${'end to end'.padEnd(54)}${right('volbridge', 11)}${right('folder', 11)}${right('ratio', 8)}${right('p50 µs', 9)}${right('p99 µs', 9)}${right('CPU s', 8)}${right('MiB', 6)}\n`)
  const rows: Row[] = []
  for (const workload of workloads) {
    if (wanted !== undefined && !wanted.includes(workload.name)) continue
    const row = await measure(workload, at)
    rows.push(row)
    process.stdout.write(`${`${row.title}, ${row.unit}`.padEnd(54)}${right(row.ours.toLocaleString('en'), 11)}${right(row.folder.toLocaleString('en'), 11)}${right(row.ratio.toFixed(2), 8)}` +
      `${right(row.p50Us?.toFixed(0) ?? '', 9)}${right(row.p99Us?.toFixed(0) ?? '', 9)}${right(row.cpuSeconds.toFixed(2), 8)}${right(row.residentMegabytes.toFixed(0), 6)}\n`)
  }
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ machine, rttMs, rounds, rows }, null, 2)}\n`)
  if (values.svg !== undefined) writeFileSync(values.svg, drawChart('volbridge on nfs-ganesha against the exported folder (= 1)', rows.map((row) => ({ name: row.title, value: row.ours, unit: row.unit, ratio: row.ratio }))))
} finally {
  await node.close()
  await cable?.close()
  await server.close()
}
process.exit(0)
