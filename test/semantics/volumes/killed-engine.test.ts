/**
 * A real engine, real mounts, real session processes, and SIGKILL before every step of every deed. The next engine must
 * find exactly what stood before the deed or what stands after it, never something between; the repeated deed must
 * work; and nothing must be left at the end.
 */
import { execFile, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { parseAbsolutePath } from '../../../agent/base/brands.ts'
import { testNeeding } from '../../peers/testing.ts'
import { deeds, flexTargetIn, stagingIn, startEngineIn, targetIn, type DeedName } from './deeds.ts'
import { TestNode } from './node.ts'

const check = testNeeding('root', 'fuse')
const program = fileURLToPath(new URL('doomed-engine.ts', import.meta.url))

/** What stands before each deed, by the deeds that lead there, and what is to be seen before and after it. */
const cases: Readonly<
  Record<
    DeedName,
    {
      readonly before: readonly DeedName[]
      readonly seen: readonly [string, string]
      readonly after: readonly DeedName[]
    }
  >
> = {
  stage: { before: [], seen: ['', 'shared'], after: ['unstage'] },
  publish: { before: ['stage'], seen: ['shared', 'shared target'], after: ['unpublish', 'unstage'] },
  unpublish: { before: ['stage', 'publish'], seen: ['shared target', 'shared'], after: ['unstage'] },
  unstage: { before: ['stage'], seen: ['shared', ''], after: [] },
  mountFlex: { before: [], seen: ['', 'shared target'], after: ['unmountFlex'] },
  unmountFlex: { before: ['mountFlex'], seen: ['shared target', ''], after: [] }
}

async function doomed (root: string, deed: DeedName, at: number): Promise<readonly string[]> {
  return await new Promise((resolve, reject) => {
    execFile(process.execPath, ['--no-warnings', program, root, deed, `${at}`], {
      timeout: 120_000, killSignal: 'SIGABRT'
    }, (error, stdout, stderr) => {
      if (error !== null && error.signal !== 'SIGKILL') reject(new Error(`${error.message} ${stderr}`))
      else resolve(stdout.trimEnd().split('\n'))
    })
  })
}

/** Nothing is where the file system has no such flag. */
const isImmutable = (folder: string): boolean =>
  /^\S*i/.test(spawnSync('lsattr', ['-d', folder], { encoding: 'utf8' }).stdout)

/** The volume's mounts, each once and nothing else there; nothing is ever mounted at the staging path. */
function seen (node: TestNode): string {
  const names = node.mounts().map(({ mountPoint }) =>
    mountPoint.startsWith(`${node.root}/state/mounts/`)
      ? 'shared'
      : [targetIn(node.root), flexTargetIn(node.root)].includes(parseAbsolutePath(mountPoint, 'mountinfo'))
      ? 'target'
      : `${mountPoint}?`
  )
  return names.sort().join(' ')
}

async function killAt (t: ExecutionContext, deed: DeedName, at: number): Promise<boolean> {
  const { before, seen: [seenBefore, seenAfter], after } = cases[deed]
  const node = new TestNode()
  try {
    mkdirSync(stagingIn(node.root))
    const isFlex = deed.endsWith('Flex')
    if (isFlex) mkdirSync(flexTargetIn(node.root))
    const first = await startEngineIn(node.root)
    for (const each of before) await deeds[each](first.service, node.root)
    first.close()
    const steps = await doomed(node.root, deed, at)
    const where = `${deed}, killed after ${steps.slice(-3).join(', ')}`
    const second = await startEngineIn(node.root)
    const found = seen(node)
    t.true([seenBefore, seenAfter].includes(found), `${where}: ${found}`)
    if (isFlex && found === '') {
      t.false(isImmutable(flexTargetIn(node.root)), `${where}: kubelet cannot remove the bare folder`)
    }
    await deeds[deed](second.service, node.root)
    t.is(seen(node), seenAfter, `${where}, then repeated`)
    for (const each of after) await deeds[each](second.service, node.root)
    t.deepEqual(node.mounts(), [], where)
    t.deepEqual(readdirSync(`${node.root}/state/journal`), [], where)
    t.deepEqual(readdirSync(`${node.root}/state/mounts`), [], where)
    t.false(existsSync(targetIn(node.root)), where)
    if (isFlex) t.notThrows(() => { rmdirSync(flexTargetIn(node.root)) }, where)
    // One that had been started and not yet written down ends by itself a minute later, as nobody speaks to it (the
    // stand-in does not).
    t.true(node.sessions().length <= (steps.at(-1) === 'mkdir' ? 1 : 0), where)
    second.close()
    return steps.at(-1) === 'done'
  } finally {
    node.cleanUp()
  }
}

for (const deed of Object.keys(deeds) as DeedName[]) {
  check(`${deed}: the engine is killed before every step, and its successor ends in exactly the right mounts`, async (t) => {
    let points = 0
    while (!await killAt(t, deed, points)) points++
    t.log(`${points} points`)
    t.true(points >= 4)
  })
}
