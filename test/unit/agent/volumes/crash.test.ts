/** The engine dies before each step of each deed; recovery must end in exactly the right mounts, and a repeat must
 * work. */
import test from 'ava'
import { HostError } from '../../../../agent/base/errors.ts'
import { Crash, World, path, specOf, volume, type Incarnation } from './world.ts'

interface Deed {
  readonly name: string
  readonly before: (engine: Incarnation) => Promise<void>
  readonly deed: (engine: Incarnation) => Promise<unknown>
  /** Ends everything after the deed was done. */
  readonly after: (engine: Incarnation) => Promise<unknown>
  /** Paths that are held before, and those that are when the deed is done: targets by a mount, staging by its record
   * alone. */
  readonly mountedBefore: readonly string[]
  readonly mountedAfter: readonly string[]
}

const v1 = volume('v1')
const spec = specOf()
const staging = path('/staging/v1')
const target = path('/pods/a/mount')
const other = path('/pods/b/mount')
const folder = path('/pods/c')
const csi = 'csi' as const

const stage = async (engine: Incarnation): Promise<void> => {
  await engine.service.stage({ volume: v1, spec, staging, door: csi })
}
const publishAt = (where: typeof target, readOnly = false) => async (engine: Incarnation): Promise<void> => {
  await engine.service.publish({ volume: v1, spec, target: where, staging, readOnly, door: csi, owner: 'ns/pod' })
}
const unpublishAt = (where: typeof target) => async (engine: Incarnation): Promise<unknown> =>
  await engine.service.unpublish({ volume: v1, target: where, door: csi })
const unstage = async (engine: Incarnation): Promise<void> => { await engine.service.unstage({ volume: v1, staging }) }
const mountFlex = async (engine: Incarnation): Promise<void> => {
  await engine.service.publish({
    volume: volume('flex'), spec, target: folder, staging: undefined, readOnly: true, door: 'flex', owner: undefined
  })
}
const unmountFlex = async (engine: Incarnation): Promise<unknown> =>
  await engine.service.unpublish({ volume: volume('flex'), target: folder, door: 'flex' })
const all =
  (...deeds: Array<(engine: Incarnation) => Promise<unknown>>) => async (engine: Incarnation): Promise<void> => {
    for (const deed of deeds) await deed(engine)
  }
const nothing = async (): Promise<void> => undefined

const deeds: readonly Deed[] = [
  { name: 'stage', before: nothing, deed: stage, after: unstage, mountedBefore: [], mountedAfter: [staging] },
  {
    name: 'publish', before: stage, deed: publishAt(target), after: all(unpublishAt(target), unstage),
    mountedBefore: [staging], mountedAfter: [staging, target]
  },
  {
    name: 'publish beside another pod', before: all(stage, publishAt(other)), deed: publishAt(target, true),
    after: all(unpublishAt(target), unpublishAt(other), unstage), mountedBefore: [staging, other],
    mountedAfter: [staging, other, `${target} ro`]
  },
  {
    name: 'unpublish', before: all(stage, publishAt(target)), deed: unpublishAt(target), after: unstage,
    mountedBefore: [staging, target], mountedAfter: [staging]
  },
  { name: 'unstage', before: stage, deed: unstage, after: nothing, mountedBefore: [staging], mountedAfter: [] },
  {
    name: 'flex mount', before: nothing, deed: mountFlex, after: unmountFlex, mountedBefore: [],
    mountedAfter: [`${folder} ro`]
  },
  {
    name: 'flex unmount', before: mountFlex, deed: unmountFlex, after: nothing, mountedBefore: [`${folder} ro`],
    mountedAfter: []
  }
]

const isStaged = (world: World): boolean =>
  [...world.journal.values()].some((record) => record.kind === 'bind' && record.role === 'staging')
const binds = (world: World): string[] =>
  [...world.summary().mounts.filter((name) => !name.startsWith('/state')), ...isStaged(world) ? [staging] : []].sort()
const sharedMounts = (world: World): string[] => world.summary().mounts.filter((name) => name.startsWith('/state'))

for (const { name, before, deed, after, mountedBefore, mountedAfter } of deeds) {
  test(`after a crash at any step of ${name} recovery leaves what was before or what was asked, and nothing else`, async (t) => {
    let points = 0
    for (;; points++) {
      const world = new World()
      await before(world.incarnation())
      const clean = world.journal.size
      const victim = world.incarnation(points)
      await victim.recover().catch((error: unknown) => { if (!(error instanceof Crash)) throw error })
      const failed = await deed(victim).then(() => false, () => true)
      const successor = world.incarnation()
      await successor.recover()
      const at = `crash before step ${points}: ${world.log.join(', ')}`
      t.true(
        [mountedBefore, mountedAfter].some((expected) =>
          JSON.stringify([...expected].sort()) === JSON.stringify(binds(world))
        ),
        `${at}: ${binds(world).join(' ')}`
      )
      t.is(sharedMounts(world).length, binds(world).length > 0 ? 1 : 0, at)
      t.is(world.sessions.size, sharedMounts(world).length, at)
      t.deepEqual(world.summary().records.filter((record) => !/(bind attached|mount mounted)$/.test(record)), [], at)
      t.is(world.journal.size, binds(world).length + sharedMounts(world).length, at)
      t.deepEqual(
        [...world.immutable],
        binds(world).filter((name) => name.startsWith(folder)).map(() => folder),
        `${at}: immutable`
      )
      await deed(successor)
      t.deepEqual(binds(world), [...mountedAfter].sort(), `${at}: repeated`)
      await after(successor)
      t.deepEqual(world.summary(), { mounts: [], sessions: 0, records: [], folders: [] }, `${at}: all taken away`)
      t.deepEqual([...world.immutable], [], `${at}: all plain`)
      void clean
      if (!victim.crashed) {
        t.false(failed)
        break
      }
    }
    t.true(points >= 4, `${points} crash points`)
    t.log(`${points} crash points`)
  })
}

for (const { name, before, deed, mountedBefore } of deeds) {
  test(`a step of ${name} that fails leaves what was before`, async (t) => {
    const rehearsal = new World()
    await before(rehearsal.incarnation())
    const seen = rehearsal.log.length
    await deed(await restarted(rehearsal))
    for (const step of new Set(rehearsal.log.slice(seen))) {
      const world = new World()
      await before(world.incarnation())
      const engine = await restarted(world)
      world.fail = { step, error: new Error(`scripted failure of ${step}`) }
      const failed = await deed(engine).then(() => false, () => true)
      if (failed && mountedBefore.length === 0 && !/^(put bind detaching|drop)/.test(step)) {
        t.deepEqual(binds(world), [], `${step}: ${world.log.join(', ')}`)
      }
      const successor = await restarted(world)
      t.true(
        [...world.immutable].every(() => binds(world).some((bind) => bind.startsWith(folder))),
        `${step}: a bare folder stays immutable`
      )
      await deed(successor)
      await deed(successor)
      t.pass()
    }
  })
}

/** What becomes of a deed that failed: kubelet repeats it, or does not, or another agent comes in between. */
const remedies = {
  'is repeated': async (engine: Incarnation, { deed }: Deed) => {
    await deed(engine)
    return engine
  },
  'is never repeated': async (engine: Incarnation) => {
    await engine.endings.round()
    return engine
  },
  'is met by the next agent, and then repeated': async (_engine: Incarnation, { deed }: Deed, world: World) => {
    const next = await restarted(world)
    await deed(next)
    return next
  }
} as const

for (const each of deeds) {
  for (const [remedy, apply] of Object.entries(remedies)) {
    test(`any step of ${each.name} fails once and the call ${remedy}: nothing is half-done, nor left in the end`, async (t) => {
      let steps = 0
      for (let isOver = false; !isOver; steps++) {
        const world = new World()
        const engine = await restarted(world)
        await each.before(engine)
        world.log.length = 0
        world.failIn = { steps, error: new HostError({ code: 'ETIMEDOUT', errno: 110, call: 'scripted' }) }
        const failed = await each.deed(engine).then(() => false, () => true)
        isOver = world.failIn.steps >= 0
        world.failIn = undefined
        const at = `step ${steps} of ${world.log.join(', ')}`
        const last = failed ? await apply(engine, each, world) : engine
        const mayStand = failed && remedy === 'is never repeated'
        const allowed = mayStand ? [each.mountedBefore, each.mountedAfter] : [each.mountedAfter]
        t.true(
          allowed.some((list) => JSON.stringify([...list].sort()) === JSON.stringify(binds(world))),
          `${at}: ${binds(world).join(' ')}`
        )
        t.deepEqual(world.summary().records.filter((record) => !/(bind attached|mount mounted)$/.test(record)), [], at)
        t.is(sharedMounts(world).length, binds(world).length > 0 ? 1 : 0, at)
        t.is(world.sessions.size, sharedMounts(world).length, `${at}: nothing more is sent`)
        if (remedy === 'is never repeated') await each.deed(last)
        await each.after(last)
        await last.endings.round()
        t.deepEqual(world.summary(), { mounts: [], sessions: 0, records: [], folders: [] }, `${at}: all taken away`)
        t.deepEqual([...world.immutable], [], `${at}: all plain`)
        t.false(last.service.isInUse, at)
      }
      t.true(steps >= 4, `${steps} steps`)
      t.log(`${steps} steps`)
    })
  }
}

async function restarted (world: World): Promise<Incarnation> {
  const engine = world.incarnation()
  await engine.recover()
  return engine
}
