/** A volume whose folder was made anew on the server: who gets which mount, and when the old one goes. */
import test from 'ava'
import { topMountAt } from '../../../../agent/host/mountinfo.ts'
import { World, path, specOf, volume, type Incarnation } from './world.ts'

const v1 = volume('v1')
const staging = path('/staging/v1')
const [first, second, third] = ['/pods/a/m', '/pods/b/m', '/pods/c/m'].map(path) as [
  ReturnType<typeof path>,
  ReturnType<typeof path>,
  ReturnType<typeof path>
]
const csi = { door: 'csi', owner: undefined, readOnly: false } as const
const deviceAt = (world: World, place: string): string => topMountAt(world.mounts, place)?.device ?? ''
const nothing = { mounts: [], sessions: 0, records: [], folders: [] }

async function staged (): Promise<
  { world: World, engine: Incarnation, publish: (target: typeof first) => Promise<void> }
> {
  const world = new World()
  const engine = world.incarnation()
  await engine.recover()
  await engine.service.stage({ volume: v1, spec: specOf(), staging, door: 'csi' })
  return {
    world, engine,
    publish: async (target) => { await engine.service.publish({ volume: v1, spec: specOf(), target, staging, ...csi }) }
  }
}

const unpublish = async ({ service }: Incarnation, target: typeof first): Promise<unknown> =>
  await service.unpublish({ volume: v1, target, door: 'csi' })

test('a new pod of a volume whose folder was made anew gets a mount of its own, older pods keep theirs, also when they are published again', async (t) => {
  const { world, engine, publish } = await staged()
  await publish(first)
  const old = deviceAt(world, first)
  world.madeAnew.add(old)
  await publish(second)
  const fresh = deviceAt(world, second)
  t.not(fresh, old)
  await publish(third)
  t.is(deviceAt(world, third), fresh, 'a second new pod shares the new mount')
  await publish(first)
  t.is(deviceAt(world, first), old)
  await engine.service.stage({ volume: v1, spec: specOf(), staging, door: 'csi' })
  t.is(world.sessions.size, 2)
  t.like(world.events.find(({ kind }) => kind === 'root-changed'), { source: 'nas:/export', reason: 'made anew' })

  const next = world.incarnation()
  await next.recover()
  await next.service.publish({ volume: v1, spec: specOf(), target: first, staging, ...csi })
  t.is(deviceAt(world, first), old, 'the next agent knows both')
  await unpublish(next, first)
  t.is(world.sessions.size, 1, 'the old mount goes with the last pod that had it: staging holds the new one')
  await unpublish(next, second)
  await unpublish(next, third)
  await next.service.unstage({ volume: v1, staging })
  t.deepEqual(world.summary(), nothing)
})

test('a staged volume that no pod has is staged anew by the next pod: nothing of the old mount stays', async (t) => {
  const { world, engine, publish } = await staged()
  world.madeAnew.add([...world.sessions.values()][0]?.device ?? '')
  await publish(first)
  t.is(world.sessions.size, 1)
  await unpublish(engine, first)
  t.is(world.sessions.size, 1, 'staged')
  world.madeAnew.add([...world.sessions.values()][0]?.device ?? '')
  await publish(first)
  await unpublish(engine, first)
  await engine.service.unstage({ volume: v1, staging })
  t.deepEqual(world.summary(), nothing)
})

test('pods that start at once after the folder was made anew share one new mount, across volumes of the share and without staging', async (t) => {
  const { world, engine, publish } = await staged()
  await publish(first)
  world.madeAnew.add(deviceAt(world, first))
  const targets = ['x', 'y', 'z'].map((name) => ({ volume: volume(name), target: path(`/pods/${name}`) }))
  await Promise.all(targets.map(async (each) => {
    await engine.service.publish({ ...each, spec: specOf(), staging: undefined, ...csi })
  }))
  t.is(new Set(targets.map(({ target }) => deviceAt(world, target))).size, 1)
  t.is(world.sessions.size, 2)
  for (const each of targets) await engine.service.unpublish({ ...each, door: 'csi' })
  await unpublish(engine, first)
  await engine.service.unstage({ volume: v1, staging })
  t.deepEqual(world.summary(), nothing)
})

test('a new mount that cannot be made fails the new pod with its reason and leaves the older ones as they are', async (t) => {
  const { world, engine, publish } = await staged()
  await publish(first)
  const old = deviceAt(world, first)
  world.madeAnew.add(old)
  world.fail = { step: 'configure', error: new Error('share: it is not exported') }
  await t.throwsAsync(publish(second), { message: /not exported/ })
  t.is(deviceAt(world, first), old)
  t.is(world.sessions.size, 1)
  world.madeAnew.clear()
  await publish(second)
  t.is(deviceAt(world, second), old, 'what was put back is shared again')
  await unpublish(engine, first)
  await unpublish(engine, second)
  await engine.service.unstage({ volume: v1, staging })
  t.deepEqual(world.summary(), nothing)
})
