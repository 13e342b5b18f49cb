/** The health calls of CSI 1.13 beside the statistics of older versions, on a server that stops and goes on. */
import { setTimeout as sleep } from 'node:timers/promises'
import process from 'node:process'
import { status } from '@grpc/grpc-js'
import { CallError } from '../../../proto/csi/client.ts'
import type { NodeGetVolumeHealthRequest, VolumeHealthEntry } from '../../../proto/csi/types.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { Kubelet } from '../../peers/kubelet.ts'
import { testNeeding } from '../../peers/testing.ts'
import { TestNode } from '../endtoend/node.ts'

const driver = 'csi.volbridge.io'

testNeeding('root', 'fuse', 'ganesha')('volume and storage health follow the server, and agree with the condition in the statistics', async (t) => {
  const ganesha = await Ganesha.start()
  const node = new TestNode()
  try {
    await node.startAgent(['--csi-health'])
    const kubelet = new Kubelet(node.kubelet)
    const socket = node.csiSocket
    const volume = {
      handle: 'pv-health',
      attributes: { server: ganesha.host, share: ganesha.folder, mountOptions: ganesha.mountOptions }
    }
    await kubelet.stage(socket, driver, volume)
    const target = await kubelet.publish(socket, driver, volume, 'pod', 'pv')
    const health = async (where: Partial<NodeGetVolumeHealthRequest> = {}): Promise<readonly VolumeHealthEntry[]> => {
      const { volumeHealth } = await kubelet.call(socket, 'NodeGetVolumeHealth', { volumeId: volume.handle, ...where })
      t.is(volumeHealth?.volumeId, volume.handle)
      return volumeHealth?.healthStatuses ?? []
    }
    const storage = async (): Promise<readonly string[]> =>
      (await kubelet.call(socket, 'NodeGetStorageHealth', {})).backendHealth.map((entry) =>
        `${entry.status} ${entry.reason}`
      )
    const abnormal = async (): Promise<boolean | undefined> =>
      (await kubelet.stats(socket, volume.handle, target)).volumeCondition?.abnormal
    const places = [{}, { volumePublishPath: target }, {
      stagingTargetPath: kubelet.stagingPath(driver, volume.handle)
    }]

    for (const where of places) t.deepEqual(await health(where), [])
    t.deepEqual(await storage(), [])
    t.false(await abnormal())

    process.kill(ganesha.pid ?? 0, 'SIGSTOP')
    try {
      for (const end = Date.now() + 60_000; (await storage()).length === 0 && Date.now() < end;) {
        await abnormal()
        await sleep(100)
      }
      for (const where of places) t.like(await health(where), [{ status: 'INACCESSIBLE', reason: 'ServerUnreachable' }])
      t.regex((await health())[0]?.message ?? '', new RegExp(ganesha.host))
      t.deepEqual(await storage(), ['STORAGE_UNREACHABLE ServerUnreachable'])
      t.true(await abnormal())
    } finally {
      process.kill(ganesha.pid ?? 0, 'SIGCONT')
    }
    for (const end = Date.now() + 60_000; (await storage()).length > 0 && Date.now() < end;) await sleep(100)
    for (const where of places) t.deepEqual(await health(where), [])
    t.false(await abnormal())

    await kubelet.unpublish(socket, volume.handle, target)
    await kubelet.unstage(socket, driver, volume.handle)
    const gone = await t.throwsAsync(health(), { instanceOf: CallError })
    t.is(gone?.code, status.NOT_FOUND)
  } finally {
    await node.close()
    await ganesha.close()
  }
})
