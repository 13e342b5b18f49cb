/**
 * What the end-to-end benchmark does in a folder: a C load generator, dd, fio, ls.
 * Owns the workloads. Does not know whose folder it is, nor how often and in which order they run.
 */
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { shell } from '../../semantics/endtoend/node.ts'

/** Figures of one run of a workload; more is better. `work`: bytes moved where the unit is MB/s, else operations. */
export interface Sample {
  readonly value: number
  readonly work: number
  readonly p50Us?: number
  readonly p99Us?: number
}
export interface Workload {
  readonly name: string
  readonly title: string
  readonly unit: string
  /** In the folder that the server exports; once a round, before both runs. */
  readonly prepare?: (exported: string) => Promise<unknown>
  /** Brings into the server's memory what `run` reads; once a round, after the exported folder itself was measured. */
  readonly warm?: (exported: string) => Promise<unknown>
  /** What the user has done before, on each mount; not measured. */
  readonly ready?: (folder: string) => Promise<unknown>
  readonly run: (folder: string, tag: string) => Promise<Sample>
  /** What the exported folder has to do for the same promise, where that is not `run`. */
  readonly yardstick?: (folder: string, tag: string) => Promise<Sample>
}

async function seconds (command: string): Promise<number> {
  const from = performance.now()
  await shell(command)
  return (performance.now() - from) / 1000
}

async function loadRun (load: string, mode: string, folder: string, files: number, threads = 4): Promise<Sample> {
  const [value = 0, p50Us = 0, p99Us = 0] = (await shell(`${load} ${mode} ${folder} ${threads} ${files}`)).trim().split(
    ' '
  ).map(Number)
  return { value, work: files, p50Us, p99Us }
}

/** TESTING's fio settings: four jobs, 4 KiB, direct; `fsync` at the end for writes. */
async function fio (folder: string, mode: 'randread' | 'randwrite', jobs = 4): Promise<Sample> {
  const text = await shell(
    `fio --name=x --directory=${folder} --rw=${mode} --ioengine=psync --bs=4k --numjobs=${jobs} --size=64M --time_based --runtime=5 ` +
      `--invalidate=1 --direct=1 --group_reporting --output-format=json ${mode === 'randwrite' ? '--end_fsync=1' : ''} 2>/dev/null`
  )
  const job = (JSON.parse(text.slice(text.indexOf('{'))) as {
    jobs: Array<
      Record<'read' | 'write', { iops: number, total_ios: number, clat_ns: { percentile: Record<string, number> } }>
    >
  }).jobs[0]
  const side = job?.[mode === 'randread' ? 'read' : 'write']
  return {
    value: side?.iops ?? 0, work: side?.total_ios ?? 0, p50Us: (side?.clat_ns.percentile['50.000000'] ?? 0) / 1000,
    p99Us: (side?.clat_ns.percentile['99.000000'] ?? 0) / 1000
  }
}

const largeMegabytes = 1024
const smallFiles = 4000
/** Some seconds, as fio's runs: the first of a mount are half compilation, and a disk that has just dropped other files
 * is slow. */
const madeFiles = 10_000

async function createRun (load: string, mode: 'create' | 'exclusive' | 'durable', folder: string): Promise<Sample> {
  mkdirSync(folder)
  return await loadRun(load, mode, folder, madeFiles)
}

async function createApart (load: string, mode: 'create' | 'durable', folder: string): Promise<Sample> {
  const threads = 4
  for (let thread = 0; thread < threads; thread += 1) mkdirSync(path.join(folder, `${thread}`), { recursive: true })
  const [value = 0, p50Us = 0, p99Us = 0] = (await shell(`${load} ${mode} ${folder} ${threads} ${madeFiles} own`))
    .trim().split(' ').map(Number)
  return { value, work: madeFiles, p50Us, p99Us }
}

/** MB/s of a command that moves so many MiB. */
async function moved (mebibytes: number, command: string): Promise<Sample> {
  const work = mebibytes * 1024 * 1024
  return { value: work / 1e6 / await seconds(command), work }
}

/** `load`: the program of load.c. */
export const workloadsWith = (load: string): readonly Workload[] => [
  {
    name: 'read', title: 'sequential read, 1 MiB', unit: 'MB/s',
    prepare: async (exported) =>
      await shell(
        `[ -e ${exported}/large ] || head -c ${largeMegabytes}M /dev/urandom > ${exported}/large; cat ${exported}/large > /dev/null`
      ),
    run: async (folder) => await moved(largeMegabytes, `dd if=${folder}/large of=/dev/null bs=1M status=none`)
  },
  {
    // Against the row above: what read-ahead is worth, most of all with --rtt.
    name: 'read1', title: 'the same, one request at a time (O_DIRECT)', unit: 'MB/s',
    prepare: async (exported) =>
      await shell(
        `[ -e ${exported}/large ] || head -c ${largeMegabytes}M /dev/urandom > ${exported}/large; cat ${exported}/large > /dev/null`
      ),
    run: async (folder) =>
      await moved(256, `dd if=${folder}/large of=/dev/null bs=1M count=256 iflag=direct status=none`)
  },
  {
    name: 'write', title: 'sequential write + fsync', unit: 'MB/s',
    run: async (folder, tag) =>
      await moved(512, `dd if=/dev/zero of=${folder}/written-${tag} bs=1M count=512 conv=fsync status=none`)
  },
  {
    name: 'create', title: 'create + write 4 KiB + close, 4 threads', unit: '/s',
    run: async (folder, tag) => await createRun(load, 'create', path.join(folder, tag)),
    // A close on the mount answers when the file is on the server's disk: so must the folder's.
    yardstick: async (folder, tag) => await createRun(load, 'durable', path.join(folder, tag))
  },
  {
    // The kernel holds a folder's lock from the LOOKUP to the answer of CREATE: in one folder files are made one after
    // the other.
    name: 'apart', title: 'the same, each thread in its own folder', unit: '/s',
    run: async (folder, tag) => await createApart(load, 'create', path.join(folder, tag)),
    yardstick: async (folder, tag) => await createApart(load, 'durable', path.join(folder, tag))
  },
  {
    // Two calls to the server instead of one: NFSv3 sets the attributes of a file made exclusively afterwards.
    name: 'exclusive', title: 'the same with O_EXCL in one folder, as cp and tar create', unit: '/s',
    run: async (folder, tag) => await createRun(load, 'exclusive', path.join(folder, tag)),
    yardstick: async (folder, tag) => await createRun(load, 'durable', path.join(folder, tag))
  },
  {
    name: 'stat', title: 'cold stat, 4 threads', unit: '/s',
    prepare: async (exported) =>
      await shell(
        `[ -e ${exported}/small ] || { mkdir ${exported}/small; ${load} create ${exported}/small 4 ${smallFiles}; }`
      ),
    run: async (folder) => await loadRun(load, 'stat', path.join(folder, 'small'), smallFiles)
  },
  {
    // The files were listed or looked at; their data is still to be fetched.
    name: 'open', title: 'open + read 4 KiB + close, 4 threads, names known', unit: '/s',
    prepare: async (exported) =>
      await shell(
        `[ -e ${exported}/small ] || { mkdir ${exported}/small; ${load} create ${exported}/small 4 ${smallFiles}; }`
      ),
    ready: async (folder) => await loadRun(load, 'stat', path.join(folder, 'small'), smallFiles),
    run: async (folder) => await loadRun(load, 'read', path.join(folder, 'small'), smallFiles)
  },
  {
    name: 'opencold', title: 'the same, cold', unit: '/s',
    prepare: async (exported) =>
      await shell(
        `[ -e ${exported}/small ] || { mkdir ${exported}/small; ${load} create ${exported}/small 4 ${smallFiles}; }`
      ),
    run: async (folder) => await loadRun(load, 'read', path.join(folder, 'small'), smallFiles)
  },
  {
    name: 'opencold1', title: 'the same, cold, 1 thread', unit: '/s',
    prepare: async (exported) =>
      await shell(
        `[ -e ${exported}/small ] || { mkdir ${exported}/small; ${load} create ${exported}/small 4 ${smallFiles}; }`
      ),
    run: async (folder) => await loadRun(load, 'read', path.join(folder, 'small'), smallFiles, 1)
  },
  {
    name: 'list', title: 'cold ls -l, 10,000 entries', unit: 'entries/s',
    prepare: async (exported) =>
      await shell(
        `[ -e ${exported}/many ] || { mkdir ${exported}/many; cd ${exported}/many; seq -f e%g 10000 | xargs touch; }`
      ),
    run: async (folder) => ({ value: 10_000 / await seconds(`ls -l ${folder}/many > /dev/null`), work: 10_000 })
  },
  {
    name: 'randread', title: 'random read 4 KiB, 4 jobs, direct', unit: 'IOPS',
    prepare: async (exported) => {
      mkdirSync(path.join(exported, 'random'), { recursive: true })
      await fio(path.join(exported, 'random'), 'randread')
    },
    warm: async (exported) => await shell(`cat ${exported}/random/* > /dev/null`),
    run: async (folder) => await fio(path.join(folder, 'random'), 'randread')
  },
  {
    name: 'randread1', title: 'the same, 1 job', unit: 'IOPS',
    prepare: async (exported) => {
      mkdirSync(path.join(exported, 'random'), { recursive: true })
      await fio(path.join(exported, 'random'), 'randread')
    },
    warm: async (exported) => await shell(`cat ${exported}/random/* > /dev/null`),
    run: async (folder) => await fio(path.join(folder, 'random'), 'randread', 1)
  },
  {
    name: 'randwrite', title: 'random write 4 KiB, 4 jobs, direct, fsync at the end', unit: 'IOPS',
    prepare: async (exported) => { mkdirSync(path.join(exported, 'random'), { recursive: true }); await shell('true') },
    run: async (folder) => await fio(path.join(folder, 'random'), 'randwrite')
  }
]
