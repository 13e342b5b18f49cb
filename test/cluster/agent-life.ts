/** kubelet and the agent end and come back while pods use their volumes. */
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import type { ExecutionContext } from 'ava'
import { until } from '../../scripts/kubernetes/api.ts'
import type { Declare } from '../peers/testing.ts'
import { restartsOf } from './csi.ts'
import { fromClaim, makeFolder, podMs, shareOf, type Stage, type World } from './world.ts'

/** Ends with the first call that fails; then the pod's container is not the first any more. */
export const writing =
  'set -e; i=0; trap exit TERM; while :; do i=$((i+1)); echo $i > /data/new; mv /data/new /data/last; echo $i >> /data/log; sleep 0.05 & wait $!; done'

const lastLine = (file: string): number => Number(readFileSync(file, 'utf8').trim().split('\n').at(-1))

/** The pod goes on writing for `more` lines, and what it has written is whole. */
export async function goesOn (t: ExecutionContext, world: World, pod: string, log: string, more = 20): Promise<void> {
  const from = lastLine(log)
  await until(`${pod} to write on after line ${from}`, () => lastLine(log) >= from + more ? true : undefined, podMs)
  const lines = readFileSync(log, 'utf8').trim().split('\n').map(Number)
  t.deepEqual(lines, lines.map((_, index) => index + 1))
  t.is(restartsOf(await world.pod(pod)), 0)
}

export function agentLifeTests (declare: Declare, stage: Stage): void {
  declare('kubelet is killed and comes back: pods go on, one deleted meanwhile goes, a new one comes', async (t) => {
    const { world } = stage
    const [server] = world.servers
    const folder = makeFolder(server!, 'kubelet')
    await world.makeVolume('kubelet', { share: shareOf(server!), attributes: { subDir: 'kubelet' } })
    await Promise.all([
      world.runPod('stays', { volumes: { data: fromClaim('kubelet') }, command: writing }),
      world.runPod('leaves', { volumes: { data: fromClaim('kubelet') } })
    ])
    const sessions = await world.sessions()
    await world.cluster.stop('kubelet', 'KILL')
    await world.api.delete('/api/v1/namespaces/default/pods/leaves')
    await goesOn(t, world, 'stays', path.join(folder, 'log'))
    await world.cluster.start('kubelet')
    await world.podsAreGone(podMs, 'leaves')
    await world.runPod('comes', { volumes: { data: fromClaim('kubelet') } })
    t.regex(await world.inPod('comes', 'cat /data/last'), /^\d+$/)
    await goesOn(t, world, 'stays', path.join(folder, 'log'))
    t.deepEqual(await world.sessions(), sessions)
    await world.deletePods('stays', 'comes')
  })

  declare('the DaemonSet’s pod is deleted: pods write on without noticing, and its successor takes their volumes down', async (t) => {
    const { world } = stage
    const [server] = world.servers
    const folder = makeFolder(server!, 'agent')
    await world.makeVolume('agent', { share: shareOf(server!), attributes: { subDir: 'agent' } })
    await world.runPod('agentless', { volumes: { data: fromClaim('agent') }, command: writing })
    const sessions = await world.sessions()
    const old = await world.daemonPod('volbridge-agent')
    await world.api.delete(`/api/v1/namespaces/kube-system/pods/${old.metadata.name}`)
    await world.daemonPod('volbridge-agent', old.metadata.uid ?? '')
    await goesOn(t, world, 'agentless', path.join(folder, 'log'))
    t.deepEqual(await world.sessions(), sessions)
    await world.runPod('successor', { volumes: { data: fromClaim('agent') } })
    t.deepEqual((await world.status()).volumes.map(({ volumeId, health }) => ({ volumeId, health })), [{
      volumeId: 'handle-agent', health: 'healthy'
    }])
    await world.deletePods('agentless', 'successor')
  })

  declare('a session is killed under containers with a subPath: they restart, in the same pod, and see their part again', async (t) => {
    const { world } = stage
    const [server] = world.servers
    const folder = makeFolder(server!, 'parted')
    await world.makeVolume('parted', { share: shareOf(server!), attributes: { subDir: 'parted' } })
    const mounts = [{ name: 'data', mountPath: '/data', subPath: 'of/this' }]
    await world.runPod('parted', { volumes: { data: fromClaim('parted') }, mounts, command: writing })
    const log = path.join(folder, 'of/this/log')
    await until('the first lines', () => existsSync(log) ? true : undefined, podMs)
    const before = await world.pod('parted')
    await world.cluster.node.shell(`kill -KILL ${(await world.sessions()).join(' ')}`)
    await until(
      'the container’s restart',
      async () => (restartsOf(await world.pod('parted')) ?? 0) > 0 ? true : undefined,
      podMs
    )
    await world.podIsReady('parted')
    const lines = readFileSync(log, 'utf8').length
    await until('it to write on', () => readFileSync(log, 'utf8').length > lines + 50 ? true : undefined, podMs)
    t.is((await world.pod('parted'))?.metadata.uid, before?.metadata.uid)
    t.deepEqual((await world.status()).volumes.map(({ health, heals }) => ({ health, heals })), [{
      health: 'healthy', heals: 1
    }])
    const startedMs = performance.now()
    await world.deletePods('parted')
    t.log(`the pod was gone after ${Math.round((performance.now() - startedMs) / 1000)} s`)
    t.deepEqual(world.mountsOfNode().filter(({ type }) => type.startsWith('fuse')), [])
  })
}
