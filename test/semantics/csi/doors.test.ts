/** Both doors and the command line as real processes on a real server, driven as kubelet drives them. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import anyTest from 'ava'
import type { TestFn } from 'ava'
import { CallError } from '../../../proto/csi/client.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { Kubelet, flexCall } from '../../peers/kubelet.ts'
import type { FlexDriver } from '../../peers/kubelet.ts'
import {
  RawClient,
  emptyMessage,
  frame,
  literals,
  preface,
  requestFields,
  settings
} from '../../unit/agent/csi/authority/raw-client.ts'

const main = path.resolve('agent/main.ts')
const driver = 'csi.test.volbridge.io'
const node = { file: process.execPath, args: ['--no-warnings', main] }

interface Context {
  ganesha: Ganesha
  root: string
  kubelet: Kubelet
  running: { agent: ChildProcess }
  socket: string
  flex: FlexDriver
  attributes: Record<string, string>
  start: () => Promise<ChildProcess>
  environment: Record<string, string>
}
const test = anyTest as TestFn<Context>

async function until (what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 60_000; !await condition();) {
    if (Date.now() > end) throw new Error(`still not: ${what}`)
    await sleep(50)
  }
}

const mountsUnder = (folder: string): string[] =>
  readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map((line) => line.split(' ')[4] ?? '').filter((point) =>
    point.startsWith(`${folder}/`)
  )
const processesOf = (folder: string): number[] =>
  readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    try {
      return pid !== process.pid && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(folder)
    } catch { return false }
  })
const sessionsOf = (folder: string): number[] =>
  processesOf(folder).filter((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes('session'))

test.before(async (t) => {
  const ganesha = await Ganesha.start()
  const root = mkdtempSync('/var/tmp/vb-doors-')
  const kubelet = new Kubelet(path.join(root, 'k'))
  const environment = {
    PATH: '/usr/bin:/bin', VOLBRIDGE_STATE_DIR: path.join(root, 'state'), VOLBRIDGE_RUN_DIR: path.join(root, 'run')
  }
  const socket = path.join(kubelet.root, 'plugins', driver, 'csi.sock')
  const start = async (): Promise<ChildProcess> => {
    const agent = spawn(node.file, [
      ...node.args, 'agent', '--csi-endpoint', `unix://${socket}`, '--kubelet-dir', kubelet.root, '--driver-name',
      driver, '--node-id', 'node-a', '--log-file', path.join(root, 'agent.log')
    ], { env: environment, stdio: 'ignore' })
    await until('the CSI socket is there', () => existsSync(socket))
    return agent
  }
  const plugin = '/plugins/volbridge.io~volbridge/volbridge'
  Object.assign(t.context, {
    ganesha, root, kubelet, socket, environment, start, running: { agent: await start() },
    flex: { ...node, argv0: plugin, env: environment },
    attributes: { server: ganesha.host, share: ganesha.folder, mountOptions: ganesha.mountOptions }
  })
})

test.after.always(async (t) => {
  const { root, running, ganesha } = t.context
  if (root === undefined) return
  const { agent } = running
  agent.kill('SIGTERM')
  await until('the agent is gone', () => agent.exitCode !== null || agent.signalCode !== null)
  for (const pid of processesOf(root)) process.kill(pid, 'SIGKILL')
  for (const point of mountsUnder(root).reverse()) spawn('umount', ['-l', point], { stdio: 'ignore' })
  await until('nothing is mounted', () => mountsUnder(root).length === 0)
  rmSync(root, { recursive: true, force: true })
  await ganesha.close()
})

test.serial('the agent registers itself with kubelet', async (t) => {
  const { kubelet } = t.context
  const stop = new AbortController()
  const watching = kubelet.watchPlugins(stop.signal)
  await until('registered', () => kubelet.registered.has(driver))
  stop.abort()
  await watching
  t.like(kubelet.registered.get(driver), { endpoint: t.context.socket })
})

test.serial('kubelets before 1.26, which send the socket\'s path as authority, are served on both sockets', async (t) => {
  const { socket, kubelet } = t.context
  const registration = path.join(kubelet.root, 'plugins_registry', `${driver}-reg.sock`)
  for (const [at, method] of [[socket, '/csi.v1.Node/NodeGetInfo'], [
    registration, '/pluginregistration.Registration/GetInfo'
  ]] as const) {
    const client = new RawClient(at)
    client.send(preface, settings)
    for (const [stream, authority] of [[1, at], [3, ''], [5, 'localhost'], [7, encodeURIComponent(at)], [
      9, undefined
    ]] as const) {
      client.send(
        frame(1, 4, stream, literals(requestFields(method, authority), 0x40)),
        frame(0, 1, stream, emptyMessage)
      )
      t.deepEqual(await client.answer(stream), { status: '0', reset: undefined }, `${at} ${authority}`)
    }
    await client.close()
  }
})

test.serial('a volume is staged, published, written to, measured, and gone again without a trace', async (t) => {
  const { kubelet, socket, ganesha, attributes, root } = t.context
  const volume = { handle: 'pv-1', attributes }
  await kubelet.stage(socket, driver, volume)
  const target = await kubelet.publish(socket, driver, volume, 'pod-1', 'pv-1')
  writeFileSync(path.join(target, 'from-pod'), 'through FUSE and NFS')
  t.is(readFileSync(path.join(ganesha.folder, 'from-pod'), 'utf8'), 'through FUSE and NFS')
  const { usage, volumeCondition } = await kubelet.stats(socket, 'pv-1', target)
  t.deepEqual(usage.map(({ unit }) => unit), ['BYTES', 'INODES'])
  t.true(
    BigInt(usage[0]!.total) > 0n && BigInt(usage[0]!.total) >= BigInt(usage[0]!.used) + BigInt(usage[0]!.available)
  )
  t.deepEqual(volumeCondition, { abnormal: false, message: 'healthy' })
  await kubelet.stage(socket, driver, volume)
  await kubelet.publish(socket, driver, volume, 'pod-1', 'pv-1')
  t.is(mountsUnder(target.slice(0, target.lastIndexOf('/'))).length, 1)
  await kubelet.unpublish(socket, 'pv-1', target)
  await kubelet.unstage(socket, driver, 'pv-1')
  await kubelet.call(socket, 'NodeUnpublishVolume', { volumeId: 'pv-1', targetPath: target })
  t.deepEqual(mountsUnder(root), [])
  await until('no session is left', () => sessionsOf(root).length === 0)
})

test.serial('a read-only publish can be read and not written', async (t) => {
  const { kubelet, socket, ganesha, attributes } = t.context
  writeFileSync(path.join(ganesha.folder, 'fixed'), 'as it was')
  const volume = { handle: 'pv-ro', attributes, readOnly: true }
  await kubelet.stage(socket, driver, volume)
  const target = await kubelet.publish(socket, driver, volume, 'pod-ro', 'pv-ro')
  t.is(readFileSync(path.join(target, 'fixed'), 'utf8'), 'as it was')
  t.throws(() => { writeFileSync(path.join(target, 'fixed'), 'x') }, { code: 'EROFS' })
  await kubelet.unpublish(socket, 'pv-ro', target)
  await kubelet.unstage(socket, driver, 'pv-ro')
})

for (const [what, change, code, words] of [
  ['an unknown attribute', { sever: 'x' }, 3, /sever/],
  ['a server name that does not exist', { server: 'no-such-host.invalid' }, 14, /no-such-host\.invalid/],
  ['an export that does not exist', { share: '/no/such/export' }, 5, /\/no\/such\/export/],
  ['a subDir that climbs out', { subDir: '../x' }, 3, /subDir.*\.\.\/x/],
  ['a subDir that is not there', { subDir: 'nowhere' }, 5, /nowhere/],
  ['options that contradict each other', { mountOptions: 'hard,soft' }, 3, /hard|soft/]
] as const) {
  test.serial(`staging with ${what} names it, with the right code, and leaves nothing`, async (t) => {
    const { kubelet, socket, attributes, root } = t.context
    const error = await t.throwsAsync(
      kubelet.stage(socket, driver, { handle: 'pv-bad', attributes: { ...attributes, ...change } }),
      { instanceOf: CallError }
    )
    t.is(error?.code, code, error?.message)
    t.regex(error?.details ?? '', words)
    t.deepEqual(mountsUnder(root), [])
    await until('no session is left', () => sessionsOf(root).length === 0)
  })
}

test.serial('Flex and CSI pods of one share see each other\'s files through one session', async (t) => {
  const { kubelet, socket, flex, attributes, root } = t.context
  const volume = { handle: 'pv-2', attributes }
  await kubelet.stage(socket, driver, volume)
  const csiTarget = await kubelet.publish(socket, driver, volume, 'pod-2', 'pv-2')
  const flexTarget = kubelet.flexTarget('pod-3', 'volbridge.io/volbridge', 'vol')
  const mounted = await kubelet.flexMount(flex, flexTarget, attributes, { secrets: { password: 'hunter2' } })
  t.like(mounted, { exitCode: 0, answer: { status: 'Success' } })
  writeFileSync(path.join(flexTarget, 'by-flex'), 'one')
  t.is(readFileSync(path.join(csiTarget, 'by-flex'), 'utf8'), 'one')
  t.is(sessionsOf(root).length, 1)
  t.is(await kubelet.flexMount(flex, flexTarget, attributes), undefined, 'kubelet itself sees the mount')
  t.like(await flexCall(flex, ['mount', flexTarget, JSON.stringify(attributes)]), { answer: { status: 'Success' } })
  t.like(await kubelet.flexUnmount(flex, flexTarget), { exitCode: 0, answer: { status: 'Success' } })
  t.false(existsSync(flexTarget))
  t.is(readFileSync(path.join(csiTarget, 'by-flex'), 'utf8'), 'one')
  t.like(await flexCall(flex, ['unmount', flexTarget]), { answer: { status: 'Success' } })
  await kubelet.unpublish(socket, 'pv-2', csiTarget)
  await kubelet.unstage(socket, driver, 'pv-2')
  t.false(readFileSync(path.join(root, 'agent.log'), 'utf8').includes('hunter2'))
})

test.serial('a failed Flex mount leaves the folder empty and unmounted', async (t) => {
  const { kubelet, flex, attributes, root } = t.context
  const target = kubelet.flexTarget('pod-4', 'volbridge.io/volbridge', 'vol')
  const result = await kubelet.flexMount(flex, target, { ...attributes, share: '/no/such/export' })
  t.like(result, { exitCode: 0, answer: { status: 'Failure' } })
  t.regex(result?.answer.message ?? '', /\/no\/such\/export/)
  t.false(existsSync(target))
  t.deepEqual(mountsUnder(root), [])
})

test.serial('pods do not notice that the agent is killed, and its successor takes the volumes over', async (t) => {
  const { kubelet, socket, attributes, root } = t.context
  const volume = { handle: 'pv-5', attributes }
  await kubelet.stage(socket, driver, volume)
  const target = await kubelet.publish(socket, driver, volume, 'pod-5', 'pv-5')
  writeFileSync(path.join(target, 'before'), 'x')
  const sessions = sessionsOf(root)
  t.context.running.agent.kill('SIGKILL')
  await until('the agent is gone', () => t.context.running.agent.signalCode !== null)
  writeFileSync(path.join(target, 'during'), 'written without an agent')
  t.is(readFileSync(path.join(target, 'during'), 'utf8'), 'written without an agent')
  rmSync(socket)
  t.context.running.agent = await t.context.start()
  await kubelet.stage(socket, driver, volume)
  await kubelet.publish(socket, driver, volume, 'pod-5', 'pv-5')
  t.deepEqual(sessionsOf(root), sessions)
  t.deepEqual((await kubelet.stats(socket, 'pv-5', target)).volumeCondition, { abnormal: false, message: 'healthy' })
  await kubelet.unpublish(socket, 'pv-5', target)
  await kubelet.unstage(socket, driver, 'pv-5')
  await until('no session is left', () => sessionsOf(root).length === 0)
})

test.serial('statistics answer in time with the server stopped, from the last known values and marked so; unpublish works', async (t) => {
  const { kubelet, socket, attributes, ganesha } = t.context
  const volume = { handle: 'pv-6', attributes }
  await kubelet.stage(socket, driver, volume)
  const target = await kubelet.publish(socket, driver, volume, 'pod-6', 'pv-6')
  const before = await kubelet.stats(socket, 'pv-6', target)
  process.kill(ganesha.pid!, 'SIGSTOP')
  try {
    for (let round = 0; round < 3; round++) {
      const { usage, volumeCondition } = await kubelet.stats(socket, 'pv-6', target)
      t.is(usage[0]?.total, before.usage[0]?.total)
      t.true(volumeCondition?.abnormal)
      t.regex(volumeCondition?.message ?? '', /last known/)
    }
    await kubelet.unpublish(socket, 'pv-6', target)
  } finally {
    process.kill(ganesha.pid!, 'SIGCONT')
  }
  await kubelet.unstage(socket, driver, 'pv-6')
})

async function command (
  t: { context: Context },
  args: readonly string[]
): Promise<{ code: number | null, out: string, err: string }> {
  const child = spawn(node.file, [...node.args, ...args], {
    env: t.context.environment, stdio: ['ignore', 'pipe', 'pipe']
  })
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => { out += chunk.toString() })
  child.stderr.on('data', (chunk: Buffer) => { err += chunk.toString() })
  const code = await new Promise<number | null>((resolve) => { child.once('close', resolve) })
  return { code, out, err }
}

test.serial('mount, status and unmount by hand use the running agent', async (t) => {
  const { ganesha, root } = t.context
  const directory = path.join(root, 'by hand')
  mkdirSync(directory)
  t.like(
    await command(t, ['mount', `${ganesha.host}:${ganesha.folder}`, directory, '-o', `ro,${ganesha.mountOptions}`]),
    { code: 0, out: '', err: '' }
  )
  t.throws(() => { writeFileSync(path.join(directory, 'x'), '') }, { code: 'EROFS' })
  const status = await command(t, ['status'])
  t.true(
    status.out.includes(directory) && status.out.includes('healthy') && status.out.includes('read-only'),
    status.out
  )
  const { volumes } = JSON.parse((await command(t, ['status', '--json'])).out) as { volumes: { source: string }[] }
  t.is(volumes[0]?.source, `${ganesha.host}:${ganesha.folder}`)
  t.like(await command(t, ['unmount', directory]), { code: 0, err: '' })
  t.deepEqual(mountsUnder(root), [])
  const again = await command(t, ['unmount', directory])
  t.is(again.code, 1)
  t.regex(again.err, /no volume of this agent is mounted there/)
})

test.serial('mounting on a folder that is not empty, or missing, is refused', async (t) => {
  const { ganesha, root } = t.context
  const source = `${ganesha.host}:${ganesha.folder}`
  const full = path.join(root, 'full')
  mkdirSync(full)
  writeFileSync(path.join(full, 'mine'), '')
  for (const directory of [full, path.join(root, 'missing'), path.join(full, 'mine')]) {
    const { code, err } = await command(t, ['mount', source, directory, '-o', ganesha.mountOptions])
    t.is(code, 1, err)
    t.true(err.includes(directory), err)
  }
  t.deepEqual(mountsUnder(root), [])
})

test.serial('a second agent on the same folders says who has them and ends with 1', async (t) => {
  const { code, err } = await command(t, ['agent'])
  t.is(code, 1)
  t.true(err.includes(String(t.context.running.agent.pid)), err)
})

test.serial('a mount in the foreground says that nobody looks after it, and goes with its process', async (t) => {
  const { ganesha, root, environment } = t.context
  const directory = path.join(root, 'foreground')
  mkdirSync(directory)
  const child = spawn(node.file, [
    ...node.args, 'mount', `${ganesha.host}:${ganesha.folder}`, directory, '--foreground', '-o', ganesha.mountOptions
  ], { env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
  let err = ''
  child.stderr.on('data', (chunk: Buffer) => { err += chunk.toString() })
  await until('it serves', () => err.includes('nobody takes it over') || child.exitCode !== null)
  t.is(child.exitCode, null, err)
  writeFileSync(path.join(directory, 'fg'), 'in one process')
  t.is(readFileSync(path.join(ganesha.folder, 'fg'), 'utf8'), 'in one process')
  child.kill('SIGINT')
  t.is(
    await new Promise((resolve) => { child.once('close', resolve) }),
    0,
    err
  )
  t.deepEqual(mountsUnder(root), [])
})
