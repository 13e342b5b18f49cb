/** Removing what is open. */
import test from 'ava'
import { Errno, isErrno } from '../../../../../agent/base/errno.ts'
import { good, readWrite, root, World } from '../../../../peers/filesystem-user.ts'
import { turns } from '../../../../peers/manual-clock.ts'

const hidden = (world: World, folder = '/'): string[] =>
  world.server.names(folder).filter((name) => name.startsWith('.nfs'))

test('an unlinked open file stays readable and writable until its last close', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, 'hello')
  const other = await world.open('/a')
  t.is(await world.unlink('/a'), undefined)
  t.is(await world.lookup('/a'), Errno.ENOENT)
  t.is(hidden(world).length, 1)
  t.is(world.state.silly.size, 1)
  t.is(await world.readText(file), 'hello')
  await world.write(file, 5, ' again')
  t.is(await world.close(file), undefined)
  t.is(await world.readText(other), 'hello again')
  await world.close(other)
  t.deepEqual(world.server.names('/'), [])
  t.is(world.state.silly.size, 0)
})

test('fstat of an unlinked open file says no links', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  const nodeid = await world.nodeid('/a')
  await world.unlink('/a')
  t.is(good(await world.fs.getattr(nodeid, undefined, root)).attributes.nlink, 0)
  await world.close(file)
})

test('a file with another link is removed plainly, and its open handles keep working', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, 'hello')
  await world.link('/a', '/b')
  t.is(await world.unlink('/a'), undefined)
  t.deepEqual(world.server.names('/'), ['b'])
  t.is(await world.readText(file), 'hello')
  t.is(await world.close(file), undefined)
  t.is(world.server.read('/b'), 'hello')
})

test('a second link that another client took away meanwhile is not trusted', async (t) => {
  const world = new World()
  world.server.put('/a', 'hello')
  await world.link('/a', '/b')
  const file = await world.open('/a')
  world.server.unlink('/b')
  t.is(await world.unlink('/a'), undefined)
  t.is(await world.readText(file), 'hello')
  await world.close(file)
  t.deepEqual(world.server.names('/'), [])
})

test('renaming over an open file keeps it readable', async (t) => {
  const world = new World()
  world.server.put('/a', 'old')
  world.server.put('/b', 'new')
  const file = await world.open('/a')
  t.is(await world.rename('/b', '/a'), undefined)
  t.is(await world.readText(file), 'old')
  t.is(await world.readText(await world.open('/a')), 'new')
  await world.close(file)
  t.deepEqual(world.server.names('/'), ['a'])
})

test('the name of an open file that is renamed over is on the server all the time', async (t) => {
  const world = new World()
  world.server.put('/a', 'old')
  world.server.put('/b', 'new')
  const file = await world.open('/a')
  const seen: (readonly string[])[] = []
  world.server.intercept('rename', (proceed) => {
    seen.push(world.server.names('/'))
    return proceed()
  })
  t.is(await world.rename('/b', '/a'), undefined)
  t.is(seen.length, 1)
  t.is(seen[0]?.length, 3)
  t.true(seen[0]?.includes('a'))
  t.is(await world.readText(file), 'old')
  t.deepEqual(hidden(world).length, 1)
  await world.close(file)
  t.deepEqual(world.server.names('/'), ['a'])
})

for (const [what, hasLinks] of [['', true], [' by a server without hard links', false]] as const) {
  test(`a rename that fails after the open target was hidden${what} leaves it its name`, async (t) => {
    const world = new World()
    world.server.put('/a', 'old')
    world.server.put('/b', 'new')
    const file = await world.open('/a')
    if (!hasLinks) {
      world.server.intercept('link', () => Errno.EOPNOTSUPP)
      world.server.intercept('rename', (proceed) => proceed())
    }
    world.server.intercept('rename', () => Errno.EIO)
    t.is(await world.rename('/b', '/a'), Errno.EIO)
    t.deepEqual(world.server.names('/'), ['a', 'b'])
    t.is(await world.rename('/b', '/a'), undefined)
    t.is(await world.readText(file), 'old')
    await world.close(file)
    t.deepEqual(world.server.names('/'), ['a'])
  })
}

test('renaming one name of an open file over another changes nothing', async (t) => {
  const world = new World()
  world.server.put('/a', 'x')
  await world.link('/a', '/b')
  const file = await world.open('/a')
  t.is(await world.rename('/a', '/b'), undefined)
  t.deepEqual(world.server.names('/'), ['a', 'b'])
  await world.close(file)
})

test('a folder is never moved over an open file', async (t) => {
  const world = new World()
  world.server.put('/a', 'x')
  await world.mkdir('/folder')
  const file = await world.open('/a')
  t.is(await world.rename('/folder', '/a'), Errno.ENOTDIR)
  t.deepEqual(world.server.names('/'), ['a', 'folder'])
  await world.close(file)
})

test('the silly name itself cannot be removed, moved or replaced while the file is open', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.unlink('/a')
  const [name = ''] = hidden(world)
  world.server.put('/b', 'x')
  t.is(await world.unlink(`/${name}`), Errno.EBUSY)
  t.is(await world.rename(`/${name}`, '/c'), Errno.EBUSY)
  t.is(await world.rename('/b', `/${name}`), Errno.EBUSY)
  await world.close(file)
})

test('rmdir of a folder with an unlinked open file is ENOTEMPTY, and works after the close', async (t) => {
  const world = new World()
  await world.mkdir('/folder')
  const file = await world.create('/folder/a')
  await world.unlink('/folder/a')
  t.is(await world.rmdir('/folder'), Errno.ENOTEMPTY)
  await world.flush(file)
  // The kernel does not wait for RELEASE; rmdir has to.
  const releasing = world.release(file)
  t.is(await world.rmdir('/folder'), undefined)
  await releasing
})

test('who lists a folder right after the last close sees no silly name', async (t) => {
  const world = new World()
  await world.mkdir('/folder')
  const file = await world.create('/folder/a')
  await world.unlink('/folder/a')
  t.is((await world.list('/folder')).length, 3)
  await world.flush(file)
  const held = world.server.hold('remove')
  const releasing = world.release(file)
  await held.arrived
  const listing = world.list('/folder')
  await turns()
  held.go()
  t.deepEqual((await listing).map(({ name }) => String(name)), ['.', '..'])
  await releasing
})

test('a silly name that is taken is passed over', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  const fileid = world.server.node('/a')?.fileid.toString(16).padStart(16, '0') ?? ''
  world.server.put(`/.nfs${fileid}00000001`, 'of another client')
  await world.unlink('/a')
  t.is(hidden(world).length, 2)
  await world.close(file)
  t.is(world.server.read(`/.nfs${fileid}00000001`), 'of another client')
})

test('an unlink while the file is being opened leaves it open', async (t) => {
  const world = new World()
  world.server.put('/a', 'hello')
  const nodeid = await world.nodeid('/a')
  const held = world.server.hold('access', 'after')
  const opening = world.fs.open(nodeid, readWrite, root)
  await held.arrived
  t.is(await world.unlink('/a'), undefined)
  held.go()
  const { handle } = good(await opening)
  t.is(await world.readText(handle), 'hello')
  await world.close(handle)
  t.deepEqual(world.server.names('/'), [])
})

for (const when of ['before', 'after'] as const) {
  test(`a last close while the name is being changed removes the file (${when} the server did it)`, async (t) => {
    const world = new World()
    const file = await world.create('/a')
    const held = world.server.hold('rename', when)
    const removing = world.unlink('/a')
    await held.arrived
    const closing = world.close(file)
    await turns()
    held.go()
    await Promise.all([removing, closing])
    t.deepEqual(world.server.names('/'), [])
    t.is(world.state.silly.size, 0)
  })
}

test('two unlinks of the same open file: one works, the other finds no such name', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  const answers = await Promise.all([world.unlink('/a'), world.unlink('/a')])
  t.is(answers.filter((answer) => answer === undefined).length, 1)
  t.true(answers.some(isErrno))
  await world.close(file)
  t.deepEqual(world.server.names('/'), [])
})

test('drain removes what was hidden', async (t) => {
  const world = new World()
  await world.create('/a')
  await world.unlink('/a')
  await world.fs.drain(1000)
  t.deepEqual(world.server.names('/'), [])
})

test('an unlinked file that nobody has open loses its unsent bytes silently', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, 'hello')
  await world.unlink('/a')
  await world.close(file)
  t.is(world.fs.gauges().dirtyBytes, 0)
  t.is(world.arena.usedBytes, 0)
})

test('two names of one open file removed at once: the second sees that it is the last', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, 'hello')
  await world.fsync(file)
  good(await world.link('/a', '/b'))
  const held = world.server.hold('remove')
  const first = world.unlink('/a')
  await held.arrived
  const second = world.unlink('/b')
  await turns(20)
  held.go()
  t.deepEqual(await Promise.all([first, second]), [undefined, undefined])
  t.is(await world.readText(file), 'hello')
  t.is(hidden(world).length, 1)
  await world.close(file)
  t.deepEqual(world.server.names('/'), [])
})

test('an open while the last name goes finds no file, or keeps it', async (t) => {
  const world = new World()
  world.server.put('/a', 'hello')
  const nodeid = await world.nodeid('/a')
  const held = world.server.hold('remove')
  const gone = world.unlink('/a')
  await held.arrived
  const opening = world.fs.open(nodeid, readWrite, root)
  await turns(20)
  held.go()
  t.is(await gone, undefined)
  const opened = await opening
  if (isErrno(opened)) t.is(opened, Errno.ESTALE)
  else t.is(await world.readText(opened.handle), 'hello')
})

test('an open while a rename takes the last name finds no file, or keeps it', async (t) => {
  const world = new World()
  world.server.put('/a', 'hello')
  world.server.put('/new', 'other')
  const nodeid = await world.nodeid('/a')
  const held = world.server.hold('rename')
  const gone = world.rename('/new', '/a')
  await held.arrived
  const opening = world.fs.open(nodeid, readWrite, root)
  await turns(20)
  held.go()
  t.is(await gone, undefined)
  const opened = await opening
  if (isErrno(opened)) t.is(opened, Errno.ESTALE)
  else t.is(await world.readText(opened.handle), 'hello')
})
