import test from 'ava'
import { HostError } from '../../../../agent/base/errors.ts'
import { World, path, specOf, volume, type Incarnation } from './world.ts'

const target = path('/pods/c')
const publish = async (engine: Incarnation): Promise<void> => {
  await engine.service.publish({
    volume: volume('flex'), spec: specOf(), target, staging: undefined, readOnly: false, door: 'flex', owner: undefined
  })
}
const unpublish = async (engine: Incarnation): Promise<unknown> =>
  await engine.service.unpublish({ volume: volume('flex'), target, door: 'flex' })
const refusal = (code: string, errno: number): HostError => new HostError({ code, errno, call: 'ioctl' })

test('a Flex folder is immutable while it is mounted, and plain before unmount answers', async (t) => {
  const world = new World()
  const engine = world.incarnation()
  await publish(engine)
  t.deepEqual([...world.immutable], [target])
  const at = (step: string): number => world.log.indexOf(step)
  t.true(at('put bind attaching') < at('make immutable') && at('make immutable') < at('bind'), world.log.join())
  await unpublish(engine)
  t.deepEqual([...world.immutable], [])
})

test('CSI targets, staging paths and mounts by hand are left plain', async (t) => {
  const world = new World()
  const engine = world.incarnation()
  await engine.service.stage({ volume: volume('v'), spec: specOf(), staging: path('/staging/v1'), door: 'csi' })
  await engine.service.publish({
    volume: volume('v'), spec: specOf(), target: path('/pods/a/mount'), staging: path('/staging/v1'), readOnly: false,
    door: 'csi', owner: undefined
  })
  await engine.service.publish({
    volume: volume('h'), spec: specOf(), target, staging: undefined, readOnly: false, door: 'hand', owner: undefined
  })
  t.deepEqual([...world.immutable], [])
})

for (const [code, errno, words] of [['ENOTTY', 25, /no immutable flag/], ['EOPNOTSUPP', 95, /no immutable flag/], [
  'EPERM', 1, /CAP_LINUX_IMMUTABLE/
], ['EIO', 5, /EIO/]] as const) {
  test(`where the flag cannot be set (${code}) the mount works and status says unprotected`, async (t) => {
    const world = new World()
    const engine = world.incarnation()
    world.fail = { step: 'make immutable', error: refusal(code, errno) }
    await publish(engine)
    t.regex((await engine.service.list())[0]?.targets[0]?.unprotected ?? '', words)
    world.fail = { step: 'make plain', error: refusal(code, errno) }
    if (code === 'EIO') await t.throwsAsync(unpublish(engine), { message: /chattr -i/ })
    await unpublish(engine)
    t.deepEqual(world.summary(), { mounts: [], sessions: 0, records: [], folders: [] })
  })
}

for (const step of ['bind', 'put bind attached', 'start session', 'serve']) {
  test(`a mount that fails at "${step}" leaves the folder plain`, async (t) => {
    const world = new World()
    world.fail = { step, error: refusal('EIO', 5) }
    await t.throwsAsync(publish(world.incarnation()))
    t.deepEqual([...world.immutable], [])
    t.deepEqual(world.summary().records, [])
  })
}

test('a folder that cannot be made plain keeps its record, and a repeat finishes', async (t) => {
  const world = new World()
  const engine = world.incarnation()
  await publish(engine)
  world.fail = { step: 'make plain', error: refusal('EPERM', 1) }
  await t.throwsAsync(unpublish(engine), { message: /"\/pods\/c" cannot be made writable again.*chattr -i \/pods\/c/ })
  t.deepEqual(world.summary().records, ['bind detaching', 'mount mounted'])
  await unpublish(engine)
  t.deepEqual([world.summary().records, [...world.immutable]], [[], []])
})

test('after a reboot, and after somebody unmounted it by hand, recovery makes the folder plain', async (t) => {
  for (const happens of [(world: World) => { world.reboot() }, (world: World) => { world.unmount(target) }]) {
    const world = new World()
    await publish(world.incarnation())
    happens(world)
    t.deepEqual([...world.immutable], [target])
    await world.incarnation().recover()
    t.deepEqual([...world.immutable], [])
  }
})

test('an unmount without any record, for instance after the state folder was lost, makes the folder plain as well', async (t) => {
  const world = new World()
  await publish(world.incarnation())
  world.journal.clear()
  await unpublish(world.incarnation())
  t.deepEqual([...world.immutable], [])
})
