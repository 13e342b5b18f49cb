/**
 * Our client beside the kernel's, on the same server, call by call (test/conformance/kernel). A difference is a bug, or
 * an entry of the list that says why; an entry that nothing shows is a bug too.
 */
import test from 'ava'
import { Comparison } from '../../conformance/kernel/compare.ts'
import { judge, known, lineOf, type Known } from '../../conformance/kernel/differences.ts'
import { worlds } from '../../conformance/kernel/worlds.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'

const needs = ['root', 'ganesha', 'qemu', 'gcc'] as const
const check = testNeeding(...needs)
/** Hangs, not figures: a shared machine takes many times as long as a quiet one. */
const worldMs = 1_200_000

let comparison: Comparison
const shown = new Set<Known>()

test.before(async () => {
  if (missing(...needs) === undefined) comparison = await Comparison.start(worlds)
})

test.after.always(async () => { await comparison?.close() })

for (const [name, world] of Object.entries(worlds)) {
  check(`what programs are told is what the kernel’s client tells them, or a known difference: ${name}`, async (t) => {
    t.timeout(worldMs)
    const { steps, unexplained, explained } = judge(await comparison.run(name, world))
    for (const entry of explained.keys()) shown.add(entry)
    t.log(`${steps} steps`)
    t.true(steps > 500)
    t.deepEqual(unexplained.map(lineOf), [])
  })
}

check('every known difference to the kernel’s client is one that can be seen', (t) => {
  t.deepEqual(known.filter((entry) => !shown.has(entry)).map(({ reason }) => reason), [])
})
