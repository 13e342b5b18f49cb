/** Session logs: a writer that only appends to a descriptor it was given, and an agent that keeps the file small. */
import {
  appendFileSync,
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync
} from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import { toStageKey } from '../../../../../agent/base/brands.ts'
import { LineBudget } from '../../../../../agent/base/line-budget.ts'
import { logFileBytesMax } from '../../../../../agent/base/limits.ts'
import { sessionLog } from '../../../../../agent/roles/session-log.ts'
import { SessionLogs } from '../../../../../agent/volumes/fuse/session-logs.ts'

const key = toStageKey('0123456789abcdef'.repeat(4))

interface Fixture { readonly folder: string, readonly logs: SessionLogs, readonly file: string }

function fixture (t: { teardown: (end: () => void) => void }): Fixture {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'vb-logs-'))
  t.teardown(() => { rmSync(folder, { recursive: true }) })
  const logs = new SessionLogs({ logDir: folder, runDir: folder })
  return { folder, logs, file: path.join(folder, 'session-0123456789abcdef.log') }
}

const numbered = (file: string): number[] =>
  readFileSync(file, 'utf8').trimEnd().split('\n').map((line) => Number(line.split(' ')[0]))

test('a session’s log starts anew at 8 MiB under a session that goes on writing, and keeps one predecessor whole', async (t) => {
  const { folder, logs, file } = fixture(t)
  const opened = await logs.open(key)
  t.truthy(opened)
  const fd = opened!.fd
  let count = 0
  const write = (bytes: number): void => {
    for (let done = 0; done < bytes;) done += writeSync(fd, `${count++} ${'x'.repeat(1000)}\n`)
  }
  for (let round = 0; round < 3; round++) {
    write(logFileBytesMax + 1000)
    await logs.bound()
    t.is(statSync(file).size, 0, 'the writer has its file, which is empty')
    t.true(statSync(`${file}.1`).size > logFileBytesMax)
  }
  write(5000)
  await logs.bound()
  const lines = [...numbered(`${file}.1`), ...numbered(file)]
  t.deepEqual(lines, lines.map((_, index) => lines[0]! + index), 'no line is lost between the two')
  t.is(lines.at(-1), count - 1)
  t.deepEqual(readdirSync(folder).sort(), [path.basename(file), `${path.basename(file)}.1`])
  await opened!.close()
})

test('what a dead session said last is the predecessor of its successor’s log', async (t) => {
  const { logs, file } = fixture(t)
  const first = await logs.open(key)
  await first!.write('last words\n')
  await first!.close()
  const second = await logs.open(key)
  t.is(readFileSync(`${file}.1`, 'utf8'), 'last words\n')
  t.is(statSync(file).size, 0)
  await second!.close()
})

test('a server that makes a session talk a thousand times a second fills no disk, and the session’s own words are there', (t) => {
  const { file } = fixture(t)
  const fd = openSync(file, 'a')
  let nowMs = 0
  const log = sessionLog({ fd, nowMs: () => nowMs })
  for (let n = 0; n < 60_000; n++) {
    nowMs++
    log('warn', { op: 'nfs', n }, 'nonsense from the server')
  }
  log('info', { op: 'session', outcome: 'ended' }, 'unmounted')
  closeSync(fd)
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n').map((line) =>
    JSON.parse(line) as Record<string, unknown>
  )
  t.true(lines.length < 600, `${lines.length} lines of a minute`)
  const leftOut = lines.flatMap(({ msg }) => /^(\d+) lines were left out/.exec(String(msg))?.[1] ?? []).map(Number)
  const told = lines.filter(({ op }) => op === 'nfs').length
  t.true(leftOut.reduce((sum, each) => sum + each, 0) + told > 59_000, 'what was left out is counted')
  t.like(lines.at(-1), { op: 'session', outcome: 'ended', msg: 'unmounted' })
})

test('without an agent to look after it a session’s log still has an end, and no line is endless', (t) => {
  const { file } = fixture(t)
  appendFileSync(file, 'x'.repeat(2 * logFileBytesMax + 1))
  const fd = openSync(file, 'a')
  const log = sessionLog({ fd })
  log('warn', { op: 'nfs', path: 'y'.repeat(1_000_000) }, 'z'.repeat(1_000_000))
  log('debug', { op: 'nfs' }, 'not for a file')
  closeSync(fd)
  const text = readFileSync(file, 'utf8')
  t.true(text.length < 2000, `${text.length}`)
  t.like(JSON.parse(text), { level: 'warn', op: 'nfs' })
})

test('a budget of lines gives a burst, then so many a second, and says how many were left out', (t) => {
  let nowMs = 0
  const budget = new LineBudget({ burst: 2, perSecond: 1, nowMs: () => nowMs })
  t.deepEqual([budget.take(), budget.take(), budget.take(), budget.take()], [0, 0, undefined, undefined])
  nowMs = 1000
  t.deepEqual([budget.take(), budget.take()], [2, undefined])
  nowMs = 100_000
  t.deepEqual([budget.take(), budget.take(), budget.take()], [1, 0, undefined], 'never more than a burst')
})
