/** Processes, durable files, sockets, the node's lock, cgroups and the unpacked addon, on this machine and without
 * privilege. */
import test from 'ava'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync
} from 'node:fs'
import { createRequire } from 'node:module'
import { connect, createServer, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadAddon, type Addon } from '../../../../agent/host/addon.ts'
import { addonSourceKey, locateAddon, unpackAddon, type AddonSource } from '../../../../agent/host/addon-location.ts'
import { cgroupRoots } from '../../../../agent/host/cgroups.ts'
import { makePrivateFolder, mayBeLeftOver, writeFileDurably } from '../../../../agent/host/files.ts'
import { parseMountinfo } from '../../../../agent/host/mountinfo.ts'
import { endProcess, isAlive, parseStartTicks, startDetached, startTicksOf } from '../../../../agent/host/processes.ts'
import { checkSocketPath, connectUnix, descriptorOf, peerOf } from '../../../../agent/host/sockets.ts'
import { lockState } from '../../../../agent/host/state-lock.ts'

const folder = mkdtempSync(join(tmpdir(), 'volbridge-host2-'))
test.after.always(() => { rmSync(folder, { recursive: true, force: true }) })

test('a process is known by pid and start time, and ended exactly', async (t) => {
  const started = await startDetached({ file: '/bin/sleep', args: ['60'], env: {}, fds: [] })
  t.true(await isAlive(started.id))
  t.false(await isAlive({ pid: started.id.pid, startTicks: '1' }), 'another start time is another process')
  t.is(readFileSync(`/proc/${started.id.pid}/environ`, 'utf8'), '')
  t.true(await endProcess(started.id, { waitMs: 0, termMs: 2000, killMs: 2000 }))
  t.regex(await started.ended, /SIGTERM/)
})

test('a process that ignores SIGTERM is killed', async (t) => {
  const started = await startDetached({
    file: '/bin/sh', args: ['-c', 'trap "" TERM; while :; do sleep 1; done'], env: {}, fds: []
  })
  await new Promise((resolve) => { setTimeout(resolve, 100) })
  t.true(await endProcess(started.id, { waitMs: 0, termMs: 50, killMs: 2000 }))
  t.regex(await started.ended, /SIGKILL/)
})

test('a program that does not exist is an error with its name', async (t) => {
  await t.throwsAsync(startDetached({ file: '/no/such/program', args: [], env: {}, fds: [] }), {
    message: /\/no\/such\/program/
  })
})

test('start times survive command names with spaces and parentheses; zombies are no processes', async (t) => {
  t.is(parseStartTicks('7 (a) R) S 1 7 7 0 -1 4 0 0 0 0 1 2 0 0 20 0 1 0 4242 9 9\n'), '4242')
  t.is(parseStartTicks('7 (a) Z 1 7 7 0 -1 4 0 0 0 0 1 2 0 0 20 0 1 0 4242 9 9\n'), undefined)
  t.regex(await startTicksOf(process.pid) ?? '', /^\d+$/)
  t.is(await startTicksOf(2 ** 22 + 1), undefined)
})

test('a durable write replaces the whole file and leaves nothing beside it', async (t) => {
  const own = join(folder, 'durable')
  mkdirSync(own)
  await writeFileDurably(join(own, 'x'), 'one')
  await writeFileDurably(join(own, 'x'), 'two')
  t.is(readFileSync(join(own, 'x'), 'utf8'), 'two')
  t.deepEqual(readdirSync(own), ['x'])
  await t.throwsAsync(writeFileDurably(join(own, 'none', 'x'), ''), { code: 'ENOENT' })
  t.true(mayBeLeftOver('.0123.fresh'))
  t.false(mayBeLeftOver('mount-x.json'))
})

test('a private folder is 0700 afterwards; one that others could write to, or a symlink in its place, is refused', async (t) => {
  const own = join(folder, 'private')
  mkdirSync(own)
  chmodSync(own, 0o755)
  await makePrivateFolder(own)
  t.is(statSync(own).mode & 0o777, 0o700)
  symlinkSync(own, join(folder, 'linked'))
  await t.throwsAsync(makePrivateFolder(join(folder, 'linked')), {
    message: /linked is a symbolic link and not a folder/
  })
  chmodSync(own, 0o770)
  await t.throwsAsync(makePrivateFolder(own), { message: /private can be written by others \(mode 0770\).*chmod go-w/ })
  await t.throwsAsync(makePrivateFolder(join(own, 'below')), { message: /private can be written by others/ })
  t.is(statSync(own).mode & 0o777, 0o770)
  t.deepEqual(readdirSync(own), [])
})

test('the lock of the state folder is no link to somebody else\'s file, and no pipe', (t) => {
  const victim = join(folder, 'victim')
  writeFileSync(victim, 'precious')
  symlinkSync(victim, join(folder, 'lock-link'))
  t.throws(() => lockState(join(folder, 'lock-link')), { message: /lock-link is not a regular file; remove it/ })
  t.is(readFileSync(victim, 'utf8'), 'precious')
  execFileSync('mkfifo', [join(folder, 'lock-pipe')])
  t.throws(() => lockState(join(folder, 'lock-pipe')), { message: /not a regular file/ })
})

test('the lock of the state folder is held once, names its holder, and is free after release', (t) => {
  const path = join(folder, 'lock')
  const lock = lockState(path)
  t.not(typeof lock, 'number')
  t.is(lockState(path), process.pid)
  if (typeof lock !== 'number') lock.release()
  const again = lockState(path)
  t.not(typeof again, 'number')
  if (typeof again !== 'number') again.release()
})

test('the lock does not outlive its holder in processes that it started', async (t) => {
  const path = join(folder, 'lock2')
  const lock = lockState(path)
  const child = await startDetached({ file: '/bin/sleep', args: ['60'], env: {}, fds: [] })
  t.teardown(async () => { await endProcess(child.id, { waitMs: 0, termMs: 1000, killMs: 1000 }) })
  if (typeof lock !== 'number') lock.release()
  const again = lockState(path)
  t.not(typeof again, 'number')
  if (typeof again !== 'number') again.release()
})

test('the other end of a unix socket is known by the kernel', async (t) => {
  const path = join(folder, 's')
  const server = createServer().listen(path)
  await once(server, 'listening')
  const socket = await connectUnix(path, 1000)
  t.deepEqual(peerOf(socket), { pid: process.pid, uid: process.geteuid?.() ?? -1, gid: process.getegid?.() ?? -1 })
  socket.destroy()
  server.close()
  await t.throwsAsync(connectUnix(join(folder, 'nobody'), 1000), { code: 'REFUSED' })
})

test('a socket path that is too long is refused with the remedy', (t) => {
  t.throws(() => { checkSocketPath(`/${'x'.repeat(107)}`) }, { message: /longer than 107 bytes.*--run-dir/ })
  t.notThrows(() => { checkSocketPath(`/${'x'.repeat(106)}`) })
})

test('descriptors travel over a socket with their message', (t) => {
  const addon = loadAddon()
  const [a, b] = addon.socketPair()
  const memory = addon.memoryFile('test', 4096)
  addon.sendDescriptors(a, Int32Array.of(memory), Buffer.from('one'))
  const into = Buffer.alloc(16)
  const [bytes, fd] = addon.receiveDescriptors(b, into)
  t.is(into.toString('latin1', 0, bytes), 'one')
  t.is(statSync(`/proc/self/fd/${fd ?? -1}`).size, 4096)
  const error = t.throws(() => addon.receiveDescriptors(b, into))
  t.is((error as NodeJS.ErrnoException).errno, 11)
  for (const end of [a, b]) new Socket({ fd: end }).destroy()
})

test('Node still tells a socket\'s descriptor', async (t) => {
  const path = join(folder, 'fd')
  const server = createServer().listen(path)
  await once(server, 'listening')
  const socket = connect(path)
  await once(socket, 'connect')
  t.true((descriptorOf(socket) ?? -1) > 2)
  socket.destroy()
  t.is(descriptorOf(socket), undefined)
  server.close()
})

test('cgroup hierarchies that end processes are found on v1, hybrid and v2', (t) => {
  const line = (at: string, type: string, options: string): string =>
    `30 22 0:30 / ${at} rw - ${type} cgroup ${options}\n`
  const v2 = line('/sys/fs/cgroup', 'cgroup2', 'rw')
  t.deepEqual(cgroupRoots(parseMountinfo(v2)), ['/sys/fs/cgroup'])
  const hybrid = line('/sys/fs/cgroup/unified', 'cgroup2', 'rw') +
    line('/sys/fs/cgroup/memory', 'cgroup', 'rw,memory') + line('/sys/fs/cgroup/rdma', 'cgroup', 'rw,rdma') +
    line('/sys/fs/cgroup/systemd', 'cgroup', 'rw,name=systemd')
  t.deepEqual(cgroupRoots(parseMountinfo(hybrid)), [
    '/sys/fs/cgroup/unified', '/sys/fs/cgroup/memory', '/sys/fs/cgroup/systemd'
  ])
  t.deepEqual(cgroupRoots(parseMountinfo(line('/x', 'tmpfs', 'rw'))), [])
})

test('a carried addon is unpacked once, verified by content, and replaced when somebody changed it', (t) => {
  const bytes = readFileSync(locateAddon(undefined))
  const source = { bytes: () => bytes, folders: ['/proc/no', join(folder, 'addon')] }
  const path = unpackAddon(source)
  t.true(path.startsWith(join(folder, 'addon')))
  t.is(unpackAddon(source), path)
  writeFileSync(path, 'something else')
  t.is(unpackAddon(source), path)
  t.deepEqual(readFileSync(path), bytes)
  t.deepEqual(readdirSync(join(folder, 'addon')).length, 1)
  t.truthy((createRequire(path)(path) as Addon).startHostCall)
})

test('an earlier version\'s addon is removed when a new one is unpacked, and nothing else is', (t) => {
  const place = join(folder, 'addons')
  const old = unpackAddon({ bytes: () => Buffer.from('old'), folders: [place] })
  writeFileSync(join(place, 'not-ours'), '')
  const fresh = unpackAddon({ bytes: () => Buffer.from('fresh'), folders: [place] })
  t.not(old, fresh)
  t.deepEqual(readdirSync(place).sort(), ['not-ours', fresh.slice(place.length + 1)])
})

test('an addon in a folder of this process alone is loaded once and leaves no file', (t) => {
  const bytes = readFileSync(locateAddon(undefined))
  const holder = globalThis as { [addonSourceKey]?: AddonSource }
  holder[addonSourceKey] = { bytes: () => bytes, folders: [] }
  t.teardown(() => { delete holder[addonSourceKey] })
  const before = readdirSync('/var/tmp').filter((name) => name.startsWith('volbridge-addon-'))
  const addon = loadAddon()
  t.is(loadAddon(), addon)
  t.truthy(addon.startHostCall)
  t.deepEqual(readdirSync('/var/tmp').filter((name) => name.startsWith('volbridge-addon-')), before)
})

test('without a folder of its own the addon goes to a fresh private one', (t) => {
  const path = unpackAddon({ bytes: () => Buffer.from('x'), folders: [] })
  const place = path.slice(0, path.lastIndexOf('/'))
  t.teardown(() => { rmSync(place, { recursive: true }) })
  t.is(statSync(place).mode & 0o777, 0o700)
})

test('a child of ours that ends does not disturb one of Node', async (t) => {
  const child = spawn('/bin/true')
  t.deepEqual(await once(child, 'exit'), [0, null])
})
