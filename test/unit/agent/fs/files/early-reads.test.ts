/** The READ that goes out with an OPEN: when it saves one, and when its answer must not be used. */
import test from 'ava'
import { Errno } from '../../../../../agent/base/errno.ts'
import type { Opened } from '../../../../../agent/fs/operations.ts'
import { callerOf, good, readOnly, World } from '../../../../peers/filesystem-user.ts'
import { turns } from '../../../../peers/manual-clock.ts'

/** Somebody may execute it, so a READ that succeeds does not say that reading is allowed. */
const judgedByAccess = 0o755

async function opened (
  options: ConstructorParameters<typeof World>[0] = {},
  text = 'small'
): Promise<{ world: World, file: Opened }> {
  const world = new World(options)
  world.server.put('/a', text)
  const file = good(await world.opened('/a', readOnly))
  await turns(5)
  return { world, file }
}

test('a small file is read along with its OPEN, and the first read asks nobody', async (t) => {
  const { world, file } = await opened()
  t.is(world.server.count('read'), 1)
  t.is(await world.readText(file.handle, 0, 100), 'small')
  t.is(world.server.count('read'), 1)
  t.is(await world.readText(file.handle, 0, 100), 'small')
  t.is(world.server.count('read'), 2)
})

test('a read that comes before the answer waits for it, and a second one at once gets its own', async (t) => {
  const world = new World()
  world.server.put('/a', 'small', judgedByAccess)
  const nodeid = await world.nodeid('/a')
  const held = world.server.hold('read', 'before')
  const { handle } = good(await world.fs.open(nodeid, readOnly, world.caller))
  const both = [world.readText(handle, 0, 100), world.readText(handle, 0, 100)]
  await held.arrived
  held.go()
  t.deepEqual(await Promise.all(both), ['small', 'small'])
  t.is(world.server.count('read'), 2)
})

test('large and empty files, writers and O_DIRECT ask when they are read', async (t) => {
  for (const [text, flags] of [['x'.repeat(20_000), {}], ['', {}], ['small', { write: true }], ['small', {
    direct: true
  }]] as const) {
    const world = new World()
    world.server.put('/a', text)
    await world.opened('/a', { ...readOnly, ...flags })
    await turns(5)
    t.is(world.server.count('read'), 0, `${text.length} ${JSON.stringify(flags)}`)
  }
})

test('with noac, and when the kernel has the pages, nothing is read early', async (t) => {
  const { world: strict } = await opened({ noac: true })
  t.is(strict.server.count('read'), 0)
  const { world, file } = await opened()
  await world.readText(file.handle, 0, 100)
  await world.close(file.handle)
  t.true(good(await world.opened('/a', readOnly)).keepCache)
  t.is(world.server.count('read'), 1)
})

test('bytes read with the OPEN are not used after a write of our own', async (t) => {
  const { world, file } = await opened()
  const writer = await world.open('/a')
  await world.write(writer, 0, 'SM')
  t.is(await world.readText(file.handle, 0, 100), 'SMall')
  await world.close(writer)

  const second = await opened()
  const other = await second.world.open('/a')
  await second.world.write(other, 0, 'SM')
  await second.world.close(other)
  t.is(await second.world.readText(second.file.handle), 'SMall')
})

test('bytes read with the OPEN are not used when another client’s change is known, nor a second later', async (t) => {
  const { world, file } = await opened()
  world.server.put('/a', 'other')
  await world.opened('/a', readOnly)
  t.is(await world.readText(file.handle, 0, 100), 'other')

  const late = await opened()
  late.world.server.put('/a', 'later')
  late.world.clock.advance(1_000)
  t.is(await late.world.readText(late.file.handle), 'later')
})

test('what another client closed before the OPEN is what is read, also when the size it had was looked up before', async (t) => {
  const world = new World()
  world.server.put('/a', 'old')
  await world.nodeid('/a')
  world.server.put('/a', 'a new and longer text')
  t.is(await world.readText(good(await world.opened('/a', readOnly)).handle), 'a new and longer text')
})

test('an OPEN that is refused reads nothing for anybody, and gives the memory back', async (t) => {
  const world = new World()
  world.server.enforcesModes = true
  world.server.put('/a', 'secret', 0o600)
  t.is(await world.opened('/a', readOnly, callerOf(1000)), Errno.EACCES)
  await turns(5)
  t.is(world.fs.gauges().handles, 0)
  t.is(world.server.leased, 0)
})

test('the READ is the question whether the opener may read, when mode bits leave no doubt', async (t) => {
  const { world } = await opened()
  t.is(world.server.count('access'), 0)
  for (const mode of [0o755, 0o711, 0o244, 0o654]) {
    const doubtful = new World()
    doubtful.server.put('/a', 'small', mode)
    await doubtful.opened('/a', readOnly)
    t.is(doubtful.server.count('access'), 1, mode.toString(8))
  }
})

test('a READ that servers allow beyond the permission to read opens nothing', async (t) => {
  for (const [mode, uid] of [[0o744, 1000], [0o711, 1001], [0o044, 1000]] as const) {
    const world = new World()
    world.server.enforcesModes = true
    Object.assign(world.server.put('/a', 'small', mode), { uid: 1000, gid: 1000 })
    const expected = (mode & (uid === 1000 ? 0o400 : 0o004)) === 0 ? Errno.EACCES : undefined
    const result = await world.opened('/a', readOnly, callerOf(uid))
    t.is(typeof result === 'number' ? result : undefined, expected, mode.toString(8))
  }
})

test('a mode that changed since the name was looked up is judged as it is now', async (t) => {
  const world = new World()
  world.server.enforcesModes = true
  Object.assign(world.server.put('/a', 'small', 0o644), { uid: 1000 })
  const nodeid = await world.nodeid('/a')
  world.server.chmod('/a', 0o200)
  t.is(await world.fs.open(nodeid, readOnly, callerOf(1000)), Errno.EACCES)
  t.is(world.server.count('access'), 1)
})

test('a descriptor closed without a read gives the memory back, answered or not', async (t) => {
  const { world, file } = await opened()
  t.is(world.server.leased, 1)
  await world.close(file.handle)
  t.is(world.server.leased, 0)
  world.server.put('/b', 'another', judgedByAccess)
  const nodeid = await world.nodeid('/b')
  const held = world.server.hold('read', 'after')
  const { handle } = good(await world.fs.open(nodeid, readOnly, world.caller))
  await held.arrived
  await world.close(handle)
  held.go()
  await turns(5)
  t.is(world.server.leased, 0)
})

test('programs that open and do not read stop it, and programs that read bring it back', async (t) => {
  const world = new World()
  const open = async (index: number): Promise<number> => {
    world.server.put(`/f${index}`, 'small')
    return await world.open(`/f${index}`, readOnly)
  }
  for (let index = 0; index < 100; index++) await world.close(await open(index))
  const inVain = world.server.count('read')
  t.true(inVain < 30, `${inVain} reads`)
  for (let index = 100; index < 400; index++) {
    const handle = await open(index)
    t.is(await world.readText(handle, 0, 100), 'small')
    await world.close(handle)
  }
  t.is(world.server.count('read'), inVain + 300)
})
