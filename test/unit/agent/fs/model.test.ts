/**
 * Random programs agree with the reference file system: alone and several at once, with a server that reboots, changes
 * its verifier, takes half of a WRITE, answers in any order, and with little memory. VOLBRIDGE_SEED repeats a run,
 * MODEL_ROUNDS makes it longer.
 */
import test from 'ava'
import { World } from '../../../peers/filesystem-user.ts'
import { Actor, makeProgram, randomOf, shrink, type Step } from '../../../model/exercise.ts'
import { Reference, type ReferenceNode } from '../../../model/reference.ts'
import { chooseSeed } from '../../../model/seed.ts'

const rounds = Number(process.env['MODEL_ROUNDS'] ?? 30)

interface Setting {
  readonly actors: number
  readonly options: ConstructorParameters<typeof World>[0]
  readonly scramble: boolean
  readonly coarseClock?: boolean
}

const settings: Record<string, Setting> = {
  'one program': { actors: 1, options: {}, scramble: false },
  'one program, answers in any order': { actors: 1, options: {}, scramble: true },
  'three programs at once': { actors: 3, options: {}, scramble: true },
  'three programs with 256 KiB of memory': {
    actors: 3, options: { arenaBytes: 256 * 1024, blockBytes: 16 * 1024 }, scramble: true
  },
  'three programs of a solo writer': {
    actors: 3, options: { soloWriter: true, cto: false, acregminMs: 60_000, acregmaxMs: 3_600_000 }, scramble: true
  },
  'two programs without caches': { actors: 2, options: { noac: true, lookupCache: 'none' }, scramble: true },
  'two programs on a server with a coarse clock': { actors: 2, options: {}, scramble: true, coarseClock: true }
}

async function failure (
  programs: readonly (readonly Step[])[],
  setting: Setting,
  seed: number
): Promise<string | undefined> {
  const world = new World(setting.options)
  world.server.pageEntries = 3
  if (setting.coarseClock === true) world.server.clockStep = 50n
  const random = randomOf(seed)
  if (setting.scramble) {
    world.server.pause = async () => {
      for (let turn = Math.floor(random() * 4); turn > 0; turn--) {
        await new Promise((resolve) => { setImmediate(resolve) })
      }
    }
  }
  const reference = new Reference()
  for (let actor = 0; actor < programs.length; actor++) {
    reference.mkdir(`/p${actor}`)
    await world.mkdir(`/p${actor}`)
  }
  try {
    await Promise.all(programs.map((program) => new Actor(world, reference).run(program)))
    const { lostBytes } = await world.fs.drain(1000)
    if (lostBytes > 0) return `lost ${lostBytes} bytes`
    world.server.reboot()
    const left = differences(world, reference.root, '')
    if (left !== undefined) return left
    if (world.arena.usedBytes > 0 || world.state.dirty.size > 0) {
      return `left ${world.arena.usedBytes} bytes, ${world.state.dirty.size} records`
    }
    return world.state.handles.size > 0 || world.state.silly.size > 0 ? 'left handles or silly names' : undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

function differences (world: World, node: ReferenceNode, path: string): string | undefined {
  const names = world.server.names(path)
  if (names.join() !== [...node.names.keys()].sort().join()) {
    return `${path}/ has ${names.join()} instead of ${[...node.names.keys()].sort().join()}`
  }
  for (const [name, child] of node.names) {
    const inside = `${path}/${name}`
    const found = child.kind === 'directory' ? differences(world, child, inside) : undefined
    if (found !== undefined) return found
    if (child.kind === 'file' && world.server.node(inside)?.data.equals(child.data) !== true) {
      return `${inside} has other bytes after close and reboot`
    }
  }
  return undefined
}

for (const [title, setting] of Object.entries(settings)) {
  test(`random programs agree with the reference: ${title}`, async (t) => {
    t.timeout(110_000)
    const firstSeed = chooseSeed((line) => { t.log(line) })
    for (let seed = firstSeed; seed < firstSeed + rounds; seed++) {
      const random = randomOf(seed * 7919)
      const programs = Array.from({ length: setting.actors }, (_value, actor) => makeProgram(random, 120, `/p${actor}`))
      const why = await failure(programs, setting, seed)
      if (why === undefined) continue
      const tagged = programs.flatMap((program, actor) => program.map((step) => ({ actor, step })))
      const split = (steps: typeof tagged): Step[][] =>
        programs.map((_program, actor) => steps.filter((one) => one.actor === actor).map(({ step }) => step))
      const smallest = await shrink(
        tagged,
        async (steps) => await failure(split([...steps]), setting, seed) !== undefined
      )
      t.fail(
        `VOLBRIDGE_SEED=${seed}: ${await failure(split([...smallest]), setting, seed) ?? why}\n${smallest.map(({ actor, step }) => `${actor}: ${JSON.stringify(step)}`).join('\n')}`
      )
      return
    }
    t.pass()
  })
}
