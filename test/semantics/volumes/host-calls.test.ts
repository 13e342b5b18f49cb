/** Host calls against a FUSE mount that nobody serves: the kernel never answers, the agent must. */
import test from 'ava'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, statSync } from 'node:fs'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { cgroupsOf, leaveOwnCgroup, moveToOwnCgroup, removeOwnCgroup } from '../../../agent/host/cgroups.ts'
import { HostError } from '../../../agent/base/errors.ts'
import { fuseMountData, openFuseDevice } from '../../../agent/host/fuse-connection.ts'
import { HostCalls } from '../../../agent/host/host-calls.ts'
import { mountsAt, readMountinfo, topMountAt } from '../../../agent/host/mountinfo.ts'
import { MS } from '../../../agent/host/host-program.ts'
import { Mounts } from '../../../agent/host/mounts.ts'
import { testNeeding } from '../../peers/testing.ts'

const system = testNeeding('root', 'fuse')
const folder = realpathSync(mkdtempSync(join(tmpdir(), 'volbridge-calls-')))
test.after.always(() => { rmSync(folder, { recursive: true, force: true }) })

system('a mount nobody serves: stat and statfs end at their deadline, looking at it and unmounting it do not need an answer', async (t) => {
  const calls = new HostCalls()
  const mounts = new Mounts(calls)
  const path = join(folder, 'unserved')
  mkdirSync(path)
  const device = openFuseDevice()
  await mounts.mount({
    source: 'x', target: path, type: 'fuse.volbridge', flags: MS.NOSUID,
    data: fuseMountData({ fd: device.fd, maxReadBytes: 1 << 20, kernelChecks: false })
  }, { keep: [device.fd] })
  t.teardown(() => { device.close() })
  const late = { instanceOf: HostError, message: /within 200 ms/ }
  await t.throwsAsync(calls.run([{ op: 'stat', path }], { deadlineMs: 200, key: 'x' }), late)
  await t.throwsAsync(mounts.statfs(path, { deadlineMs: 200, key: 'x' }), late)
  t.deepEqual(await mounts.inspect(path, { deadlineMs: 1000 }), { kind: 'folder', path })
  t.is(topMountAt(await readMountinfo(), path)?.type, 'fuse.volbridge')
  await mounts.unmount(path, {}, { deadlineMs: 1000 }).catch(async () => {
    await mounts.unmount(path, { detach: true })
  })
  t.is(topMountAt(await readMountinfo(), path), undefined)
})

system('a bind is read-only by itself, and a symlink is never followed', async (t) => {
  const mounts = new Mounts(new HostCalls())
  const [source, target] = [join(folder, 'source'), join(folder, 'target')]
  mkdirSync(source)
  mkdirSync(target)
  await mounts.bind({ source, target, flags: MS.NOSUID | MS.NODEV, readOnly: true })
  t.teardown(() => { execFileSync('umount', ['-l', target]) })
  const options = topMountAt(await readMountinfo(), target)?.options ?? []
  t.true(['ro', 'nosuid', 'nodev'].every((option) => options.includes(option)), options.join(','))
  execFileSync('ln', ['-s', 'target', join(folder, 'link')])
  await t.throwsAsync(mounts.bind({ source, target: join(folder, 'link'), flags: 0, readOnly: false }), {
    instanceOf: HostError, message: /ENOTDIR|ELOOP/
  })
  await t.throwsAsync(mounts.unmount(join(folder, 'link')), { instanceOf: HostError, message: /EINVAL/ })
  t.true(statSync(target).isDirectory())
})

system('a read-only bind is never seen writable, not even while it is made', async (t) => {
  const mounts = new Mounts(new HostCalls())
  const [source, target] = [join(folder, 'precious'), join(folder, 'shown')]
  mkdirSync(source)
  mkdirSync(target)
  // Somebody who tries all the time, as a running container might while its dead mount is replaced.
  const writer = spawn('/bin/bash', ['-c', 'while :; do : > "$1/written"; done 2> /dev/null', 'bash', target], {
    stdio: 'ignore'
  })
  try {
    for (let round = 0; round < 60; round++) {
      await mounts.bind({ source, target, flags: MS.NOSUID | MS.NODEV, readOnly: true })
      t.true(topMountAt(await readMountinfo(), target)?.options.includes('ro'))
      await mounts.unmount(target, { detach: true })
    }
  } finally {
    writer.kill('SIGKILL')
    await once(writer, 'exit')
  }
  t.deepEqual(readdirSync(source), [])
  t.deepEqual(readdirSync(target), ['written'])
})

system('one folder of a file system is mounted, and neither the rest of it nor anything a link leads to', async (t) => {
  const calls = new HostCalls()
  const mounts = new Mounts(calls)
  const [source, target] = [join(folder, 'whole'), join(folder, 'part')]
  for (const path of [join(source, 'team/a'), target]) mkdirSync(path, { recursive: true })
  for (const [link, to] of [['up', '..'], ['out', '/etc'], ['inner', 'team']] as const) {
    execFileSync('ln', ['-s', to, join(source, link)])
  }
  execFileSync('touch', [join(source, 'file'), join(source, 'team/a/seen')])
  const mount = { source, target, type: '', data: '', flags: MS.BIND }
  const depth = async (): Promise<number> => mountsAt(await readMountinfo(), target).length

  await mounts.mountFolder({ ...mount, beneath: 'team/a' })
  t.deepEqual(readdirSync(target), ['seen'])
  t.is(await depth(), 1)
  t.is(topMountAt(await readMountinfo(), target)?.root.endsWith('/whole/team/a'), true)
  await mounts.unmount(target)

  for (const [beneath, code] of [['up', 'ELOOP'], ['out', 'ELOOP'], ['inner/a', 'ELOOP'], ['file', 'ENOTDIR'], [
    'gone', 'ENOENT'
  ], ['../part', 'EXDEV']] as const) {
    const error = await t.throwsAsync(mounts.mountFolder({ ...mount, beneath }), { instanceOf: HostError })
    t.is(error?.code, code, beneath)
    t.true(mounts.isAboutFolder(error as HostError))
    t.is(await depth(), 0)
  }

  /* The way of kernels without open_tree: the folder is bound over the rest. */
  const old = async (path: string): Promise<unknown> =>
    await calls.run([{ op: 'mountAt', ...mount }, { op: 'beneath', base: target, path, flags: 1 }])
  await old('team/a')
  t.deepEqual(readdirSync(target), ['seen'])
  t.is(await depth(), 2)
  await mounts.unmount(target)
  await mounts.unmount(target)
})

const isImmutable = (path: string): boolean =>
  execFileSync('lsattr', ['-d', path], { encoding: 'utf8' }).split(' ')[0]?.includes('i') === true

system('a folder is made immutable and plain again beneath a mount, also one that nobody serves; a symlink is not followed', async (t) => {
  const mounts = new Mounts(new HostCalls())
  const path = join(folder, 'beneath')
  mkdirSync(path)
  execFileSync('ln', ['-s', 'beneath', join(folder, 'beneath-link')])
  t.teardown(() => { execFileSync('chattr', ['-i', path]) })
  const device = openFuseDevice()
  t.teardown(() => { device.close() })
  await mounts.mount({
    source: 'x', target: path, type: 'fuse.volbridge', flags: MS.NOSUID,
    data: fuseMountData({ fd: device.fd, maxReadBytes: 1 << 20, kernelChecks: false })
  }, { keep: [device.fd] })
  await mounts.setImmutable(path, true, { deadlineMs: 2000 })
  await mounts.unmount(path, { detach: true })
  t.true(isImmutable(path))
  t.throws(() => { mkdirSync(join(path, 'x')) }, { code: 'EPERM' })
  t.throws(() => { rmSync(path, { recursive: true }) })
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', path])
  await mounts.setImmutable(path, false)
  t.false(isImmutable(path))
  execFileSync('umount', [path])
  t.false(isImmutable(path))
  await mounts.setImmutable(path, false)
  await t.throwsAsync(mounts.setImmutable(join(folder, 'beneath-link'), true), {
    instanceOf: HostError, message: /ELOOP|ENOTDIR/
  })
  await t.throwsAsync(mounts.setImmutable('/proc/self', true), { instanceOf: HostError })
  await t.throwsAsync(mounts.setImmutable(join(folder, 'none'), true), { instanceOf: HostError, message: /ENOENT/ })
})

system('a call can run in another mount namespace', async (t) => {
  const inside = join(folder, 'inside')
  mkdirSync(inside)
  const other = spawn('unshare', [
    '--mount', '/bin/sh', '-c',
    `mount -t tmpfs tmpfs ${inside} && mkdir ${inside}/only-there && echo ready && exec sleep 60`
  ])
  t.teardown(() => { other.kill('SIGKILL') })
  await once(other.stdout, 'data')
  const calls = new HostCalls()
  t.is((await new Mounts(calls).inspect(join(inside, 'only-there'))).kind, 'missing')
  t.is(
    (await new Mounts(calls, {
      enter: [`/proc/${other.pid ?? 0}/ns/mnt`], mountinfo: `/proc/${other.pid ?? 0}/mountinfo`
    }).inspect(join(inside, 'only-there'))).kind,
    'folder'
  )
})

system('a process is moved to a cgroup of its own, which goes when it is empty', async (t) => {
  const group = `volbridge-test-${process.pid}`
  const other = spawn('/bin/sleep', ['60'])
  t.teardown(() => { other.kill('SIGKILL') })
  const { moved, failed } = await moveToOwnCgroup(other.pid ?? 0, group)
  t.log(`moved in ${moved.join(' ')}; failed ${JSON.stringify(failed)}`)
  const now = await cgroupsOf(other.pid ?? 0)
  t.is(now.filter(({ path }) => path === `/${group}`).length > 0, moved.length > 0)
  await removeOwnCgroup(group)
  t.true(moved.every((path) => existsSync(path)), 'not while somebody is in it')
  other.kill('SIGKILL')
  await once(other, 'exit')
  await removeOwnCgroup(group)
  t.true(moved.every((path) => !existsSync(path)))
})

system('a process that ends takes its own cgroup away, unless somebody else is in it', async (t) => {
  const group = `volbridge-test-leave-${process.pid}`
  const [one, two] = [spawn('/bin/sleep', ['60']), spawn('/bin/sleep', ['60'])]
  t.teardown(async () => {
    for (const child of [one, two]) child.kill('SIGKILL')
    await removeOwnCgroup(group)
  })
  const { moved } = await moveToOwnCgroup(one.pid ?? 0, group)
  await moveToOwnCgroup(two.pid ?? 0, group)
  await leaveOwnCgroup(one.pid ?? 0, group)
  t.true(moved.every((path) => existsSync(path)))
  await leaveOwnCgroup(two.pid ?? 0, group)
  t.true(moved.every((path) => !existsSync(path)))
})
