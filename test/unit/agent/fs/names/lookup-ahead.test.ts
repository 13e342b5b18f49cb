/** Many names of one folder looked up in a row: the folder is listed, within bounds, and nothing else changes. */
import test from 'ava'
import { Errno } from '../../../../../agent/base/errno.ts'
import { callerOf, good, readOnly, World } from '../../../../peers/filesystem-user.ts'
import { turns } from '../../../../peers/manual-clock.ts'

function folderOf (files: number, options: ConstructorParameters<typeof World>[0] = {}): World {
  const world = new World(options)
  for (let index = 0; index < files; index++) world.server.put(`/f${index}`, `text ${index}`)
  return world
}

async function lookUp (world: World, from: number, to: number, step = 1): Promise<void> {
  for (let index = from; index < to; index += step) {
    t0(good(await world.lookup(`/f${index}`)).attributes.sizeBytes, `text ${index}`.length)
    await turns(1)
  }
}

/** Entries that the server's pages have brought since. */
function countListed (world: World): { entries: number } {
  const listed = { entries: 0 }
  world.server.intercept('readdir', (proceed) => {
    const page = proceed()
    listed.entries += (page as { entries: readonly unknown[] }).entries.length
    return page
  }, 10_000)
  return listed
}

function t0 (actual: number, expected: number): void {
  if (actual !== expected) throw new Error(`${actual} bytes where ${expected} were expected`)
}

test('after some LOOKUPs in a row the folder is listed, and the others ask nobody', async (t) => {
  const world = folderOf(2_000)
  await lookUp(world, 0, 2_000)
  t.true(world.server.count('lookup') < 100, `${world.server.count('lookup')} lookups`)
  t.true(
    world.server.count('readdir') <= 2_000 / world.server.pageEntries + 2,
    `${world.server.count('readdir')} pages`
  )
})

test('the listing stays as far ahead as the row comes in a second, so that what it brings is still believed', async (t) => {
  const world = folderOf(4_000)
  const listed = countListed(world)
  for (let index = 0; index < 1_600; index++) {
    await lookUp(world, index, index + 1)
    world.clock.advance(5)
    t.true(
      listed.entries - index <= 256 + 2 * world.server.pageEntries,
      `${listed.entries} entries after ${index} lookups`
    )
  }
  t.true(world.server.count('lookup') < 100, `${world.server.count('lookup')} lookups`)
})

test('a few names, and names asked for at leisure, are looked up and no more', async (t) => {
  const few = folderOf(400)
  await lookUp(few, 0, 30)
  t.is(few.server.count('readdir'), 0)
  const slow = folderOf(400)
  for (let index = 0; index < 100; index++) {
    await lookUp(slow, index, index + 1)
    slow.clock.advance(100)
  }
  t.is(slow.server.count('readdir'), 0)
})

test('with noac or lookupcache=none, nothing is listed', async (t) => {
  for (const options of [{ noac: true }, { lookupCache: 'none' }] as const) {
    const world = folderOf(200, options)
    await lookUp(world, 0, 200)
    t.is(world.server.count('readdir'), 0, JSON.stringify(options))
  }
})

test('what is listed is at most eight times what was asked for, and ends when hardly anything of it is used', async (t) => {
  const world = folderOf(20_000)
  const listed = countListed(world)
  // The last ones of the folder's order: no page brings them.
  for (let index = 0; index < 200; index++) {
    await lookUp(world, 19_999 - index, 20_000 - index)
    t.true(
      listed.entries <= 8 * (index + 1) + 2 * world.server.pageEntries,
      `${listed.entries} entries after ${index + 1} lookups`
    )
  }
  const before = listed.entries
  await lookUp(world, 19_000, 19_700)
  t.true(listed.entries <= 2_048 + 2 * world.server.pageEntries, `${before}, then ${listed.entries} entries`)
})

test('a caller who may not list the folder gets its names all the same', async (t) => {
  const world = folderOf(200)
  world.server.intercept('readdir', () => Errno.EACCES, 1_000)
  world.caller = callerOf(1000)
  await lookUp(world, 0, 200)
  t.is(world.server.count('lookup'), 200)
  t.is(world.server.count('readdir'), 1)
})

test('names that were made, removed or changed meanwhile are as they are now', async (t) => {
  const world = folderOf(400)
  const held = world.server.hold('readdir', 'after')
  const walk = lookUp(world, 0, 40)
  await held.arrived
  // The page is on its way, and says something else.
  const { parent, name } = await world.at('/f300')
  t.is(await world.fs.unlink(parent, name, world.caller), undefined)
  held.go()
  await walk
  await turns()
  t.is(await world.lookup('/f300'), Errno.ENOENT)

  world.server.put('/f200', 'somebody else has written more into this one')
  const file = good(await world.opened('/f200', readOnly))
  t.is(await world.readText(file.handle, 0, 100), 'somebody else has written more into this one')
})

test('what a listing brought and nobody looked up is forgotten again', async (t) => {
  const world = folderOf(400)
  await lookUp(world, 0, 100)
  t.true(world.fs.gauges().inodes > 200)
  world.clock.advance(10_000)
  world.fs.forget(1, 0)
  t.is(world.fs.gauges().inodes, 101)
})
