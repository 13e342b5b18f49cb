/**
 * Mounts whose session dies come back without any call: what pods, containers and operators see of it.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync
} from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import test from 'ava'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import type { StatusResponse, StatusVolume } from '../../../proto/csi/types.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { Kubelet, type FlexDriver } from '../../peers/kubelet.ts'
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
  for (let n = 0; n < 4; n++) mkdirSync(path.join(server.folder, `dir-${n}`))
  node = new TestNode()
  // As on a node: mounts made below are propagated to containers that ask for it.
  await shell(`mount --bind ${node.kubelet} ${node.kubelet} && mount --make-shared ${node.kubelet}`)
  kubelet = new Kubelet(node.kubelet)
  const folder = node.makeFolder('plugins/volbridge.io~volbridge')
  copyFileSync(binary, path.join(folder, 'volbridge'))
  flex = {
    file: path.join(folder, 'volbridge'), env: { VOLBRIDGE_STATE_DIR: node.state, VOLBRIDGE_RUN_DIR: node.runtime }
  }
  options = { server: server.host, share: server.folder, mountOptions: `${server.mountOptions},timeo=20` }
})

test.after.always(async () => {
  server?.resume()
  await node?.close()
  await server?.close()
})

const target = (pod: string): string => kubelet.flexTarget(pod, 'volbridge.io/volbridge', 'data')

async function mount (pod: string, more: Record<string, string> = {}, readOnly = false): Promise<string> {
  const mounted = await kubelet.flexMount(flex, target(pod), { ...options, ...more }, { readOnly })
  if (mounted?.answer.status !== 'Success') throw new Error(mounted?.answer.message)
  return target(pod)
}

async function unmount (...pods: readonly string[]): Promise<void> {
  for (const pod of pods) {
    const unmounted = await kubelet.flexUnmount(flex, target(pod))
    if (unmounted?.answer.status !== 'Success') throw new Error(unmounted?.answer.message)
  }
}

async function volumes (): Promise<readonly StatusVolume[]> {
  const ran = await node.command(['status', '--json', ...node.places])
  return ran.code === 0 ? (JSON.parse(ran.stdout) as StatusResponse).volumes : []
}

async function pidsOf (role: string): Promise<readonly number[]> {
  return (await processesOf(node.folder)).filter((line) => line.includes(` ${role} `)).map((line) =>
    Number(line.split(' ')[0])
  )
}

async function killSession (): Promise<void> {
  const pids = await pidsOf('session')
  for (const pid of pids) process.kill(pid, 'SIGKILL')
}

/** True once it holds; false when it does not within a minute: seconds are the promise, a loaded machine gets ten times
 * as many. */
async function soon (holds: () => boolean | Promise<boolean>): Promise<boolean> {
  for (const untilMs = monotonicMs() + 60_000; monotonicMs() < untilMs; await pause(50)) if (await holds()) return true
  return false
}

function works (folder: string, name = 'from-server'): boolean {
  try {
    return readFileSync(path.join(folder, name), 'utf8') === name
  } catch {
    return false
  }
}

check('a session is killed under three pods: without any call all their folders work again, and status, metrics and log say so', async (t) => {
  writeFileSync(path.join(server.folder, 'from-server'), 'from-server')
  const pods = [await mount('one'), await mount('two'), await mount('reader', {}, true)]
  const killedMs = monotonicMs()
  await killSession()
  for (const pod of pods) t.true(await soon(() => works(pod)), pod)
  t.log(`${Math.round(monotonicMs() - killedMs)} ms`)
  writeFileSync(path.join(target('one'), 'again'), 'x')
  t.is(readFileSync(path.join(target('two'), 'again'), 'utf8'), 'x')
  t.throws(() => { writeFileSync(path.join(target('reader'), 'no'), 'x') }, { code: 'EROFS' })
  t.true(await soon(async () => (await volumes()).every(({ health, heals }) => health === 'healthy' && heals === 1)))
  t.regex((await node.command(['status', ...node.places])).stdout, /healed +once/)
  const log = readFileSync(path.join(node.state, 'agent.log'), 'utf8')
  t.is(log.split('\n').filter((line) => line.includes('is mounted anew after its session died')).length, 3)
  t.regex(log, /is not served any more: the session process was ended by SIGKILL; it is mounted anew/)
  await unmount('one', 'two', 'reader')
  t.deepEqual(mountsBelow(node.kubelet).map(({ point }) => point), [node.kubelet])
  t.deepEqual(await pidsOf('session'), [])
  t.deepEqual(readdirSync(path.join(node.state, 'journal')), [])
})

/** A mount namespace such as a container's, with the pod's folder bound to /mnt, until its input ends. */
async function container (
  propagation: string,
  folder: string
): Promise<{ child: ChildProcess, look: () => Promise<string> }> {
  const child = spawn('unshare', [
    '--mount', '--propagation', propagation, '/bin/sh', '-c',
    `mount --bind ${folder} /mnt && mount --make-${propagation} /mnt && echo up && exec cat`
  ], { stdio: ['pipe', 'pipe', 'inherit'] })
  await new Promise((resolve) => { child.stdout?.once('data', resolve) })
  return {
    child,
    look: async () => {
      const ran = await run('nsenter', ['-t', `${child.pid ?? 0}`, '-m', 'cat', '/mnt/from-server'])
      return ran.code === 0 ? ran.stdout : ran.stderr
    }
  }
}

check('a running container with HostToContainer propagation sees the new mount; one without keeps the dead one until it is restarted', async (t) => {
  const pod = await mount('contained')
  const [following, alone] = [await container('slave', pod), await container('private', pod)]
  try {
    t.is(await following.look(), 'from-server')
    t.is(await alone.look(), 'from-server')
    await killSession()
    t.true(await soon(() => works(pod)))
    t.true(await soon(async () => await following.look() === 'from-server'), await following.look())
    t.regex(await alone.look(), /Transport endpoint is not connected/)
    const restarted = await container('private', pod)
    t.is(await restarted.look(), 'from-server')
    restarted.child.kill('SIGKILL')
    await unmount('contained')
    t.deepEqual(mountsBelow(pod), [])
  } finally {
    following.child.kill('SIGKILL')
    alone.child.kill('SIGKILL')
  }
})

check('agent and session are killed: the next agent, started by whichever call comes first, brings the mount back', async (t) => {
  const pod = await mount('orphan')
  for (const pid of await pidsOf('agent')) process.kill(pid, 'SIGKILL')
  await killSession()
  t.false(works(pod))
  await mount('newcomer', { subDir: 'dir-1' })
  t.true(await soon(() => works(pod)))
  await unmount('orphan', 'newcomer')
})

check('while the server is away a dead mount stays dead and says why, unmounting takes no 10 seconds; when the server is back the mount is', async (t) => {
  const [staying, leaving] = [await mount('staying'), await mount('leaving')]
  server.stop()
  try {
    await killSession()
    t.true(
      await soon(async () =>
        (await volumes()).some(({ healthReason }) => /tries to mount it anew have failed/.test(healthReason))
      ),
      JSON.stringify(await volumes())
    )
    t.like((await volumes())[0], { health: 'dead', heals: 0 })
    const fromMs = monotonicMs()
    await unmount('leaving')
    t.true(monotonicMs() - fromMs < 10_000)
    t.false(existsSync(leaving))
  } finally {
    server.resume()
  }
  t.true(await soon(() => works(staying)))
  t.like((await volumes())[0], { health: 'healthy', heals: 1 })
  await unmount('staying')
})

check('a mount that somebody unmounted by hand is not put back, and a foreign mount over a dead one is left alone', async (t) => {
  const [bare, covered, witness] = [await mount('bare'), await mount('covered'), await mount('witness')]
  await shell(`umount ${bare} && mount -t tmpfs tmpfs ${covered}`)
  await killSession()
  t.true(await soon(() => works(witness)))
  t.deepEqual(mountsBelow(bare), [])
  t.deepEqual(mountsBelow(covered).map(({ type }) => type), ['fuse.volbridge', 'tmpfs'])
  await shell(`umount ${covered}`)
  await unmount('bare', 'covered', 'witness')
  t.deepEqual(mountsBelow(node.kubelet).map(({ point }) => point), [node.kubelet])
})

/** As kubelet does for a subPath of a container: a bind of a part, through a descriptor, below its own folder. */
async function subPath (pod: string, part: string, more = ''): Promise<string> {
  const place = path.join(node.kubelet, 'pods', pod, 'volume-subpaths/data/app', part.replaceAll('/', '-'))
  const isFile = statSync(path.join(target(pod), part)).isFile()
  mkdirSync(isFile ? path.dirname(place) : place, { recursive: true })
  if (isFile) writeFileSync(place, '')
  await shell(
    `mount --bind '${path.join(target(pod), part)}' '${place}'${more === '' ? '' : ` && mount -o remount,bind,${more} '${place}'`}`
  )
  return place
}

check('binds of parts of a mount whose session dies work again too: folders, files, their flags; none leads out of the volume', async (t) => {
  mkdirSync(path.join(server.folder, 'parts/deep er'), { recursive: true })
  writeFileSync(path.join(server.folder, 'parts/deep er/from-server'), 'from-server')
  writeFileSync(path.join(server.folder, 'parts/one-file'), 'one-file')
  const pod = await mount('parted')
  const [folder, file] = [await subPath('parted', 'parts/deep er'), await subPath('parted', 'parts/one-file', 'ro')]
  const [swapped, gone] = [await subPath('parted', 'dir-2'), await subPath('parted', 'dir-3')]
  try {
    const flags = (place: string): string => mountsBelow(place.replaceAll(' ', '\\040')).at(-1)?.options ?? ''
    const before = [flags(folder), flags(file)]
    for (const pid of await pidsOf('session')) process.kill(pid, 'SIGSTOP')
    renameSync(path.join(server.folder, 'dir-2'), path.join(server.folder, 'dir-2-away'))
    symlinkSync('/etc', path.join(server.folder, 'dir-2'))
    renameSync(path.join(server.folder, 'dir-3'), path.join(server.folder, 'dir-3-away'))
    await killSession()
    t.true(await soon(() => works(pod) && works(folder)))
    t.true(await soon(() => readFileSync(file, 'utf8') === 'one-file'))
    t.deepEqual([flags(folder), flags(file)], before)
    t.throws(() => { writeFileSync(file, 'x') }, { code: 'EROFS' })
    writeFileSync(path.join(folder, 'again'), 'x')
    t.is(readFileSync(path.join(server.folder, 'parts/deep er/again'), 'utf8'), 'x')
    t.true(await soon(async () => (await volumes())[0]?.health === 'degraded'))
    const { healthReason = '' } = (await volumes())[0] ?? {}
    t.regex(healthReason, /dir-2 \("\/dir-2" of the volume is a symbolic link now, which is not followed\)/)
    t.regex(healthReason, /dir-3 \(the volume has no "\/dir-3" any more\)/)
    t.throws(() => readdirSync(swapped), { code: 'ENOTCONN' })
    renameSync(path.join(server.folder, 'dir-3-away'), path.join(server.folder, 'dir-3'))
    t.true(
      await soon(() => { try { return readdirSync(gone).length === 0 } catch { return false } })
    )
    await shell(`umount '${swapped}'`)
    t.true(await soon(async () => (await volumes())[0]?.health === 'healthy'))
  } finally {
    for (const place of [folder, file, swapped, gone]) await run('bash', ['-c', `while umount '${place}'; do :; done`])
  }
  rmSync(path.join(server.folder, 'dir-2'))
  renameSync(path.join(server.folder, 'dir-2-away'), path.join(server.folder, 'dir-2'))
  await unmount('parted')
  t.deepEqual(await pidsOf('session'), [])
})
