import test from 'ava'
import { addCounts, formatCounts, noCounts, TapReader } from '../../../scripts/testing/tap.ts'

test('passes, failures and skips are counted and only what a person needs is shown', (t) => {
  const reader = new TapReader()
  const lines = ['TAP version 13', 'ok 1 - good', '#   a log', 'not ok 2 - bad', '  ---', '    message: broken', '  ...', 'ok 3 - later # SKIP', 'ok 4 - good again', '1..4', '# tests 4']
  const read = lines.map((line) => reader.read(line))
  t.is(formatCounts(read.map(({ counts }) => counts).reduce(addCounts, noCounts)), '2 passed, 1 failed, 1 skipped')
  t.deepEqual(lines.filter((_, index) => read[index]?.isShown), ['not ok 2 - bad', '  ---', '    message: broken', '  ...', 'ok 3 - later # SKIP'])
})
