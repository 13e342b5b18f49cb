/**
 * One deed of a real engine in a process of its own, which is killed before its Nth step.
 * Owns what counts as a step: each journal write and each call that changes the node. Tells the names of those that
 * were done.
 *
 *   node doomed-engine.ts ROOT DEED N
 */
import { writeSync } from 'node:fs'
import { HostCalls } from '../../../agent/host/host-calls.ts'
import { FileJournal } from '../../../agent/volumes/records/journal.ts'
import { deeds, startEngineIn, type DeedName } from './deeds.ts'

const [root = '', deed = '', at = ''] = process.argv.slice(2)
const looks = new Set(['stat', 'statfs', 'inspect', 'empty', 'setns'])
let armed = false
let steps = 0

function step (name: string): void {
  if (!armed) return
  if (steps++ === Number(at)) process.kill(process.pid, 'SIGKILL')
  writeSync(1, `${name}\n`)
}

const { put, drop } = FileJournal.prototype
FileJournal.prototype.put = async function (record) {
  step(`put ${record.kind} ${record.phase}`)
  await put.call(this, record)
}
FileJournal.prototype.drop = async function (id) {
  step(`drop ${id.split('-')[0] ?? ''}`)
  await drop.call(this, id)
}
const { run } = HostCalls.prototype
HostCalls.prototype.run = async function (ops, options) {
  const changing = ops.filter(({ op }) => !looks.has(op))
  if (changing.length > 0) step(changing.map(({ op }) => op).join('+'))
  return await run.call(this, ops, options)
}

const engine = await startEngineIn(root)
armed = true
await deeds[deed as DeedName](engine.service, root)
writeSync(1, 'done\n')
process.exit(0)
