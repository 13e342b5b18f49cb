/** A real kernel, a real mount, the in-memory file system behind it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { release, tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { toFileName } from '../../../agent/base/brands.ts'
import { pause } from '../../../agent/base/deadline.ts'
import { setReadAhead } from '../../../agent/host/fuse-connection.ts'
import { MemoryFilesystem } from '../../peers/memory-filesystem.ts'
import type { MemoryOptions } from '../../peers/memory-filesystem.ts'
import { testNeeding } from '../../peers/testing.ts'
import { mountMemory, run } from './mounted.ts'
import type { Mounted } from './mounted.ts'

const test = testNeeding('root', 'fuse')

async function mounted (
  t: ExecutionContext,
  options: MemoryOptions = {}
): Promise<{ memory: MemoryFilesystem, mount: Mounted }> {
  const memory = new MemoryFilesystem(options)
  memory.plant('hello', Buffer.from('hello\n'))
  const mount = await mountMemory(memory)
  t.teardown(async () => { await mount.close() })
  return { memory, mount }
}

/** Waits for something that must come; minutes mean that it never will. */
async function until (condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let round = 0; round < 3000; round++) {
    if (await condition()) return
    await pause(10)
  }
  throw new Error(`never: ${what}`)
}

async function output (program: string, args: readonly string[]): Promise<string> {
  const { stdout } = await run(program, [...args], {
    maxBuffer: 64 * 1024 * 1024, env: { ...process.env, LC_ALL: 'C' }
  })
  return stdout
}

const everyCall = `
import os, errno, stat, sys
os.chdir(sys.argv[1])
os.umask(0o022)
def show(label, call):
    try: print(label, call())
    except OSError as e: print(label, errno.errorcode[e.errno])
def facts(path):
    s = os.lstat(path)
    return oct(s.st_mode), s.st_nlink, s.st_uid, s.st_gid, s.st_size if not stat.S_ISDIR(s.st_mode) else 0, s.st_mtime_ns, s.st_rdev
def write(path, data, flags=os.O_WRONLY | os.O_CREAT):
    fd = os.open(path, flags, 0o666)
    try: return os.write(fd, data)
    finally: os.close(fd)
def times(path):
    os.utime(path, ns=(1, 1_234_567_890_123_456_789), follow_symlinks=False)
for name in ['a', b'\\xff\\xfe\\x80', 'x' * 255, 'x' * 256]:
    show('write', lambda: write(name, b'content'))
show('exclusive', lambda: write('a', b'', os.O_WRONLY | os.O_CREAT | os.O_EXCL))
show('append', lambda: write('a', b'-more', os.O_WRONLY | os.O_APPEND))
show('read', lambda: open('a').read())
show('mkdir', lambda: os.mkdir('d', 0o777))
show('mkdir', lambda: os.mkdir('d'))
show('rmdir a', lambda: os.rmdir('a'))
show('unlink d', lambda: os.unlink('d'))
show('symlink', lambda: os.symlink('d/../a', 'l'))
show('readlink', lambda: os.readlink('l'))
show('through', lambda: open('l').read())
show('link', lambda: os.link('a', 'd/hard'))
show('mkfifo', lambda: os.mkfifo('p', 0o640))
show('mknod', lambda: os.mknod('c', stat.S_IFCHR | 0o600, os.makedev(1, 3)))
show('rename', lambda: os.rename('a', 'd/b'))
show('rename gone', lambda: os.rename('a', 'z'))
show('rmdir full', lambda: os.rmdir('d'))
show('chmod', lambda: os.chmod('d/b', 0o4711))
show('chown', lambda: os.chown('d/b', 5, 6))
show('truncate', lambda: os.truncate('d/b', 3))
show('grow', lambda: os.truncate('d/b', 100))
show('read', lambda: open('d/b', 'rb').read())
show('below a file', lambda: os.stat('d/b/c'))
show('nothing', lambda: os.stat('nothing'))
show('xattr', lambda: os.setxattr('d/b', 'user.x', b'1'))
show('xattr', lambda: os.setxattr('d/b', 'user.x', b'1'))
show('loop', lambda: (os.symlink('loop', 'loop'), os.stat('loop')))
for name in sorted(os.listdir('.')) + ['d/hard', 'd/b']:
    show('times ' + repr(name), lambda: times(name))
    show('facts ' + repr(name), lambda: facts(name))
show('list', lambda: sorted((e.name, e.is_dir(follow_symlinks=False), e.is_symlink()) for e in os.scandir('.')))
show('mmap', lambda: __import__('mmap').mmap(os.open('d/b', os.O_RDWR), 100)[0:3])
`

test('every call has the outcome it has on a local file system', async (t) => {
  const { mount } = await mounted(t)
  const local = await mkdtemp(join(tmpdir(), 'volbridge-local-'))
  t.teardown(async () => { await rm(local, { recursive: true }) })
  await writeFile(join(local, 'hello'), 'hello\n')
  const ours = await output('python3', ['-c', everyCall, mount.path])
  const theirs = await output('python3', ['-c', everyCall, local])
  // What a user's xattr gives is the local file system's own matter; ours has none.
  t.deepEqual(
    ours.split('\n').map((line) =>
      line.replace('xattr EOPNOTSUPP', 'xattr None').replace('xattr ENOTSUP', 'xattr None')
    ),
    theirs.split('\n').map((line) => line.replace(/^xattr .*/, 'xattr None'))
  )
  t.deepEqual(mount.logged, [])
})

test('a folder of 5000 entries is listed whole, with and without attributes', async (t) => {
  const { memory, mount } = await mounted(t)
  const names = Array.from({ length: 5000 }, (_, index) => `entry-${index}-${'x'.repeat(index % 200)}`)
  for (const name of names) memory.plant(name, Buffer.alloc(0))
  const listed = await output('python3', [
    '-c', 'import os, sys; print("\\n".join(os.listdir(sys.argv[1])))', mount.path
  ])
  t.deepEqual(listed.trim().split('\n').sort(), [...names, 'hello'].sort())
  const long = await output('ls', ['-lU', mount.path])
  t.is(long.trim().split('\n').length, 5002)
  t.true(memory.calls.includes('readdirplus'))
})

test('data of many megabytes comes back unchanged, in requests of 1 MiB', async (t) => {
  const { memory, mount } = await mounted(t, { ttlMs: 60_000 })
  t.is(await setReadAhead(mount.device, 4096), undefined)
  const script =
    'set -e; head -c 20000003 /dev/urandom > "$1/source"; dd if="$1/source" of="$1/big" bs=1M status=none; sha256sum < "$1/source"; sha256sum < "$1/big"; dd if="$1/big" iflag=direct bs=1M status=none | sha256sum; dd if="$1/source" of="$1/direct" oflag=direct bs=1M status=none; sha256sum < "$1/direct"'
  const sums = (await output('sh', ['-c', script, 'sh', mount.path])).trim().split('\n')
  t.is(sums.length, 4)
  t.is(new Set(sums).size, 1)
  t.is(memory.unreleasedReads, 0)
  memory.plant('cold', Buffer.alloc(64 * 1024 * 1024, 7))
  const before = mount.connection.counters()['fuseRequests:READ'] ?? 0
  await output('dd', [`if=${mount.path}/cold`, 'of=/dev/null', 'bs=1M'])
  const requests = (mount.connection.counters()['fuseRequests:READ'] ?? 0) - before
  t.true(requests <= 80, `${requests} READs for 64 MiB`)
})

test('sixty requests wait at once and are all answered', async (t) => {
  const { memory, mount } = await mounted(t)
  for (let index = 0; index < 60; index++) memory.plant(`file-${index}`, Buffer.from(`${index}`))
  const open = memory.gate('lookup')
  const readers = Array.from({ length: 60 }, (_, index) => output('cat', [join(mount.path, `file-${index}`)]))
  await until(() => mount.connection.gauges()['fuseInFlight'] === 60, '60 in flight')
  open()
  t.deepEqual(await Promise.all(readers), Array.from({ length: 60 }, (_, index) => `${index}`))
  t.is(mount.connection.gauges()['fuseInFlight'], 0)
})

const alarmed = `
import os, signal, sys
signal.signal(signal.SIGALRM, lambda *a: print('alarm', flush=True))
signal.signal(signal.SIGURG, lambda *a: None)
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.05)
print('start', flush=True)
fd = os.open(sys.argv[1], os.O_RDONLY)
print('opened', flush=True)
`

test('a program that gets SIGALRM during a slow call sees neither EINTR nor its end', async (t) => {
  const { memory, mount } = await mounted(t)
  const open = memory.gate('open')
  const program = spawn('python3', ['-c', alarmed, join(mount.path, 'hello')], { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  let complained = ''
  program.stdout.on('data', (chunk: Buffer) => { said += chunk.toString() })
  program.stderr.on('data', (chunk: Buffer) => { complained += chunk.toString() })
  await until(() => mount.connection.gauges()['fuseInterrupted'] === 1, 'an interrupted request')
  await pause(1500)
  t.is(mount.connection.gauges()['fuseInterrupted'], 1)
  open()
  await once(program, 'close')
  t.is(complained, '')
  t.regex(said, /start\n(alarm\n)+opened/)
})

for (const [title, call, name] of [
  ['a lookup', 'lookup', 'nothing'], ['an open', 'open', 'hello'],
  ['a read that bypasses the page cache', 'read', 'hello']
] as const) {
  test(`kill -9 ends a process blocked in ${title}, also when another signal came first`, async (t) => {
    const { memory, mount } = await mounted(t)
    const open = memory.gate(call)
    const flags = call === 'read' ? 'os.O_RDONLY | os.O_DIRECT' : 'os.O_RDONLY'
    const script = `
import os, signal, sys, mmap
signal.signal(signal.SIGALRM, lambda *a: None)
signal.setitimer(signal.ITIMER_REAL, 0.05)
fd = os.open(sys.argv[1], ${flags})
os.preadv(fd, [mmap.mmap(-1, 4096)], 0)
`
    const program = spawn('python3', ['-c', script, join(mount.path, name)], { stdio: 'ignore' })
    // Asynchronous direct I/O sends no INTERRUPT at all.
    await until(() => memory.calls.includes(call), 'a waiting request')
    await pause(200)
    const killedMs = performance.now()
    program.kill('SIGKILL')
    const [, signal] = await once(program, 'close') as [number | null, string | null]
    t.is(signal, 'SIGKILL')
    t.log(`gone after ${Math.round(performance.now() - killedMs)} ms`)
    open()
    await until(() => mount.connection.gauges()['fuseInFlight'] === 0, 'the late result')
    await until(() => memory.handles.size === 0, 'handles released')
    t.is(memory.unreleasedReads, 0)
    t.is(await output('cat', [join(mount.path, 'hello')]), 'hello\n')
  })
}

test('references given out come back when the kernel drops its caches', async (t) => {
  const { memory, mount } = await mounted(t, { ttlMs: 60_000 })
  for (let index = 0; index < 300; index++) memory.plant(`file-${index}`, Buffer.from('x'))
  await output('sh', [
    '-c', 'cd "$1"; ls -l; cat file-*; mkdir d; touch d/new; mv d/new d/newer; ln hello d/hard; rm d/newer', 'sh',
    mount.path
  ])
  t.true(memory.remembered.size > 300)
  await until(async () => {
    await writeFile('/proc/sys/vm/drop_caches', '2')
    return memory.remembered.size === 0
  }, `forgotten, ${memory.remembered.size} left`)
  t.is(memory.handles.size, 0)
})

test('what is pruned is given back unless somebody uses it', async (t) => {
  const { memory, mount } = await mounted(t, { ttlMs: 60_000 })
  const { invalidator } = mount.connection
  if (!invalidator.canPrune) {
    t.pass(`minor ${mount.negotiated.minor} has no PRUNE`)
    return
  }
  const inodes = Array.from({ length: 600 }, (_, index) => memory.plant(`file-${index}`, Buffer.from('x')))
  const held = spawn('sh', [
    '-c', 'cd "$1"; exec 3< file-7; cat file-* > /dev/null; echo read; read line', 'sh', mount.path
  ], {
    stdio: ['pipe', 'pipe', 'inherit']
  })
  await new Promise((resolve) => { held.stdout.once('data', resolve) })
  t.true(memory.remembered.size >= 600)
  const nodeids = inodes.map(({ nodeid }) => nodeid)
  for (let at = 0; at < nodeids.length; at += 512) invalidator.prune(nodeids.slice(at, at + 512))
  await until(() => memory.remembered.size <= 2, `forgotten, ${memory.remembered.size} left`)
  t.true(memory.remembered.has(nodeids[7] ?? 0))
  held.stdin.end('\n')
  await new Promise((resolve) => { held.once('exit', resolve) })
  t.is(await output('cat', [`${mount.path}/file-8`]), 'x')
})

test('invalidation reaches attributes, pages and names that may still be believed', async (t) => {
  const { memory, mount } = await mounted(t, { ttlMs: 3_600_000, negativeTtlMs: 3_600_000, keepCache: true })
  const inode = memory.plant('shared', Buffer.from('before'))
  const see = async (): Promise<string> =>
    output('sh', ['-c', 'cat "$1/shared"; stat -c %s "$1/shared"; cat "$1/late" 2>&1 || true', 'sh', mount.path])
  // Twice: a READ makes the kernel ask for the attributes once more, because of the access time.
  for (let round = 0; round < 2; round++) t.regex(await see(), /^before6\n.*No such file/)
  memory.overwrite(inode, Buffer.from('afterwards'))
  memory.plant('late', Buffer.from('now'))
  t.regex(await see(), /^before6\n.*No such file/)
  mount.connection.invalidator.inode(inode.nodeid, 0, -1)
  mount.connection.invalidator.entry(1, toFileName('late'), 'drop')
  mount.connection.invalidator.entry(1, toFileName('never heard of'), 'drop')
  await until(() => mount.connection.gauges()['fuseNotificationsWaiting'] === 0, 'written')
  t.is(await see(), 'afterwards10\nnow')
  memory.uproot('late')
  mount.connection.invalidator.entry(1, toFileName('late'), 'drop')
  await until(() => mount.connection.gauges()['fuseNotificationsWaiting'] === 0, 'written')
  t.regex(await see(), /No such file/)
  t.is(mount.connection.counters()['fuseNotificationsFailed'], 0)
})

test('who works in a folder whose name is called back stays there, and the name is looked up again', async (t) => {
  const { memory, mount } = await mounted(t, { ttlMs: 3_600_000 })
  if (!mount.connection.invalidator.canExpire) {
    t.pass('this kernel has no FUSE_EXPIRE_ONLY (Linux 6.2): such names are left to their time')
    return
  }
  const inside = spawn('sh', [
    '-c', 'mkdir "$1/folder" && cd "$1/folder" && echo there && read -r line && /bin/pwd', 'sh', mount.path
  ], { stdio: ['pipe', 'pipe', 'inherit'] })
  let said = ''
  inside.stdout.setEncoding('utf8').on('data', (text: string) => { said += text })
  await until(() => said === 'there\n', 'a working directory')
  const lookups = (): number => memory.calls.filter((call) => call === 'lookup').length
  const before = lookups()
  mount.connection.invalidator.entry(1, toFileName('folder'), 'expire')
  await until(() => mount.connection.gauges()['fuseNotificationsWaiting'] === 0, 'written')
  inside.stdin.end('go on\n')
  await until(() => inside.exitCode !== null, 'the end of the shell')
  t.is(said, `there\n${join(mount.path, 'folder')}\n`)
  t.is(mount.connection.counters()['fuseNotifications'], 1)
  t.is(lookups(), before)
  await output('stat', [join(mount.path, 'folder')])
  t.is(lookups(), before + 1)
})

test('invalidating a page that a pending READ holds blocks nobody else, and ends with the READ', async (t) => {
  const { memory, mount } = await mounted(t, { ttlMs: 60_000 })
  const inode = memory.plant('slow', Buffer.alloc(4096, 'a'))
  const open = memory.gate('read')
  const reader = output('cat', [join(mount.path, 'slow')])
  await until(() => memory.calls.includes('read'), 'a pending READ')
  mount.connection.invalidator.inode(inode.nodeid, 0, -1)
  await pause(200)
  t.is(mount.connection.gauges()['fuseNotificationsWaiting'], 1)
  t.regex(await output('stat', [join(mount.path, 'hello')]), /hello/)
  open()
  t.is(await reader, 'a'.repeat(4096))
  await until(() => mount.connection.gauges()['fuseNotificationsWaiting'] === 0, 'the notification')
})

test('a folder whose listing the kernel keeps is listed anew when the core says that it changed', async (t) => {
  const { memory, mount } = await mounted(t, { ttlMs: 3_600_000, keepCache: true })
  const list = async (): Promise<string> =>
    output('python3', ['-c', 'import os, sys; print(sorted(os.listdir(sys.argv[1])))', mount.path])
  const listings = (): number => memory.calls.filter((call) => call.startsWith('readdir')).length
  t.is(await list(), "['hello']\n")
  const first = listings()
  t.is(await list(), "['hello']\n")
  t.is(listings(), first, 'the second listing comes from the kernel')
  memory.plant('other', Buffer.alloc(0))
  memory.options = { ...memory.options, keepCache: false }
  t.is(await list(), "['hello', 'other']\n")
})

test('close(2) of a descriptor that only reads asks nobody; of one that may write it waits for the answer', async (t) => {
  const { memory, mount } = await mounted(t, { ttlMs: 60_000 })
  // FOPEN_NOFLUSH is known since Linux 5.16 (FUSE 7.35).
  const [major = 0, minor = 0] = release().split('.').map(Number)
  t.is(await output('cat', [join(mount.path, 'hello')]), 'hello\n')
  if (major > 5 || (major === 5 && minor >= 16)) t.false(memory.calls.includes('flush'))
  const open = memory.gate('flush')
  const before = memory.calls.filter((call) => call === 'flush').length
  const writer = output('python3', [
    '-c', 'import os, sys; fd = os.open(sys.argv[1], os.O_RDWR); os.close(fd)', join(mount.path, 'hello')
  ])
  await until(() => memory.calls.filter((call) => call === 'flush').length > before, 'a FLUSH')
  open()
  await writer
  t.pass()
})

test('an aborted connection is told from an unmounted one, and whoever waited gets an error', async (t) => {
  const memory = new MemoryFilesystem()
  const mount = await mountMemory(memory)
  t.teardown(async () => { await mount.close() })
  memory.gate('lookup')
  const waiting = run('cat', [join(mount.path, 'x')]).then(() => 'read', (error: unknown) => String(error))
  await until(() => mount.connection.gauges()['fuseInFlight'] === 1, 'in flight')
  await mount.abort()
  t.is((await mount.connection.ended).reason, 'aborted')
  t.regex(await waiting, /Software caused connection abort|Transport endpoint is not connected/)
})

test('several mounts in one process are served side by side and end one by one', async (t) => {
  const mounts = await Promise.all([1, 2, 3].map(async (number) => {
    const memory = new MemoryFilesystem()
    memory.plant('number', Buffer.from(`${number}`))
    return mountMemory(memory)
  }))
  const read = async (mount: Mounted): Promise<string> => output('cat', [join(mount.path, 'number')])
  t.deepEqual(await Promise.all(mounts.map(read)), ['1', '2', '3'])
  const [first, second, third] = mounts as [Mounted, Mounted, Mounted]
  await second.close()
  t.deepEqual(await Promise.all([first, third].map(read)), ['1', '3'])
  await third.close()
  t.is(await read(first), '1')
  await first.close()
  t.is((await first.connection.ended).reason, 'unmounted')
})
