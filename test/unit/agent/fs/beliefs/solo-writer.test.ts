/** consistency=solowriter inside the core: what is believed for longer, and that every end of it makes the kernel begin
 * anew. */
import test from 'ava'
import { toFileName } from '../../../../../agent/base/brands.ts'
import { Errno } from '../../../../../agent/base/errno.ts'
import { rootNodeid } from '../../../../../agent/fs/operations.ts'
import { MemoryServer } from '../../../../peers/memory-backend.ts'
import { good, readOnly, readWrite, root, World } from '../../../../peers/filesystem-user.ts'
import { turns } from '../../../../peers/manual-clock.ts'

const kib = 1024
const solo = {
  soloWriter: true, cto: false, acregminMs: 60_000, acregmaxMs: 3_600_000, acdirminMs: 60_000, acdirmaxMs: 3_600_000
}

test('what is known is believed for a minute, and opened without asking', async (t) => {
  const server = new MemoryServer()
  server.put('/a', 'text')
  const world = new World({ ...solo, server })
  await world.close(await world.open('/a', readOnly))
  world.clock.advance(59_000)
  const asked = world.server.calls.length
  await world.close(await world.open('/a', readOnly))
  await world.stat('/a')
  t.is(world.server.calls.length, asked)
})

test('a stat does not send what waits to be written: the kernel knows its own size and times', async (t) => {
  const world = new World(solo)
  const file = await world.create('/a')
  await world.write(file, 0, 'hello')
  t.is((await world.stat('/a')).sizeBytes, 5)
  t.is(world.server.count('write'), 0)
  t.is(await world.close(file), undefined)
  t.is(world.server.read('/a'), 'hello')
})

test('a stat of a file with set-id bits does send it: the server decides about them', async (t) => {
  const world = new World(solo)
  const file = await world.create('/a', 0o6755)
  await world.write(file, 0, 'hello')
  await world.stat('/a')
  t.is(world.server.count('write'), 1)
})

test('a change right after an unlink or link of ours is not taken for a foreign one, and one of somebody else’s data still is', async (t) => {
  for (const [between, ended] of [['', 0], ['foreign', 1]] as const) {
    const server = new MemoryServer()
    server.put('/a', 'text')
    const world = new World({ ...solo, server })
    const file = await world.open('/a')
    const nodeid = await world.nodeid('/a')
    good(await world.fs.link(nodeid, rootNodeid, toFileName('b'), root))
    t.is(await world.fs.unlink(rootNodeid, toFileName('a'), root), undefined)
    if (between === 'foreign') server.put('/b', 'other and longer')
    good(await world.fs.setattr(nodeid, undefined, { mode: 0o600 }, root))
    await world.write(file, 0, 'T')
    await world.fsync(file)
    if (between === 'foreign') world.clock.advance(61_000)
    const { nodeid: now } = good(await world.lookup('/b'))
    t.like(world.fs.counters(), { soloWriterEnded: ended }, between)
    t.is(now === nodeid, ended === 0)
    await world.close(file)
  }
})

test('a truncate that the server does in two steps is not taken for a foreign change by who sees it between them, and a change of another size is', async (t) => {
  for (const [foreign, ended] of [[undefined, 0], ['seven b', 1]] as const) {
    const server = new MemoryServer()
    server.put('/a', 'some text')
    const world = new World({ ...solo, server })
    const file = await world.open('/a')
    const nodeid = await world.nodeid('/a')
    server.intercept('setattr', async (proceed) => {
      // As nfs-ganesha: first the size, then the times.
      const first = await proceed() as { before: unknown, beforeData: unknown }
      if (foreign !== undefined) server.put('/a', foreign)
      good(await world.fs.read(file, 0, 4))
      const second = await proceed() as object
      return { ...second, before: first.before, beforeData: first.beforeData } as never
    })
    good(await world.fs.setattr(nodeid, undefined, { sizeBytes: 4 }, root))
    t.like(world.fs.counters(), { soloWriterEnded: ended }, foreign)
    t.is((await world.stat('/a')).sizeBytes, 4)
    await world.close(file)
  }
})

test('a foreign change gives the file another number, which the old one’s open is sent to, and its descriptors live on', async (t) => {
  const shared: string[] = []
  const world = new World({ ...solo, onShared: (path) => { shared.push(path) } })
  world.server.put('/a', 'old')
  const before = await world.nodeid('/a')
  const held = await world.open('/a')
  world.server.put('/a', 'longer')
  world.clock.advance(61_000)
  const after = good(await world.lookup('/a'))
  t.not(after.nodeid, before)
  t.is(after.attributes.sizeBytes, 6)
  // The folder changed when the file was put there.
  t.deepEqual(shared, ['/', '/a'])
  t.like(world.fs.counters(), { soloWriterEnded: 2 })
  t.true(world.notices.some(({ kind, nodeid, length }) => kind === 'inode' && nodeid === before && length === -1))
  t.is(await world.fs.open(before, readWrite, root), Errno.ESTALE)
  t.is(good(await world.fs.getattr(before, undefined, root)).attributes.sizeBytes, 6)

  const opened = good(await world.fs.open(after.nodeid, readWrite, root))
  t.true(opened.bypassesCache)
  t.not(good(await world.fs.open(after.nodeid, readOnly, root)).bypassesCache, true)
  await world.write(held, 0, 'L')
  t.is(await world.readText(opened.handle), 'Longer')
  t.true(
    world.notices.some(({ kind, nodeid, offset, length }) =>
      kind === 'inode' && nodeid === after.nodeid && offset === 0 && length === 1
    )
  )
})

test('it is counted and told once for each object, and close-to-open holds for it from then on', async (t) => {
  const world = new World(solo)
  world.server.put('/a', 'old')
  await world.nodeid('/a')
  for (const text of ['one', 'second', 'the third']) {
    world.server.put('/a', text)
    if (text === 'one') world.clock.advance(61_000)
    const opened = good(await world.opened('/a', readOnly))
    t.is(await world.readText(opened.handle), text)
    t.is(await world.close(opened.handle), undefined)
  }
  t.like(world.fs.counters(), { soloWriterEnded: 2 })
  // Three seconds, like everybody's.
  t.true(good(await world.lookup('/a')).attributesTtlMs <= 3_000)
})

test('a folder that somebody else changed is asked about as with consistency=standard', async (t) => {
  const world = new World(solo)
  world.server.makeFolder('/d')
  await world.lookup('/d/none')
  await world.lookup('/d/none')
  world.server.put('/d/none', 'here')
  world.clock.advance(61_000)
  t.is(await world.stat('/d/none').then(({ sizeBytes }) => sizeBytes), 4)
  t.true(good(await world.lookup('/d')).attributesTtlMs <= 30_000)
})

test('bytes that the server refused leave no size behind that never was: the file gets another number', async (t) => {
  const world = new World(solo)
  const file = await world.create('/a')
  const before = await world.nodeid('/a')
  world.server.intercept('write', () => Errno.ENOSPC)
  t.deepEqual(await world.fs.write(file, 0, Buffer.alloc(8 * kib), true), { bytes: 8 * kib })
  t.is(await world.fsync(file), Errno.ENOSPC)
  const after = good(await world.lookup('/a'))
  t.not(after.nodeid, before)
  t.is(after.attributes.sizeBytes, 0)
  t.like(world.fs.counters(), { soloWriterEnded: 0 })
})

test('an earlier refusal is told at fsync and close, never by throwing away a page that the kernel writes back', async (t) => {
  const world = new World(solo)
  const file = await world.create('/a')
  world.server.intercept('write', () => Errno.ENOSPC)
  await world.fs.write(file, 0, Buffer.alloc(4 * kib), true)
  await world.fs.getattr(await world.nodeid('/a'), file, root)
  world.clock.advance(2_000)
  await new Promise((resolve) => { setImmediate(resolve) })
  t.deepEqual(await world.fs.write(file, 4 * kib, Buffer.alloc(4 * kib, 'x'), true), { bytes: 4 * kib })
  t.is(await world.fsync(file), Errno.ENOSPC)
  t.is(await world.fsync(file), undefined)
  t.is(world.server.read('/a')?.slice(4 * kib), 'x'.repeat(4 * kib))
})

test('who may write and not read gets a descriptor past the page cache', async (t) => {
  const world = new World(solo)
  world.server.enforcesModes = true
  world.server.put('/a', 'text', 0o622)
  const user = { ...root, uid: 1000, gid: 1000, credential: { uid: 1000, gid: 1000, groups: [], key: 'user' } }
  const nodeid = await world.nodeid('/a')
  t.true(good(await world.fs.open(nodeid, { ...readWrite, read: false }, user)).bypassesCache)
  t.not(good(await world.fs.open(nodeid, { ...readWrite, read: false }, root)).bypassesCache, true)
})

test('the records of unsaved bytes name the object by the number that it has', async (t) => {
  const world = new World(solo)
  world.server.put('/a', 'one')
  const file = await world.open('/a')
  await world.write(file, 0, 'hello')
  const before = await world.nodeid('/a')
  world.server.put('/a', 'foreign')
  world.clock.advance(61_000)
  await turns()
  await world.write(file, 3, 'more')
  const after = await world.nodeid('/a')
  t.not(after, before)
  t.deepEqual([...new Set([...world.state.dirty.entries()].map(([, { nodeid }]) => nodeid))], [after])
})

test('old numbers go when the kernel forgets them, and the object with the last', async (t) => {
  const world = new World(solo)
  world.server.put('/a', '1')
  const numbers: number[] = []
  for (const text of ['2', '3', '4']) {
    numbers.push(await world.nodeid('/a'))
    world.server.put('/a', text)
    world.clock.advance(61_000)
  }
  numbers.push(await world.nodeid('/a'))
  t.is(new Set(numbers).size, 4)
  const inodes = world.fs.gauges().inodes
  for (const nodeid of numbers) world.fs.forget(nodeid, world.state.lookups.get(nodeid) ?? 0)
  world.clock.advance(4_000)
  world.fs.forget(1, 0)
  t.true(world.fs.gauges().inodes < inodes)
  t.is(world.fs.gauges().inodes, 1)
  t.is(world.state.inodes.size, 1)
})
