/** Mounts of a dead session that no record names: which are covered, and what is said of the rest. */
import test from 'ava'
import { toDeviceNumber } from '../../../../../agent/base/brands.ts'
import { topMountAt } from '../../../../../agent/host/mountinfo.ts'
import { World, path, specOf, volume, type Incarnation } from '../world.ts'

const v1 = volume('v1')
const target = path('/pods/a/mount')
const subPath = '/pods/a/volume-subpaths/pv/app/0'

async function published (world: World): Promise<Incarnation> {
  const engine = world.incarnation()
  await engine.recover()
  await engine.service.publish({
    volume: v1, spec: specOf(), target, staging: undefined, door: 'csi', owner: undefined, readOnly: false
  })
  return engine
}

async function soon (holds: () => boolean | Promise<boolean>): Promise<boolean> {
  for (let n = 0; n < 500; n++) {
    if (await holds()) return true
    await new Promise((resolve) => { setTimeout(resolve, 20) })
  }
  return false
}

/** The session of the target's mount dies, and the engine hears of it. */
async function kill (world: World, engine: Incarnation): Promise<void> {
  for (const session of world.sessions.values()) session.end('it was killed')
  await Promise.resolve()
  for (const { key } of await engine.service.list()) engine.healer.suspect(key)
}

const deviceAt = (world: World, place: string): string | undefined => topMountAt(world.mounts, place)?.device
const events = (world: World, kind: string): number => world.events.filter((event) => event.kind === kind).length

test('mounts of a dead session that nobody recorded are covered by the same part of the new one, with the flags they had', async (t) => {
  const world = new World()
  const engine = await published(world)
  t.teardown(() => { engine.healer.stop() })
  const dead = deviceAt(world, target) ?? ''
  world.parts.add('a/b')
  world.mount(subPath, dead, 'fuse.volbridge', 'nas:/export', { root: '/a/b', options: ['ro', 'noexec'] })
  world.mount('/elsewhere', '0:999', 'fuse.volbridge', 'nas:/other')
  await kill(world, engine)
  t.true(await soon(() => events(world, 'healed') === 2))
  t.is(deviceAt(world, subPath), deviceAt(world, target))
  t.like(topMountAt(world.mounts, subPath), { root: '/a/b', options: ['ro'] })
  t.is(deviceAt(world, '/elsewhere'), '0:999', 'what no session of this volume has served is not touched')
  t.is((await engine.service.list())[0]?.health.state, 'healthy')
  // kubelet takes the cover away, and will take away what is beneath.
  world.unmount(subPath)
  await kill(world, engine)
  t.true(await soon(() => deviceAt(world, target) === [...world.sessions.values()][0]?.device))
  t.true(await soon(() => events(world, 'healed') === 3))
  t.is(deviceAt(world, subPath), dead)
})

test('a part that cannot be mounted anew is named with its reason until it can, or until nobody has it mounted', async (t) => {
  const world = new World()
  const engine = await published(world)
  t.teardown(() => { engine.healer.stop() })
  const dead = deviceAt(world, target) ?? ''
  world.mount(subPath, dead, 'fuse.volbridge', 'nas:/export', { root: '/gone' })
  world.mount('/other', dead, 'fuse.volbridge', 'nas:/export', { root: '/removed//deleted' })
  await kill(world, engine)
  const health = async (): Promise<string> => (await engine.service.list())[0]?.health.reason ?? ''
  t.true(await soon(async () => (await health()).includes(subPath)))
  t.is((await engine.service.list())[0]?.health.state, 'degraded')
  t.regex(
    await health(),
    /volume-subpaths\/pv\/app\/0 \(the volume has no "\/gone" any more\), \/other \(what it showed was removed/
  )
  world.parts.add('gone')
  t.true(await soon(() => deviceAt(world, subPath) !== dead))
  world.unmount('/other')
  t.is(await health(), '')
  t.is(events(world, 'heal-failed'), 2, 'each reason is told once')
})

test('a device that another living session serves is not taken for a dead one', async (t) => {
  const world = new World()
  const engine = await published(world)
  t.teardown(() => { engine.healer.stop() })
  const dead = deviceAt(world, target) ?? ''
  await kill(world, engine)
  t.true(await soon(() => deviceAt(world, target) !== dead))
  world.mounts = world.mounts.filter((mount) => mount.device !== toDeviceNumber(dead))
  await engine.service.publish({
    volume: volume('v2'), spec: specOf('/second'), target: path('/pods/b/mount'), staging: undefined, door: 'csi',
    owner: undefined, readOnly: false
  })
  const second = deviceAt(world, '/pods/b/mount') ?? ''
  world.mount('/pods/b/part', second, 'fuse.volbridge', 'nas:/second', { root: '/part' })
  world.parts.add('part')
  for (const session of [...world.sessions.values()].filter(({ device }) => device !== second)) {
    session.end('it was killed')
  }
  await Promise.resolve()
  for (const { key } of await engine.service.list()) engine.healer.suspect(key)
  t.true(await soon(() => events(world, 'healed') === 2))
  t.is(deviceAt(world, '/pods/b/part'), second)
})
