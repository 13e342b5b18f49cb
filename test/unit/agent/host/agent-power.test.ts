/** Which capabilities an agent keeps, and what is said of those that it has beyond them. */
import test from 'ava'
import { judgeAgentPower } from '../../../../agent/cli/agent-power.ts'
import {
  agentCapabilities, allAgentCapabilities, foregroundCapabilities, leftAfterRestart
} from '../../../../agent/host/agent-power.ts'

const statusOf = (permitted: bigint, bounding = permitted): string =>
  Object.entries({ CapInh: 0n, CapPrm: permitted, CapEff: permitted, CapBnd: bounding }).map(([name, mask]) =>
    `${name}:\t${mask.toString(16).padStart(16, '0')}\n`
  ).join('')
const everything = 0x1ff_ffff_ffffn
/** The names' bits of linux/capability.h, written from there. */
const list = 0x12c_07ean

test('the list is the bits of capability.h for its names, each with a reason', (t) => {
  const mask = allAgentCapabilities.reduce<bigint>((sum, name) => sum | 1n << BigInt(agentCapabilities[name].bit), 0n)
  t.is(mask, list)
  for (const { why } of Object.values(agentCapabilities)) t.true(why.length > 10)
  t.is(new Set(foregroundCapabilities).size, foregroundCapabilities.length)
})

test('root with everything is left the list; nothing that was not there is won; who has no more begins no second time', (t) => {
  t.deepEqual(leftAfterRestart(statusOf(everything), allAgentCapabilities), [Number(list), 0])
  const few = everything & ~(1n << 24n)
  t.deepEqual(leftAfterRestart(statusOf(few), allAgentCapabilities), [Number(list & ~(1n << 24n)), 0])
  t.deepEqual(leftAfterRestart(statusOf(list, everything), allAgentCapabilities), [Number(list), 0])
  for (const left of [list, list & few, 0n]) t.is(leftAfterRestart(statusOf(left), allAgentCapabilities), undefined)
})

test('the doctor tells what an agent has beyond its list and what it lacks', (t) => {
  t.is(judgeAgentPower(undefined).verdict, 'note')
  const { verdict, found } = judgeAgentPower(statusOf(list))
  t.is(verdict, 'ok')
  t.regex(found, /keeps 12 capabilities \(DAC_OVERRIDE, .*\) and no other$/)
  t.regex(judgeAgentPower(statusOf(everything)).found, / and 29 that it has no use for$/)
  t.regex(judgeAgentPower(statusOf(list & ~(1n << 24n))).found, /keeps 11 .*; without SYS_RESOURCE: sessions keep/)
})
