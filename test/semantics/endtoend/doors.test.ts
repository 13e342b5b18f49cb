/**
 * Both doors of the packed binary as kubelet uses them, on one node and one share: mount, repeat, concurrency, two
 * pods, a dead server.
 */
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { status } from '@grpc/grpc-js'
import test from 'ava'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import { CallError } from '../../../proto/csi/client.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { Kubelet, type CsiVolume, type FlexDriver } from '../../peers/kubelet.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { binary, mountsBelow, processesOf, shell, TestNode } from './node.ts'

const check = testNeeding('root', 'fuse', 'ganesha')
const driverName = 'csi.volbridge.io'

let server: Ganesha
let node: TestNode
let kubelet: Kubelet
let flex: FlexDriver
let volume: CsiVolume
let options: Record<string, string>

test.before(async () => {
  if (missing('root', 'fuse', 'ganesha') !== undefined) return
  server = await Ganesha.start()
  writeFileSync(path.join(server.folder, 'from-server'), 'hello')
  node = new TestNode()
  await node.startAgent(['--trust-flex-options'])
  kubelet = new Kubelet(node.kubelet)
  const folder = node.makeFolder('plugins/volbridge.io~volbridge')
  copyFileSync(binary, path.join(folder, 'volbridge'))
  flex = {
    file: path.join(folder, 'volbridge'), env: { VOLBRIDGE_STATE_DIR: node.state, VOLBRIDGE_RUN_DIR: node.runtime }
  }
  options = { server: server.host, share: server.folder, mountOptions: `${server.mountOptions},timeo=20` }
  volume = { handle: 'data', attributes: options }
})

test.after.always(async () => {
  server?.resume()
  await node?.close()
  await server?.close()
})

const flexTarget = (pod: string): string => kubelet.flexTarget(pod, 'volbridge.io/volbridge', 'data')
const codeOf = (outcome: PromiseSettledResult<unknown>): number =>
  outcome.status === 'fulfilled' ? status.OK : outcome.reason instanceof CallError ? outcome.reason.code : -1

check('the same share through CSI and Flex meets in one session, and each door sees what the other wrote', async (t) => {
  await kubelet.stage(node.csiSocket, driverName, volume)
  const target = await kubelet.publish(node.csiSocket, driverName, volume, 'pod-a', 'pv-a')
  const mounted = await kubelet.flexMount(flex, flexTarget('pod-b'), options)
  t.is(mounted?.answer.status, 'Success', mounted?.answer.message)
  writeFileSync(path.join(target, 'via-csi'), 'csi')
  t.is(readFileSync(path.join(flexTarget('pod-b'), 'via-csi'), 'utf8'), 'csi')
  t.is(readFileSync(path.join(server.folder, 'via-csi'), 'utf8'), 'csi')
  t.is(readFileSync(path.join(flexTarget('pod-b'), 'from-server'), 'utf8'), 'hello')
  const devices = new Set(mountsBelow(node.folder).map((entry) => entry.device))
  t.is(devices.size, 1)
  const sessions = (await processesOf(node.runtime)).filter((line) => line.includes(' session '))
  t.is(sessions.length, 1, sessions.join('\n'))
})

check('repeating any call does nothing twice', async (t) => {
  const before = mountsBelow(node.folder).length
  await kubelet.stage(node.csiSocket, driverName, volume)
  await kubelet.publish(node.csiSocket, driverName, volume, 'pod-a', 'pv-a')
  const json = JSON.stringify(options)
  const { flexCall } = await import('../../peers/kubelet.ts')
  t.is((await flexCall(flex, ['mount', flexTarget('pod-b'), json])).answer.status, 'Success')
  t.is(mountsBelow(node.folder).length, before)
})

check('the same volume id with other attributes, and the same target with another volume, are refused and change nothing', async (t) => {
  const before = mountsBelow(node.folder)
  const other = { ...volume, attributes: { ...options, mountOptions: `${server.mountOptions},soft` } }
  const outcomes = await Promise.allSettled([kubelet.stage(node.csiSocket, driverName, other)])
  t.deepEqual(outcomes.map(codeOf), [status.ALREADY_EXISTS])
  t.deepEqual(mountsBelow(node.folder), before)
})

check('of two calls at once for one volume one works and the other is told to wait', async (t) => {
  const mountsOfServer = mountsBelow(node.state).filter(({ source }) => source.endsWith(server.folder)).length
  const fresh = { handle: 'twice', attributes: { ...options, mountOptions: `${server.mountOptions},rsize=65536` } }
  const outcomes = await Promise.allSettled([
    kubelet.stage(node.csiSocket, driverName, fresh), kubelet.stage(node.csiSocket, driverName, fresh),
    kubelet.stage(node.csiSocket, driverName, fresh)
  ])
  const codes = outcomes.map(codeOf).sort()
  t.is(codes[0], status.OK)
  t.true(codes.every((code) => code === status.OK || code === status.ABORTED), codes.join())
  t.true(codes.includes(status.ABORTED), codes.join())
  t.is(mountsBelow(node.state).filter(({ source }) => source.endsWith(server.folder)).length, mountsOfServer + 1)
  await kubelet.unstage(node.csiSocket, driverName, 'twice')
})

check('volume statistics have the bytes and inodes of the exported file system', async (t) => {
  const stats = await kubelet.stats(node.csiSocket, 'data', kubelet.csiTarget('pod-a', 'pv-a'))
  const total = Number(
    (await shell(`stat -f -c '%b %S' ${server.folder}`)).split(' ').map(Number).reduce((blocks, bytes) =>
      blocks * bytes
    )
  )
  const bytes = stats.usage.find((usage) => usage.unit === 'BYTES')
  t.is(Number(bytes?.total), total)
  t.true(Number(bytes?.available) > 0 && Number(bytes?.used) > 0)
  t.is(
    Number(stats.usage.find((usage) => usage.unit === 'INODES')?.total),
    Number(await shell(`stat -f -c %c ${server.folder}`))
  )
  t.false(stats.volumeCondition?.abnormal)
})

check('one of two pods is unpublished while the server is dead, and the other goes on without an error when it returns', async (t) => {
  const second = await kubelet.publish(node.csiSocket, driverName, volume, 'pod-c', 'pv-c')
  const first = kubelet.csiTarget('pod-a', 'pv-a')
  const writing = shell(
    `for i in $(seq 1 60); do echo line $i >> ${second}/journal; sleep 0.05; done; sync -f ${second}/journal; wc -l < ${second}/journal`
  )
  await pause(500)
  server.stop()
  const from = monotonicMs()
  await kubelet.unpublish(node.csiSocket, 'data', first)
  t.true(monotonicMs() - from < 10_000, 'unpublish with a dead server hangs')
  t.false(existsSync(first))
  server.resume()
  t.is((await writing).trim(), '60')
  t.is(readFileSync(path.join(server.folder, 'journal'), 'utf8').split('\n').length, 61)
})

check('the agent is killed and a pod does not notice; its successor knows every mount', async (t) => {
  const target = kubelet.csiTarget('pod-c', 'pv-c')
  const writing = shell(
    `for i in $(seq 1 40); do echo line $i >> ${target}/steady; sleep 0.05; done; wc -l < ${target}/steady`
  )
  await pause(300)
  await node.stopAgent('SIGKILL')
  await pause(500)
  await node.startAgent(['--trust-flex-options'])
  t.is((await writing).trim(), '40')
  const before = mountsBelow(node.folder).length
  await kubelet.stage(node.csiSocket, driverName, volume)
  await kubelet.publish(node.csiSocket, driverName, volume, 'pod-c', 'pv-c')
  t.is(mountsBelow(node.folder).length, before)
  const stats = await kubelet.stats(node.csiSocket, 'data', target)
  t.false(stats.volumeCondition?.abnormal, stats.volumeCondition?.message ?? '')
})

check('a read-only publish refuses writes while its sibling writes', async (t) => {
  const readOnly = await kubelet.publish(node.csiSocket, driverName, { ...volume, readOnly: true }, 'pod-r', 'pv-r')
  t.throws(() => { writeFileSync(path.join(readOnly, 'no'), 'x') }, { code: 'EROFS' })
  writeFileSync(path.join(kubelet.csiTarget('pod-c', 'pv-c'), 'yes'), 'x')
  t.is(readFileSync(path.join(readOnly, 'yes'), 'utf8'), 'x')
  await kubelet.unpublish(node.csiSocket, 'data', readOnly)
})

check('after the last pod nothing is left: no mount, no session, no folder', async (t) => {
  const unmounted = await kubelet.flexUnmount(flex, flexTarget('pod-b'))
  t.is(unmounted?.answer.status, 'Success', unmounted?.answer.message)
  await kubelet.unpublish(node.csiSocket, 'data', kubelet.csiTarget('pod-c', 'pv-c'))
  await kubelet.unstage(node.csiSocket, driverName, 'data')
  t.deepEqual(mountsBelow(node.folder), [])
  t.deepEqual((await processesOf(node.runtime)).filter((line) => line.includes(' session ')), [])
  t.deepEqual(existsSync(path.join(node.state, 'mounts')) ? readdirSync(path.join(node.state, 'mounts')) : [], [])
  const again = await kubelet.call(node.csiSocket, 'NodeUnpublishVolume', {
    volumeId: 'data', targetPath: kubelet.csiTarget('pod-c', 'pv-c')
  })
  t.truthy(again)
})

check('Flex alone starts an agent, mounts, and unmounts', async (t) => {
  const alone = new TestNode()
  try {
    const own: FlexDriver = {
      file: flex.file, env: { VOLBRIDGE_STATE_DIR: alone.state, VOLBRIDGE_RUN_DIR: alone.runtime }
    }
    const lonely = new Kubelet(alone.kubelet)
    const target = lonely.flexTarget('pod', 'volbridge.io/volbridge', 'data')
    const mounted = await lonely.flexMount(own, target, options, { secrets: { token: 'h1dden-value' } })
    t.is(mounted?.answer.status, 'Success', mounted?.answer.message)
    t.is(readFileSync(path.join(target, 'from-server'), 'utf8'), 'hello')
    t.is(await shell(`grep -rl h1dden-value ${alone.folder} || true`), '')
    const unmounted = await lonely.flexUnmount(own, target)
    t.is(unmounted?.answer.status, 'Success', unmounted?.answer.message)
    t.false(existsSync(target))
  } finally {
    await alone.close()
  }
  t.deepEqual(await processesOf(alone.folder), [])
})

check('the volume root takes mountPermissions, and a folder of the kubelet is never touched by a failed mount', async (t) => {
  mkdirSync(path.join(server.folder, 'sub/dir'), { recursive: true, mode: 0o700 })
  const target = kubelet.flexTarget('pod-s', 'volbridge.io/volbridge', 'sub')
  const mounted = await kubelet.flexMount(flex, target, { ...options, subDir: 'sub/dir', mountPermissions: '0777' })
  t.is(mounted?.answer.status, 'Success', mounted?.answer.message)
  t.is(statSync(path.join(server.folder, 'sub/dir')).mode & 0o7777, 0o777)
  await kubelet.flexUnmount(flex, target)
  const failed = await kubelet.flexMount(flex, target, { ...options, share: '/not/exported' })
  t.is(failed?.answer.status, 'Failure')
  t.false(existsSync(target))
})
