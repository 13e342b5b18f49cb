/**
 * The bare folder under a Flex mount cannot be written, and is kubelet's again whenever the driver has answered,
 * whoever dies in between.
 */
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import test from 'ava'
import { pause } from '../../../agent/base/deadline.ts'
import type { StatusResponse } from '../../../proto/csi/types.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { flexCall, Kubelet, type FlexDriver } from '../../peers/kubelet.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { binary, mountsBelow, processesOf, run, shell, TestNode } from '../endtoend/node.ts'

const check = testNeeding('root', 'fuse', 'ganesha')

let server: Ganesha
let node: TestNode
let kubelet: Kubelet
let flex: FlexDriver
let options: Record<string, string>

test.before(async () => {
  if (missing('root', 'fuse', 'ganesha') !== undefined) return
  server = await Ganesha.start()
  node = new TestNode()
  kubelet = new Kubelet(node.kubelet)
  const folder = node.makeFolder('plugins/volbridge.io~volbridge')
  copyFileSync(binary, path.join(folder, 'volbridge'))
  flex = {
    file: path.join(folder, 'volbridge'), env: { VOLBRIDGE_STATE_DIR: node.state, VOLBRIDGE_RUN_DIR: node.runtime }
  }
  options = { server: server.host, share: server.folder, mountOptions: server.mountOptions }
})

test.after.always(async () => {
  await node?.close()
  await server?.close()
})

const target = (pod: string): string => kubelet.flexTarget(pod, 'volbridge.io/volbridge', 'data')
/** Of what is seen at the path: the bare folder only when nothing is mounted there. */
const isImmutable = async (folder: string): Promise<boolean> => /^\S*i/.test(await shell(`lsattr -d ${folder}`))

async function mount (pod: string): Promise<string> {
  const mounted = await kubelet.flexMount(flex, target(pod), options)
  if (mounted?.answer.status !== 'Success') throw new Error(mounted?.answer.message)
  return target(pod)
}

check('a pod whose mount went missing cannot write to the node’s disk, and kubelet’s unmount gives the folder back', async (t) => {
  const pod = await mount('bare')
  writeFileSync(path.join(pod, 'through'), 'x')
  await shell(`umount ${pod}`)
  t.true(await isImmutable(pod))
  t.throws(() => { writeFileSync(path.join(pod, 'local'), 'x') }, { code: 'EPERM' })
  t.throws(() => { mkdirSync(path.join(pod, 'local')) }, { code: 'EPERM' })
  t.throws(() => { rmdirSync(pod) }, { code: 'EPERM' })
  t.is((await kubelet.flexUnmount(flex, pod))?.answer.status, 'Success')
  t.false(existsSync(pod))
})

check('a mount that fails leaves a folder that kubelet can remove', async (t) => {
  const failed = await kubelet.flexMount(flex, target('failing'), { ...options, share: '/not/exported' })
  t.is(failed?.answer.status, 'Failure')
  t.false(existsSync(target('failing')))
})

async function agents (): Promise<readonly number[]> {
  return (await processesOf(node.folder)).filter((line) => line.includes(' agent ')).map((line) =>
    Number(line.split(' ')[0])
  )
}

/** After the start of the call. Every step of the engine has its turn in
 * test/semantics/volumes/killed-engine.test.ts. */
const moments = process.env['VOLBRIDGE_LONG'] === '1' ? Array.from({ length: 40 }, (_, n) => 10 + 10 * n) : [60, 160]

check('the agent is killed at any moment of mount and unmount: after the next unmount nothing is left, and no bare folder stays immutable', async (t) => {
  let wasBare = 0
  for (const call of ['mount', 'unmount'] as const) {
    for (const ms of moments) {
      const pod = target(`killed-${call}-${ms}`)
      mkdirSync(pod, { recursive: true })
      const json = JSON.stringify(options)
      if (call === 'unmount') t.is((await flexCall(flex, ['mount', pod, json])).answer.status, 'Success')
      else await flexCall(flex, ['unmount', pod])
      const running = flexCall(flex, call === 'mount' ? ['mount', pod, json] : ['unmount', pod])
      await pause(ms)
      for (const pid of await agents()) {
        try { process.kill(pid, 'SIGKILL') } catch { /* It has just ended: nothing was mounted. */ }
      }
      await running
      if (mountsBelow(pod).length === 0 && await isImmutable(pod)) wasBare++
      const { answer } = await flexCall(flex, ['unmount', pod])
      t.is(answer.status, 'Success', answer.message)
      t.deepEqual(mountsBelow(pod), [])
      t.notThrows(() => { rmdirSync(pod) }, `${call}, killed after ${ms} ms`)
    }
  }
  t.log(`${wasBare} of ${2 * moments.length} left a bare immutable folder for recovery`)
})

check('where the file system has no such flag the mount works, and status says that it is unprotected', async (t) => {
  const pods = node.makeFolder('ramfs')
  await shell(`mount -t ramfs ramfs ${pods}`)
  const pod = path.join(pods, 'data')
  mkdirSync(pod)
  t.is((await flexCall(flex, ['mount', pod, JSON.stringify(options)])).answer.status, 'Success')
  const ran = await node.command(['status', '--json', ...node.places])
  const targets = (JSON.parse(ran.stdout) as StatusResponse).volumes.flatMap((volume) => volume.targets)
  t.regex(targets.find((each) => each.path === pod)?.unprotected ?? '', /no immutable flag/)
  t.regex((await node.command(['status', ...node.places])).stdout, /unprotected: its file system has no immutable flag/)
  t.is((await flexCall(flex, ['unmount', pod])).answer.status, 'Success')
  await shell(`umount ${pods}`)
})

check('flex-uninstall makes the folders plain beneath mounts that live on', async (t) => {
  const pod = await mount('uninstalled')
  const removed = await run(binary, [
    'flex-uninstall', '--plugin-dir', path.dirname(path.dirname(flex.file)), '--state-dir', node.state
  ])
  t.is(removed.code, 0, removed.stderr)
  t.is(readFileSync(path.join(pod, 'through'), 'utf8'), 'x')
  await shell(`umount ${pod}`)
  t.false(await isImmutable(pod))
  t.notThrows(() => { rmdirSync(pod) })
})
