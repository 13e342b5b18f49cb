import test from 'ava'
import { addCounts, filesOfFailures, formatCounts, noCounts, ReportReader } from '../../../scripts/testing/report.ts'

test('passes, failures and skips are counted and only what a person needs is shown', (t) => {
  const reader = new ReportReader()
  const lines = [
    '', '  ✔ one › good', '    ℹ seed 7', '        more of it', '  ✘ [fail]: one › bad',
    '  - [skip] one › later (needs root)', '  ✔ one › good again (107ms)',
    '  ─', '  one › bad', '', '  ✔ looks like a test', '  Difference (- actual, + expected):', '', '  2 tests passed'
  ]
  const read = lines.map((line) => reader.read(line))
  t.is(formatCounts(read.map(({ counts }) => counts).reduce(addCounts, noCounts)), '2 passed, 1 failed, 1 skipped')
  t.deepEqual(lines.filter((line, index) => line !== '' && read[index]?.isShown), [
    '  ✘ [fail]: one › bad', '  - [skip] one › later (needs root)', '  one › bad', '  ✔ looks like a test',
    '  Difference (- actual, + expected):'
  ])
})

test('failures are led back to their files, and one that belongs to none is not', (t) => {
  const reader = new ReportReader()
  for (const line of [
    '  ✘ [fail]: agent › rpc › faults › F18: slow › and long why', '  ✔ agent › rpc › call › good', '  ─',
    '  agent › rpc › faults › F18: slow'
  ]) reader.read(line)
  t.deepEqual(reader.failures, ['agent › rpc › faults › F18: slow › and long why'])
  const files = ['test/unit/agent/rpc/faults.test.ts', 'test/unit/agent/rpc/call.test.ts']
  t.deepEqual(filesOfFailures(reader.failures, files, 'test/unit/'), [files[0]])
  t.deepEqual(filesOfFailures([], files, 'test/unit/'), [])
  t.is(filesOfFailures([...reader.failures, 'somewhere else › bad'], files, 'test/unit/'), undefined)
})
