/**
 * Where sessions begin their lives: in cgroups of their own, with limits, and not at the agent's expense.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import test from 'ava'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import { sessionMemoryBytesMax, sessionTasksMax } from '../../../agent/base/limits.ts'
import { cgroupRoots } from '../../../agent/host/cgroups.ts'
import { readMountinfoSync } from '../../../agent/host/mountinfo.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { Kubelet, type CsiVolume } from '../../peers/kubelet.ts'
import { MemoryGroup } from '../../peers/memory-group.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { processesOf, TestNode } from './node.ts'

const needs = ['root', 'fuse', 'ganesha'] as const
const check = testNeeding(...needs)
const driver = 'csi.volbridge.io'
const mebibyte = 1024 * 1024
/** `limits.memory` of deploy/csi/agent.yaml. */
const shippedBytes = 256 * mebibyte
const first = 2
/** Longer than an agent waits before it counts as idle. */
const settleMs = 11_000
const many = 16
/** A session that started in the agent's group left 7 MiB of its own there. What the agent itself keeps of a volume is
 * a tenth of that. */
const growthBytesMax = 2 * mebibyte

let server: Ganesha
let node: TestNode
let kubelet: Kubelet
let group: MemoryGroup | string

test.before(async () => {
  if (missing(...needs) !== undefined) return
  server = await Ganesha.start()
  for (let n = 0; n < many; n++) mkdirSync(path.join(server.folder, `dir-${n}`))
  node = new TestNode()
  group = MemoryGroup.make(shippedBytes)
  await node.startAgent([], typeof group === 'string' ? '' : group.folder)
  kubelet = new Kubelet(node.kubelet)
})

test.after.always(async () => {
  await node?.close()
  await server?.close()
  if (group instanceof MemoryGroup) group.remove()
})

const volumeOf = (n: number): CsiVolume => ({
  handle: `pv-${n}`,
  attributes: {
    server: server.host, share: server.folder, mountOptions: server.mountOptions, subDir: `dir-${n % many}`
  }
})
async function up (n: number): Promise<void> {
  await kubelet.stage(node.csiSocket, driver, volumeOf(n))
  await kubelet.publish(node.csiSocket, driver, volumeOf(n), 'pod', `pv-${n}`)
}
async function down (n: number): Promise<void> {
  await kubelet.unpublish(node.csiSocket, `pv-${n}`, kubelet.csiTarget('pod', `pv-${n}`))
  await kubelet.unstage(node.csiSocket, driver, `pv-${n}`)
}
const numbers = (from: number, to: number): readonly number[] => Array.from({ length: to - from }, (_, n) => from + n)
const sessionPids = async (): Promise<readonly number[]> =>
  (await processesOf(node.runtime)).filter((line) => line.includes(' session ')).map((line) =>
    Number.parseInt(line, 10)
  )

async function until (what: string, holds: () => boolean, ms = 60_000): Promise<void> {
  for (const endMs = monotonicMs() + ms; !holds(); await pause(50)) {
    if (monotonicMs() > endMs) throw new Error(`not within ${ms} ms: ${what}`)
  }
}

/** The least within some seconds: an idle agent gives back what a burst needed. */
async function heldBytes (memory: MemoryGroup): Promise<number> {
  let least = memory.heldBytes
  for (const endMs = monotonicMs() + settleMs; monotonicMs() < endMs; await pause(250)) {
    least = Math.min(least, memory.heldBytes)
  }
  return least
}

check('what a session touches is never charged to the agent, one volume after the other or all at once', async (t) => {
  t.timeout(300_000)
  if (typeof group === 'string') {
    t.log(group)
    t.pass()
    return
  }
  for (const n of numbers(0, first)) await up(n)
  const before = await heldBytes(group)
  for (const n of numbers(first, many / 2)) await up(n)
  await Promise.all(
    numbers(many / 2, many).map(async (n) => { await up(n) })
  )
  t.is((await sessionPids()).length, many)
  const bytes = await heldBytes(group)
  const text =
    `${Math.round(before / mebibyte)} MiB with ${first} volumes, ${Math.round(bytes / mebibyte)} with ${many}`
  t.log(text)
  t.is(group.kills, 0)
  t.true(bytes - before <= (many - first) * growthBytesMax, text)
})

/** Folders of this node's session groups, which have the names of its sockets, in all hierarchies. */
function groupsOf (names: readonly string[]): readonly string[] {
  return cgroupRoots(readMountinfoSync()).flatMap((root) =>
    names.map((name) => path.join(root, 'volbridge-sessions', name))
  )
    .filter((folder) => existsSync(folder))
}
const groupNames = (): readonly string[] =>
  readdirSync(path.join(node.runtime, 'sessions')).map((name) => path.basename(name, '.sock'))

check('each session is alone in a cgroup with limits for memory and threads, which ends with it, killed or not', async (t) => {
  await up(0)
  const [pid = 0] = await sessionPids()
  const names = groupNames()
  const all = groupsOf(names)
  const folders = all.filter((folder) => readFileSync(path.join(folder, 'cgroup.procs'), 'utf8') === `${pid}\n`)
  t.true(folders.length > 0)
  t.is(all.length, names.length * cgroupRoots(readMountinfoSync()).length, 'each session is in each hierarchy')
  const limit = (files: readonly string[]): readonly number[] =>
    folders.flatMap((folder) => files.map((file) => path.join(folder, file)))
      .filter((file) => existsSync(file)).map((file) => Number(readFileSync(file, 'utf8')))
  t.deepEqual(limit(['memory.max', 'memory.limit_in_bytes']), [sessionMemoryBytesMax])
  t.deepEqual(limit(['pids.max']), [sessionTasksMax])
  const threads = readdirSync(`/proc/${pid}/task`).length
  t.log(`${threads} threads of ${sessionTasksMax}`)
  t.true(threads * 2 <= sessionTasksMax, `${threads} threads leave no room`)

  process.kill(pid, 'SIGKILL')
  await until('the groups of the killed one are gone', () => !folders.some((folder) => existsSync(folder)))
  const successors = groupNames()
  for (const n of numbers(0, many)) await down(n)
  t.deepEqual(await sessionPids(), [])
  t.deepEqual(groupsOf([...names, ...successors]), [])
})

check('a group that a session left while no agent saw it goes with the next agent, and one that somebody is in stays', async (t) => {
  const above = cgroupRoots(readMountinfoSync()).map((root) => path.join(root, 'volbridge-sessions'))
  const left = above.map((folder) => path.join(folder, `0123456789abcdef-left${process.pid}`))
  const busy = path.join(above[0] ?? '', `0123456789abcdef-busy${process.pid}`)
  for (const folder of [...left, busy]) mkdirSync(folder, { recursive: true })
  const somebody = spawn('sleep', ['1000'], { stdio: 'ignore' })
  writeFileSync(path.join(busy, 'cgroup.procs'), `${somebody.pid ?? 0}`)
  const next = new TestNode()
  try {
    await next.startAgent()
    await until('the empty groups are gone', () => !left.some((folder) => existsSync(folder)))
    t.true(existsSync(busy))
  } finally {
    await next.close()
    const ended = once(somebody, 'exit')
    somebody.kill('SIGKILL')
    await ended
    for (const folder of [...left, busy]) if (existsSync(folder)) rmdirSync(folder)
  }
})
