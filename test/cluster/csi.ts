/** Pods with CSI volumes, as kubelet makes them. Every test ends with its pods deleted; what they wrote is looked at on
 * the server. */
import { chownSync, readFileSync, statSync, statfsSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { until, type KubernetesObject } from '../../scripts/kubernetes/api.ts'
import type { Declare } from '../peers/testing.ts'
import { driver, fromClaim, makeFolder, podMs, root, shareOf, type Stage } from './world.ts'

const secret = 'correct-horse-battery'

export function csiTests (declare: Declare, stage: Stage): void {
  declare('every manifest of deploy/ is taken by the API as it is, field by field', async (t) => {
    const { world } = stage
    const check = ['apply', '--dry-run=server', '--validate=strict']
    const taken = await world.kube([...check, '-f', path.join(root, 'deploy/examples')])
    t.regex(taken, /persistentvolume\/csi-example created/)
    for (const name of ['csi', 'csi-ephemeral', 'csi-status', 'flex']) {
      t.regex(await world.kube([...check, '-k', path.join(root, 'deploy', name)]), /daemonset/)
    }
  })

  declare('the DaemonSet’s agent registers itself with kubelet and is seen in CSINode', async (t) => {
    const { world } = stage
    await world.deploy('csi-ephemeral')
    await world.daemonPod('volbridge-agent')
    const node = await until(
      'the driver in CSINode',
      async () => await world.api.find(`/apis/storage.k8s.io/v1/csinodes/${world.cluster.plan.nodeName}`),
      podMs
    )
    const { drivers } = node.spec as { drivers: ReadonlyArray<{ name: string, nodeID: string }> }
    t.like(drivers[0], { name: driver, nodeID: world.cluster.plan.nodeName })
    t.is((await world.status()).registration, 'registered')
  })

  declare('pods read and write one claim: subDir, mountOptions, a read-only claim, subPath; a pod that leaves takes nothing with it', async (t) => {
    const { world } = stage
    const server = await world.startServer()
    const folder = makeFolder(server, 'team')
    await world.makeVolume('data', { share: shareOf(server), attributes: { subDir: 'team' }, mountOptions: ['noexec'] })
    writeFileSync(path.join(folder, 'before'), 'of the server\n')
    await Promise.all([
      world.runPod('writer', { volumes: { data: fromClaim('data') } }),
      world.runPod('reader', { volumes: { data: fromClaim('data', true) } }),
      world.runPod('parts', {
        volumes: { data: fromClaim('data') },
        mounts: [{ name: 'data', mountPath: '/part', subPath: 'a/b' }, {
          name: 'data', mountPath: '/file', subPath: 'before', readOnly: true
        }]
      })
    ])
    await world.inPod('writer', 'echo of-the-writer > /data/file && cp /bin/busybox /data/program')
    t.is(readFileSync(path.join(folder, 'file'), 'utf8'), 'of-the-writer\n')
    t.regex((await world.tryIn('writer', '/data/program true')).stderr, /Permission denied/, 'noexec')
    t.is(await world.inPod('reader', 'cat /data/file'), 'of-the-writer')
    t.regex((await world.tryIn('reader', 'echo no > /data/file')).stderr, /Read-only file system/)
    t.is(await world.inPod('parts', 'echo deep > /part/leaf; cat /file'), 'of the server')
    t.is(readFileSync(path.join(folder, 'a/b/leaf'), 'utf8'), 'deep\n')
    t.is((await world.sessions()).length, 1, 'one volume, one session')
    await world.deletePods('writer', 'parts')
    t.is(await world.inPod('reader', 'cat /data/a/b/leaf'), 'deep')
    await world.deletePods('reader')
  })

  declare('a volume of the pod itself (inline, ephemeral) is there with the pod and gone with it, its data not', async (t) => {
    const { world } = stage
    const [server] = world.servers
    const folder = makeFolder(server!, 'inline')
    const { server: host, share, options } = shareOf(server!)
    await world.runPod('inline', {
      volumes: {
        data: { csi: { driver, volumeAttributes: { server: host, share: `${share}/inline`, mountOptions: options } } }
      }
    })
    await world.inPod('inline', 'echo kept > /data/file')
    t.is(statSync(path.join(folder, 'file')).uid, 65_534, 'root of the pod is nobody on the server')
    await world.deletePods('inline')
    t.is(readFileSync(path.join(folder, 'file'), 'utf8'), 'kept\n')
  })

  declare('two volumes on one share are one session; the end of one is not noticed by the other', async (t) => {
    const { world } = stage
    const [server] = world.servers
    makeFolder(server!, 'shared')
    for (const name of ['left', 'right']) {
      await world.makeVolume(name, { share: shareOf(server!), attributes: { subDir: 'shared' } })
    }
    await Promise.all(['left', 'right'].map(async (name) => {
      await world.runPod(name, { volumes: { data: fromClaim(name) } })
    }))
    const { volumes } = await world.status()
    t.deepEqual(volumes.map(({ volumeId }) => volumeId).sort(), ['handle-left', 'handle-right'])
    t.is(new Set(volumes.map(({ sessionPid }) => sessionPid)).size, 1)
    await world.inPod('left', 'echo seen > /data/file')
    await world.deletePods('left')
    t.is(
      await world.inPod('right', 'cat /data/file; echo more >> /data/file; cat /data/file | tail -n 1'),
      'seen\nmore'
    )
    await world.deletePods('right')
  })

  declare('fsGroup: a pod without rights of its own writes as its group, and what it makes belongs to that group', async (t) => {
    const { world } = stage
    const [server] = world.servers
    const folder = makeFolder(server!, 'grouped', 0o755)
    chownSync(folder, 0, 0)
    await world.makeVolume('grouped', { share: shareOf(server!), attributes: { subDir: 'grouped' } })
    await world.runPod('grouped', {
      volumes: { data: fromClaim('grouped') },
      spec: { securityContext: { runAsUser: 1500, runAsGroup: 1500, fsGroup: 2222 } }
    })
    await world.inPod('grouped', 'id -G | grep -qw 2222 && echo mine > /data/file')
    const { uid, gid } = statSync(path.join(folder, 'file'))
    t.deepEqual({ uid, gid }, { uid: 1500, gid: 2222 })
    await world.deletePods('grouped')
  })

  declare('secrets of a volume reach neither log, nor disk, nor command line, nor environment', async (t) => {
    const { world } = stage
    const [server] = world.servers
    await world.api.create('/api/v1/namespaces/default/secrets', {
      apiVersion: 'v1', kind: 'Secret', metadata: { name: 'login' }, stringData: { password: secret }
    })
    const reference = { name: 'login', namespace: 'default' }
    await world.makeVolume('secretive', {
      share: shareOf(server!), csi: { nodeStageSecretRef: reference, nodePublishSecretRef: reference }
    })
    await world.runPod('secretive', { volumes: { data: fromClaim('secretive') } })
    const places = '/var/lib/volbridge /run/volbridge /var/log/pods /proc/[0-9]*/cmdline /proc/[0-9]*/environ'
    // What is searched for comes on standard input: in the search's own arguments it would be found.
    const holding = async (text: string): Promise<string> =>
      await world.cluster.node.shell(
        `grep -rlaF -f - --devices=skip --exclude-dir=mounts ${places} 2> /dev/null || true`,
        { input: text }
      )
    t.not(await holding('handle-secretive'), '', 'the search finds what is there')
    t.is(await holding(secret), '')
    t.is(await holding(Buffer.from(secret).toString('base64')), '')
    await world.deletePods('secretive')
  })

  declare('ReadWriteOncePod: a second pod waits until the first is gone, also when it is put on the node past the scheduler', async (t) => {
    const { world } = stage
    const [server] = world.servers
    makeFolder(server!, 'single')
    await world.makeVolume('single', {
      share: shareOf(server!), attributes: { subDir: 'single' }, accessMode: 'ReadWriteOncePod'
    })
    await world.runPod('first', { volumes: { data: fromClaim('single') } })
    await world.makePod('second', {
      volumes: { data: fromClaim('single') }, spec: { nodeName: world.cluster.plan.nodeName }
    })
    const refusal = await until(
      async () => `a refusal: ${await world.whatHappenedTo('second')}`,
      async () => (await world.events('second')).find(({ reason }) => reason === 'FailedMount'),
      podMs
    )
    t.regex(refusal.message, /ReadWriteOncePod|already in use|published/)
    t.is(await world.inPod('first', 'echo mine > /data/file; cat /data/file'), 'mine')
    await world.deletePods('first')
    await world.podIsReady('second')
    t.is(await world.inPod('second', 'cat /data/file'), 'mine')
    await world.deletePods('second')
  })

  declare('kubelet’s statistics and metrics of a volume are the share’s', async (t) => {
    const { world } = stage
    const [server] = world.servers
    await world.runPod('measured', { volumes: { data: fromClaim('data') } })
    interface Summary {
      readonly pods: ReadonlyArray<
        {
          readonly podRef: { readonly name: string }
          readonly volume?: ReadonlyArray<
            { readonly name: string, readonly capacityBytes?: number, readonly inodes?: number }
          >
        }
      >
    }
    const volume = await until('volume statistics in kubelet’s summary', async () => {
      const summary = JSON.parse(await world.kubelet.text('GET', '/stats/summary')) as Summary
      return summary.pods.find(({ podRef }) => podRef.name === 'measured')?.volume?.find(({ name }) => name === 'data')
    }, podMs)
    const truth = statfsSync(server!.folder)
    t.is(volume.capacityBytes, truth.blocks * truth.bsize)
    t.is(volume.inodes, truth.files)
    const metric = await until(
      'volume metrics',
      async () =>
        /^kubelet_volume_stats_capacity_bytes\{.*persistentvolumeclaim="data".*\} (\S+)$/m.exec(
          await world.kubelet.text('GET', '/metrics')
        )?.[1],
      podMs
    )
    t.is(Number(metric), truth.blocks * truth.bsize)
    await world.deletePods('measured')
  })

  declare('a server that does not answer is an event on its pod and a metric, until it answers again', async (t) => {
    const { world } = stage
    const server = await world.startServer()
    await world.makeVolume('watched', { share: shareOf(server) })
    await world.runPod('watched', { volumes: { data: fromClaim('watched') } })
    const abnormal = async (): Promise<string | undefined> =>
      /^kubelet_volume_stats_health_status_abnormal\{.*persistentvolumeclaim="watched".*\} (\S+)$/m.exec(
        await world.kubelet.text('GET', '/metrics')
      )?.[1]
    await until('a healthy volume in the metrics', async () => await abnormal() === '0' ? true : undefined, podMs)
    server.stop()
    try {
      const event = await until(
        'an event',
        async () => (await world.events('watched')).find(({ reason }) => reason === 'VolumeConditionAbnormal'),
        podMs
      )
      t.regex(event.message, /unreachable|did not answer/)
      await until('an unhealthy volume in the metrics', async () => await abnormal() === '1' ? true : undefined, podMs)
    } finally {
      server.resume()
    }
    await until('a healthy volume again', async () => await abnormal() === '0' ? true : undefined, podMs)
    await world.deletePods('watched')
    t.pass()
  })
}

/** How often a pod's only container was started again. */
export const restartsOf = (pod: KubernetesObject | undefined): number | undefined =>
  (pod?.status as { containerStatuses?: ReadonlyArray<{ restartCount: number }> } | undefined)?.containerStatuses?.[0]
    ?.restartCount
