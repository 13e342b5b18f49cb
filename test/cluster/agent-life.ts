/** kubelet and the agent end and come back while pods use their volumes. */
import { readFileSync } from 'node:fs'
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
}
