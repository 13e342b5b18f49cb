/**
 * Many volumes: fifty at once with a dead server among them, and with `scripts/test --long` (VOLBRIDGE_LONG) two
 * hundred whose pods come and go, and ten thousand pairs of publish and unpublish in which the agent must not grow.
 * CHURN_PAIRS says another number of pairs.
 */
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, readdirSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import test from 'ava'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { Kubelet, type CsiVolume } from '../../peers/kubelet.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { TestNode, mountsBelow, processesOf, shell } from '../endtoend/node.ts'
import { repeating } from './repeating.ts'

const needs = ['root', 'fuse', 'ganesha'] as const
const check = testNeeding(...needs)
const isLong = process.env['VOLBRIDGE_LONG'] === '1'
const driver = 'csi.volbridge.io'
const many = 50
/** The promise is 120 MiB. */
const agentKibibytesMax = 160 * 1024

let server: Ganesha
let node: TestNode
let kubelet: Kubelet

test.before(async () => {
  if (missing(...needs) !== undefined) return
  server = await Ganesha.start()
  for (let n = 0; n < many; n++) mkdirSync(path.join(server.folder, `dir-${n}`))
  node = new TestNode()
  await node.startAgent(['--ephemeral-allow', '127.0.0.1'])
  kubelet = new Kubelet(node.kubelet)
})

test.after.always(async () => {
  await node?.close()
  await server?.close()
})

const volumeOn = (where: Ganesha, handle: string, subDir: string): CsiVolume => ({
  handle,
  attributes: {
    server: where.host, share: where.folder, mountOptions: where.mountOptions, ...subDir === '' ? {} : { subDir }
  }
})
const volumeOf = (n: number): CsiVolume => volumeOn(server, `pv-${n}`, `dir-${n % many}`)

async function up (volume: CsiVolume, pod = 'pod'): Promise<string> {
  await repeating(async () => await kubelet.stage(node.csiSocket, driver, volume))
  return await repeating(async () => await kubelet.publish(node.csiSocket, driver, volume, pod, volume.handle))
}
async function down ({ handle }: CsiVolume, pod = 'pod'): Promise<void> {
  await repeating(async () => { await kubelet.unpublish(node.csiSocket, handle, kubelet.csiTarget(pod, handle)) })
  await repeating(async () => { await kubelet.unstage(node.csiSocket, driver, handle) })
}
const sessions = async (): Promise<readonly string[]> =>
  (await processesOf(node.runtime)).filter((line) => line.includes(' session '))
const agentKibibytes = (): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${node.agentPid}/status`, 'utf8'))?.[1])
const agentDescriptors = (): number => readdirSync(`/proc/${node.agentPid}/fd`).length
const filesLeft = (): readonly string[] =>
  [path.join(node.state, 'journal'), path.join(node.state, 'mounts'), path.join(node.runtime, 'sessions')].flatMap(
    (folder) => readdirSync(folder)
  )

check('50 volumes at once, one of them on a dead server: all others are mounted while it waits, and the agent stays small', async (t) => {
  const dead = await Ganesha.start()
  t.teardown(async () => {
    dead.resume()
    await dead.close()
  })
  dead.stop()
  let isAnswered = false
  const waiting = up(volumeOn(dead, 'pv-dead', '')).finally(() => { isAnswered = true })
  waiting.catch(() => undefined)
  const alive = Array.from({ length: many - 1 }, (_, n) => volumeOf(n))
  const from = monotonicMs()
  const targets = await Promise.all(alive.map(async (volume) => await up(volume)))
  t.log(`${targets.length} volumes staged and published after ${Math.round(monotonicMs() - from)} ms`)
  t.false(isAnswered, 'the dead server is given up before the others are mounted')
  t.is(mountsBelow(path.join(node.kubelet, 'pods')).length, targets.length)
  const figures = await Promise.all(
    alive.map(async ({ handle }, n) => await kubelet.stats(node.csiSocket, handle, targets[n] ?? ''))
  )
  t.deepEqual(figures.filter(({ volumeCondition }) => volumeCondition?.abnormal !== false), [])
  dead.resume()
  await waiting
  t.is((await sessions()).length, many)
  const busy = agentKibibytes()
  // Idle for some seconds it gives back what the burst needed.
  for (const endMs = monotonicMs() + 60_000; agentKibibytes() > agentKibibytesMax && monotonicMs() < endMs;) {
    await pause(500)
  }
  const kibibytes = agentKibibytes()
  t.log(`the agent has ${Math.round(busy / 1024)} MiB with ${many} volumes just mounted`)
  t.true(kibibytes <= agentKibibytesMax, `${kibibytes} KiB`)
  await Promise.all([...alive, volumeOn(dead, 'pv-dead', '')].map(async (volume) => { await down(volume) }))
  t.deepEqual([mountsBelow(node.folder), await sessions(), filesLeft()], [[], [], []])
})

check('F34: a mount of somebody else that hangs slows nothing', async (t) => {
  const hanging = path.join(kubelet.root, 'pods/other/volumes/kubernetes.io~nfs/data')
  mkdirSync(hanging, { recursive: true })
  // A FUSE file system that nobody serves: whoever looks at it waits as long as its descriptor is open.
  const holder = spawn('/bin/bash', [
    '-c',
    `exec 3<>/dev/fuse && mount -i -t fuse.stranger -o fd=3,rootmode=40000,user_id=0,group_id=0 stranger ${hanging} && exec sleep 600`
  ], { stdio: ['ignore', 'ignore', 'inherit'] })
  try {
    for (const endMs = monotonicMs() + 30_000; mountsBelow(hanging).length === 0 && monotonicMs() < endMs;) {
      await pause(20)
    }
    t.is(mountsBelow(hanging)[0]?.type, 'fuse.stranger')
    const volume = volumeOf(1)
    const target = await up(volume)
    await up(volume)
    for (let n = 0; n < 3; n++) {
      t.false((await kubelet.stats(node.csiSocket, volume.handle, target)).volumeCondition?.abnormal)
    }
    t.is((await node.command(['status', ...node.places], { timeoutMs: 30_000 })).code, 0)
    const error = await t.throwsAsync(kubelet.call(node.csiSocket, 'NodePublishVolume', {
      volumeId: 'pv-over', targetPath: hanging,
      volumeContext: {
        ...volume.attributes, 'csi.storage.k8s.io/ephemeral': 'true', 'csi.storage.k8s.io/pod.uid': 'other'
      },
      volumeCapability: {
        accessMode: { mode: 'MULTI_NODE_MULTI_WRITER' }, mount: { fsType: '', mountFlags: [], volumeMountGroup: '' }
      }
    }, 60_000))
    t.regex(error?.message ?? '', /target_path/, 'over the hanging mount nothing is mounted, and it is said in time')
    await down(volume)
  } finally {
    await shell(`umount -l ${hanging}`)
    holder.kill('SIGKILL')
  }
})

if (isLong) {
  check('200 volumes whose pods come and go, with a kubelet that begins anew in between, leave nothing', async (t) => {
    t.timeout(1_800_000)
    const all = Array.from({ length: 200 }, (_, n) => volumeOf(n))
    const inTurns = async (work: (volume: CsiVolume) => Promise<unknown>): Promise<void> => {
      const waiting = [...all]
      await Promise.all(Array.from({ length: 10 }, async () => {
        for (let volume = waiting.shift(); volume !== undefined; volume = waiting.shift()) await work(volume)
      }))
    }
    const from = monotonicMs()
    for (let round = 0; round < 3; round++) {
      await inTurns(async (volume) => await up(volume, `pod-${round}`))
      t.is(mountsBelow(path.join(node.kubelet, 'pods')).length, all.length)
      // After a restart kubelet repeats everything for the pods that run.
      await inTurns(async (volume) => await up(volume, `pod-${round}`))
      t.is(mountsBelow(path.join(node.kubelet, 'pods')).length, all.length)
      t.log(
        `round ${round}: ${Math.round((monotonicMs() - from) / 1000)} s, the agent has ${Math.round(agentKibibytes() / 1024)} MiB and ${agentDescriptors()} descriptors`
      )
      await inTurns(async (volume) => { await down(volume, `pod-${round}`) })
      t.deepEqual([mountsBelow(node.folder), await sessions(), filesLeft()], [[], [], []])
    }
  })

  const pairs = Number(process.env['CHURN_PAIRS'] ?? '10000')
  check(`${pairs} pairs of publish and unpublish: memory, descriptors and mounts grow no further`, async (t) => {
    t.timeout(pairs * 500 + 60_000)
    const volume = volumeOf(0)
    await kubelet.stage(node.csiSocket, driver, volume)
    const pair = async (n: number): Promise<void> => {
      const target = await repeating(async () =>
        await kubelet.publish(node.csiSocket, driver, volume, `pod-${n % 7}`, 'pv')
      )
      await repeating(async () => { await kubelet.unpublish(node.csiSocket, volume.handle, target) })
    }
    const samples: { readonly kibibytes: number, readonly descriptors: number, readonly mounts: number }[] = []
    for (let part = 0; part < 10; part++) {
      for (let n = 0; n < pairs / 10; n++) await pair(n)
      await pause(1000)
      samples.push({
        kibibytes: agentKibibytes(), descriptors: agentDescriptors(), mounts: mountsBelow(node.folder).length
      })
      t.log(`${(part + 1) * pairs / 10} pairs: ${JSON.stringify(samples.at(-1))}`)
    }
    const [middle, end] = [samples[4], samples.at(-1)]
    t.true((end?.kibibytes ?? 0) <= (middle?.kibibytes ?? 0) * 1.1 + 4096, 'the agent goes on growing')
    t.true((end?.descriptors ?? 0) <= (samples[0]?.descriptors ?? 0) + 3)
    t.is(end?.mounts, samples[0]?.mounts)
    await kubelet.unstage(node.csiSocket, driver, volume.handle)
    t.deepEqual([mountsBelow(node.folder), await sessions(), filesLeft()], [[], [], []])
  })
}
