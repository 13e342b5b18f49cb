/**
 * The Flex door as kubelet sees it: init, mount of a share that is mounted and of a new one, unmount, and init's peak
 * memory. Owns the measuring; prints a table beside the goals, and JSON. Asserts nothing.
 *
 *   bench.ts [--rounds N] [--json FILE]
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { Ganesha } from '../../peers/ganesha.ts'
import { flexCall, Kubelet, type FlexDriver, type FlexResult } from '../../peers/kubelet.ts'
import { binary, TestNode } from '../../semantics/endtoend/node.ts'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '100' }, json: { type: 'string' } } })
const rounds = Math.max(2, Number(values.rounds))

interface Row { readonly title: string, readonly goal: string, readonly samples: number[] }
const rows = {
  init: { title: 'init', goal: '≤ 100 ms', samples: [] },
  mountKnown: { title: 'mount of a share already mounted', goal: '≤ 200 ms', samples: [] },
  unmountKnown: { title: 'unmount, the share stays mounted', goal: '≤ 200 ms', samples: [] },
  mountNew: { title: 'mount of a new share', goal: '≤ 700 ms', samples: [] },
  unmountNew: { title: 'unmount, the last of its share', goal: '≤ 200 ms', samples: [] }
} as const satisfies Record<string, Row>

const server = await Ganesha.start()
const node = new TestNode()
const kubelet = new Kubelet(node.kubelet)
const flex: FlexDriver = {
  file: path.join(node.makeFolder('plugins/volbridge.io~volbridge'), 'volbridge'),
  env: { VOLBRIDGE_STATE_DIR: node.state, VOLBRIDGE_RUN_DIR: node.runtime }
}
copyFileSync(binary, flex.file)
const optionsOf = (n: number): Record<string, string> => {
  mkdirSync(path.join(server.folder, `dir-${n}`), { recursive: true })
  return { server: server.host, share: server.folder, subDir: `dir-${n}`, mountOptions: server.mountOptions }
}

function note (samples: number[], result: FlexResult | undefined): void {
  if (result?.answer.status !== 'Success') throw new Error(result?.answer.message ?? 'not called')
  samples.push(result.ms)
}

/** Peak resident KiB of one `init`, as the kernel counted it for its waiting parent. */
function initPeakMebibytes (): number {
  const script =
    'import resource,subprocess,sys; subprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)'
  return Math.round(Number(execFileSync('python3', ['-c', script, flex.file, 'init'], { encoding: 'utf8' })) / 1024)
}

const at = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0

try {
  const target = (pod: string): string => kubelet.flexTarget(pod, 'volbridge.io/volbridge', 'data')
  note([], await kubelet.flexMount(flex, target('stays'), optionsOf(0)))
  for (let n = 1; n <= rounds; n++) {
    note(rows.init.samples, await flexCall(flex, ['init']))
    note(rows.mountKnown.samples, await kubelet.flexMount(flex, target(`known-${n}`), optionsOf(0)))
    note(rows.unmountKnown.samples, await kubelet.flexUnmount(flex, target(`known-${n}`)))
    note(rows.mountNew.samples, await kubelet.flexMount(flex, target(`new-${n}`), optionsOf(n)))
    note(rows.unmountNew.samples, await kubelet.flexUnmount(flex, target(`new-${n}`)))
  }
  const initMebibytes = initPeakMebibytes()
  const table = Object.values(rows).map(({ title, goal, samples }) => {
    const sorted = samples.toSorted((one, other) => one - other)
    return { title, goal, calls: sorted.length, medianMs: at(sorted, 0.5), p99Ms: at(sorted, 0.99) }
  })
  console.log(
    `${'ms, packed binary in the plugin folder, nfs-ganesha'.padEnd(52)} ${'calls'.padStart(6)} ${'median'.padStart(8)} ${'p99'.padStart(8)}  goal`
  )
  for (const { title, goal, calls, medianMs, p99Ms } of table) {
    console.log(
      `${title.padEnd(52)} ${String(calls).padStart(6)} ${medianMs.toFixed(1).padStart(8)} ${p99Ms.toFixed(1).padStart(8)}  ${goal}`
    )
  }
  console.log(`init, peak resident memory: ${initMebibytes} MiB  goal: ≤ 80 MiB`)
  if (values.json !== undefined) {
    mkdirSync(path.dirname(values.json), { recursive: true })
    writeFileSync(values.json, `${JSON.stringify({ rows: table, initMebibytes }, null, 2)}\n`)
  }
} finally {
  await node.close()
  await server.close()
  process.exitCode ??= 0
}
