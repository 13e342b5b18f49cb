/**
 * Two nodes and a third party on one server: what any of them has done is seen by the others when close-to-open, or
 * nfs(5), says so. VOLBRIDGE_SEED repeats a run, MODEL_ROUNDS makes it longer.
 */
import test from 'ava'
import { randomOf, shrink } from '../../../model/exercise.ts'
import { chooseSeed } from '../../../model/seed.ts'
import { makeNodeProgram, Nodes, type NodeStep } from '../../../model/two-nodes.ts'
import { Truth, type Beliefs } from '../../../model/two-nodes-truth.ts'
import { World } from '../../../peers/filesystem-user.ts'
import { MemoryServer } from '../../../peers/memory-backend.ts'

const rounds = Number(process.env['MODEL_ROUNDS'] ?? (process.env['VOLBRIDGE_LONG'] === '1' ? 3_000 : 150))
const steps = 80

interface Setting {
  readonly options: ConstructorParameters<typeof World>[0]
  readonly beliefs: Beliefs
  /** What differs about the server. */
  readonly server?: (server: MemoryServer) => void
}

const minute = 60_000
const standard: Beliefs = { namesMs: minute, missingMs: minute, attributesMs: minute, bytesMs: 0 }
const nothing: Beliefs = { namesMs: 0, missingMs: 0, attributesMs: 0, bytesMs: 0 }

const settings: Record<string, Setting> = {
  standard: { options: {}, beliefs: standard },
  'standard, a server that does not say what was before': {
    options: {}, beliefs: standard, server: (server) => { server.givesBefore = false }
  },
  'standard, a server that gives no attributes': {
    options: {}, beliefs: standard, server: (server) => { server.givesAttributes = false }
  },
  'actimeo of 2 s': {
    options: { acregminMs: 2_000, acregmaxMs: 2_000, acdirminMs: 2_000, acdirmaxMs: 2_000 },
    beliefs: { ...standard, namesMs: 2_000, missingMs: 2_000, attributesMs: 2_000 }
  },
  noac: { options: { noac: true }, beliefs: nothing },
  'lookupcache=none': { options: { lookupCache: 'none' }, beliefs: { ...standard, namesMs: 0, missingMs: 0 } },
  'lookupcache=positive': { options: { lookupCache: 'positive' }, beliefs: { ...standard, missingMs: 0 } },
  nocto: { options: { cto: false }, beliefs: { ...standard, bytesMs: minute } }
}

async function failure (program: readonly NodeStep[], setting: Setting): Promise<string | undefined> {
  const server = new MemoryServer()
  server.pageEntries = 3
  setting.server?.(server)
  const worlds = [new World({ server, ...setting.options }), new World({ server, ...setting.options })]
  const truth = new Truth(server, setting.beliefs)
  try {
    await new Nodes(worlds, server, truth).run(program)
    for (const { fs } of worlds) {
      const { lostBytes } = await fs.drain(1000)
      if (lostBytes > 0) return `lost ${lostBytes} bytes`
    }
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

for (const [title, setting] of Object.entries(settings)) {
  test(`two nodes see what the other, and the server’s administrator, have done: ${title}`, async (t) => {
    t.timeout(110_000)
    const first = chooseSeed((line) => { t.log(line) })
    for (let seed = first; seed < first + rounds; seed++) {
      const program = makeNodeProgram(randomOf(seed * 7919), steps)
      if (await failure(program, setting) === undefined) continue
      const smallest = await shrink(program, async (less) => await failure(less, setting) !== undefined)
      t.fail(
        `VOLBRIDGE_SEED=${seed}: ${await failure(smallest, setting) ?? ''}\n${smallest.map((step) => JSON.stringify(step)).join('\n')}`
      )
      return
    }
    t.pass()
  })
}
