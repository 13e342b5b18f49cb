import test from 'ava'
import { toFileName } from '../../../../../agent/base/brands.ts'
import { Errno, isErrno } from '../../../../../agent/base/errno.ts'
import { rootNodeid, type Caller, type Entry } from '../../../../../agent/fs/operations.ts'
import { callerOf, good, readOnly, readWrite, root, World } from '../../../../peers/filesystem-user.ts'

const owner = callerOf(1000)
const other = callerOf(2000)

/** A server that judges by mode bits, and a folder `private` of `owner` with a file in it that everybody may read. */
async function withPrivateFolder (mode = 0o700): Promise<{ world: World, folder: Entry, file: Entry }> {
  const world = new World()
  world.server.root.mode = 0o777
  world.server.enforcesModes = true
  world.caller = owner
  good(await world.mkdir('/private', mode))
  await world.close(await world.create('/private/file'))
  return { world, folder: good(await world.lookup('/private')), file: good(await world.lookup('/private/file')) }
}

const find = async (world: World, parent: number, name: string, caller: Caller): Promise<Entry | Errno> => {
  const entry = await world.fs.lookup(parent, toFileName(name), caller)
  return isErrno(entry) ? entry : entry.nodeid === 0 ? Errno.ENOENT : entry as Entry
}

test('names in a folder that not everybody may search come here at each walk, and those in one open to all do not', async (t) => {
  const { world, folder, file } = await withPrivateFolder()
  t.is(file.entryTtlMs, 0)
  t.true(folder.entryTtlMs > 0)
  const missing = good(await world.fs.lookup(folder.nodeid, toFileName('nothing'), owner))
  t.is(missing.entryTtlMs, 0)
  t.true(file.attributesTtlMs > 0)
})

test('who may not search a folder finds nothing in it, however warm the caches are, and is asked for once', async (t) => {
  const { world, folder } = await withPrivateFolder()
  for (const name of ['file', 'nothing', 'file', 'file']) {
    t.is(await find(world, folder.nodeid, name, other), Errno.EACCES)
  }
  const lookups = world.server.calls.filter(({ name, args }) => name === 'lookup' && args[2] === other.credential)
  t.is(lookups.length, 1)
  t.is(good(await find(world, folder.nodeid, 'file', owner)).attributes.uid, 1000)
})

test('who was let in walks on from the caches, with one question for each folder', async (t) => {
  const { world, folder } = await withPrivateFolder(0o750)
  const member = callerOf(3000, 1000)
  for (let walk = 0; walk < 5; walk++) good(await find(world, folder.nodeid, 'file', member))
  const asked = world.server.calls.filter(({ name, args }) =>
    ['lookup', 'access'].includes(name) && args[2] === member.credential
  )
  t.is(asked.length, 1)
})

test('a folder that is closed: its names are called back before chmod answers for the folder, and whoever comes is judged', async (t) => {
  const { world, folder } = await withPrivateFolder(0o755)
  good(await find(world, folder.nodeid, 'file', other))
  world.notices.length = 0
  good(await world.fs.setattr(folder.nodeid, undefined, { mode: 0o700 }, owner))
  t.deepEqual(world.notices.filter(({ kind }) => kind === 'entry').map(({ nodeid, name }) => [nodeid, name]), [
    [rootNodeid, toFileName('private')], [folder.nodeid, toFileName('file')]
  ])
  t.is(await find(world, folder.nodeid, 'file', other), Errno.EACCES)
})

test('a server that shuts one user out of a folder open to all: no folder counts as open to all any more', async (t) => {
  const { world, folder } = await withPrivateFolder(0o755)
  t.true(good(await find(world, folder.nodeid, 'file', owner)).entryTtlMs > 0)
  world.server.shutOut = other.uid
  world.notices.length = 0
  t.is(await world.fs.access(folder.nodeid, 1, other), Errno.EACCES)
  t.true(world.notices.some(({ nodeid, name }) => nodeid === folder.nodeid && name === toFileName('file')))
  t.is(good(await find(world, folder.nodeid, 'file', owner)).entryTtlMs, 0)
  t.is(await find(world, folder.nodeid, 'file', other), Errno.EACCES)
})

test('access(2) and chdir(2) are what the server says, also for root and whatever the mode is', async (t) => {
  const { world, file } = await withPrivateFolder()
  world.server.squashedTo = 65534
  t.is(await world.fs.access(file.nodeid, 2, root), Errno.EACCES)
  t.is(await world.fs.access(file.nodeid, 4, root), undefined)
  world.server.squashedTo = 1000
  t.is(await world.fs.access(file.nodeid, 6, other), undefined)
})

test('answers about different rights of one user are kept together', async (t) => {
  const { world, file } = await withPrivateFolder()
  for (const mask of [4, 2, 4, 2, 6]) t.is(await world.fs.access(file.nodeid, mask, owner), undefined)
  t.is(world.server.count('access'), 2)
})

test('truncate(2) needs the right to write, though servers let owners set any size; ftruncate(2) has it from its open', async (t) => {
  const { world, file } = await withPrivateFolder()
  const handle = good(await world.fs.open(file.nodeid, readWrite, owner)).handle
  good(await world.fs.setattr(file.nodeid, undefined, { mode: 0o444 }, owner))
  t.is(await world.fs.setattr(file.nodeid, undefined, { sizeBytes: 5 }, owner), Errno.EACCES)
  t.is(good(await world.fs.setattr(file.nodeid, handle, { sizeBytes: 7 }, owner)).attributes.sizeBytes, 7)
})

test('a link to somebody else’s file needs the right to read and write it, where the node protects hard links', async (t) => {
  for (const [protectedHardlinks, expected] of [[true, Errno.EPERM], [false, undefined]] as const) {
    const world = new World({ protectedHardlinks })
    world.server.root.mode = 0o777
    world.server.enforcesModes = true
    world.caller = owner
    await world.close(await world.create('/file', 0o644))
    const { nodeid } = good(await world.lookup('/file'))
    const made = await world.fs.link(nodeid, rootNodeid, toFileName('mine'), other)
    t.is(isErrno(made) ? made : undefined, expected)
    t.false(isErrno(await world.fs.link(nodeid, rootNodeid, toFileName('own'), owner)))
  }
})

test('one time that is to be now is the owner’s to set, both are everybody’s who may write', async (t) => {
  const { world, file } = await withPrivateFolder()
  good(await world.fs.setattr(file.nodeid, undefined, { mode: 0o666 }, owner))
  t.is(await world.fs.setattr(file.nodeid, undefined, { atime: 'server' }, other), Errno.EPERM)
  t.false(isErrno(await world.fs.setattr(file.nodeid, undefined, { atime: 'server', mtime: 'server' }, other)))
  t.false(isErrno(await world.fs.setattr(file.nodeid, undefined, { mtime: 'server' }, owner)))
})

test('FIFOs and sockets are looked up at each use and shown to each as far as the server lets them use it', async (t) => {
  const world = new World()
  world.server.root.mode = 0o777
  world.server.enforcesModes = true
  const show = async (kind: 'fifo' | 'socket', mode: number): Promise<unknown[]> => {
    const name = toFileName(`${kind}${mode}`)
    good(await world.fs.mknod(rootNodeid, name, { kind, major: 0, minor: 0, mode }, owner))
    const seen = []
    for (const caller of [owner, other]) {
      const entry = good(await world.fs.lookup(rootNodeid, name, caller)) as Entry
      const again = good(await world.fs.getattr(entry.nodeid, undefined, caller))
      t.is(entry.entryTtlMs, 0)
      t.deepEqual([again.attributes.kind, again.attributes.uid], [entry.attributes.kind, entry.attributes.uid])
      seen.push(entry.attributes.kind, entry.attributes.uid)
      if (entry.attributes.kind === 'file') t.is(await world.fs.open(entry.nodeid, readOnly, caller), Errno.EACCES)
    }
    return seen
  }
  const nobody = 0xffff_ffff
  t.deepEqual(await show('fifo', 0o600), ['fifo', 1000, 'file', 1000])
  t.deepEqual(await show('fifo', 0o644), ['fifo', 1000, 'fifo', 1000])
  t.deepEqual(await show('fifo', 0o666), ['fifo', 1000, 'fifo', 1000])
  t.deepEqual(await show('socket', 0o755), ['socket', 1000, 'socket', nobody])
  t.deepEqual(await show('socket', 0o777), ['socket', 1000, 'socket', 1000])
})

test('what is seen in a guise is removed, changed and forgotten as what it is', async (t) => {
  const world = new World()
  world.server.root.mode = 0o777
  world.server.enforcesModes = true
  const name = toFileName('pipe')
  good(await world.fs.mknod(rootNodeid, name, { kind: 'fifo', major: 0, minor: 0, mode: 0o600 }, owner))
  const before = world.fs.gauges().inodes
  const seen = good(await world.fs.lookup(rootNodeid, name, other)) as Entry
  world.fs.remember(seen.nodeid, 1)
  t.is(await world.fs.setattr(seen.nodeid, undefined, { mode: 0o666 }, other), Errno.EPERM)
  t.false(isErrno(await world.fs.setattr(seen.nodeid, undefined, { mode: 0o622 }, root)))
  t.is(world.server.node('/pipe')?.mode, 0o622)
  t.is(await world.fs.unlink(rootNodeid, name, owner), undefined)
  t.is(world.server.node('/pipe'), undefined)
  world.fs.forget(seen.nodeid, 1)
  world.clock.advance(10_000)
  // Anything that lets go of an inode sweeps.
  await world.close(await world.create('/x'))
  t.true(world.fs.gauges().inodes <= before + 1)
  t.is(await world.fs.getattr(seen.nodeid, undefined, root), Errno.ESTALE)
})

test('a silent server: who was let into a folder before walks on by last values, who was not waits', async (t) => {
  const world = new World({ softRevalMs: 5_000 })
  world.server.root.mode = 0o777
  world.server.enforcesModes = true
  world.caller = owner
  good(await world.mkdir('/private', 0o700))
  await world.close(await world.create('/private/file'))
  const { nodeid } = good(await world.lookup('/private'))
  good(await find(world, nodeid, 'file', owner))
  world.clock.advance(3_600_000)
  world.server.intercept('lookup', () => new Promise(() => undefined), 4)
  const known = Promise.resolve(find(world, nodeid, 'file', owner))
  const stranger = Promise.resolve(find(world, nodeid, 'file', other))
  await new Promise(setImmediate)
  world.clock.advance(6_000)
  t.is(good(await known).attributes.uid, 1000)
  t.is(await Promise.race([stranger, new Promise((resolve) => setImmediate(resolve, 'waits'))]), 'waits')
})

test('answers about many objects and users are remembered up to a bound, and asked for again beyond it', async (t) => {
  const world = new World({ accessAnswersMax: 100, cto: false })
  for (let file = 0; file < 20; file++) world.server.put(`/f${file}`, 'x')
  let most = 0
  for (let round = 0; round < 2; round++) {
    for (let file = 0; file < 20; file++) {
      for (let uid = 1; uid <= 20; uid++) {
        world.caller = callerOf(uid)
        await world.close(await world.open(`/f${file}`, readOnly))
        most = Math.max(most, world.fs.gauges().accessAnswers)
      }
    }
  }
  t.true(most > 50 && most <= 100, `${most}`)
  const asked = world.server.count('access') + world.server.count('read')
  await world.close(await world.open('/f19', readOnly))
  t.is(world.server.count('access') + world.server.count('read'), asked, 'the last ones are known')
})
