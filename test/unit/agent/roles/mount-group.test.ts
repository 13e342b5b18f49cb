/** When a pod's fsGroup gets the volume, what is resumed, and what is said. */
import test from 'ava'
import { Errno } from '../../../../agent/base/errno.ts'
import { MountGroup, type MountGroupParts } from '../../../../agent/roles/mount-group.ts'
import type { GroupGift } from '../../../../agent/session/control.ts'
import { World } from '../../../peers/filesystem-user.ts'
import { Silence, rootCredential, type MemoryServer } from '../../../peers/memory-backend.ts'

const gift: GroupGift = { group: 2000, contents: 'root-mismatch', readOnly: false, except: [] }
const longMs = 60_000

function stage (parts: Partial<MountGroupParts> = {}, world = new World()): {
  world: World
  server: MemoryServer
  group: MountGroup
} {
  const quiet = (): void => undefined
  const { server } = world
  const group = new MountGroup({
    filesystem: world.fs, backend: server.backend(), credential: rootCredential, mayChange: true, keepsRootMode: false,
    log: { debug: quiet, info: quiet, warn: quiet, error: quiet }, ...parts
  })
  return { world, server, group }
}

function fill (server: MemoryServer, files: number): void {
  server.makeFolder('/folder')
  for (let n = 0; n < files; n++) server.put(`/folder/f${n}`, '')
}

const facts = (server: MemoryServer, path: string): string => {
  const node = server.node(path)
  return node === undefined ? 'not there' : `${node.gid} ${node.mode.toString(8)}`
}
const given = (server: MemoryServer): number =>
  server.names('/folder').filter((name) => server.node(`/folder/${name}`)?.gid === 2000).length

test('the group gets all there is and the root last; then a look at the root is all it takes', async (t) => {
  const { server, group } = stage()
  fill(server, 10)
  t.deepEqual(await group.give(gift, longMs), { isDone: true, progress: 'fsGroup 2000: 11 objects seen, 11 changed' })
  t.is(server.calls.filter(({ name }) => name === 'setattr').at(-1)?.args[0], server.root.handle)
  t.is(facts(server, '/'), '2000 2775')
  t.is(facts(server, '/folder/f9'), '2000 664')
  t.deepEqual(group.notes(), [])
  const calls = server.calls.length
  t.true((await group.give(gift, longMs)).isDone)
  t.deepEqual(server.calls.slice(calls).map(({ name }) => name), ['getattr'])
})

test('the group of the next pod gets it from the one before', async (t) => {
  const { server, group } = stage()
  fill(server, 3)
  await group.give(gift, longMs)
  await group.give({ ...gift, group: 3000 }, longMs)
  t.deepEqual(['/', '/folder', '/folder/f0'].map((path) => facts(server, path)), ['3000 2775', '3000 2775', '3000 664'])
})

test('a walk that was cut short leaves the root as it was, and the next mount goes on with it', async (t) => {
  const { world, server, group } = stage()
  fill(server, 500)
  const before = facts(server, '/')
  let answered = 0
  let cut = (): void => undefined
  server.intercept('setattr', async (proceed) => {
    if (++answered === 200) cut()
    return proceed()
  }, 10_000)
  cut = () => { group.close() }
  const error = await t.throwsAsync(group.give(gift, longMs), { message: /fsGroup 2000.*being unmounted/ })
  t.like(error, { code: 'UNAVAILABLE' })
  const half = given(server)
  t.true(half >= 199 && half < 500, `${half} of 500`)
  t.is(facts(server, '/'), before)

  server.clearIntercepts()
  const calls = server.count('setattr')
  const { group: next } = stage({}, world)
  t.true((await next.give(gift, longMs)).isDone)
  t.is(given(server), 500)
  t.is(server.count('setattr') - calls, 500 - half + 1, 'the rest and the root, nothing twice')
  t.is(facts(server, '/'), '2000 2775')
})

test('a walk that outlasts its call goes on; the next call waits for the same one', async (t) => {
  for (const contents of ['root-mismatch', 'always'] as const) {
    const { server, group } = stage()
    fill(server, 300)
    const held = server.hold('setattr')
    const early = await group.give({ ...gift, contents }, 20)
    t.false(early.isDone)
    t.regex(early.progress, /^fsGroup 2000: [\d,]+ objects seen, [\d,]+ changed so far$/)
    t.deepEqual(group.notes().length, 1)
    const joined = [group.give({ ...gift, contents }, longMs), group.give({ ...gift, contents }, longMs)]
    held.go()
    t.deepEqual((await Promise.all(joined)).map(({ isDone }) => isDone), [true, true])
    t.is(server.count('setattr'), 302, 'each object once')
    t.deepEqual(group.notes(), [])
  }
})

test('with always, each pod has its walk, and a walk whose end nobody heard is not begun again', async (t) => {
  const { server, group } = stage()
  fill(server, 3)
  const always = { ...gift, contents: 'always' } as const
  const held = server.hold('setattr')
  t.false((await group.give(always, 20)).isDone)
  held.go()
  // What was unheard of meanwhile is over.
  while (server.root.gid !== 2000) await new Promise((resolve) => { setImmediate(resolve) })
  await new Promise((resolve) => { setImmediate(resolve) })
  const listings = server.count('readdir')
  t.true((await group.give(always, longMs)).isDone)
  t.is(server.count('readdir'), listings)
  server.put('/folder/f0', '')
  Object.assign(server.node('/folder/f0') ?? {}, { gid: 5 })
  t.true((await group.give(always, longMs)).isDone)
  t.is(facts(server, '/folder/f0'), '2000 664')
  Object.assign(server.node('/folder/f0') ?? {}, { gid: 5 })
  await group.give(gift, longMs)
  t.is(facts(server, '/folder/f0'), '5 664', 'root-mismatch looks at the root alone')
})

test('with never, and for a volume of a pod’s own, nothing below the root is touched', async (t) => {
  const never = stage()
  fill(never.server, 3)
  await never.group.give({ ...gift, contents: 'never' }, longMs)
  t.is(facts(never.server, '/'), '2000 2775')
  t.is(given(never.server), 0)

  const own = stage({ mayChange: false })
  fill(own.server, 3)
  for (const contents of ['always', 'root-mismatch', 'never'] as const) {
    t.true((await own.group.give({ ...gift, contents }, longMs)).isDone)
  }
  t.is(own.server.count('setattr'), 0)
  t.regex(
    own.group.notes().join(),
    /mount group 2000: the volume's root is left as it is, because the volume may be a pod's own/
  )
})

test('a pod that only reads gets the right to read, and a mode that the volume names is not widened', async (t) => {
  const reader = stage()
  fill(reader.server, 1)
  reader.server.chmod('/folder/f0', 0o600)
  await reader.group.give({ ...gift, readOnly: true }, longMs)
  t.is(facts(reader.server, '/folder/f0'), '2000 640')

  const named = stage({ keepsRootMode: true })
  fill(named.server, 1)
  named.server.root.mode = 0o700
  await named.group.give(gift, longMs)
  t.is(facts(named.server, '/'), '2000 2700')
  const calls = named.server.count('setattr')
  await named.group.give(gift, longMs)
  t.is(named.server.count('setattr'), calls)
})

test('a refusal is named and no reason not to mount; silence is one', async (t) => {
  const { server, group } = stage()
  fill(server, 200)
  server.intercept('setattr', () => Errno.EPERM, 10_000)
  t.true((await group.give(gift, longMs)).isDone)
  t.regex(
    group.notes().join(),
    /^mount group 2000: the server refuses .* objects \("(f\d+|folder)": EPERM\).*no_root_squash/
  )
  t.is(facts(server, '/'), '0 755')

  const some = stage()
  fill(some.server, 200)
  const refused = some.server.node('/folder/f7')?.handle
  some.server.intercept('setattr', (proceed, [handle]) => handle === refused ? Errno.EPERM : proceed(), 10_000)
  t.true((await some.group.give(gift, longMs)).isDone)
  t.regex(some.group.notes().join(), /refuses to give it 1 of 201 objects \("f7": EPERM\)/)
  t.is(given(some.server), 199)
  t.is(facts(some.server, '/'), '2000 2775', 'a file that nobody can give away does not make each mount a walk')
  await some.group.give(gift, longMs)
  t.is(some.group.notes().length, 1, 'and it is still said')

  const silent = stage()
  fill(silent.server, 3)
  silent.server.intercept('setattr', () => new Silence(Errno.EIO), 10_000)
  t.like(await t.throwsAsync(silent.group.give(gift, longMs)), { code: 'UNAVAILABLE', field: 'fsGroup' })
  t.is(facts(silent.server, '/'), '0 755')
})
