/**
 * An agent in a container, as a DaemonSet runs it: what it mounts is on the node, and stays there when its pod is
 * deleted.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readdirSync, readlinkSync, realpathSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import test from 'ava'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import { cgroupsOf } from '../../../agent/host/cgroups.ts'
import { Container, type ContainerOptions } from '../../peers/container.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { Kubelet } from '../../peers/kubelet.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { TestNode, binary, mountsBelow, processesOf, shell } from '../endtoend/node.ts'

const needs = ['root', 'fuse', 'ganesha', 'runc'] as const
const check = testNeeding(...needs)
const driver = 'csi.volbridge.io'

let server: Ganesha
test.before(async () => { if (missing(...needs) === undefined) server = await Ganesha.start() })
test.after.always(async () => { await server?.close() })

async function until (what: string, holds: () => boolean | Promise<boolean>, ms = 60_000): Promise<void> {
  for (const endMs = monotonicMs() + ms; !await holds(); await pause(50)) {
    if (monotonicMs() > endMs) throw new Error(`not within ${ms} ms: ${what}`)
  }
}

const hostNs = `/proc/${process.pid}/ns`
const volume = (handle: string): { handle: string, attributes: Record<string, string> } => ({
  handle, attributes: { server: server.host, share: server.folder, mountOptions: server.mountOptions }
})

/** The DaemonSet's container on this node; what differs from pod to pod is its folder. */
async function startPod (
  node: TestNode,
  name: string,
  changes: Partial<ContainerOptions> & { readonly extra?: readonly string[], readonly kubelet?: 'rslave' | 'rshared' } =
    {}
): Promise<Container> {
  const { extra = ['--host-ns', hostNs], kubelet = 'rslave', ...options } = changes
  for (const folder of [node.state, node.runtime]) mkdirSync(folder, { recursive: true, mode: 0o700 })
  const container = new Container({
    folder: `${node.folder}-${name}`, binary,
    command: [
      '/volbridge', 'agent', ...node.places, '--kubelet-dir', node.kubelet, '--csi-endpoint',
      `unix://${node.csiSocket}`, '--node-id', 'test-node', ...extra
    ],
    hostPaths: [
      { path: node.state, propagation: 'rslave' }, { path: node.runtime, propagation: 'rslave' },
      { path: node.kubelet, propagation: kubelet }
    ],
    ...options
  })
  return container
}

async function serves (container: Container, node: TestNode): Promise<void> {
  await until('the agent serves', () => {
    if (container.hasEnded) throw new Error(`the container ended: ${container.log}`)
    return container.log.includes('"op":"start"') && existsSync(node.csiSocket)
  })
}

const sessionPids = async (node: TestNode): Promise<readonly number[]> =>
  (await processesOf(node.runtime)).filter((line) => line.includes(' session ')).map((line) =>
    Number(line.split(' ')[0])
  )

/** A program of a pod: it writes, fsyncs and reads back without a pause, and says so when anything fails. */
function startWriter (folder: string): ChildProcess & { readonly said: () => string } {
  const script =
    'set -e; for ((n = 1; ; n++)); do echo "line $n" | dd of=busy oflag=append conv=notrunc,fsync status=none; [ "$(tail -n 1 busy)" = "line $n" ]; done'
  const child = spawn('/bin/bash', ['-c', script], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => { text += chunk })
  }
  return Object.assign(child, { said: () => text })
}

const lines = (): number =>
  existsSync(path.join(server.folder, 'busy'))
    ? readFileSync(path.join(server.folder, 'busy'), 'utf8').split('\n').length
    : 0

check('the DaemonSet\'s pod is deleted, files and all, while a program reads and writes: it notices nothing, and the next pod takes the mounts on', async (t) => {
  const node = new TestNode()
  const kubelet = new Kubelet(node.kubelet)
  const first = await startPod(node, 'pod1', { own: ['network', 'cgroup'] })
  const started: { kill?: () => unknown, delete?: () => Promise<void> }[] = []
  t.teardown(async () => {
    for (const each of [...started, first]) {
      if ('delete' in each) await each.delete?.()
      else each.kill?.()
    }
    await node.close()
  })
  await serves(first, node)
  const pod = first.pid ?? 0
  await kubelet.stage(node.csiSocket, driver, volume('v'))
  const target = await kubelet.publish(node.csiSocket, driver, volume('v'), 'pod-1', 'pv')

  const [session = 0] = await sessionPids(node)
  for (const kind of ['mnt', 'pid', 'net', 'cgroup', 'ipc', 'uts']) {
    t.is(readlinkSync(`/proc/${session}/ns/${kind}`), readlinkSync(`/proc/self/ns/${kind}`), kind)
  }
  t.not(readlinkSync(`/proc/${pod}/ns/net`), readlinkSync('/proc/self/ns/net'), 'the pod itself is elsewhere')
  t.true(realpathSync(`/proc/${session}/exe`).startsWith(`${node.state}/bin/`))
  t.deepEqual(
    (await cgroupsOf(session)).filter(({ path: group }) => group.includes(first.id)),
    [],
    'nothing of the pod\'s cgroup holds the session'
  )
  t.deepEqual(
    mountsBelow(node.folder).map(({ type }) => type),
    ['fuse.volbridge', 'fuse.volbridge'],
    'the share and the pod\'s bind'
  )

  const writer = startWriter(target)
  started.push({ kill: () => writer.kill('SIGKILL') })
  await until('the program writes', () => lines() > 20)
  await first.delete()
  t.false(existsSync(`/proc/${pod}`))
  t.false(existsSync(`${node.folder}-pod1`))
  const before = lines()
  await until('the program goes on', () => lines() > before + 50)
  t.deepEqual(await sessionPids(node), [session])

  const reader = new Container({
    folder: `${node.folder}-reader`, binary, own: ['pid', 'network'],
    command: ['/bin/sh', '-c', 'head -n 1 /data/busy; echo from-a-pod > /data/pod'],
    hostPaths: [{ path: target, at: '/data', propagation: 'rslave' }]
  })
  const code = await reader.ended()
  t.is(`${code} ${reader.log}`, '0 line 1\n', 'a bind into another container works')
  await reader.delete()
  t.is(readFileSync(path.join(server.folder, 'pod'), 'utf8'), 'from-a-pod\n')

  const second = await startPod(node, 'pod2', { own: ['network', 'cgroup'] })
  started.push(second)
  await serves(second, node)
  t.like(await kubelet.stats(node.csiSocket, 'v', target), { volumeCondition: { abnormal: false } })
  await kubelet.publish(node.csiSocket, driver, volume('v'), 'pod-1', 'pv')
  t.deepEqual(await sessionPids(node), [session], 'no second session was started')
  t.is(writer.exitCode, null, writer.said())
  writer.kill('SIGKILL')
  t.is(writer.said(), '')
  await kubelet.unpublish(node.csiSocket, 'v', target)
  await kubelet.unstage(node.csiSocket, driver, 'v')
  t.deepEqual(mountsBelow(node.folder), [])
  await until('the session is gone', async () => (await sessionPids(node)).length === 0)
  t.deepEqual(readdirSync(path.join(node.state, 'journal')), [])
  t.is(readdirSync(path.join(node.state, 'bin')).length, 1)
})

check('a container with a pid namespace of its own, or without the node\'s folders, is told what it lacks', async (t) => {
  const node = new TestNode()
  t.teardown(async () => { await node.close() })
  const refusals = [
    [{
      own: ['pid'], extra: ['--host-ns', `/host${hostNs}`],
      hostPaths: [{ path: '/proc', at: '/host/proc', propagation: 'rprivate' }]
    }, /--host-ns: .*pid namespace.*hostPID: true/],
    [{ hostPaths: [] }, /--state-dir: .*hostPath/],
    [{ extra: ['--host-ns', '/proc/self/fd'] }, /--host-ns: "\/proc\/self\/fd" is not the ns folder of a process/]
  ] as const
  for (const [index, [changes, words]] of refusals.entries()) {
    const container = await startPod(node, `refused${index}`, changes)
    t.is(await container.ended(), 2, container.log)
    t.regex(container.log, words)
    await container.delete()
  }
  t.deepEqual(mountsBelow(node.folder), [])
})

check('without --host-ns a container\'s mounts appear on the node by Bidirectional propagation, and a bind of them in a second container', async (t) => {
  const node = new TestNode()
  const kubelet = new Kubelet(node.kubelet)
  await shell(`mount --bind ${node.kubelet} ${node.kubelet} && mount --make-rshared ${node.kubelet}`)
  const container = await startPod(node, 'shared', { extra: [], kubelet: 'rshared' })
  t.teardown(async () => {
    await container.delete()
    await node.close()
  })
  await serves(container, node)
  await kubelet.stage(node.csiSocket, driver, volume('v'))
  const target = await kubelet.publish(node.csiSocket, driver, volume('v'), 'pod-2', 'pv')
  t.true(mountsBelow(target).some(({ type }) => type === 'fuse.volbridge'))
  await shell(`echo seen > ${target}/from-the-node`)
  const reader = new Container({
    folder: `${node.folder}-second`, binary, own: ['pid', 'network'], command: ['/bin/cat', '/data/from-the-node'],
    hostPaths: [{ path: target, at: '/data', propagation: 'rslave' }]
  })
  const code = await reader.ended()
  t.is(`${code} ${reader.log}`, '0 seen\n')
  await reader.delete()
  await kubelet.unpublish(node.csiSocket, 'v', target)
  await kubelet.unstage(node.csiSocket, driver, 'v')
  t.deepEqual(mountsBelow(node.kubelet).filter(({ type }) => type === 'fuse.volbridge'), [])
})
