/** Host calls on a real kernel, as far as they need no privilege: results, errors and deadlines. */
import test from 'ava'
import {
  chmodSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync
} from 'node:fs'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { HostError, VolumeError } from '../../../../agent/base/errors.ts'
import { HostCalls } from '../../../../agent/host/host-calls.ts'
import { Mounts } from '../../../../agent/host/mounts.ts'
import { testNeeding } from '../../../peers/testing.ts'

const calls = new HostCalls()
const mounts = new Mounts(calls)
const folder = realpathSync(mkdtempSync(join(tmpdir(), 'volbridge-host-')))
test.after.always(() => { rmSync(folder, { recursive: true, force: true }) })

test('a folder is made and removed by a child', async (t) => {
  const path = join(folder, 'made')
  await calls.run([{ op: 'mkdir', path, mode: 0o751 }])
  t.is(statSync(path).mode & 0o7777, 0o751)
  await calls.run([{ op: 'rmdir', path }])
  t.throws(() => statSync(path), { code: 'ENOENT' })
})

test('the error of the operation that failed names the call, the path and the errno', async (t) => {
  const made = join(folder, 'first')
  const error = await t.throwsAsync(
    calls.run([
      { op: 'mkdir', path: made, mode: 0o700 }, { op: 'rmdir', path: join(folder, 'absent') },
      { op: 'rmdir', path: made }
    ]),
    { instanceOf: HostError }
  )
  t.is(error?.code, 'ENOENT')
  t.is(error?.call, `rmdir ${join(folder, 'absent')}`)
  t.true(statSync(made).isDirectory(), 'nothing after the failure has run')
})

test('file system figures agree with what Node reads by itself', async (t) => {
  const own = await mounts.statfs(folder)
  const other = await statfs(folder, { bigint: true })
  t.is(own.blocks, other.blocks)
  t.is(own.files, other.files)
  t.is(own.type, other.type)
})

test('a call without an answer is killed at its deadline and not counted as stuck', async (t) => {
  const error = await t.throwsAsync(calls.run([{ op: 'pause', ms: 60_000 }], { deadlineMs: 50, key: 'slow' }), {
    instanceOf: HostError
  })
  t.is(error?.code, 'ETIMEDOUT')
  t.is(calls.stuck().size, 0)
})

test('children of Node itself are still reaped by Node while host calls come and go', async (t) => {
  const child = spawn(process.execPath, ['-e', 'setTimeout(() => process.exit(7), 100)'], { stdio: 'ignore' })
  const exited = once(child, 'exit')
  await Promise.all(Array.from({ length: 30 }, async () => { await calls.run([{ op: 'stat', path: folder }]) }))
  t.deepEqual(await exited, [7, null])
})

test('a child that cannot be killed is counted, its key is refused after a few, others go on', async (t) => {
  let alive = true
  /* A pipe that never ends and a pid that is not reaped are what D state looks like from outside. */
  const real = (await import('../../../../agent/host/addon.ts')).loadAddon()
  const stuck = new HostCalls(() => ({
    startHostCall: () => {
      const [end] = real.socketPair()
      return [spawnedPid(), end]
    },
    reapHostCall: () => !alive
  }))
  for (let n = 0; n < 4; n++) {
    await t.throwsAsync(stuck.run([{ op: 'pause', ms: 1 }], { deadlineMs: 5, key: 'dead' }), { message: /no answer/ })
  }
  t.is(stuck.stuck().get('dead'), 4)
  await t.throwsAsync(stuck.run([{ op: 'pause', ms: 1 }], { deadlineMs: 5, key: 'dead' }), {
    message: /4 earlier calls for dead hang/
  })
  await t.throwsAsync(stuck.run([{ op: 'pause', ms: 1 }], { deadlineMs: 5, key: 'other' }), { message: /no answer/ })
  alive = false
  while (stuck.stuck().size > 0) await new Promise((resolve) => { setTimeout(resolve, 20) })
  t.pass()
})

function spawnedPid (): number {
  const child = spawn('/bin/sleep', ['30'], { stdio: 'ignore' })
  return child.pid ?? 0
}

test('inspect tells folder, file, symlink, missing and missing parent apart, with links in parents resolved', async (t) => {
  const base = join(folder, 'inspect')
  mkdirSync(join(base, 'real', 'sub'), { recursive: true })
  writeFileSync(join(base, 'file'), 'x')
  symlinkSync('real', join(base, 'link'))
  t.deepEqual(await mounts.inspect(join(base, 'real')), { kind: 'folder', path: join(base, 'real') })
  t.deepEqual(await mounts.inspect(join(base, 'link', 'sub')), { kind: 'folder', path: join(base, 'real', 'sub') })
  t.deepEqual(await mounts.inspect(join(base, 'link', 'none')), { kind: 'missing', path: join(base, 'real', 'none') })
  t.deepEqual(await mounts.inspect(join(base, 'file')), { kind: 'file', path: join(base, 'file') })
  t.deepEqual(await mounts.inspect(join(base, 'link')), { kind: 'symlink', path: join(base, 'link') })
  t.deepEqual(await mounts.inspect(join(base, 'no', 'parent')), { kind: 'orphan', path: join(base, 'no', 'parent') })
  t.deepEqual(await mounts.inspect(join(base, 'file', 'below')), { kind: 'orphan', path: join(base, 'file', 'below') })
})

test('an empty folder is told from one with an entry', async (t) => {
  const path = join(folder, 'empty')
  mkdirSync(path)
  t.true(await mounts.isEmpty(path))
  writeFileSync(join(path, 'x'), '')
  t.false(await mounts.isEmpty(path))
})

test('the child gets the mode it was given, whatever the umask', async (t) => {
  const path = join(folder, 'mode')
  mkdirSync(path)
  await mounts.chmod(path, 0o2770)
  t.is(statSync(path).mode & 0o7777, 0o2770)
  chmodSync(path, 0o700)
})

test('a path with a NUL byte never reaches the kernel', async (t) => {
  await t.throwsAsync(calls.run([{ op: 'rmdir', path: '/a\0b' }]), { message: /NUL/ })
})

test('what acts at a path goes through no link; looking follows those that are ours and says where they lead', async (t) => {
  const base = join(folder, 'linked')
  mkdirSync(join(base, 'real/sub'), { recursive: true })
  symlinkSync('real', join(base, 'link'))
  symlinkSync(join(base, 'link/../real/.'), join(base, 'far'))
  t.is((await mounts.inspect(join(base, 'far/sub'))).path, join(base, 'real/sub'))
  const through = join(base, 'link/sub')
  const deeds: ReadonlyArray<() => Promise<unknown>> = [
    async () => { await mounts.makeFolder(join(base, 'link/new'), 0o700) },
    async () => { await mounts.removeFolder(through) },
    async () => { await mounts.chmod(through, 0o777) },
    async () => { await mounts.chgrp(through, process.getegid?.() ?? 0) },
    async () => { await mounts.setImmutable(through, true) },
    async () => await mounts.isEmpty(through),
    async () => { await mounts.unmount(through) },
    async () => { await mounts.bind({ source: base, target: through, flags: 0, readOnly: false }) }
  ]
  for (const deed of deeds) t.is((await t.throwsAsync(deed(), { instanceOf: HostError }))?.code, 'ELOOP')
  t.is(statSync(join(base, 'real/sub')).mode & 0o777, 0o755)
  symlinkSync('round', join(base, 'round'))
  t.is((await t.throwsAsync(mounts.inspect(join(base, 'round/x')), { instanceOf: HostError }))?.code, 'ELOOP')
})

const asRoot = testNeeding('root')
asRoot('a link of another user on the way to a path is refused, one at its end is seen as a link', async (t) => {
  const base = join(folder, 'foreign')
  mkdirSync(join(base, 'real/sub'), { recursive: true })
  symlinkSync('real', join(base, 'link'))
  lchownSync(join(base, 'link'), 65534, 65534)
  const error = await t.throwsAsync(mounts.inspect(join(base, 'link/sub')), { instanceOf: VolumeError })
  t.is(error?.code, 'DENIED')
  t.regex(error?.message ?? '', /link on the way to ".*link\/sub" belongs to another user than root; give the folder/)
  t.is((await mounts.inspect(join(base, 'link'))).kind, 'symlink')
})
