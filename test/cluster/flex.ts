/** Pods with FlexVolumes: the driver is installed by the DaemonSet of `deploy/`, and kubelet finds it by itself. */
import { chownSync, readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import { until } from '../../scripts/kubernetes/api.ts'
import type { Declare } from '../peers/testing.ts'
import { goesOn, writing } from './agent-life.ts'
import { fromClaim, makeFolder, podMs, shareOf, type Share, type Stage, type VolumeSource } from './world.ts'

const flexDriver = 'volbridge.io/volbridge'
/** kubelet's, by its configuration file; nobody has told the installer. */
const pluginFolder = '/var/lib/kubelet/volume-plugins'

const optionsOf = (
  { server, share, options }: Share,
  more: Readonly<Record<string, string>> = {}
): Readonly<Record<string, string>> => ({ server, share, mountOptions: options, ...more })

const inline = (
  share: Share,
  more: Readonly<Record<string, string>> = {},
  spec: Readonly<Record<string, unknown>> = {}
): VolumeSource => ({ flexVolume: { driver: flexDriver, options: optionsOf(share, more), ...spec } })

export function flexTests (declare: Declare, stage: Stage): void {
  declare('the installer’s DaemonSet finds kubelet’s plugin folder, and kubelet finds the driver, also under a pod that is waiting for it', async (t) => {
    const { world } = stage
    const [server] = world.servers
    makeFolder(server!, 'flex')
    await world.makePod('early', { volumes: { data: inline(shareOf(server!), { subDir: 'flex' }) } })
    await world.deploy('flex')
    await world.daemonPod('volbridge-flex-installer')
    await world.podIsReady('early')
    t.regex(await world.cluster.node.shell(`ls ${pluginFolder}/volbridge.io~volbridge`), /^volbridge$/m)
    await world.inPod('early', 'echo flex > /data/file')
    t.is(readFileSync(path.join(server!.folder, 'flex/file'), 'utf8'), 'flex\n')
  })

  declare('Flex and CSI pods on one share are one session of the node’s agent, and see each other’s files', async (t) => {
    const { world } = stage
    const [server] = world.servers
    await world.makeVolume('beside-flex', { share: shareOf(server!), attributes: { subDir: 'flex' } })
    await world.runPod('beside-flex', { volumes: { data: fromClaim('beside-flex') } })
    t.is(await world.inPod('beside-flex', 'cat /data/file'), 'flex')
    const { volumes } = await world.status()
    t.deepEqual(volumes.map(({ door }) => door).sort(), ['csi', 'flex'])
    t.is(new Set(volumes.map(({ sessionPid }) => sessionPid)).size, 1)
    t.is((await world.sessions()).length, 1)
    await world.deletePods('early')
    t.is(await world.inPod('beside-flex', 'cat /data/file'), 'flex')
    await world.deletePods('beside-flex')
  })

  declare('a Flex PersistentVolume, a secret of the driver’s type, a read-only claim, fsGroup', async (t) => {
    const { world } = stage
    const [server] = world.servers
    const folder = makeFolder(server!, 'flex-group', 0o777)
    chownSync(folder, 0, 0)
    const share = shareOf(server!)
    await world.api.create('/api/v1/namespaces/default/secrets', {
      apiVersion: 'v1', kind: 'Secret', metadata: { name: 'flex-login' }, type: flexDriver,
      stringData: { password: 'battery-staple' }
    })
    await world.makeVolumeFrom('flex-volume', {
      accessModes: ['ReadWriteMany'], flexVolume: { driver: flexDriver, options: optionsOf(share, { subDir: 'flex' }) }
    })
    await Promise.all([
      world.runPod('flex-claim', { volumes: { data: fromClaim('flex-volume', true) } }),
      world.runPod('flex-secret', {
        volumes: { data: inline(share, { subDir: 'flex' }, { secretRef: { name: 'flex-login' } }) }
      }),
      world.runPod('flex-group', {
        volumes: { data: inline(share, { subDir: 'flex-group' }) },
        spec: { securityContext: { runAsUser: 1500, runAsGroup: 1500, fsGroup: 2222 } }
      })
    ])
    t.is(await world.inPod('flex-claim', 'cat /data/file'), 'flex')
    t.regex((await world.tryIn('flex-claim', 'echo no > /data/file')).stderr, /Read-only file system/)
    t.is(await world.inPod('flex-secret', 'cat /data/file'), 'flex')
    await world.inPod('flex-group', 'echo mine > /data/file')
    const { uid, gid } = statSync(path.join(folder, 'file'))
    t.deepEqual({ uid, gid }, { uid: 1500, gid: 2222 })
    t.like(statSync(folder), { uid: 0, gid: 0 }, 'the pod\'s own volume changes no folder of the server')
    t.false((await world.agentLog()).includes('battery-staple'))
    await world.deletePods('flex-claim', 'flex-secret', 'flex-group')
  })

  declare('kubelet is killed and comes back with live Flex volumes: they go on, and are taken down', async (t) => {
    const { world } = stage
    const [server] = world.servers
    const folder = makeFolder(server!, 'flex-life')
    const data = inline(shareOf(server!), { subDir: 'flex-life' })
    await Promise.all([
      world.runPod('flex-stays', { volumes: { data }, command: writing }),
      world.runPod('flex-leaves', { volumes: { data } })
    ])
    await world.cluster.stop('kubelet', 'KILL')
    await world.api.delete('/api/v1/namespaces/default/pods/flex-leaves')
    await goesOn(t, world, 'flex-stays', path.join(folder, 'log'))
    await world.cluster.start('kubelet')
    await world.podsAreGone(podMs, 'flex-leaves')
    await goesOn(t, world, 'flex-stays', path.join(folder, 'log'))
    await world.deletePods('flex-stays')
    await until(
      'the end of the mounts',
      () => world.mountsOfNode().some(({ type }) => type.startsWith('fuse')) ? undefined : true,
      podMs
    )
  })

  declare('Flex pods whose server is dead are gone when they are deleted', async (t) => {
    const { world } = stage
    const dying = await world.startServer()
    const data = inline(shareOf(dying))
    await Promise.all([
      world.runPod('flex-writes', { volumes: { data }, command: writing }),
      world.runPod('flex-idle', { volumes: { data } })
    ])
    await dying.kill9()
    const startedMs = performance.now()
    await world.deletePods('flex-writes', 'flex-idle')
    t.log(`gone after ${Math.round((performance.now() - startedMs) / 1000)} s`)
    t.deepEqual((await world.status()).volumes, [])
  })
}
