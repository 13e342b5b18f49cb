import test from 'ava'
import { good, readOnly, root, World } from '../../../../peers/filesystem-user.ts'

async function withFiles (count: number, options: ConstructorParameters<typeof World>[0]): Promise<World> {
  const world = new World(options)
  for (let index = 0; index < count; index++) world.server.put(`/f${index}`, 'x')
  for (let index = 0; index < count; index++) await world.lookup(`/f${index}`)
  return world
}

test('beyond its maximum the kernel is asked to forget what is old and not open, again and again', async (t) => {
  const world = await withFiles(3_000, { knownInodesMax: 1_000 })
  const opened = good(await world.fs.open(await world.nodeid('/f5'), readOnly, root)).handle
  t.true(world.pruned.length >= 512)
  t.false(world.pruned.includes(1))
  // A kernel that gives back what it is asked for.
  for (let round = 0; round < 20 && world.fs.gauges().inodes > 1_000; round++) {
    for (const nodeid of world.pruned.splice(0)) world.fs.forget(nodeid, 1)
    world.clock.advance(10_000)
    await world.lookup(`/f${2_900 + round}`)
  }
  t.true(world.fs.gauges().inodes <= 1_100, `${world.fs.gauges().inodes}`)
  t.is(await world.readText(opened), 'x')
})

test('with fewer nothing is asked', async (t) => {
  const world = await withFiles(900, { knownInodesMax: 1_000 })
  t.deepEqual(world.pruned, [])
})

test('a kernel that can only be told names is told those of files, much later', async (t) => {
  const world = await withFiles(1_900, { knownInodesMax: 1_000, kernelCanPrune: false })
  t.deepEqual(world.notices, [])
  for (let index = 0; index < 300; index++) world.server.put(`/g${index}`, 'x')
  for (let index = 0; index < 300; index++) await world.lookup(`/g${index}`)
  t.true(world.notices.some(({ kind, name }) => kind === 'entry' && `${name}` === 'f0'))
  t.deepEqual(world.pruned, [])
})
