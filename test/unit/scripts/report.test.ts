import test from 'ava'
import { addCounts, formatCounts, noCounts, ReportReader } from '../../../scripts/testing/report.ts'

test('passes, failures and skips are counted and only what a person needs is shown', (t) => {
  const reader = new ReportReader()
  const lines = [
    '', '  ✔ one › good', '    ℹ seed 7', '        more of it', '  ✘ [fail]: one › bad', '  - [skip] one › later (needs root)', '  ✔ one › good again (107ms)',
    '  ─', '  one › bad', '', '  ✔ looks like a test', '  Difference (- actual, + expected):', '', '  2 tests passed'
  ]
  const read = lines.map((line) => reader.read(line))
  t.is(formatCounts(read.map(({ counts }) => counts).reduce(addCounts, noCounts)), '2 passed, 1 failed, 1 skipped')
  t.deepEqual(lines.filter((line, index) => line !== '' && read[index]?.isShown), [
    '  ✘ [fail]: one › bad', '  - [skip] one › later (needs root)', '  one › bad', '  ✔ looks like a test', '  Difference (- actual, + expected):'
  ])
})
