/**
 * The control side under stress: dead sessions, dead and stopped servers, many calls at once, many rounds, a starter's
 * cgroup that ends.
 */
import { execFileSync, spawn } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmdirSync,
  writeFileSync
} from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import test from 'ava'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import type { StatusResponse, StatusVolume } from '../../../proto/csi/types.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { flexCall, Kubelet, type CsiVolume, type FlexDriver } from '../../peers/kubelet.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { binary, mountsBelow, processesOf, run, shell, TestNode } from './node.ts'

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
  for (let n = 0; n < 20; n++) mkdirSync(path.join(server.folder, `dir-${n}`))
  node = new TestNode()
  await node.startAgent()
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

async function volumes (): Promise<readonly StatusVolume[]> {
  const ran = await node.command(['status', '--json', ...node.places])
  if (ran.code !== 0) throw new Error(ran.stderr)
  return (JSON.parse(ran.stdout) as StatusResponse).volumes
}

async function sessions (): Promise<readonly number[]> {
  return (await processesOf(node.runtime)).filter((line) => line.includes(' session ')).map((line) =>
    Number(line.split(' ')[0])
  )
}

check('a session killed under two pods while the server is away is said to be dead, with the reason; both come back with the server', async (t) => {
  await kubelet.stage(node.csiSocket, driverName, volume)
  const first = await kubelet.publish(node.csiSocket, driverName, volume, 'pod-1', 'pv')
  const second = await kubelet.publish(node.csiSocket, driverName, volume, 'pod-2', 'pv')
  await kubelet.stats(node.csiSocket, 'data', first)
  server.stop()
  try {
    const [pid = 0] = await sessions()
    process.kill(pid, 'SIGKILL')
    while ((await volumes())[0]?.health !== 'dead') await pause(20)
    const [dead] = await volumes()
    t.regex(dead?.healthReason ?? '', /session process was ended by SIGKILL.*mount it anew|being mounted anew/)
    t.regex((await node.command(['status', ...node.places])).stdout, / {2}dead: the mount is not served/)
    for (const target of [first, second]) {
      const { volumeCondition } = await kubelet.stats(node.csiSocket, 'data', target)
      t.true(volumeCondition?.abnormal)
      t.regex(volumeCondition?.message ?? '', /^dead: /)
    }
    t.throws(() => readdirSync(first), { code: 'ENOTCONN' })
  } finally {
    server.resume()
  }
  while ((await volumes())[0]?.health !== 'healthy') await pause(20)
  writeFileSync(path.join(first, 'again'), 'x')
  t.is(readFileSync(path.join(second, 'again'), 'utf8'), 'x')
  t.false((await kubelet.stats(node.csiSocket, 'data', second)).volumeCondition?.abnormal)
  const mounts = mountsBelow(node.folder).length
  await kubelet.stage(node.csiSocket, driverName, volume)
  await kubelet.publish(node.csiSocket, driverName, volume, 'pod-1', 'pv')
  t.is(mountsBelow(node.folder).length, mounts, 'a repeat stacks nothing on what was brought back')
  await kubelet.unpublish(node.csiSocket, 'data', second)
  t.is(readFileSync(path.join(first, 'again'), 'utf8'), 'x')
  await kubelet.unpublish(node.csiSocket, 'data', first)
  await kubelet.unstage(node.csiSocket, driverName, 'data')
  t.deepEqual(mountsBelow(node.folder), [])
  t.deepEqual(await sessions(), [])
})

/** Writes when told, and does not close: a close waits for the server. */
const unsavedWriter = `const fs = require('node:fs'); const fd = fs.openSync(process.argv[1], 'w'); console.log('open')
process.stdin.once('data', () => { fs.writeSync(fd, Buffer.alloc(300000)); console.log('written') })`

check('with a stopped server and unsaved data, several pods leave within 10 seconds each, and what was lost is said', async (t) => {
  await kubelet.stage(node.csiSocket, driverName, volume)
  const targets: string[] = []
  for (const pod of ['pod-1', 'pod-2', 'pod-3']) {
    targets.push(await kubelet.publish(node.csiSocket, driverName, volume, pod, 'pv'))
  }
  await kubelet.stats(node.csiSocket, 'data', targets[0] ?? '')
  const flexed = flexTarget('pod-f')
  t.is((await kubelet.flexMount(flex, flexed, options))?.answer.status, 'Success')
  const writers = targets.map((target, n) =>
    spawn(process.execPath, ['-e', unsavedWriter, `unsaved-${n}`], { cwd: target, stdio: ['pipe', 'pipe', 'ignore'] })
  )
  t.teardown(() => { for (const writer of writers) writer.kill('SIGKILL') })
  const said = async (n: number): Promise<void> => {
    await new Promise((resolve) => { writers[n]?.stdout.once('data', resolve) })
  }
  await Promise.all(writers.map(async (_, n) => { await said(n) }))
  server.stop()
  try {
    for (const [n, writer] of writers.entries()) {
      writer.stdin.write('go\n')
      await said(n)
    }
    t.true(((await volumes())[0]?.gauges['dirtyBytes'] ?? 0) > 0)
    t.regex((await node.command(['status', ...node.places])).stdout, /unsaved +879 KiB not on the server yet/)
    for (const target of targets) {
      const from = monotonicMs()
      t.true((await kubelet.stats(node.csiSocket, 'data', target)).volumeCondition?.abnormal)
      t.true(monotonicMs() - from < 2000, 'statistics wait for a stopped server')
    }
    for (const writer of writers) writer.kill('SIGKILL')
    const timed = async (what: string, work: () => Promise<unknown>): Promise<void> => {
      const from = monotonicMs()
      await work()
      const ms = Math.round(monotonicMs() - from)
      t.log(`${what}: ${ms} ms`)
      t.true(ms < 10_000, `${what} took ${ms} ms`)
    }
    await Promise.all([
      timed('unpublish 1', async () => { await kubelet.unpublish(node.csiSocket, 'data', targets[0] ?? '') }),
      timed('Flex unmount', async () => { t.is((await kubelet.flexUnmount(flex, flexed))?.answer.status, 'Success') })
    ])
    for (const target of targets.slice(1)) {
      await timed(`unpublish ${path.basename(path.dirname(target))}`, async () => {
        await kubelet.unpublish(node.csiSocket, 'data', target)
      })
    }
    await timed('unstage', async () => { await kubelet.unstage(node.csiSocket, driverName, 'data') })
    t.regex(node.agentLog, /900000 bytes written to .* could not be saved/)
  } finally {
    server.resume()
  }
  t.deepEqual(mountsBelow(node.folder), [])
  t.deepEqual(await sessions(), [])
})

check('unmount --force of a dead server\'s mount with a program in it takes no 10 seconds', async (t) => {
  const mounted = node.makeFolder('by-hand')
  await node.mount(`${server.host}:${server.folder}`, mounted, options['mountOptions'] ?? '')
  writeFileSync(path.join(mounted, 'seen'), 'x')
  // It goes there by itself, and before: spawn waits for its child's chdir(2), which asks the server.
  const blocked = spawn('/bin/sh', ['-c', 'cd "$1" && echo there && read go && exec cat never-seen', 'sh', mounted], {
    stdio: ['pipe', 'pipe', 'ignore']
  })
  await new Promise((resolve) => { blocked.stdout.once('data', resolve) })
  server.stop()
  try {
    blocked.stdin.write('go\n')
    await pause(300)
    const from = monotonicMs()
    const ran = await node.command(['unmount', '--force', mounted, ...node.places])
    t.log(`${Math.round(monotonicMs() - from)} ms, exit ${ran.code} ${ran.stderr}`)
    t.true(monotonicMs() - from < 10_000)
    t.is(ran.code, 0, ran.stderr)
    t.deepEqual(mountsBelow(mounted), [])
  } finally {
    server.resume()
    blocked.kill('SIGKILL')
  }
  t.deepEqual(await sessions(), [])
})

check('a session that is stopped slows neither statistics nor status, and is not called healthy', async (t) => {
  await kubelet.stage(node.csiSocket, driverName, volume)
  const target = await kubelet.publish(node.csiSocket, driverName, volume, 'pod-1', 'pv')
  t.false((await kubelet.stats(node.csiSocket, 'data', target)).volumeCondition?.abnormal)
  const [pid = 0] = await sessions()
  process.kill(pid, 'SIGSTOP')
  try {
    const from = monotonicMs()
    const { volumeCondition } = await kubelet.stats(node.csiSocket, 'data', target)
    t.true(monotonicMs() - from < 2000)
    t.true(volumeCondition?.abnormal)
    t.regex(volumeCondition?.message ?? '', /does not answer.*last known/)
    t.like((await volumes())[0], { health: 'degraded', usage: { stale: true } })
  } finally {
    process.kill(pid, 'SIGCONT')
  }
  t.false((await kubelet.stats(node.csiSocket, 'data', target)).volumeCondition?.abnormal)
  await kubelet.unpublish(node.csiSocket, 'data', target)
  await kubelet.unstage(node.csiSocket, driverName, 'data')
})

check('20 Flex mounts of different folders at once all work, and 20 unmounts at once leave nothing', async (t) => {
  const pods = Array.from({ length: 20 }, (_, n) => n)
  const mounted = await Promise.all(
    pods.map(async (n) => await kubelet.flexMount(flex, flexTarget(`many-${n}`), { ...options, subDir: `dir-${n}` }))
  )
  t.deepEqual(
    mounted.map((result) => result?.answer.status),
    pods.map(() => 'Success'),
    mounted.map((result) => result?.answer.message).join()
  )
  for (const n of pods) {
    writeFileSync(path.join(flexTarget(`many-${n}`), 'mine'), `${n}`)
    t.is(readFileSync(path.join(server.folder, `dir-${n}`, 'mine'), 'utf8'), `${n}`)
  }
  t.is((await sessions()).length, 20)
  const unmounted = await Promise.all(pods.map(async (n) => await kubelet.flexUnmount(flex, flexTarget(`many-${n}`))))
  t.deepEqual(
    unmounted.map((result) => result?.answer.status),
    pods.map(() => 'Success'),
    unmounted.map((result) => result?.answer.message).join()
  )
  t.deepEqual(mountsBelow(node.folder), [])
  t.deepEqual(await sessions(), [])
})

const descriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length

check('200 rounds of publish and unpublish leave no descriptor, mount, process or file behind', async (t) => {
  const agent = node.agentPid ?? 0
  await kubelet.stage(node.csiSocket, driverName, volume)
  const round = async (n: number): Promise<void> => {
    await kubelet.unpublish(
      node.csiSocket,
      'data',
      await kubelet.publish(node.csiSocket, driverName, volume, `round-${n}`, 'pv')
    )
  }
  const counts = async (): Promise<object> => ({
    mounts: mountsBelow(node.folder).length, sessions: (await sessions()).length,
    children: readFileSync(`/proc/${agent}/task/${agent}/children`, 'utf8').trim().split(' ').length,
    files:
      execFileSync('find', [node.state, node.runtime, '-xdev', '-type', 'f'], { encoding: 'utf8' }).split('\n').length
  })
  for (let n = 0; n < 5; n++) await round(n)
  await pause(500)
  const [before, fdsBefore] = [await counts(), descriptors(agent)]
  for (let n = 0; n < 200; n++) await round(n)
  await pause(500)
  t.deepEqual(await counts(), before)
  t.true(descriptors(agent) <= fdsBefore + 3, `${fdsBefore} descriptors before, ${descriptors(agent)} after`)
  await kubelet.unstage(node.csiSocket, driverName, 'data')
  t.deepEqual(readdirSync(path.join(node.state, 'journal')), [])
  t.deepEqual(readdirSync(path.join(node.runtime, 'sessions')), [])
})

/** Gone, or a zombie that nobody has reaped yet, within ten seconds. */
async function hasEnded (pid: number): Promise<boolean> {
  for (let tries = 0; tries < 500; tries += 1) {
    try {
      if (/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))) return true
    } catch {
      return true
    }
    await pause(20)
  }
  return false
}

check('an agent and its sessions that a Flex call started survive the end of the caller\'s cgroup, and leave no group of their own', async (t) => {
  const hierarchy = ['/sys/fs/cgroup/cgroup.procs', '/sys/fs/cgroup/unified/cgroup.procs'].find((file) =>
    existsSync(file)
  )
  if (hierarchy === undefined) {
    t.log('this machine has no unified cgroup hierarchy')
    t.pass()
    return
  }
  const root = path.dirname(hierarchy)
  const alone = new TestNode()
  const callers = mkdtempSync(path.join(root, 'volbridge-test-kubelet-'))
  try {
    const target = path.join(alone.makeFolder('pod'), 'data')
    mkdirSync(target)
    const file = path.join(alone.folder, 'call')
    writeFileSync(file, `#!/bin/sh\necho $$ > ${callers}/cgroup.procs\nexec ${binary} flex "$@"\n`, { mode: 0o755 })
    const driver: FlexDriver = { file, env: { VOLBRIDGE_STATE_DIR: alone.state, VOLBRIDGE_RUN_DIR: alone.runtime } }
    const mounted = await flexCall(driver, ['mount', target, JSON.stringify(options)])
    t.is(mounted.answer.status, 'Success', mounted.answer.message)
    t.is(readFileSync(path.join(callers, 'cgroup.procs'), 'utf8'), '', 'somebody stayed in the caller\'s cgroup')
    const started = (await processesOf(alone.folder)).map((line) => Number(line.split(' ')[0]))
    t.is(started.length, 2)
    for (const pid of started) {
      t.regex(readFileSync(`/proc/${pid}/cgroup`, 'utf8'), /^0::\/volbridge-(agent|sessions\/.*)$/m)
    }
    const [agent] = (await processesOf(alone.folder)).filter((line) => line.includes(' agent ')).map((line) =>
      Number(line.split(' ')[0])
    )
    t.is((await flexCall(driver, ['unmount', target])).answer.status, 'Success')
    process.kill(agent ?? 0, 'SIGTERM')
    t.true(await hasEnded(agent ?? 0), 'the agent does not end on SIGTERM')
    t.false(
      existsSync(path.join(root, 'volbridge-agent')) &&
        readFileSync(path.join(root, 'volbridge-agent/cgroup.procs'), 'utf8') === ''
    )
  } finally {
    await alone.close()
    rmdirSync(callers)
  }
})

check('a full state disk keeps no pod\'s volume: the mount is refused, the unmount works', async (t) => {
  const small = new TestNode()
  const disk = small.makeFolder('disk')
  await shell(`mount -t tmpfs -o size=1m,mode=755 tmpfs ${disk}`)
  const places = ['--state-dir', path.join(disk, 'state'), '--run-dir', small.runtime]
  const mounted = small.makeFolder('mounted')
  const command = async (args: readonly string[]): Promise<Awaited<ReturnType<typeof run>>> =>
    await small.command([...args, ...places])
  try {
    const source = `${server.host}:${server.folder}`
    const first = await command(['mount', source, mounted, '-o', options['mountOptions'] ?? ''])
    t.is(first.code, 0, first.stderr)
    await shell(`dd if=/dev/zero of=${disk}/full bs=4k 2>/dev/null || true`)
    const refused = await command(['mount', source, small.makeFolder('second'), '-o', options['mountOptions'] ?? ''])
    t.is(refused.code, 1)
    t.regex(refused.stderr, /no space left.*make room in the state folder/i)
    const unmounted = await command(['unmount', mounted])
    t.is(unmounted.code, 0, unmounted.stderr)
    t.deepEqual(mountsBelow(small.folder).map(({ point }) => point), [disk])
  } finally {
    for (const line of await processesOf(small.folder)) {
      try { process.kill(Number(line.split(' ')[0]), 'SIGKILL') } catch { /* Gone. */ }
    }
    await pause(200)
    await run('umount', ['-l', disk])
    await small.close()
  }
})

check('the doctor tells root, an unprivileged user and a place without /dev/fuse apart', async (t) => {
  const doctor = async (command: string): Promise<{ code: number, findings: Record<string, string> }> => {
    const ran = await run('/bin/sh', ['-c', command])
    const found = JSON.parse(ran.stdout) as readonly { check: string, verdict: string, remedy: string }[]
    for (const { check: name, verdict, remedy } of found) {
      if (verdict === 'warning' || verdict === 'failed') t.not(remedy, '', name)
    }
    return { code: ran.code, findings: Object.fromEntries(found.map(({ check: name, verdict }) => [name, verdict])) }
  }
  const args = `doctor --json ${node.places.join(' ')} --kubelet-dir ${node.kubelet}`
  t.like(await doctor(`${binary} ${args}`), {
    code: 0, findings: { 'fuse device': 'ok', 'rights': 'ok', 'agent': 'ok' }
  })
  const nobody = await doctor(`setpriv --reuid 65534 --regid 65534 --clear-groups ${binary} ${args}`)
  t.like(nobody, { code: 1, findings: { 'rights': 'failed', 'state folder': 'failed', 'agent': 'warning' } })
  const bare = await doctor(`unshare --mount /bin/sh -c 'mount -t tmpfs tmpfs /dev && exec ${binary} ${args}'`)
  t.like(bare, { code: 1, findings: { 'fuse device': 'failed', 'rights': 'ok' } })
  const denied = await doctor(
    `unshare --mount /bin/sh -c 'mount -t tmpfs -o nodev tmpfs /dev && mknod /dev/fuse c 10 229 && chmod 666 /dev/fuse && exec ${binary} ${args}'`
  )
  t.like(denied, { code: 1, findings: { 'fuse device': 'failed' } }, 'a device that is there and cannot be opened')
})
