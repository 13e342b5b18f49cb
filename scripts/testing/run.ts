/**
 * Runs the suites of one tier and says how many tests passed.
 * Owns the suites and their isolation; see README.md. Ctrl-C ends everything that was started.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { addCounts, fileOfTest, formatCounts, noCounts, ReportReader, type Counts } from './report.ts'

interface Suite {
  readonly name: string
  readonly command: readonly string[]
  /** `ava`: every test is counted. `exit`: the command is one test. */
  readonly result: 'ava' | 'exit'
  readonly needsRoot: boolean
}

interface SuiteResult {
  readonly counts: Counts
  /** Tests that failed, with the path of their file. */
  readonly failed: readonly string[]
}

/** More than that is no accident. */
const repeatedFilesAtMost = 3

const suites: readonly Suite[] = [
  { name: 'checks', command: ['scripts/checks/all'], result: 'exit', needsRoot: false },
  { name: 'unit', command: ['ava'], result: 'ava', needsRoot: false },
  { name: 'system', command: ['ava', '--config', 'ava.system.config.js'], result: 'ava', needsRoot: true }
]

const { values } = parseArgs({ options: { fast: { type: 'boolean', default: false }, long: { type: 'boolean', default: false }, only: { type: 'string' } } })
if (values.fast && values.long) {
  console.error('scripts/test: --fast and --long exclude each other')
  process.exit(2)
}

if (values.only !== undefined && !suites.some(({ name }) => name === values.only)) {
  console.error(`scripts/test: --only ${values.only} is none of ${suites.map(({ name }) => name).join(', ')}`)
  process.exit(2)
}

const isRoot = process.geteuid?.() === 0
// Short: tests put unix sockets deep below, whose paths may have 107 bytes.
const runFolder = mkdtempSync(path.join(existsSync('/var/tmp') ? '/var/tmp' : '/tmp', 'vbt-'))
let running: ChildProcess | undefined
let interrupted = false

/** A private view of mounts and processes: nothing started or mounted inside outlives it. */
const isolated = (command: readonly string[]): readonly string[] => [
  'unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--propagation', 'private',
  // bash is process 1 and reaps what is orphaned there; the runner would leave zombies, which look like processes that do not end.
  'bash', '-c', '"$@"; exit $?', 'bash', ...command
]

async function runOnce (suite: Suite, files: readonly string[] = []): Promise<SuiteResult> {
  const command = [...suite.command, ...files]
  const [program = '', ...args] = suite.needsRoot && isRoot ? isolated(command) : command
  const child = spawn(program, args, {
    stdio: ['ignore', suite.result === 'ava' ? 'pipe' : 'inherit', 'inherit'],
    // A TERM that knows Unicode gives the marks that the reader looks for.
    env: { ...process.env, TERM: 'dumb', NO_COLOR: '1', FORCE_COLOR: '0', TMPDIR: runFolder, VOLBRIDGE_TEST_DIR: runFolder, ...values.long ? { VOLBRIDGE_LONG: '1' } : {} }
  })
  running = child
  let counts = noCounts
  const failed: string[] = []
  const reader = new ReportReader()
  const isTerminal = process.stderr.isTTY
  if (child.stdout !== null) {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const { counts: added, isShown, failed: title } = reader.read(line)
      counts = addCounts(counts, added)
      if (title !== undefined) failed.push(title)
      if (isShown) console.log(line)
      else if (isTerminal) process.stderr.write(`\r\u001B[K${suite.name}: ${formatCounts(counts)}`)
    })
  }
  const code = await new Promise<number | null>((resolve) => {
    child.once('error', (error) => { console.error(`${suite.name}: ${error.message}`) })
    child.once('close', resolve)
  })
  running = undefined
  if (isTerminal) process.stderr.write('\r\u001B[K')
  if (suite.result === 'exit') return { counts: { ...noCounts, [code === 0 ? 'passed' : 'failed']: 1 }, failed }
  return { counts: code !== 0 && counts.failed === 0 ? addCounts(counts, { ...noCounts, failed: 1 }) : counts, failed }
}

/**
 * What needs real servers is run once more when it fails, file by file: a failure that comes again is one, a failure that does not is
 * printed as flaky, which is a fault of test or product to be looked into, but no reason to doubt everything else.
 */
async function runSuite (suite: Suite): Promise<Counts> {
  const { counts, failed } = await runOnce(suite)
  const files = [...new Set(failed.map((title) => fileOfTest(title, existsSync)))].filter((file) => file !== undefined)
  if (!suite.needsRoot || interrupted || failed.length !== counts.failed || files.length === 0 || files.length > repeatedFilesAtMost) return counts
  console.log(`--- ${suite.name}, repeated: ${files.join(', ')}`)
  const again = await runOnce(suite, files)
  if (again.counts.failed > 0) return counts
  for (const title of failed) console.log(`flaky: failed, then passed: ${title}`)
  return { ...counts, passed: counts.passed + counts.failed, failed: 0 }
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    interrupted = true
    // The namespace's parent: killing it ends all that runs inside.
    running?.kill(running.spawnfile === 'unshare' ? 'SIGKILL' : 'SIGTERM')
  })
}

let total = noCounts
for (const suite of suites) {
  if (interrupted || (values.fast && suite.needsRoot) || (values.only ?? suite.name) !== suite.name) continue
  const startedMs = performance.now()
  console.log(`--- ${suite.name}`)
  const counts = await runSuite(suite)
  total = addCounts(total, counts)
  console.log(`${suite.name}: ${formatCounts(counts)} (${Math.round((performance.now() - startedMs) / 1000)} s)`)
}
rmSync(runFolder, { recursive: true, force: true })
if (interrupted) {
  console.error('interrupted')
  process.exit(130)
}
console.log(formatCounts(total))
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1
