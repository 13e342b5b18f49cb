/** When last known values are given for the server's, and what ends that. */
import test from 'ava'
import { toFileName } from '../../../../../agent/base/brands.ts'
import { Errno } from '../../../../../agent/base/errno.ts'
import { InvariantError } from '../../../../../agent/base/errors.ts'
import type { NodeAttributes } from '../../../../../agent/fs/operations.ts'
import { rootNodeid } from '../../../../../agent/fs/operations.ts'
import { SoftRevalidation } from '../../../../../agent/fs/beliefs/soft-revalidation.ts'
import { good, root, World } from '../../../../peers/filesystem-user.ts'
import { ManualClock, turns } from '../../../../peers/manual-clock.ts'
import { Silence } from '../../../../peers/memory-backend.ts'

const afterMs = 5_000
const hourMs = 3_600_000

/** A file of three bytes whose GETATTR is held, and what its stat says now. */
async function silentWorld (): Promise<{
  world: World
  size (): Promise<number>
  /** Ends the question that noticed the silence. */
  answer (value?: unknown): Promise<void>
}> {
  const world = new World({ softRevalMs: afterMs })
  world.server.put('/a', 'one')
  const nodeid = await world.nodeid('/a')
  world.clock.advance(120_000)
  const held = Promise.withResolvers<unknown>()
  world.server.intercept('getattr', async (proceed) => await held.promise ?? proceed())
  const size = async (): Promise<number> =>
    good<NodeAttributes>(await world.fs.getattr(nodeid, undefined, root)).attributes.sizeBytes
  const first = size()
  await turns()
  world.clock.advance(afterMs)
  if (await first !== 3 || world.fs.gauges().silent !== 1) throw new Error('the silence was not noticed')
  return { world, size, answer: async (value) => { held.resolve(value); await turns() } }
}

test('the server’s own I/O error, however late, ends the silence: the next stat asks', async (t) => {
  const { world, size, answer } = await silentWorld()
  await answer(Errno.EIO)
  t.is(world.fs.gauges().silent, 0)
  world.server.put('/a', 'longer than before')
  t.is(await size(), 18)
})

test('a soft mount’s time-out does not end the silence; questions go on one at a time, and the first answer ends it', async (t) => {
  for (const errno of [Errno.EIO, Errno.ETIMEDOUT]) {
    const { world, size, answer } = await silentWorld()
    await answer(new Silence(errno))
    t.is(world.fs.gauges().silent, 1)
    const asked = world.server.count('getattr')
    const again = world.server.hold('getattr')
    t.deepEqual(await Promise.all([size(), size(), size()]), [3, 3, 3])
    await again.arrived
    t.is(world.server.count('getattr'), asked + 1)
    world.server.put('/a', 'longer than before')
    again.go()
    await turns()
    t.is(world.fs.gauges().silent, 0)
    t.is(await size(), 18)
    world.clock.advance(hourMs)
    world.server.put('/a', 'x')
    t.is(await size(), 1)
  }
})

test('a silence in which every question times out goes on asking for as long as anybody wants to know', async (t) => {
  const { world, size, answer } = await silentWorld()
  await answer(new Silence(Errno.EIO))
  for (let round = 0; round < 5; round++) {
    const asked = world.server.count('getattr')
    world.server.intercept('getattr', () => new Silence(Errno.EIO))
    t.is(await size(), 3)
    await turns()
    t.is(world.server.count('getattr'), asked + 1)
    t.is(world.fs.gauges().silent, 1)
    world.clock.advance(hourMs)
  }
})

test('an answer to any other call ends the silence too', async (t) => {
  const { world, size } = await silentWorld()
  t.is(await world.lookup('/never-seen'), Errno.ENOENT)
  t.is(world.fs.gauges().silent, 0)
  world.server.put('/b', 'x')
  t.is((await world.stat('/b')).sizeBytes, 1)
  // The question of before still has no answer: who waits for it gets what is known, later, and nothing is invented.
  const late = size()
  await turns()
  world.clock.advance(afterMs)
  t.is(await late, 3)
})

test('one call that takes long while others are answered is no silence', async (t) => {
  const world = new World({ softRevalMs: afterMs })
  world.server.put('/a', 'one')
  const nodeid = await world.nodeid('/a')
  world.clock.advance(120_000)
  const held = world.server.hold('getattr')
  const slow = world.fs.getattr(nodeid, undefined, root)
  await held.arrived
  t.is(await world.lookup('/never-seen'), Errno.ENOENT)
  world.clock.advance(afterMs)
  t.is(good(await slow).attributes.sizeBytes, 3)
  t.is(world.fs.gauges().silent, 0)
  const other = world.fs.lookup(rootNodeid, toFileName('a'), root)
  held.go()
  t.is(good(await other).nodeid, nodeid)
})

test('a question that fails inside leaves no timer that would call the server silent', async (t) => {
  const clock = new ManualClock()
  const soft = new SoftRevalidation({ clock, backend: { answers: 7 }, afterMs })
  const fault = new InvariantError('a bug')
  await t.throwsAsync(
    soft.or(async () => { throw fault }, () => 'known'),
    { is: fault }
  )
  clock.advance(afterMs)
  t.false(soft.isSilent)
})
