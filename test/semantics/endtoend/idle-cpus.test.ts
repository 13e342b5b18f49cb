/**
 * Idle CPUs stay awake while a volume is busy, where that is worth it: the kernel's own value, and what the session
 * says of it.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import { idleFacts, judgeCpuLatency } from '../../../agent/host/cpu-latency.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { shell, TestNode } from './node.ts'

const needs = ['root', 'fuse', 'ganesha', 'fio'] as const
const check = testNeeding(...needs)

let server: Ganesha

test.before(async () => {
  if (missing(...needs) === undefined) server = await Ganesha.start()
})

test.after.always(async () => { await server?.close() })

/** Microseconds that an idle CPU may take to wake, by the strictest wish of all processes; undefined where the kernel
 * has no such wishes. */
function allowedMicroseconds (): number | undefined {
  let fd
  try {
    fd = openSync('/dev/cpu_dma_latency', 'r')
  } catch {
    return undefined
  }
  try {
    const value = Buffer.alloc(4)
    readSync(fd, value)
    return value.readInt32LE()
  } finally {
    closeSync(fd)
  }
}

async function awakeMs (node: TestNode): Promise<number> {
  const ran = await node.command(['status', '--json', ...node.places])
  const { volumes } = JSON.parse(ran.stdout) as {
    volumes: ReadonlyArray<{ counters: Readonly<Record<string, number>> }>
  }
  return volumes[0]?.counters['cpusAwakeMs'] ?? Number.NaN
}

/** Small reads for two seconds; answers the strictest value that was seen meanwhile. */
async function strictestWhileBusy (folder: string): Promise<number | undefined> {
  const seen: Array<number | undefined> = []
  const load = shell(
    `fio --name=x --directory=${folder} --rw=randread --ioengine=psync --bs=4k --numjobs=2 --size=4M --time_based --runtime=2 --direct=1 > /dev/null`
  )
  let isOver = false
  const over = (): void => { isOver = true }
  void load.then(over, over)
  while (!isOver) {
    seen.push(allowedMicroseconds())
    await pause(20)
  }
  await load
  return seen.includes(undefined) ? undefined : Math.min(...seen.map(Number))
}

async function withVolume (
  agentOptions: readonly string[],
  use: (node: TestNode, folder: string) => Promise<void>
): Promise<void> {
  const node = new TestNode()
  try {
    await node.startAgent(['--cpu-latency', 'auto', ...agentOptions])
    const folder = node.makeFolder('mnt')
    await node.mount(`${server.host}:${server.folder}`, folder, server.mountOptions)
    await use(node, folder)
  } finally {
    await node.close()
  }
}

check('while programs wait for small answers no idle CPU sleeps, where this machine is of that kind; afterwards the wish is gone', async (t) => {
  const { isWanted, why } = judgeCpuLatency(idleFacts())
  // A profile of the machine may forbid sleeping altogether; then there is nothing to see come and go.
  const isAlwaysAwake = allowedMicroseconds() === 0
  t.log(`idle CPUs: ${why}`)
  await withVolume([], async (node, folder) => {
    t.regex(node.agentLog, isWanted ? /idle CPUs: they stay awake/ : /idle CPUs: (?!they stay awake)/)
    const sinceMs = monotonicMs()
    const strictest = await strictestWhileBusy(folder)
    if (isWanted) t.is(strictest, 0)
    const busy = await awakeMs(node)
    t.log(`${busy} ms awake, at least ${strictest ?? 'unknown'} µs allowed`)
    if (isWanted) t.true(busy > 500 && busy < monotonicMs() - sinceMs, String(busy))
    else t.is(busy, 0)
    // Whatever status itself made the session do is a few requests.
    await pause(300)
    t.true(await awakeMs(node) - busy < 100)
    // Other processes may have wishes of their own, but not all the time.
    const untilMs = monotonicMs() + 30_000
    const mustGo = isWanted && !isAlwaysAwake
    while (mustGo && allowedMicroseconds() === 0 && monotonicMs() < untilMs) await pause(50)
    if (mustGo) t.not(allowedMicroseconds(), 0)
  })
})

check('an operator who says no is obeyed: as an option, and in the environment of whoever starts an agent', async (t) => {
  await withVolume(['--cpu-latency', 'off'], async (node, folder) => {
    await strictestWhileBusy(folder)
    t.is(await awakeMs(node), 0)
    t.regex(node.agentLog, /idle CPUs: they sleep as the kernel decides \(the agent was told so\)/)
  })
  const node = new TestNode()
  try {
    const [source, folder] = [`${server.host}:${server.folder}`, node.makeFolder('mnt')]
    const mounting = ['mount', source, folder, '-o', server.mountOptions, ...node.places]
    const wrong = await node.command(mounting, { env: { ...process.env, VOLBRIDGE_CPU_LATENCY: 'never' } })
    t.is(wrong.code, 2)
    t.regex(wrong.stderr, /VOLBRIDGE_CPU_LATENCY: "never" is not one of auto, off/)
    const right = await node.command(mounting, { env: { ...process.env, VOLBRIDGE_CPU_LATENCY: 'off' } })
    t.is(right.code, 0, right.stderr)
    // Who finds an agent running has nothing to start, and nothing to say about it.
    const second = node.makeFolder('second')
    const found = await node.command(['mount', source, second, '-o', server.mountOptions, ...node.places], {
      env: { ...process.env, VOLBRIDGE_CPU_LATENCY: 'never' }
    })
    t.is(found.code, 0, found.stderr)
    await strictestWhileBusy(folder)
    t.is(await awakeMs(node), 0)
    t.is((await shell(`ls ${path.join(folder)} | wc -l`)).trim(), '2')
  } finally {
    await node.close()
  }
})
