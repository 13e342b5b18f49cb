/** The engine on a node in memory: idempotence, conflicts, sharing, order. */
import { mock } from 'node:test'
import test from 'ava'
import { HostError, InvariantError, VolumeError } from '../../../../agent/base/errors.ts'
import type { PublishRequest } from '../../../../agent/volumes/operations.ts'
import { KeyedQueue, NameLocks, SharedWork, UndoStack } from '../../../../agent/volumes/locks.ts'
import { Crash, World, mountsFolder, path, specOf, volume, type Incarnation } from './world.ts'

const v1 = volume('v1')
const staging = path('/staging/v1')
const target = path('/pods/a/mount')
const csi = { door: 'csi', owner: undefined, readOnly: false } as const
const publish = (change: Partial<PublishRequest> = {}): PublishRequest => ({
  volume: v1, spec: specOf(), target, staging: undefined, ...csi, ...change
})
const ready = async (world = new World()): Promise<{ world: World, engine: Incarnation }> => {
  const engine = world.incarnation()
  await engine.recover()
  return { world, engine }
}

test('stage comes before publish, and its spec must be the same', async (t) => {
  const { engine } = await ready()
  await t.throwsAsync(engine.service.publish(publish({ staging })), { code: 'PRECONDITION', message: /not staged at/ })
  await engine.service.stage({ volume: v1, spec: specOf(), staging, door: 'csi' })
  await t.throwsAsync(engine.service.publish(publish({ staging, spec: specOf('/other') })), { code: 'CONFLICT' })
  await engine.service.publish(publish({ staging }))
  await t.throwsAsync(engine.service.stage({ volume: v1, spec: specOf('/other'), staging, door: 'csi' }), {
    code: 'CONFLICT'
  })
})

test('a volume for one pod alone is at one target, again and again, and at another when it has left the first', async (t) => {
  const { engine } = await ready()
  const other = path('/pods/b/mount')
  const exclusive = { exclusive: true }
  await engine.service.publish(publish(exclusive))
  await engine.service.publish(publish(exclusive))
  await t.throwsAsync(engine.service.publish(publish({ ...exclusive, target: other })), {
    code: 'PRECONDITION', message: /volume_capability.access_mode: .*\/pods\/a\/mount/
  })
  await engine.service.publish(publish({ ...exclusive, volume: volume('v2'), target: other }))
  await engine.service.unpublish({ volume: volume('v2'), target: other, door: 'csi' })
  await engine.service.unpublish({ volume: v1, target, door: 'csi' })
  await engine.service.publish(publish({ ...exclusive, target: other }))
  await engine.service.unpublish({ volume: v1, target: other, door: 'csi' })
})

test('the steps of a first publish, in order', async (t) => {
  const { world, engine } = await ready()
  await engine.service.publish(publish())
  t.deepEqual(world.log, [
    'put bind attaching', 'put mount starting', 'make folder', 'start session', 'put mount starting', 'configure',
    'mount', 'put mount starting',
    'serve', 'put mount mounted', 'make folder', 'bind', 'put bind attached'
  ])
})

test('a repeat does nothing', async (t) => {
  const { world, engine } = await ready()
  t.false(engine.service.isInUse)
  await engine.service.publish(publish())
  t.true(engine.service.isInUse)
  const steps = world.log.length
  await engine.service.publish(publish())
  t.is(world.log.length, steps)
})

test('equal specs share a mount, others do not; the last user ends it', async (t) => {
  const { world, engine } = await ready()
  const [a, b, c] = ['/pods/a/m', '/pods/b/m', '/pods/c/m'].map(path) as [typeof target, typeof target, typeof target]
  await engine.service.publish(publish({ volume: volume('1'), target: a }))
  await engine.service.publish(publish({ volume: volume('2'), target: b, readOnly: true }))
  await engine.service.publish(publish({ volume: volume('3'), target: c, spec: specOf('/export', { subDir: 'x' }) }))
  t.is(world.sessions.size, 2)
  await engine.service.unpublish({ volume: volume('1'), target: a, door: 'csi' })
  t.is(world.sessions.size, 2)
  await engine.service.unpublish({ volume: volume('2'), target: b, door: 'csi' })
  t.is(world.sessions.size, 1)
  await engine.service.unpublish({ volume: volume('3'), target: c, door: 'csi' })
  t.deepEqual(world.summary(), { mounts: [], sessions: 0, records: [], folders: [] })
})

test('pods of two groups share a volume: each group has a mount of its own, and a repeated stage with the other group finds it staged', async (t) => {
  const { world, engine } = await ready()
  const specFor = (mountGroup: number): PublishRequest['spec'] => ({ ...specOf(), mountGroup })
  await engine.service.stage({ volume: v1, spec: specFor(1000), staging, door: 'csi' })
  await engine.service.publish(publish({ staging, spec: specFor(1000) }))
  t.is(world.sessions.size, 1)
  await engine.service.stage({ volume: v1, spec: specFor(2000), staging, door: 'csi' })
  t.is(world.sessions.size, 1)
  const other = path('/pods/b/mount')
  await engine.service.publish(publish({ staging, spec: specFor(2000), target: other }))
  t.is(world.sessions.size, 2)
  await t.throwsAsync(
    engine.service.publish(publish({ staging, spec: specFor(2000) })),
    { code: 'CONFLICT' },
    'a target keeps its group'
  )
  await engine.service.unpublish({ volume: v1, target, door: 'csi' })
  await engine.service.unpublish({ volume: v1, target: other, door: 'csi' })
  await engine.service.unstage({ volume: v1, staging })
  t.deepEqual(world.summary(), { mounts: [], sessions: 0, records: [], folders: [] })
})

test('each pod’s group gets the volume before the pod sees it; a call that comes too early takes itself back and leaves the staged mount at it', async (t) => {
  const { world, engine } = await ready()
  const spec: PublishRequest['spec'] = { ...specOf(), mountGroup: 1000, fsGroupContents: 'always' }
  await engine.service.stage({ volume: v1, spec, staging, door: 'csi' })
  t.deepEqual(world.gifts, [], 'a staging path shows it to nobody')
  world.fail = {
    step: 'give group', error: new VolumeError('TIMED_OUT', 'fsGroup 1000: 5 objects seen, 4 changed so far')
  }
  const error = await t.throwsAsync(engine.service.publish(publish({ staging, spec })), { message: /5 objects seen/ })
  t.like(error, { code: 'TIMED_OUT' }, 'kubelet comes again')
  t.is(world.sessions.size, 1, 'the walk goes on')
  t.false(world.mounts.some(({ mountPoint }) => mountPoint === target))
  await engine.service.publish(publish({ staging, spec }))
  const [gift] = world.gifts
  t.like(gift, { group: 1000, contents: 'always', readOnly: false, except: [] })
  t.true(world.log.lastIndexOf('give group') < world.log.findIndex((step) => step.startsWith('bind')), world.log.join())
  await engine.service.publish(publish({ staging, spec }))
  t.is(world.gifts.length, 1, 'a repeat finds the pod served')
  const reader = path('/pods/b/mount')
  await engine.service.publish(publish({ staging, spec, target: reader, readOnly: true }))
  t.like(world.gifts[1], { group: 1000, readOnly: true })
})

test('a group does not get the folders of other volumes of the node, and nothing of a volume that is read-only', async (t) => {
  const { world, engine } = await ready()
  const within = specOf('/export/team', { subDir: 'a' })
  await engine.service.publish(publish({ volume: volume('v2'), spec: within, target: path('/pods/b/mount') }))
  await engine.service.publish(publish({ spec: { ...specOf(), mountGroup: 1000 } }))
  t.deepEqual(
    world.gifts.map(({ contents, except }) => [contents, except.map((way) => way.join('/'))]),
    [['root-mismatch', ['team/a']]]
  )
  const readOnly = specOf('/other', { mountOptions: 'ro' })
  await engine.service.publish(publish({
    volume: volume('v3'), spec: { ...readOnly, mountGroup: 1000 }, target: path('/pods/c/mount')
  }))
  t.is(world.gifts.length, 1)
})

test('what an unmount could not save is on record until the share is unmounted without a loss, also for the next agent', async (t) => {
  const { world, engine } = await ready()
  world.undrained = 77
  await engine.service.publish(publish())
  t.like(await engine.service.unpublish({ volume: v1, target, door: 'csi' }), { lostBytes: 77 })
  t.like(engine.service.losses(), [{ bytes: 77, source: 'nas:/export' }])
  t.deepEqual(await engine.service.list(), [])
  const next = world.incarnation()
  await next.recover()
  world.undrained = 0
  await next.service.publish(publish())
  const [view] = await next.service.list()
  t.like(view?.health, { state: 'degraded', lost: view?.health.reason })
  t.regex(view?.health.lost ?? '', /^77 bytes that programs had written were lost/)
  t.like((await next.service.statistics({ volume: v1, path: target, deadlineMs: 100 })).health, { state: 'degraded' })
  await next.service.unpublish({ volume: v1, target, door: 'csi' })
  t.deepEqual(next.service.losses(), [])
  t.deepEqual(world.summary(), { mounts: [], sessions: 0, records: [], folders: [] })
})

test('a mount that was being ended when the agent died is written back by its successor first', async (t) => {
  const { world, engine } = await ready()
  await engine.service.publish(publish())
  const record = [...world.journal.values()].find((each) => each.kind === 'mount')
  const bind = [...world.journal.entries()].find(([, each]) => each.kind === 'bind')
  if (record === undefined || bind === undefined) throw new Error('no records')
  world.journal.set(`mount-${record.key}`, { ...record, phase: 'ending' })
  world.journal.delete(bind[0])
  world.unmount(target)
  world.folders.delete(target)
  world.undrained = 5
  const next = world.incarnation()
  await next.recover()
  t.true(world.log.includes('drain'))
  t.like(next.service.losses(), [{ bytes: 5 }])
  t.is(world.sessions.size, 0)
})

test('starts of one key at once are one start, and its failure is everyone\'s', async (t) => {
  const { world, engine } = await ready()
  let open: () => void = () => undefined
  world.gate = new Promise((resolve) => { open = resolve })
  world.fail = { step: 'configure', error: new VolumeError('UNAVAILABLE', 'the server is away') }
  const calls = ['a', 'b', 'c'].map(async (name) => {
    await engine.service.publish(publish({ volume: volume(name), target: path(`/pods/${name}/m`) }))
  })
  await new Promise((resolve) => { setImmediate(resolve) })
  open()
  const outcomes = await Promise.allSettled(calls)
  t.true(
    outcomes.every((outcome) => outcome.status === 'rejected' && (outcome.reason as VolumeError).code === 'UNAVAILABLE')
  )
  t.is(world.log.filter((step) => step === 'start session').length, 1)
  t.deepEqual(world.summary(), { mounts: [], sessions: 0, records: [], folders: [] })
})

test('a volume and a path are worked on by one call at a time', async (t) => {
  const { engine } = await ready()
  const outcomes = await Promise.allSettled([
    engine.service.publish(publish()),
    engine.service.publish(publish({ target: path('/pods/b/m') })),
    engine.service.publish(publish({ volume: volume('other') })),
    engine.service.unpublish({ volume: v1, target, door: 'csi' })
  ])
  t.deepEqual(
    outcomes.map((outcome) => outcome.status === 'rejected' ? (outcome.reason as VolumeError).code : 'done'),
    ['done', 'IN_PROGRESS', 'IN_PROGRESS', 'IN_PROGRESS']
  )
})

test('an unused client is refused before anything is done', async (t) => {
  const { world, engine } = await ready()
  const error = await t.throwsAsync(
    engine.service.publish(publish({ spec: specOf('/export', { mountOptions: 'nfsvers=4.1' }) })),
    { code: 'UNSUPPORTED' }
  )
  t.regex(error?.message ?? '', /client: "kernel" is not available in this version .*; use client=fuse/)
  t.deepEqual(world.log, [])
})

test('unpublish of what was never there succeeds; of another volume\'s path it does not', async (t) => {
  const { engine } = await ready()
  t.deepEqual(await engine.service.unpublish({ volume: v1, target, door: 'csi' }), { lostBytes: 0 })
  t.deepEqual(await engine.service.unpublish({ volume: v1, target: path('/no/such/folder'), door: 'csi' }), {
    lostBytes: 0
  })
  await engine.service.unstage({ volume: v1, staging: path('/staging/none') })
  await engine.service.publish(publish())
  await t.throwsAsync(engine.service.unpublish({ volume: volume('other'), target, door: 'csi' }), { code: 'CONFLICT' })
})

test('stacked mounts of ours at a target are all taken away', async (t) => {
  const { world, engine } = await ready()
  await engine.service.publish(publish())
  world.mount(target, '0:40', 'fuse.volbridge', 'x')
  world.mount(target, '0:77', 'fuse.volbridge', 'x')
  await engine.service.unpublish({ volume: v1, target, door: 'csi' })
  t.deepEqual(world.mounts, [])
})

test('a mount found at the target without a record is recorded, not mounted again', async (t) => {
  const { world, engine } = await ready()
  await engine.service.publish(publish({ volume: volume('other'), target: path('/pods/b/m') }))
  world.folders.add(target)
  world.mount(target, '0:40', 'fuse.volbridge', 'x')
  await engine.service.publish(publish())
  t.is(world.mounts.filter((mount) => mount.mountPoint === target).length, 1)
  t.is([...world.journal.values()].filter((record) => record.kind === 'bind' && record.path === target).length, 1)
})

test('a mount of ours that has a foreign one on top is not touched', async (t) => {
  const { world, engine } = await ready()
  await engine.service.publish(publish())
  world.mount(target, '8:1', 'ext4', '/dev/sda1')
  await t.throwsAsync(engine.service.unpublish({ volume: v1, target, door: 'csi' }), {
    code: 'CONFLICT', message: /type ext4 from "\/dev\/sda1"/
  })
  await t.throwsAsync(engine.service.publish(publish()), { code: 'CONFLICT' })
  t.is(world.mounts.length, 3)
})

test('while somebody else still has the file system mounted the shared mount stays, and goes with the next call', async (t) => {
  const { world, engine } = await ready()
  await engine.service.publish(publish())
  world.mount('/pods/a/subpath', '0:40', 'fuse.volbridge', 'x')
  await engine.service.unpublish({ volume: v1, target, door: 'csi' })
  t.is(world.sessions.size, 1)
  t.true(world.events.some((event) => event.kind === 'mount-lingers'))
  t.true(engine.service.isInUse, 'an agent that left now would leave the session behind')
  world.unmount('/pods/a/subpath')
  const { engine: next } = await ready(world)
  t.deepEqual(world.summary().records, [])
  await next.service.publish(publish())
  t.is(world.sessions.size, 1)
})

test('a dead session is noticed, told, and replaced by the next publish', async (t) => {
  const { world, engine } = await ready()
  await engine.service.publish(publish())
  await engine.service.statistics({ volume: v1, path: target, deadlineMs: 100 })
  for (const session of world.sessions.values()) session.end('it was killed')
  await Promise.resolve()
  t.like(await engine.service.statistics({ volume: v1, path: target, deadlineMs: 100 }), {
    stale: true, totalBytes: 100n, health: { state: 'dead' }
  })
  t.like((await engine.service.list())[0], { state: 'dead', health: { state: 'dead' } })
  t.true(world.events.some((event) => event.kind === 'mount-died' && event.reason === 'it was killed'))
  await engine.service.publish(publish())
  t.like(await engine.service.statistics({ volume: v1, path: target, deadlineMs: 100 }), {
    stale: false, health: { state: 'healthy' }
  })
  t.is(world.mounts.filter((mount) => mount.mountPoint === target).length, 1)
})

test('a folder that still shows the mount of a session that died is said to be dead, whatever serves its siblings now', async (t) => {
  const { world, engine } = await ready()
  const sibling = path('/pods/b/m')
  await engine.service.publish(publish())
  await engine.service.publish(publish({ target: sibling }))
  for (const session of world.sessions.values()) session.end('it was killed')
  await Promise.resolve()
  await engine.service.publish(publish({ target: sibling }))
  t.like(await engine.service.statistics({ volume: v1, path: sibling, deadlineMs: 100 }), {
    stale: false, health: { state: 'healthy' }
  })
  const stale = await engine.service.statistics({ volume: v1, path: target, deadlineMs: 100 })
  t.is(stale.health.state, 'dead')
  t.regex(stale.health.reason, /has ended; it is mounted anew/)
  const [view] = await engine.service.list()
  t.like(view?.health, { state: 'degraded', reason: `it is not to be seen at ${target}` })
  t.deepEqual(view?.targets.map(({ problem }) => problem === ''), [false, true])
  await engine.service.publish(publish())
  t.like((await engine.service.list())[0]?.health, { state: 'healthy' })
})

test('what somebody unmounted by hand is said, and is in nobody\'s way', async (t) => {
  const { world, engine } = await ready()
  await engine.service.publish(publish())
  world.unmount(target)
  const [view] = await engine.service.list()
  t.like(view?.health, { state: 'degraded' })
  t.regex(view?.targets[0]?.problem ?? '', /somebody else unmounted it/)
  await engine.service.publish(publish({ spec: specOf('/other') }))
  t.is(world.sessions.size, 1, 'the mount that nobody has any more is ended')
  t.is(world.mounts.length, 2)
})

test('an unpublish does not wait for a start that waits for a dead server', async (t) => {
  const { world, engine } = await ready()
  await engine.service.publish(publish())
  await engine.service.publish(publish({ volume: volume('2'), target: path('/pods/b/m') }))
  for (const session of world.sessions.values()) session.end('it was killed')
  await Promise.resolve()
  let open: () => void = () => undefined
  world.gate = new Promise((resolve) => { open = resolve })
  const starting = engine.service.publish(publish({ volume: volume('3'), target: path('/pods/c/m') }))
  await new Promise((resolve) => { setImmediate(resolve) })
  let isOver = false
  const leaving = engine.service.unpublish({ volume: v1, target, door: 'csi' }).then(() => { isOver = true })
  await new Promise((resolve) => { setImmediate(resolve) })
  t.true(isOver)
  open()
  await Promise.all([starting, leaving])
})

test('a shared mount that somebody unmounted is bound back; its session and its pods live on', async (t) => {
  const { world, engine } = await ready()
  await engine.service.publish(publish({ readOnly: true }))
  const shared = world.mounts.find((mount) => mount.mountPoint.startsWith('/state/'))?.mountPoint ?? ''
  const [session] = world.sessions.values()
  world.unmount(shared)
  await engine.service.publish(publish({ volume: volume('2'), target: path('/pods/b/m') }))
  t.deepEqual([...world.sessions.values()], [session!])
  t.is(world.mounts.length, 3)
  t.false(world.mounts.some((mount) => mount.mountPoint === shared && mount.options.includes('ro')))
})

test('where only a part of a shared mount is left, it is neither ended nor shared again', async (t) => {
  const { world, engine } = await ready()
  await engine.service.publish(publish())
  for (const mount of world.mounts) {
    world.mounts = world.mounts.map((each) =>
      each === mount ? { ...each, root: '/sub', mountPoint: '/pods/a/subpath' } : each
    )
  }
  await t.throwsAsync(engine.service.publish(publish({ volume: volume('2'), target: path('/pods/b/m') })), {
    code: 'CONFLICT', message: /unmounted by somebody else.*\/pods\/a\/subpath/
  })
  t.is(world.sessions.size, 1)
})

test('a full state disk does not keep a mount', async (t) => {
  const full = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' })
  for (const step of ['put bind detaching', 'put mount ending']) {
    const { world, engine } = await ready()
    await engine.service.publish(publish())
    world.fail = { step, error: full }
    await engine.service.unpublish({ volume: v1, target, door: 'csi' })
    t.deepEqual(world.summary(), { mounts: [], sessions: 0, records: [], folders: [] }, step)
    t.true(world.events.some((event) => event.kind === 'note' && event.text.includes('no space left')))
  }
})

test('lost bytes are returned and told', async (t) => {
  const { world, engine } = await ready()
  await engine.service.publish(publish())
  world.undrained = 12
  t.deepEqual(await engine.service.unpublish({ volume: v1, target, door: 'csi' }), { lostBytes: 12 })
  t.true(world.events.some((event) => event.kind === 'data-lost' && event.lostBytes === 12))
})

test('statistics of what is not mounted there are NOT_FOUND', async (t) => {
  const { world, engine } = await ready()
  await t.throwsAsync(engine.service.statistics({ volume: v1, path: target, deadlineMs: 100 }), { code: 'NOT_FOUND' })
  await engine.service.publish(publish())
  await t.throwsAsync(engine.service.statistics({ volume: volume('other'), path: target, deadlineMs: 100 }), {
    code: 'NOT_FOUND'
  })
  world.unmount(target)
  await t.throwsAsync(engine.service.statistics({ volume: v1, path: target, deadlineMs: 100 }), { code: 'NOT_FOUND' })
})

test('after a reboot the journal is cleaned and everything can be mounted anew', async (t) => {
  const { world, engine } = await ready()
  await engine.service.stage({ volume: v1, spec: specOf(), staging, door: 'csi' })
  await engine.service.publish(publish({ staging }))
  world.reboot()
  const { engine: next } = await ready(world)
  t.deepEqual(world.summary().records, [])
  await next.service.stage({ volume: v1, spec: specOf(), staging, door: 'csi' })
  await next.service.publish(publish({ staging }))
  t.is(world.mounts.length, 2)
})

test('staging mounts nothing at its path, and its volume stays as long as it is staged: also over a restart, and after the last pod', async (t) => {
  const { world, engine } = await ready()
  await engine.service.stage({ volume: v1, spec: specOf(), staging, door: 'csi' })
  t.deepEqual(world.mounts.filter(({ mountPoint }) => mountPoint === staging), [])
  t.is((await engine.service.statistics({ volume: v1, path: staging, deadlineMs: 100 })).health.state, 'healthy')
  await engine.service.publish(publish({ staging }))
  await engine.service.unpublish({ volume: v1, target, ...csi })
  t.is(world.mounts.length, 1)
  const { engine: next } = await ready(world)
  t.is(world.mounts.length, 1)
  await t.throwsAsync(next.service.stage({ volume: v1, spec: specOf('/other'), staging, door: 'csi' }), {
    code: 'CONFLICT'
  })
  await next.service.unstage({ volume: v1, staging })
  t.deepEqual(world.mounts, [])
  t.deepEqual(world.summary().records, [])
})

test('a mount at the staging path, as earlier versions made it, is taken away by the next stage', async (t) => {
  const { world, engine } = await ready()
  await engine.service.stage({ volume: v1, spec: specOf(), staging, door: 'csi' })
  const [shared] = world.mounts
  world.mounts.push({ ...shared!, id: 999, mountPoint: staging })
  await engine.service.stage({ volume: v1, spec: specOf(), staging, door: 'csi' })
  t.deepEqual(world.mounts.filter(({ mountPoint }) => mountPoint === staging), [])
  t.is(world.mounts.length, 1)
})

test('an unmount that fails stays on record and the next call finishes it', async (t) => {
  const { world, engine } = await ready()
  await engine.service.publish(publish())
  world.fail = { step: 'detach', error: new Error('busy') }
  await t.throwsAsync(engine.service.unpublish({ volume: v1, target, door: 'csi' }))
  t.true(world.summary().records.includes('bind detaching'))
  await engine.service.unpublish({ volume: v1, target, door: 'csi' })
  t.deepEqual(world.summary(), { mounts: [], sessions: 0, records: [], folders: [] })
})

const stuck = new HostError({ code: 'ETIMEDOUT', errno: 110, call: 'scripted' })

test('a mount that does not end is not called ended: each repeat says so, status says why, and no agent leaves meanwhile', async (t) => {
  const { world, engine } = await ready()
  await engine.service.stage({ volume: v1, spec: specOf(), staging, door: 'csi' })
  for (let n = 0; n < 3; n++) {
    world.fail = { step: 'end session', error: stuck }
    await t.throwsAsync(engine.service.unstage({ volume: v1, staging }), { code: 'TIMED_OUT' })
    t.true(engine.service.isInUse)
  }
  world.fail = { step: 'end session', error: stuck }
  await engine.endings.round()
  t.like(world.events.at(-1), { kind: 'end-failed', tries: 1, path: staging })
  t.like((await engine.service.list())[0], { volume: v1, state: 'dead' })
  t.regex((await engine.service.list())[0]?.health.reason ?? '', /^it is being taken away \(tries: 1\): scripted/)
  await engine.service.unstage({ volume: v1, staging })
  t.false(engine.service.isInUse)
  t.deepEqual(world.summary(), { mounts: [], sessions: 0, records: [], folders: [] })
})

test('a mount that does not end goes by itself later, also when an agent died over it and nobody calls again', async (t) => {
  for (const isRestarted of [false, true]) {
    const { world, engine } = await ready()
    await engine.service.publish(publish())
    world.fail = { step: 'end session', error: stuck }
    await t.throwsAsync(engine.service.unpublish({ volume: v1, target, door: 'csi' }), { code: 'TIMED_OUT' })
    if (isRestarted) world.fail = { step: 'end session', error: stuck }
    const last = isRestarted ? (await ready(world)).engine : engine
    t.is(world.sessions.size, 1)
    await last.endings.round()
    t.deepEqual(world.summary(), { mounts: [], sessions: 0, records: [], folders: [] })
  }
})

test.serial('what cannot be ended, and what somebody else holds, is tried ever more seldom', async (t) => {
  for (const isHeld of [false, true]) {
    const { world, engine } = await ready()
    await engine.service.publish(publish())
    if (isHeld) world.mount('/pods/a/subpath', '0:40', 'fuse.volbridge', 'x')
    else {Object.defineProperty(world, 'fail', {
        get: () => ({ step: 'end session', error: stuck }), set: () => undefined
      })}
    mock.timers.enable({ apis: ['setTimeout'] })
    try {
      await engine.service.unpublish({ volume: v1, target, door: 'csi' }).catch(() => undefined)
      let rounds = 0
      const round = engine.endings.round.bind(engine.endings)
      engine.endings.round = async () => {
        rounds++
        await round()
      }
      for (let second = 0; second < 600; second++) {
        mock.timers.tick(1000)
        await new Promise((resolve) => { setImmediate(resolve) })
      }
      t.true(rounds >= 5, `${rounds} in ten minutes`)
      t.true(rounds <= 20, `${rounds} in ten minutes`)
    } finally {
      mock.timers.reset()
    }
  }
})

test('what an unmount loses is known although the rest of it fails at first, and is told once', async (t) => {
  const { world, engine } = await ready()
  world.undrained = 77
  await engine.service.publish(publish())
  world.fail = { step: 'end session', error: stuck }
  await t.throwsAsync(engine.service.unpublish({ volume: v1, target, door: 'csi' }))
  t.like(engine.service.losses(), [{ bytes: 77 }])
  t.deepEqual(await engine.service.unpublish({ volume: v1, target, door: 'csi' }), { lostBytes: 77 })
  t.like(engine.service.losses(), [{ bytes: 77 }])
  t.is(world.events.filter(({ kind }) => kind === 'data-lost').length, 1)
})

test('of two volumes that leave one share at once the last takes the mount, whichever comes to it first', async (t) => {
  const { world, engine } = await ready()
  const targets = ['a', 'b', 'c'].map((name) => ({ volume: volume(name), target: path(`/pods/${name}/m`) }))
  for (const each of targets) await engine.service.publish(publish(each))
  await Promise.all(targets.map(async (each) => await engine.service.unpublish({ ...each, door: 'csi' })))
  t.deepEqual(world.summary(), { mounts: [], sessions: 0, records: [], folders: [] })
  t.deepEqual(world.events.filter(({ kind }) => kind === 'mount-lingers'), [], 'nobody else was there')
})

test('a broken invariant in the agent costs the one call', async (t) => {
  const { world, engine } = await ready()
  world.fail = { step: 'bind', error: new InvariantError('it holds') }
  await t.throwsAsync(engine.service.publish(publish()), { code: 'INTERNAL', message: 'it holds' })
  await engine.service.publish(publish())
  t.is(world.sessions.size, 1)
})

test('a full state disk keeps no mount whose end fails at first', async (t) => {
  const { world, engine } = await ready()
  await engine.service.publish(publish())
  const full = new HostError({ code: 'ENOSPC', errno: 28, call: 'write' })
  engine.put = async () => { throw full }
  world.fail = { step: 'end mount', error: stuck }
  await t.throwsAsync(engine.service.unpublish({ volume: v1, target, door: 'csi' }))
  await engine.service.unpublish({ volume: v1, target, door: 'csi' })
  t.deepEqual(world.summary(), { mounts: [], sessions: 0, records: [], folders: [] })
})

test('a mount in our folder that its name no longer leads to is told at start, and no start goes round for ever over it', async (t) => {
  const world = new World()
  world.mount(`${mountsFolder}/aa`, '0:77', 'fuse.volbridge', 'nas:/export')
  const engine = world.incarnation()
  let calls = 0
  engine.detachBind = async () => { if (++calls > 100) throw new Error('for ever') }
  await engine.recover()
  t.true(calls < 5)
  t.like(world.events.at(-1), { kind: 'recovered', deed: 'detachOrphan failed' })
})

test('crashes of crashes: every second life dies too, at each of its steps, and the third cleans up', async (t) => {
  for (let first = 0; first < 14; first++) {
    for (let second = 0; second < 8; second++) {
      const world = new World()
      const one = world.incarnation(first)
      await one.service.publish(publish()).catch((error: unknown) => { if (!(error instanceof Error)) throw error })
      const two = world.incarnation(second)
      await two.recover().catch((error: unknown) => { if (!(error instanceof Crash)) throw error })
      const { engine } = await ready(world)
      await engine.service.publish(publish())
      t.is(world.mounts.length, 2, `${first}, ${second}`)
      t.is(world.sessions.size, 1)
      await engine.service.unpublish({ volume: v1, target, door: 'csi' })
      t.deepEqual(world.summary(), { mounts: [], sessions: 0, records: [], folders: [] }, `${first}, ${second}`)
    }
  }
})

test('names are taken all or none, and given back once', (t) => {
  const locks = new NameLocks()
  const release = locks.tryAcquire(['a', 'b'])
  t.is(locks.tryAcquire(['b', 'c']), undefined)
  t.false(locks.isHeld('c'))
  release?.()
  const again = locks.tryAcquire(['a'])
  release?.()
  t.true(locks.isHeld('a'))
  again?.()
})

test('work of one key runs in order, also after a failure', async (t) => {
  const queue = new KeyedQueue()
  const seen: number[] = []
  const work = (n: number, fails = false) =>
    queue.run('k', async () => {
      await new Promise((resolve) => { setImmediate(resolve) })
      seen.push(n)
      if (fails) throw new Error('no')
    })
  await Promise.allSettled([work(1, true), work(2), work(3)])
  t.deepEqual(seen, [1, 2, 3])
})

test('shared work runs once while it runs, and anew afterwards', async (t) => {
  const shared = new SharedWork<number>()
  let runs = 0
  const run = () => shared.run('k', async () => ++runs)
  t.deepEqual(await Promise.all([run(), run()]), [1, 1])
  t.is(await run(), 2)
})

test('undoing goes backwards and on after a failure, which is returned', async (t) => {
  const undo = new UndoStack()
  const seen: number[] = []
  undo.add(async () => { seen.push(1) })
  undo.add(async () => { throw new Error('two') })
  undo.add(async () => { seen.push(3) })
  t.is((await undo.run() as Error).message, 'two')
  t.deepEqual(seen, [3, 1])
})
