/**
 * What kubelet itself does to the folders of a volume whose server is silent: it looks at targets and at subPath binds,
 * in its own process, and must get an answer. Every look is a process of its own here, because one that got none could
 * never be ended.
 */
import { mkdirSync } from 'node:fs'
import path from 'node:path'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { Kubelet } from '../../peers/kubelet.ts'
import { testNeeding } from '../../peers/testing.ts'
import { TestNode, run, shell } from '../endtoend/node.ts'

const driver = 'csi.volbridge.io'
/** The promise is 6 s. */
const hangMs = 40_000
/** Attributes of folders are believed so long here, that the looks below are not answered from the kernel's cache. */
const believedMs = 1000

testNeeding('root', 'fuse', 'ganesha')('stat and statfs of a target and of a subPath bind are answered while the server is silent, and afterwards all is as before', async (t) => {
  const server = await Ganesha.start()
  const node = new TestNode()
  t.teardown(async () => {
    server.resume()
    await node.close()
    await server.close()
  })
  await node.startAgent()
  const kubelet = new Kubelet(node.kubelet)
  const mountOptions = `${server.mountOptions},acdirmin=${believedMs / 1000},acdirmax=${believedMs / 1000}`
  const volume = { handle: 'pv', attributes: { server: server.host, share: server.folder, mountOptions } }
  await kubelet.stage(node.csiSocket, driver, volume)
  const target = await kubelet.publish(node.csiSocket, driver, volume, 'pod', 'pv')
  await shell(`mkdir -p ${target}/some/part && echo kept > ${target}/some/part/file`)
  // subpath_linux.go doBindSubPath: the folder is bound, by its descriptor, below the pod's own folder.
  const subPath = path.join(node.kubelet, 'pods/pod/volume-subpaths/pv/container/0')
  mkdirSync(subPath, { recursive: true })
  await shell(`mount --bind ${target}/some/part ${subPath}`)
  const looks = [
    `stat ${target}`, `stat ${subPath}`, `stat -f ${target}`, `stat -f ${subPath}`, `stat ${target}/some/part`
  ]
  for (const look of looks) await shell(look)
  const before = await shell(`stat -c '%i %s %U %a' ${target} ${subPath}`)

  server.stop()
  await pause(2 * believedMs)
  for (const look of [...looks, ...looks]) {
    const from = monotonicMs()
    const { code, stderr } = await run('/bin/sh', ['-c', `exec ${look}`], { timeoutMs: hangMs })
    const ms = monotonicMs() - from
    t.is(code, 0, `${look}: ${stderr}`)
    if (ms > 1000) t.log(`${look.replaceAll(node.folder, '')}: ${Math.round(ms)} ms`)
  }
  t.is(
    await shell(`stat -c '%i %s %U %a' ${target} ${subPath}`, { timeoutMs: hangMs }),
    before,
    'they are the last known values'
  )
  t.true((await kubelet.stats(node.csiSocket, 'pv', target)).volumeCondition?.abnormal)
  server.resume()
  t.is((await shell(`cat ${subPath}/file`, { timeoutMs: 180_000 })).trim(), 'kept')

  await shell(`umount ${subPath}`)
  await kubelet.unpublish(node.csiSocket, 'pv', target)
  await kubelet.unstage(node.csiSocket, driver, 'pv')
})
