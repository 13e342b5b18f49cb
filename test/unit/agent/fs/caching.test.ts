/** Caches with promises: two clients, one of them the server's own hands. */
import test from 'ava'
import { toFileName } from '../../../../agent/base/brands.ts'
import { Errno, isErrno } from '../../../../agent/base/errno.ts'
import type { Attributes } from '../../../../agent/fs/backend.ts'
import { rootNodeid } from '../../../../agent/fs/operations.ts'
import { callerOf, good, readOnly, readWrite, root, World } from '../../../peers/filesystem-user.ts'
import { turns } from '../../../peers/manual-clock.ts'
import { MemoryServer } from '../../../peers/memory-backend.ts'

test('a fresh attribute is answered without a promise and without the server', async (t) => {
  const world = new World()
  world.server.put('/a', 'one')
  const nodeid = await world.nodeid('/a')
  const calls = world.server.calls.length
  t.false(world.fs.getattr(nodeid, undefined, root) instanceof Promise)
  t.false(world.fs.lookup(rootNodeid, toFileName('a'), root) instanceof Promise)
  t.is(world.server.calls.length, calls)
})

test('attributes are believed for acregmin, then longer each time they are found unchanged, at most acregmax', async (t) => {
  const world = new World({ acregminMs: 3000, acregmaxMs: 10_000 })
  world.server.put('/a', 'one')
  const nodeid = await world.nodeid('/a')
  const ttls: number[] = []
  for (let round = 0; round < 4; round++) {
    const { attributesTtlMs } = good(await world.fs.getattr(nodeid, undefined, root))
    ttls.push(attributesTtlMs)
    world.clock.advance(attributesTtlMs)
  }
  t.deepEqual(ttls, [3000, 6000, 10_000, 10_000])
  world.server.put('/a', 'two')
  t.is(good(await world.fs.getattr(nodeid, undefined, root)).attributesTtlMs, 3000)
})

test('noac believes nothing', async (t) => {
  const world = new World({ noac: true })
  world.server.put('/a', 'one')
  const nodeid = await world.nodeid('/a')
  world.server.put('/a', 'longer')
  const answer = good(await world.fs.getattr(nodeid, undefined, root))
  t.is(answer.attributes.sizeBytes, 6)
  t.is(answer.attributesTtlMs, 0)
  const file = await world.open('/a')
  await world.write(file, 0, 'stable')
  world.server.reboot()
  t.is(world.server.read('/a'), 'stable')
})

test('close-to-open: what another client closed before open is seen, however young the caches are', async (t) => {
  const world = new World()
  world.server.put('/a', 'old')
  const first = await world.open('/a')
  t.is(await world.readText(first), 'old')
  await world.close(first)
  world.server.put('/a', 'newer')
  const opened = good(await world.opened('/a', readOnly))
  t.false(opened.keepCache)
  t.is(await world.readText(opened.handle), 'newer')
})

test('an open that finds a foreign change sends the kernel back to look, once, so that it knows the size before it reads or appends', async (t) => {
  const world = new World()
  world.server.put('/a', 'old')
  const nodeid = await world.nodeid('/a')
  world.server.put('/a', 'longer')
  t.is(await world.fs.open(nodeid, readWrite, root), Errno.ESTALE)
  // Somebody else at the same time has not looked either.
  t.is(await world.fs.open(nodeid, readWrite, { ...root, pid: 2 }), Errno.ESTALE)
  t.is(good(await world.lookup('/a')).attributes.sizeBytes, 6)
  t.false(isErrno(await world.fs.open(nodeid, readWrite, root)))
  t.false(isErrno(await world.fs.open(nodeid, readWrite, { ...root, pid: 2 })))
  world.server.put('/a', 'longer again')
  t.is(await world.fs.open(nodeid, readWrite, root), Errno.ESTALE)
  // A reopen through /proc looks nothing up.
  t.false(isErrno(await world.fs.open(nodeid, readWrite, root)))
})

test('attributes that the kernel did not get, from a listing that was full or an answer that failed, are still news to it', async (t) => {
  const world = new World({ softRevalMs: 5_000 })
  world.server.put('/a', 'old')
  const nodeid = await world.nodeid('/a')
  world.server.put('/a', 'longer')
  const folder = good(await world.fs.opendir(rootNodeid, root)).handle
  let offered = 0
  await world.fs.readdir(folder, 0, true, ({ name, entry }) => {
    if (name === 'a') offered = entry?.attributes.sizeBytes ?? 0
    return name !== 'a'
  })
  t.is(offered, 6)
  t.is(await world.fs.open(nodeid, readWrite, root), Errno.ESTALE)
  // Let in, as whoever comes again is; but the kernel has not looked.
  world.fs.releasedir(good(await world.fs.open(nodeid, readWrite, root)).handle)
  world.clock.advance(10_000)
  world.server.intercept('getattr', () => Errno.EIO)
  t.is(await world.fs.getattr(nodeid, undefined, root), Errno.EIO)
  t.is(await world.fs.open(nodeid, readWrite, { ...root, pid: 2 }), Errno.ESTALE)
  t.is(good(await world.stat('/a')).sizeBytes, 6)
  t.false(isErrno(await world.fs.open(nodeid, readWrite, { ...root, pid: 3 })))
})

test('older attributes that the kernel takes late leave newer ones news', async (t) => {
  const world = new World()
  world.server.put('/a', 'old')
  const older = good(await world.lookup('/a'))
  world.server.put('/a', 'longer')
  world.clock.advance(4_000)
  const newer = good(await world.fs.getattr(older.nodeid, undefined, root))
  world.fs.acknowledge(older)
  t.is(await world.fs.open(older.nodeid, readWrite, root), Errno.ESTALE)
  world.fs.acknowledge(newer)
  t.false(isErrno(await world.fs.open(older.nodeid, readWrite, { ...root, pid: 2 })))
})

test('an open is sent back once at most, also when the file changes again while the name is looked up', async (t) => {
  const world = new World()
  world.server.put('/a', 'old')
  const nodeid = await world.nodeid('/a')
  for (let round = 0; round < 3; round++) {
    world.server.put('/a', `changed ${round}`)
    t.is(await world.fs.open(nodeid, readWrite, root), Errno.ESTALE)
    good(await world.lookup('/a'))
    world.server.put('/a', `changed once more ${round}`)
    t.false(isErrno(await world.fs.open(nodeid, readWrite, root)))
    good(await world.stat('/a'))
  }
})

test('an open whose file was replaced, and whose new file changes while its name is looked up, is let in too', async (t) => {
  const world = new World()
  world.server.put('/log', 'old')
  const before = await world.nodeid('/log')
  world.server.unlink('/log')
  world.server.put('/log', 'new')
  t.is(await world.fs.open(before, readWrite, root), Errno.ESTALE)
  const after = await world.nodeid('/log')
  t.not(after, before)
  world.server.put('/log', 'newer')
  t.false(isErrno(await world.fs.open(after, readWrite, root)))
  // That was this caller's second attempt; another one's first is sent back, and this one's next.
  world.server.put('/log', 'newest')
  for (const pid of [2, root.pid]) t.is(await world.fs.open(after, readWrite, { ...root, pid }), Errno.ESTALE)
})

test('who was sent back and did not come again is not let in unseen later', async (t) => {
  const world = new World()
  world.server.put('/a', 'old')
  const nodeid = await world.nodeid('/a')
  world.server.put('/a', 'changed')
  t.is(await world.fs.open(nodeid, readWrite, root), Errno.ESTALE)
  world.clock.advance(11_000)
  t.is(await world.fs.open(nodeid, readWrite, root), Errno.ESTALE)
})

test('what was made and replaced by another kind of object before we saw it is EEXIST, and the other is found', async (t) => {
  const server = new MemoryServer()
  const backend = server.backend()
  // As a server that leaves handles out, with somebody quick between its answer and our question.
  server.backend = () => ({
    ...backend,
    symlink: async (directory, name, target, attributes, credential) => {
      const made = await backend.symlink(directory, name, target, attributes, credential)
      server.unlink('/a')
      server.put('/a', 'a file')
      const found = await backend.lookup(directory, name, credential)
      return isErrno(made) || isErrno(found)
        ? Errno.EIO
        : { ...made, handle: found.handle, attributes: found.attributes }
    }
  })
  const world = new World({ server })
  t.is(await world.fs.symlink(rootNodeid, toFileName('a'), 'elsewhere', root), Errno.EEXIST)
  t.is(good(await world.lookup('/a')).attributes.kind, 'file')
})

test('an open that would make a file, and finds that a link has got the name meanwhile, sends the kernel back to look', async (t) => {
  const world = new World()
  t.is(await world.lookup('/a'), Errno.ENOENT)
  good(await world.fs.symlink(rootNodeid, toFileName('a'), 'elsewhere', root))
  t.is(await world.fs.create(rootNodeid, toFileName('a'), 0o644, false, readWrite, root), Errno.ESTALE)
  t.is(await world.fs.create(rootNodeid, toFileName('a'), 0o644, true, readWrite, root), Errno.EEXIST)
  t.is(good(await world.lookup('/a')).attributes.kind, 'symlink')
})

test('an unchanged file keeps its pages across opens, also after own writes', async (t) => {
  const world = new World()
  world.server.put('/a', 'old')
  const nodeid = await world.nodeid('/a')
  t.false(good(await world.fs.open(nodeid, readOnly, root)).keepCache)
  const second = good(await world.fs.open(nodeid, readWrite, root))
  t.true(second.keepCache)
  await world.write(second.handle, 0, Buffer.alloc(300_000, 1))
  await world.close(second.handle)
  t.true(good(await world.fs.open(nodeid, readOnly, root)).keepCache)
  world.server.put('/a', 'foreign')
  t.false(good(await world.opened('/a', readOnly)).keepCache)
})

test('an open whose answer the kernel did not take told it nothing about its pages: the next one does', async (t) => {
  const world = new World()
  world.server.put('/a', 'old')
  const nodeid = await world.nodeid('/a')
  const lost = good(await world.fs.open(nodeid, readOnly, root))
  t.false(lost.keepCache)
  await world.fs.neverOpened(lost.handle)
  t.is(world.fs.gauges().handles, 0)
  t.false(good(await world.fs.open(nodeid, readOnly, root)).keepCache)
  t.true(good(await world.fs.open(nodeid, readOnly, root)).keepCache)
  const folder = good(await world.fs.opendir(rootNodeid, root))
  await world.fs.neverOpened(folder.handle)
  t.false(good(await world.fs.opendir(rootNodeid, root)).keepCache)
})

test('a foreign write between our own writes is noticed by wcc data, and the kernel is told to drop pages', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, 'own')
  await world.fsync(file)
  world.server.put('/a', 'foreign')
  world.notices.length = 0
  await world.write(file, 0, 'OWN')
  await world.fsync(file)
  t.true(world.notices.some(({ kind }) => kind === 'inode'))
  t.false(good(await world.fs.open(await world.nodeid('/a'), readOnly, root)).keepCache)
})

test('pipelined writes whose answers arrive in any order are not taken for foreign ones', async (t) => {
  const world = new World()
  let seed = 7
  world.server.pause = async () => {
    seed = (seed * 1103515245 + 12345) % 2147483648
    await turns(seed % 4)
  }
  const file = await world.create('/a')
  const opened = good(await world.fs.open(await world.nodeid('/a'), readWrite, root))
  world.notices.length = 0
  await world.write(file, 0, Buffer.alloc(2_000_000, 1))
  await world.fsync(file)
  t.deepEqual(world.notices, [])
  t.is((await world.stat('/a')).sizeBytes, 2_000_000)
  await world.close(opened.handle)
})

test('an older answer that arrives later does not undo newer attributes', async (t) => {
  const world = new World()
  world.server.put('/a', 'one')
  const nodeid = await world.nodeid('/a')
  world.clock.advance(4_000)
  const held = world.server.hold('getattr', 'after')
  const late = world.fs.getattr(nodeid, undefined, root)
  await held.arrived
  world.server.put('/a', 'longer')
  const file = await world.open('/a')
  held.go()
  await late
  t.is(good(await world.fs.getattr(nodeid, undefined, root)).attributes.sizeBytes, 6)
  await world.close(file)
})

test('of two chmods at once in one tick of the server’s clock, the one that was done last is seen', async (t) => {
  const world = new World()
  world.server.put('/a', 'one')
  world.server.clockStep = 1_000_000_000_000n
  const nodeid = await world.nodeid('/a')
  const held = world.server.hold('setattr')
  const last = world.fs.setattr(nodeid, undefined, { mode: 0o600 }, root)
  await held.arrived
  good(await world.fs.setattr(nodeid, undefined, { mode: 0o644 }, root))
  held.go()
  t.is(good(await last).attributes.mode, 0o600)
  t.is((await world.stat('/a')).mode, 0o600)
})

test('nocto opens from the caches', async (t) => {
  const world = new World({ cto: false })
  world.server.put('/a', 'one')
  await world.close(await world.open('/a'))
  const calls = world.server.calls.length
  await world.close(await world.open('/a'))
  t.is(world.server.calls.length, calls)
})

test('names are believed while their folder is unchanged; a foreign change drops them and tells the kernel', async (t) => {
  const world = new World()
  world.server.put('/a', 'one')
  const first = await world.nodeid('/a')
  world.server.unlink('/a')
  world.server.put('/a', 'other')
  t.is(await world.nodeid('/a'), first)
  world.clock.advance(31_000)
  t.not(await world.nodeid('/a'), first)
})

test('our own changes of a folder keep what is known about its other names', async (t) => {
  const world = new World()
  world.server.put('/a', 'one')
  await world.nodeid('/a')
  await world.close(await world.create('/b'))
  await world.unlink('/b')
  const lookups = world.server.count('lookup')
  await world.nodeid('/a')
  t.is(world.server.count('lookup'), lookups)
})

test('a foreign change of a folder seen in the answer to a create that found the file there drops its names', async (t) => {
  const world = new World()
  world.server.put('/there', 'one')
  await world.nodeid('/there')
  t.is(await world.lookup('/job'), Errno.ENOENT)
  t.is(await world.lookup('/job'), Errno.ENOENT)
  world.server.makeFolder('/job')
  // Nothing has changed between "before" and "after", and neither is as it was known here.
  await world.close(await world.create('/there'))
  t.false(isErrno(await world.lookup('/job')))
})

test('a foreign change of a folder seen in the answer to our own change drops its names', async (t) => {
  const world = new World()
  world.server.put('/a', 'one')
  await world.nodeid('/a')
  world.server.unlink('/a')
  await world.close(await world.create('/b'))
  t.is(await world.lookup('/a'), Errno.ENOENT)
})

test('missing names are remembered with lookupcache=all, and not with positive or none', async (t) => {
  for (const [lookupCache, asked] of [['all', 1], ['positive', 2], ['none', 2]] as const) {
    const world = new World({ lookupCache })
    t.is(await world.lookup('/gone'), Errno.ENOENT)
    t.is(await world.lookup('/gone'), Errno.ENOENT)
    t.is(world.server.count('lookup'), asked, lookupCache)
  }
})

/** A folder that a solo writer made, and how often the server was asked for a name in it. */
async function ownFolder (options: ConstructorParameters<typeof World>[0] = {}): Promise<
  { world: World, folder: number, asked: () => number }
> {
  const world = new World({ soloWriter: true, ...options })
  const made = good(await world.fs.mkdir(rootNodeid, toFileName('own'), 0o755, root))
  world.fs.remember(made.nodeid, 1)
  const before = world.server.count('lookup')
  return { world, folder: made.nodeid, asked: () => world.server.count('lookup') - before }
}

test('in a folder that we made, a name that nobody has shown us is asked for: what another client closed there is found by whatever asks', async (t) => {
  const ways: [string, (world: World) => Promise<unknown>][] = [
    ['stat', (world) => world.stat('/own/a')],
    ['open', async (world) => world.close(await world.open('/own/a', { write: false }))],
    ['ln', (world) => world.link('/own/a', '/own/b')],
    ['mv', (world) => world.rename('/own/a', '/own/b')],
    ['rm', (world) => world.unlink('/own/a')]
  ]
  for (const [what, way] of ways) {
    const { world, folder } = await ownFolder({ soloWriter: false })
    await world.close(await world.create('/own/mine'))
    world.server.put('/own/a', 'foreign')
    t.false(isErrno(await world.lookup('/own/a')), what)
    t.false(isErrno(await way(world)), what)
    // Where it was shown to be missing, that is believed as nfs(5) says.
    t.like(await world.fs.lookup(folder, toFileName('never'), root), { nodeid: 0 })
  }
})

test('in a folder that a solo writer made, what we did not make does not exist: nobody is asked before a file is created', async (t) => {
  const { world, asked } = await ownFolder()
  t.is(await world.lookup('/own/a'), Errno.ENOENT)
  await world.close(await world.create('/own/a', 0o644, { exclusive: true }))
  t.false(isErrno(await world.lookup('/own/a')))
  t.is(await world.lookup('/own/b'), Errno.ENOENT)
  await world.unlink('/own/a')
  t.is(await world.lookup('/own/a'), Errno.ENOENT)
  t.is(asked(), 0)
})

test('in a folder that a solo writer made, a foreign name is found when the folder is asked again, and the kernel drops what it was told', async (t) => {
  const { world, folder } = await ownFolder()
  const missing = await world.fs.lookup(folder, toFileName('a'), root)
  t.like(missing, { nodeid: 0 })
  world.server.put('/own/a', 'foreign')
  world.clock.advance(31_000)
  t.false(isErrno(await world.lookup('/own/a')))
  t.true(
    world.notices.some(({ kind, nodeid, name }) => kind === 'entry' && nodeid === folder && name === toFileName('a'))
  )
  // And from then on the server is asked for every name.
  world.server.put('/own/b', 'foreign')
  t.false(isErrno(await world.lookup('/own/b')))
})

test('a name that we make ourselves is never called back, whatever else the answer says about its folder', async (t) => {
  const world = new World()
  // As nfs-ganesha answers MKDIR: how the folder was before is left out.
  world.server.givesBefore = false
  world.server.put('/other', 'x')
  await world.nodeid('/other')
  good(await world.fs.mkdir(rootNodeid, toFileName('sibling'), 0o755, root))
  await world.nodeid('/other')
  t.is(await world.lookup('/d'), Errno.ENOENT)
  t.is(await world.lookup('/r'), Errno.ENOENT)
  world.notices.length = 0
  // Nor is a sibling that is a folder: nobody knows that there was a foreign change.
  good(await world.fs.mkdir(rootNodeid, toFileName('d'), 0o755, root))
  t.deepEqual(world.notices.flatMap(({ kind, name }) => kind === 'entry' ? [name] : []), [
    toFileName('other'), toFileName('r')
  ])
  world.notices.length = 0
  t.is(await world.lookup('/r'), Errno.ENOENT)
  const flags = { noReplace: false, exchange: false, whiteout: false }
  t.is(await world.fs.rename(rootNodeid, toFileName('d'), rootNodeid, toFileName('r'), flags, root), undefined)
  t.false(world.notices.some(({ name }) => name === toFileName('r')))
})

test('in a folder that a solo writer made, a name that was renamed to itself is still there', async (t) => {
  const { world, folder, asked } = await ownFolder()
  good(await world.fs.mkdir(folder, toFileName('a'), 0o755, root))
  t.is(
    await world.fs.rename(folder, toFileName('a'), folder, toFileName('a'), {
      noReplace: false, exchange: false, whiteout: false
    }, root),
    undefined
  )
  t.false(isErrno(await world.lookup('/own/a')))
  t.is(asked(), 0)
})

test('names of folders are called back only where the kernel leaves those alone who work in them', async (t) => {
  for (const kernelCanExpire of [true, false]) {
    const world = new World({ kernelCanExpire })
    world.server.put('/file', 'x')
    good(await world.fs.mkdir(rootNodeid, toFileName('folder'), 0o755, root))
    await world.nodeid('/file')
    await world.nodeid('/folder')
    world.server.put('/foreign', 'x')
    world.clock.advance(61_000)
    t.false(isErrno(await world.lookup('/foreign')))
    const told = world.notices.flatMap(({ kind, name }) => kind === 'entry' ? [name] : []).sort()
    t.deepEqual(
      told,
      (kernelCanExpire ? ['file', 'folder'] : ['file']).map((name) => toFileName(name)),
      String(kernelCanExpire)
    )
  }
})

test('in a folder that a solo writer made, one name that is not known for sure ends the knowledge about all', async (t) => {
  const { world, folder, asked } = await ownFolder()
  world.server.put('/own/a', 'foreign')
  t.is(await world.fs.mkdir(folder, toFileName('a'), 0o755, root), Errno.EEXIST)
  world.server.put('/own/b', 'foreign')
  t.false(isErrno(await world.lookup('/own/b')))
  t.true(asked() > 0)
})

test('a folder that a solo writer made is asked for its names when they cannot all be kept, and with lookupcache=positive, none and noac', async (t) => {
  const few = await ownFolder({ namesMax: 4 })
  for (let index = 0; index < 6; index++) await few.world.close(await few.world.create(`/own/f${index}`))
  t.false(isErrno(await few.world.lookup('/own/f0')))
  t.true(few.asked() > 0)
  for (const options of [{ lookupCache: 'positive' }, { lookupCache: 'none' }, { noac: true }] as const) {
    const { world, folder } = await ownFolder(options)
    world.server.put('/own/a', 'foreign')
    t.false(isErrno(await world.fs.lookup(folder, toFileName('a'), root)), JSON.stringify(options))
    t.not((await world.fs.lookup(folder, toFileName('a'), root) as { nodeid: number }).nodeid, 0)
  }
})

test('lookupcache=none asks for names that exist, too', async (t) => {
  const world = new World({ lookupCache: 'none' })
  world.server.put('/a', 'one')
  const entry = good(await world.lookup('/a'))
  t.is(entry.entryTtlMs, 0)
  await world.lookup('/a')
  t.is(world.server.count('lookup'), 2)
})

test('a missing name found out before its folder changed is asked again afterwards', async (t) => {
  const world = new World()
  t.is(await world.lookup('/a'), Errno.ENOENT)
  world.server.put('/a', 'one')
  world.clock.advance(31_000)
  t.false(isErrno(await world.lookup('/a')))
})

test('an answer "no such name" that was on its way while the name was made is not remembered', async (t) => {
  const world = new World()
  const held = world.server.hold('lookup', 'after')
  const late = world.fs.lookup(rootNodeid, toFileName('a'), root)
  await held.arrived
  const made = good(await world.fs.create(rootNodeid, toFileName('a'), 0o644, false, readWrite, root))
  held.go()
  t.like(await late, { nodeid: 0, entryTtlMs: 0 })
  t.like(await world.fs.lookup(rootNodeid, toFileName('a'), root), { nodeid: made.entry.nodeid })
})

test('names kept are bounded', async (t) => {
  const world = new World({ namesMax: 10 })
  for (let index = 0; index < 50; index++) await world.lookup(`/name${index}`)
  t.is(world.fs.gauges().names, 10)
})

test('a stale handle reached by name is dropped: the next lookup asks and finds the object again', async (t) => {
  const world = new World()
  world.server.put('/a', 'one')
  const before = await world.nodeid('/a')
  world.server.changeHandle('/a')
  t.is(await world.fs.open(before, readOnly, root), Errno.ESTALE)
  const after = await world.nodeid('/a')
  t.not(after, before)
  t.is(await world.readText(await world.open('/a')), 'one')
})

test('an open file whose object is gone answers ESTALE', async (t) => {
  const world = new World()
  world.server.put('/a', 'one')
  const file = await world.open('/a')
  world.server.unlink('/a')
  t.is(await world.fs.read(file, 0, 10), Errno.ESTALE)
})

test('a handle that the server used again for another object is another inode', async (t) => {
  const world = new World()
  world.server.put('/a', 'one')
  const before = good(await world.lookup('/a'))
  world.server.reuseHandle('/a', 'fifo')
  world.clock.advance(31_000)
  const after = good(await world.lookup('/a'))
  t.not(after.nodeid, before.nodeid)
  t.not(after.generation, before.generation)
  t.is(after.attributes.kind, 'fifo')
  t.is(await world.fs.getattr(999_999, undefined, root), Errno.ESTALE)
})

test('inodes go when the kernel forgets them, and stay while they are open or dirty', async (t) => {
  const world = new World()
  const settle = async (): Promise<void> => {
    await turns()
    world.clock.advance(2_000)
    world.fs.forget(rootNodeid, 0)
  }
  world.server.put('/a', 'one')
  const { nodeid } = good(await world.lookup('/a'))
  await world.lookup('/a')
  const file = good(await world.fs.open(nodeid, readWrite, root)).handle
  world.fs.forget(nodeid, 2)
  await settle()
  t.is(world.state.inodes.get(nodeid)?.nodeid, nodeid)
  await world.write(file, 0, 'two')
  t.is(await world.close(file), undefined)
  await settle()
  world.fs.forget(rootNodeid, 0)
  await settle()
  t.is(world.state.inodes.get(nodeid), undefined)
  t.is(world.fs.gauges().inodes, 1)
  t.is(world.state.lookups.size, 0)
})

test('a forgotten inode with bytes on their way is still the same inode when its name is looked up again', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  const nodeid = await world.nodeid('/a')
  const held = world.server.hold('write')
  await world.write(file, 0, 'hello')
  const releasing = world.release(file)
  await held.arrived
  world.fs.forget(nodeid, 2)
  world.clock.advance(60_000)
  world.fs.forget(rootNodeid, 0)
  const { nodeid: again, attributes } = good(await world.lookup('/a'))
  t.is(again, nodeid)
  t.is(attributes.sizeBytes, 5)
  held.go()
  await releasing
})

test('a lookup answered before a forget of earlier references is handled still names a living inode', async (t) => {
  const world = new World()
  world.server.put('/a', 'one')
  const { nodeid } = good(await world.lookup('/a'))
  const again = good(await world.fs.lookup(rootNodeid, toFileName('a'), root))
  world.fs.forget(nodeid, 1)
  world.fs.remember(again.nodeid, 1)
  world.clock.advance(60_000)
  t.false(isErrno(await world.fs.getattr(nodeid, undefined, root)))
})

test('inodes that no kernel ever remembered are bounded', async (t) => {
  const world = new World({ idleInodesMax: 10 })
  for (let index = 0; index < 100; index++) {
    world.server.put(`/f${index}`, 'x')
    await world.fs.lookup(rootNodeid, toFileName(`f${index}`), root)
  }
  t.true(world.fs.gauges().inodes <= 12)
})

test('OPEN asks the server for permission every time, for the caller', async (t) => {
  const world = new World()
  world.server.enforcesModes = true
  world.server.put('/a', 'secret', 0o600)
  const nodeid = await world.nodeid('/a')
  await world.close(good(await world.fs.open(nodeid, readOnly, root)).handle)
  t.is(await world.fs.open(nodeid, readOnly, callerOf(1000)), Errno.EACCES)
  world.server.chmod('/a', 0o604)
  t.false(isErrno(await world.opened('/a', readOnly, callerOf(1000))))
  t.is(await world.fs.open(nodeid, readWrite, callerOf(1000)), Errno.EACCES)
})

test('access(2) answers are remembered per user for as long as the attributes', async (t) => {
  const world = new World()
  world.server.enforcesModes = true
  world.server.put('/a', 'x', 0o640)
  const nodeid = await world.nodeid('/a')
  for (let round = 0; round < 3; round++) {
    t.is(await world.fs.access(nodeid, 4, callerOf(1000)), Errno.EACCES)
    t.is(await world.fs.access(nodeid, 4, callerOf(1001, 1001, [0])), undefined)
  }
  t.is(world.server.count('access'), 2)
})

test('reads and writes carry the credential of the opener, whoever asks', async (t) => {
  const world = new World()
  world.server.put('/a', 'x', 0o666)
  world.caller = callerOf(1000)
  const file = await world.open('/a')
  world.caller = root
  await world.write(file, 0, Buffer.alloc(100_000))
  await world.fsync(file)
  await world.read(file, 0, 10)
  const users = world.server.calls.filter(({ name }) => ['read', 'write', 'commit'].includes(name))
    .map(({ args }) => (args[0] as { credential: { uid: number } }).credential.uid)
  t.deepEqual([...new Set(users)], [1000])
})

test('the creator may write through its descriptor whatever the mode says', async (t) => {
  const world = new World()
  world.server.enforcesModes = true
  world.caller = callerOf(1000)
  const file = await world.create('/a', 0o000)
  await world.write(file, 0, 'x')
  t.is(await world.close(file), undefined)
  t.is(world.server.read('/a'), 'x')
  t.is(world.server.count('access'), 0)
})

test('creating over a file that somebody else made first asks for permission like an open', async (t) => {
  const world = new World()
  world.server.enforcesModes = true
  t.is(await world.lookup('/a'), Errno.ENOENT)
  world.server.put('/a', 'secret', 0o600)
  t.is(await world.fs.create(rootNodeid, toFileName('a'), 0o644, false, readWrite, callerOf(1000)), Errno.EACCES)
  t.is(await world.fs.create(rootNodeid, toFileName('a'), 0o644, true, readWrite, callerOf(1000)), Errno.EEXIST)
})

test('attributes missing from answers are asked for', async (t) => {
  const world = new World()
  world.server.givesAttributes = false
  world.server.givesBefore = false
  await world.mkdir('/folder')
  const file = await world.create('/folder/a')
  await world.write(file, 0, Buffer.alloc(200_000, 'x'))
  t.is(await world.close(file), undefined)
  t.is((await world.stat('/folder/a')).sizeBytes, 200_000)
  t.deepEqual((await world.list('/folder', { plus: true })).map(({ name }) => name as string), ['.', '..', 'a'])
  t.is(await world.unlink('/folder/a'), undefined)
  t.is(await world.lookup('/folder/a'), Errno.ENOENT)
})

test('a link count is asked again after our own link and unlink', async (t) => {
  const world = new World()
  world.server.put('/a', 'x')
  t.is(await world.link('/a', '/b'), undefined)
  t.is((await world.stat('/a')).nlink, 2)
  t.is(await world.unlink('/a'), undefined)
  t.is((await world.stat('/b')).nlink, 1)
})

test('O_TRUNC empties, and creates of existing files with O_TRUNC too', async (t) => {
  const world = new World()
  world.server.put('/a', 'content')
  const file = await world.open('/a', { truncate: true })
  t.is(world.server.read('/a'), '')
  await world.close(file)
})

test('mknod of a regular file refuses an existing one', async (t) => {
  const world = new World()
  world.server.put('/a', 'x')
  const node = { kind: 'file', major: 0, minor: 0, mode: 0o644 } as const
  t.is(await world.fs.mknod(rootNodeid, toFileName('a'), node, root), Errno.EEXIST)
  t.like(await world.fs.mknod(rootNodeid, toFileName('b'), node, root), { attributes: { kind: 'file' } })
})

test('a mount group owns what is made, and may read and write it', async (t) => {
  const world = new World({ mountGroup: 2000 })
  await world.mkdir('/folder', 0o700)
  await world.create('/folder/a', 0o600)
  t.like(await world.stat('/folder'), { gid: 2000, mode: 0o2770 })
  t.like(await world.stat('/folder/a'), { gid: 2000, mode: 0o660 })
})

const flags = { noReplace: false, exchange: false, whiteout: false }
for (const flag of ['noReplace', 'exchange', 'whiteout'] as const) {
  test(`rename with ${flag} is refused with EINVAL, as NFSv3 cannot do it`, async (t) => {
    const world = new World()
    world.server.put('/a', 'x')
    t.is(
      await world.fs.rename(rootNodeid, toFileName('a'), rootNodeid, toFileName('b'), { ...flags, [flag]: true }, root),
      Errno.EINVAL
    )
  })
}

test('names and offsets beyond the limits are refused cleanly', async (t) => {
  const world = new World()
  const long = toFileName('n'.repeat(256))
  t.is(await world.fs.lookup(rootNodeid, long, root), Errno.ENAMETOOLONG)
  t.is(await world.fs.mkdir(rootNodeid, long, 0o755, root), Errno.ENAMETOOLONG)
  const file = await world.create('/a')
  t.is(await world.fs.write(file, 2 ** 43, Buffer.from('x'), false), Errno.EFBIG)
  t.is(await world.fs.setattr(await world.nodeid('/a'), undefined, { sizeBytes: 2 ** 44 }, root), Errno.EFBIG)
  t.is(await world.fs.read(12345, 0, 1), Errno.EBADF)
  t.is(await world.fs.readdir(12345, 0, false, () => true), Errno.EBADF)
})

test('with softreval, what is known is answered from last values when the server is silent, and nothing is invented', async (t) => {
  const world = new World({ softRevalMs: 5_000 })
  world.server.put('/a', 'one')
  const nodeid = await world.nodeid('/a')
  good(await world.fs.statfs(rootNodeid, root))
  world.clock.advance(120_000)
  const held = [world.server.hold('getattr'), world.server.hold('lookup'), world.server.hold('lookup')] as const
  const stat = world.fs.getattr(nodeid, undefined, root)
  await held[0].arrived
  world.clock.advance(5_000)
  t.is((good(await stat).attributes as Attributes).sizeBytes, 3)
  t.is(good(await world.fs.lookup(rootNodeid, toFileName('a'), root)).nodeid, nodeid)
  t.is(good(await world.fs.statfs(rootNodeid, root)).totalFiles, 1000n)
  let isAnswered = false
  const unknown = Promise.resolve(world.fs.lookup(rootNodeid, toFileName('never-seen'), root)).then(() => {
    isAnswered = true
  })
  await turns()
  world.clock.advance(60_000)
  await turns()
  t.false(isAnswered)
  for (const { go } of held) go()
  await unknown
  await turns()
  world.server.put('/a', 'longer')
  world.clock.advance(60_000)
  t.is(good(await world.fs.getattr(nodeid, undefined, root)).attributes.sizeBytes, 6)
})

test('attributes that a notice on its way makes the kernel throw away are told again at the next open', async (t) => {
  const world = new World()
  world.server.put('/log', 'old')
  const { nodeid } = good(await world.lookup('/log'))
  await world.release(good(await world.fs.open(nodeid, readWrite, root)).handle)
  world.server.put('/log', 'longer by far')
  world.clock.advance(120_000)
  world.unheard.add(nodeid)
  // The LOOKUP that finds the change: the kernel hears the notice before its answer, and drops what it brings.
  const seen = good(await world.lookup('/log'))
  world.fs.acknowledge(seen)
  world.unheard.delete(nodeid)
  t.is(await world.fs.open(nodeid, readWrite, root), Errno.ESTALE)
  world.fs.acknowledge(good(await world.lookup('/log')))
  t.false(isErrno(await world.fs.open(nodeid, readWrite, root)))
})

test('an append whose kernel knows an older size lands behind what another node has written', async (t) => {
  const world = new World()
  world.server.put('/log', 'one,')
  const handle = good(await world.opened('/log', { append: true })).handle
  world.server.put('/log', 'one,two,')
  world.clock.advance(120_000)
  t.is((await world.stat('/log')).sizeBytes, 8)
  world.notices.length = 0
  await world.write(handle, 4, 'three,')
  await world.write(handle, 10, 'four,')
  await world.close(handle)
  t.is(world.server.read('/log'), 'one,two,three,four,')
  t.true(world.notices.some(({ kind, offset }) => kind === 'inode' && offset === 4))
})

test('with softreval, access(2) of what was asked before is answered from the last answer', async (t) => {
  const world = new World({ softRevalMs: 5_000 })
  world.server.put('/a', 'x')
  const { nodeid } = good(await world.lookup('/a'))
  t.is(await world.fs.access(nodeid, 4, root), undefined)
  world.clock.advance(3_600_000)
  world.server.intercept('access', () => new Promise(() => undefined), 4)
  const known = world.fs.access(nodeid, 4, root)
  await new Promise(setImmediate)
  world.clock.advance(6_000)
  t.is(await known, undefined)
})
