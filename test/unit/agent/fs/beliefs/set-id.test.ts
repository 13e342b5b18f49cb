import test from 'ava'
import { Errno, isErrno } from '../../../../../agent/base/errno.ts'
import type { Caller, Opened } from '../../../../../agent/fs/operations.ts'
import { callerOf, good, readOnly, root, World } from '../../../../peers/filesystem-user.ts'

const owner = callerOf(1000)
const other = callerOf(2000)
const running = { ...readOnly, execute: true }

async function withProgram (mode: number, nosuid = true): Promise<{ world: World, nodeid: number }> {
  const world = new World({ nosuid })
  world.server.root.mode = 0o777
  world.caller = owner
  await world.close(await world.create('/program'))
  const { nodeid } = good(await world.lookup('/program'))
  good(await world.fs.setattr(nodeid, undefined, { mode }, owner))
  return { world, nodeid }
}

const run = async (world: World, nodeid: number, caller: Caller): Promise<Opened | Errno> =>
  await world.fs.open(nodeid, running, caller)
const modeOf = async (world: World, nodeid: number): Promise<number> =>
  good(await world.fs.getattr(nodeid, undefined, root)).attributes.mode

test('who would gain rights by a set-id program cannot run it on a nosuid volume; others can, and all see its bits', async (t) => {
  const { world, nodeid } = await withProgram(0o4755)
  t.is(await run(world, nodeid, other), Errno.EACCES)
  for (const caller of [owner, root]) t.false(isErrno(await run(world, nodeid, caller)), `${caller.uid}`)
  t.false(isErrno(await world.fs.open(nodeid, readOnly, other)), 'it can be read')
  const group = await withProgram(0o2755)
  t.is(await run(group.world, group.nodeid, other), Errno.EACCES)
  t.false(isErrno(await run(group.world, group.nodeid, callerOf(2000, 2000, [1000]))), 'a member gains nothing')
  t.is(await modeOf(group.world, group.nodeid), 0o2755)
  const locks = await withProgram(0o2745)
  t.false(isErrno(await run(locks.world, locks.nodeid, other)), 'without the group’s x the bit means something else')
  const allowed = await withProgram(0o4755, false)
  t.false(isErrno(await run(allowed.world, allowed.nodeid, other)), 'with suid the kernel does what the bits say')
})

test('a program that becomes set-id while it is being run is not shown so to the kernel until its run has ended', async (t) => {
  const { world, nodeid } = await withProgram(0o755)
  const { handle } = good(await run(world, nodeid, other))
  good(await world.fs.setattr(nodeid, undefined, { mode: 0o4755 }, owner))
  t.is(await modeOf(world, nodeid), 0o755)
  await world.fs.release(handle)
  t.is(await modeOf(world, nodeid), 0o4755)
  t.is(await run(world, nodeid, other), Errno.EACCES)
})
