/**
 * What a pod's volume is asked to be, through the Flex door of the packed binary: its group, its mode, its options.
 */
import { spawn } from 'node:child_process'
import { chmodSync, chownSync, copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { pause } from '../../../agent/base/deadline.ts'
import type { StatusResponse } from '../../../proto/csi/types.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { Kubelet, type FlexDriver } from '../../peers/kubelet.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { binary, mountsBelow, processesOf, run, shell, TestNode } from '../endtoend/node.ts'

const needs = ['root', 'fuse', 'ganesha'] as const
const check = testNeeding(...needs)

let server: Ganesha
let node: TestNode
let kubelet: Kubelet
let flex: FlexDriver

test.before(async () => {
  if (missing(...needs) !== undefined) return
  server = await Ganesha.start()
  node = new TestNode()
  kubelet = new Kubelet(node.kubelet)
  flex = {
    file: path.join(node.makeFolder('plugins/volbridge.io~volbridge'), 'volbridge'),
    // Options are an administrator's here; what a pod's author may write of them: policy.test.ts.
    env: { VOLBRIDGE_STATE_DIR: node.state, VOLBRIDGE_RUN_DIR: node.runtime, VOLBRIDGE_TRUST_FLEX_OPTIONS: '1' }
  }
  copyFileSync(binary, flex.file)
})

test.after.always(async () => {
  await node?.close()
  await server?.close()
})

const target = (pod: string): string => kubelet.flexTarget(pod, 'volbridge.io/volbridge', 'data')

async function mount (pod: string, more: Record<string, string>, mountOptions = '', readOnly = false): Promise<string> {
  const options = {
    server: server.host, share: server.folder,
    mountOptions: [server.mountOptions, mountOptions].filter((part) => part !== '').join(), ...more
  }
  const mounted = await kubelet.flexMount(flex, target(pod), options, { readOnly })
  if (mounted?.answer.status !== 'Success') throw new Error(mounted?.answer.message ?? 'not called')
  return target(pod)
}

async function unmount (...pods: readonly string[]): Promise<void> {
  for (const pod of pods) {
    const unmounted = await kubelet.flexUnmount(flex, pod)
    if (unmounted?.answer.status !== 'Success') throw new Error(unmounted?.answer.message ?? 'not called')
  }
}

function folderOnServer (name: string, mode: number): string {
  const folder = path.join(server.folder, name)
  mkdirSync(folder)
  chownSync(folder, 0, 0)
  chmodSync(folder, mode)
  return folder
}

check('a pod with an fsGroup writes as its user into a folder of root, and what is there and what it makes belongs to the group', async (t) => {
  const folder = folderOnServer('group', 0o755)
  writeFileSync(path.join(folder, 'before'), 'x', { mode: 0o600 })
  const pod = await mount('group', { subDir: 'group', 'kubernetes.io/mounterArgs.FsGroup': '2222' })
  // As kubelet starts a container with fsGroup: its user, with the group as a supplementary one. kubelet's folders
  // above are closed to it.
  await shell(
    `setpriv --reuid 1500 --regid 1500 --groups 2222 /bin/sh -c 'echo mine > file && mkdir made && echo too > made/file && echo more >> before'`,
    { cwd: pod }
  )
  for (const name of ['file', 'made', 'made/file']) {
    t.like(statSync(path.join(folder, name)), { uid: 1500, gid: 2222 }, name)
  }
  t.like(statSync(path.join(folder, 'before')), { uid: 0, gid: 2222, mode: 0o100660 })
  const stranger = await run('setpriv', [
    '--reuid', '1600', '--regid', '1600', '--clear-groups', '/bin/sh', '-c', 'echo no > stranger'
  ], { cwd: pod })
  t.not(stranger.code, 0)
  await unmount(pod)
})

check('ro and rw pods of one share: the first cannot write, the second can, and one session serves both', async (t) => {
  folderOnServer('modes', 0o777)
  const [asked, writer] = [
    await mount('asked', { subDir: 'modes' }, '', true), await mount('writer', { subDir: 'modes' })
  ]
  const byOption = await mount('by-option', { subDir: 'modes' }, 'ro')
  writeFileSync(path.join(writer, 'file'), 'x')
  for (const pod of [asked, byOption]) {
    t.throws(() => { writeFileSync(path.join(pod, 'no'), 'x') }, { code: 'EROFS' })
    t.is(readFileSync(path.join(pod, 'file'), 'utf8'), 'x')
  }
  t.deepEqual([asked, writer, byOption].map((pod) => mountsBelow(pod)[0]?.options.split(',')[0]), ['ro', 'rw', 'ro'])
  t.is((await processesOf(node.state)).filter((line) => line.includes(' session ')).length, 1)
  await unmount(asked, byOption)
  writeFileSync(path.join(writer, 'file'), 'y')
  await unmount(writer)
  t.is(readFileSync(path.join(server.folder, 'modes/file'), 'utf8'), 'y')
})

check('mountOptions of a Flex volume are nfs(5) options: flags are on the pod\'s mount, other options make another share of it', async (t) => {
  folderOnServer('options', 0o777)
  const plain = await mount('plain', { subDir: 'options' })
  const strict = await mount('strict', { subDir: 'options' }, 'noexec,noatime')
  const small = await mount('small', { subDir: 'options' }, 'rsize=65536,soft,timeo=100')
  t.regex(mountsBelow(plain)[0]?.options ?? '', /^(?!.*noexec).*nosuid,nodev/)
  t.regex(mountsBelow(strict)[0]?.options ?? '', /nosuid,nodev,noexec,noatime/)
  copyFileSync('/bin/true', path.join(plain, 'program'))
  chmodSync(path.join(plain, 'program'), 0o755)
  t.is((await run(path.join(plain, 'program'), [])).code, 0)
  t.regex((await run(path.join(strict, 'program'), [])).stderr, /EACCES/)
  const { volumes } = JSON.parse((await node.command(['status', '--json', ...node.places])).stdout) as StatusResponse
  const keyOf = (pod: string): string | undefined =>
    volumes.find(({ targets }) => targets.some((each) => each.path === pod))?.key
  t.not(keyOf(plain), keyOf(small))
  await unmount(plain, strict, small)
})

check('a call’s secrets do not stand in its arguments while it lasts, nor in those of what it starts', async (t) => {
  const secret = 'c0rrect-horse-battery'
  const encoded = Buffer.from(secret).toString('base64')
  const options = JSON.stringify({
    server: server.host, share: server.folder, mountOptions: `${server.mountOptions},timeo=30`,
    'kubernetes.io/secret/password': encoded
  })
  mkdirSync(target('secretive'), { recursive: true })
  server.stop()
  const started = performance.now()
  const call = spawn(flex.file, ['mount', target('secretive'), options], { env: flex.env, stdio: 'ignore' })
  const ended = new Promise((resolve) => { call.once('exit', resolve) })
  try {
    const told = (file: string): string => readFileSync(`/proc/${call.pid ?? 0}/${file}`, 'latin1')
    while (told('cmdline').includes(encoded)) await pause(1)
    t.log(`overwritten after ${Math.round(performance.now() - started)} ms`)
    await pause(1000)
    t.is(call.exitCode, null, 'the call goes on')
    t.regex(told('cmdline'), /^volbridge flex\0*$/)
    t.notRegex(told('environ'), new RegExp(`${encoded}|${secret}`))
    for (const line of await processesOf(node.runtime)) t.false(line.includes(encoded) || line.includes(secret), line)
  } finally {
    server.resume()
    await ended
  }
  await unmount(target('secretive'))
})
