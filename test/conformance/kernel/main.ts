/**
 * `scripts/compare-kernel`: both clients, world by world, and a verdict. Owns arguments and what is printed. Exit code
 * 1 when a difference is not known.
 */
import process from 'node:process'
import { parseArgs } from 'node:util'
import { Comparison } from './compare.ts'
import { judge, lineOf } from './differences.ts'
import { worlds } from './worlds.ts'

const { values } = parseArgs({
  options: { world: { type: 'string', multiple: true, default: [] }, known: { type: 'boolean', default: false } }
})
const strange = values.world.find((name) => !(name in worlds))
if (strange !== undefined) {
  console.error(`scripts/compare-kernel: --world ${strange} is none of: ${Object.keys(worlds).join('; ')}`)
  process.exit(2)
}
const chosen = Object.entries(worlds).filter(([name]) => values.world.length === 0 || values.world.includes(name))
const comparison = await Comparison.start(Object.fromEntries(chosen))
try {
  for (const [name, world] of chosen) {
    const { steps, unexplained, explained } = judge(await comparison.run(name, world))
    const count = [...explained.values()].reduce((sum, each) => sum + each, 0)
    console.log(`${name}: ${steps} steps, ${count} known differences, ${unexplained.length} others`)
    if (values.known) for (const [{ reason }, times] of explained) console.log(`  ${times} × ${reason}`)
    for (const each of unexplained) console.log(lineOf(each))
    if (unexplained.length > 0) process.exitCode = 1
  }
} finally {
  await comparison.close()
}
