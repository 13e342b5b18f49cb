/** A dead NFS server under pods of a real kubelet; and nothing left at the end. */
import { readFileSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { until } from '../../scripts/kubernetes/api.ts'
import type { Declare } from '../peers/testing.ts'
import { goesOn, writing } from './agent-life.ts'
import { fromClaim, kubernetesRules, makeFolder, podMs, shareOf, type Stage } from './world.ts'

export function faultTests (declare: Declare, stage: Stage): void {
  declare('pods whose server is dead are gone when they are deleted, and pods of another server are unharmed', async (t) => {
    const { world } = stage
    const [healthy] = world.servers
    const dying = await world.startServer()
    const folder = makeFolder(healthy!, 'unharmed')
    await world.makeVolume('unharmed', { share: shareOf(healthy!), attributes: { subDir: 'unharmed' } })
    await world.makeVolume('dying', { share: shareOf(dying) })
    await Promise.all([
      world.runPod('unharmed', { volumes: { data: fromClaim('unharmed') }, command: writing }),
      world.runPod('dying-writes', { volumes: { data: fromClaim('dying') }, command: writing }),
      world.runPod('dying-idle', { volumes: { data: fromClaim('dying') } }),
      world.runPod('dying-part', {
        volumes: { data: fromClaim('dying') }, mounts: [{ name: 'data', mountPath: '/data', subPath: 'part' }]
      })
    ])
    await until('the writer’s first lines', () => readdirSync(dying.folder).includes('log') ? true : undefined, podMs)
    await dying.kill9()
    const startedMs = performance.now()
    const names = ['dying-writes', 'dying-idle', 'dying-part']
    for (const name of names) await world.api.delete(`/api/v1/namespaces/default/pods/${name}`)
    await world.podsAreGone(podMs, ...names)
    t.log(`gone after ${Math.round((performance.now() - startedMs) / 1000)} s`)
    await goesOn(t, world, 'unharmed', path.join(folder, 'log'))
    t.deepEqual(
      (await world.status()).volumes.map(({ volumeId }) => volumeId),
      ['handle-unharmed'],
      'nothing of the dead server is staged'
    )
    await world.deletePods('unharmed')
  })
}

export function endTests (declare: Declare, stage: Stage): void {
  declare('when every pod is gone, no mount, no session and no record of a volume is left on the node', async (t) => {
    const { world } = stage
    const pods = await world.api.list('/api/v1/namespaces/default/pods')
    await world.deletePods(...pods.map(({ metadata }) => metadata.name))
    await until(
      'the end of every mount and session',
      async () =>
        (await world.sessions()).length === 0 && !world.mountsOfNode().some(({ type }) => type.startsWith('fuse'))
          ? true
          : undefined,
      podMs
    )
    t.deepEqual((await world.status()).volumes, [])
    t.is(
      (await world.cluster.node.shell(
        'ls /var/lib/volbridge/mounts /run/volbridge/sessions 2> /dev/null | grep -v : || true'
      )).trim(),
      ''
    )
    t.notRegex(readFileSync(world.cluster.logFile('kubelet'), 'utf8'), /still mounted by other references/)
  })

  declare('the cluster has changed nothing in this machine’s packet filter', async (t) => {
    const config = JSON.parse(await stage.world.kubelet.text('GET', '/configz')) as {
      kubeletconfig: { makeIPTablesUtilChains: boolean }
    }
    t.false(config.kubeletconfig.makeIPTablesUtilChains)
    t.is(await kubernetesRules(), stage.packetFilter)
  })
}
