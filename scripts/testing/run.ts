/**
 * Runs the suites of one tier and says how many tests passed.
 * Owns the suites, their limits and their order; see README.md. Ctrl-C ends everything that was started.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync, globSync, mkdtempSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { isolated, whoIsInside } from './isolation.ts'
import { removeFolder } from './remove-folder.ts'
import { removeLeftGroups } from './remove-groups.ts'
import { addCounts, filesOfFailures, formatCounts, noCounts, ReportReader, type Counts } from './report.ts'

interface Suite {
  readonly name: string
  readonly command: readonly string[]
  /** `ava`: every test is counted. `exit`: the command is one test. */
  readonly result: 'ava' | 'exit'
  /** Each of these files runs alone, in namespaces of its own. Without it all is one run. */
  readonly files?: string
  /** Folder of the files that are one run; those that fail are run once more. */
  readonly together?: string
  /** Files that mostly wait for other machines, real or not: they run one after the other beside the rest. */
  readonly beside?: RegExp
  /** Not with --fast. */
  readonly isLeftOutWhenFast?: true
  /** A hang, not a figure: of one run of the command. */
  readonly lateMs: number
}

const minuteMs = 60_000

const suites: readonly Suite[] = [
  { name: 'checks', command: ['scripts/checks/all'], result: 'exit', lateMs: 10 * minuteMs },
  { name: 'unit', command: ['ava'], result: 'ava', together: 'test/unit/', lateMs: 15 * minuteMs },
  {
    name: 'sanitized',
    command: ['scripts/testing/sanitized', 'ava', 'test/unit/agent/host/*.test.ts'],
    result: 'ava',
    isLeftOutWhenFast: true,
    lateMs: 10 * minuteMs
  },
  {
    name: 'system',
    command: ['ava', '--config', 'ava.system.config.js'],
    result: 'ava',
    files: 'test/{semantics,model,conformance,cluster}/**/*.test.ts',
    // The last sets something for the whole node while it mounts, for a moment.
    beside: /\/cluster\/|\/vm\/|\/knfsd\.|\/request-limit\./,
    // A cluster takes eight on a quiet machine.
    lateMs: 20 * minuteMs
  }
]

/** More than that is no accident. */
const repeatedFilesAtMost = 3
/** A suite that takes longer starts no more files: a report that comes beats a complete one that does not. */
const suiteMs = 50 * minuteMs
/** The long tier has the counts written down as goals, an hour of churn among them. */
const longTimes = 8
/** The namespace's end takes everything inside with it; what the kernel can't end by then is no reason to wait. */
const endMs = 10_000

const { values, positionals } = parseArgs({
  options: {
    fast: { type: 'boolean', default: false }, long: { type: 'boolean', default: false }, only: { type: 'string' }
  },
  allowPositionals: true
})
if (values.fast && values.long) {
  console.error('scripts/test: --fast and --long exclude each other')
  process.exit(2)
}

if (values.only !== undefined && !suites.some(({ name }) => name === values.only)) {
  console.error(`scripts/test: --only ${values.only} is none of ${suites.map(({ name }) => name).join(', ')}`)
  process.exit(2)
}

if (positionals.length > 0 && values.only !== 'system') {
  console.error(`scripts/test: ${positionals.join(' ')}: files are chosen with --only system FILE …`)
  process.exit(2)
}

const isRoot = process.geteuid?.() === 0
// Short: tests put unix sockets deep below, whose paths may have 107 bytes.
const runFolder = mkdtempSync(path.join(existsSync('/var/tmp') ? '/var/tmp' : '/tmp', 'vbt-'))
const running = new Set<ChildProcess>()
let interrupted = false

const seconds = (startedMs: number): string => `${Math.round((performance.now() - startedMs) / 1000)} s`

/** Killing the namespace's parent ends all that runs inside. Without one it is the process group that is told. */
function end (child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, child.spawnfile === 'unshare' ? 'SIGKILL' : 'SIGTERM')
  } catch (error) {
    // It has ended by itself.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

async function runOnce (
  suite: Suite,
  file?: string,
  show: (line: string) => void = console.log,
  failures: string[] = []
): Promise<Counts> {
  const command = [...suite.command, ...file === undefined ? [] : [file]]
  const [program = '', ...args] = suite.files !== undefined && isRoot ? isolated(command) : command
  const child = spawn(program, args, {
    stdio: ['ignore', suite.result === 'ava' ? 'pipe' : 'inherit', 'inherit'],
    // A session of its own: a program that touches the terminal from the background would stop its whole group, tests
    // and all.
    detached: true,
    // A TERM that knows Unicode gives the marks that the reader looks for.
    env: {
      ...process.env, TERM: 'dumb', NO_COLOR: '1', FORCE_COLOR: '0', TMPDIR: runFolder, VOLBRIDGE_TEST_DIR: runFolder,
      ...values.long ? { VOLBRIDGE_LONG: '1' } : {}
    }
  })
  running.add(child)
  let counts = noCounts
  const reader = new ReportReader()
  const isTerminal = process.stderr.isTTY
  if (child.stdout !== null) {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const { counts: added, isShown } = reader.read(line)
      counts = addCounts(counts, added)
      if (isShown) show(line)
      else if (isTerminal) process.stderr.write(`\r\u001B[K${file ?? suite.name}: ${formatCounts(counts)}`)
    })
  }
  const { promise, resolve } = Promise.withResolvers<number | null>()
  child.once('error', (error) => { show(`${suite.name}: ${error.message}`) })
  child.once('close', resolve)
  const lateMs = suite.lateMs * (values.long ? longTimes : 1)
  const late = setTimeout(() => {
    show(`${file ?? suite.name}: no end after ${lateMs / minuteMs} minutes, ended by force; who was there:`)
    for (const line of whoIsInside(child.pid ?? 0)) show(`    ${line}`)
    end(child)
    setTimeout(() => { resolve(null) }, endMs).unref()
  }, lateMs)
  const code = await promise
  clearTimeout(late)
  child.stdout?.destroy()
  running.delete(child)
  if (isTerminal) process.stderr.write('\r\u001B[K')
  failures.push(...reader.failures)
  if (suite.result === 'exit') return { ...noCounts, [code === 0 ? 'passed' : 'failed']: 1 }
  return code !== 0 && counts.failed === 0 ? addCounts(counts, { ...noCounts, failed: 1 }) : counts
}

/** One file with all it has to say, in one piece: others run beside it. */
async function runFile (suite: Suite, file: string): Promise<Counts> {
  const startedMs = performance.now()
  const lines: string[] = []
  const counts = await runOnce(suite, file, (line) => { lines.push(line) })
  for (const line of lines) console.log(line)
  if (!interrupted) {
    console.log(
      `${counts.failed === 0 ? 'ok    ' : 'failed'}  ${file}: ${formatCounts(counts)} (${seconds(startedMs)})`
    )
  }
  return counts
}

/**
 * File by file, in two lanes. One that fails is run once more when all others are done: a failure that comes again is
 * one, a failure that does not is printed as flaky, which is a fault of test or product to be looked into, but no
 * reason to doubt everything else.
 */
async function runFiles (suite: Suite, files: readonly string[]): Promise<Counts> {
  const startedMs = performance.now()
  const results = new Map<string, Counts>()
  const runLane = async (lane: readonly string[]): Promise<void> => {
    for (const file of lane) {
      if (interrupted) return
      if (values.long || performance.now() - startedMs < suiteMs) {
        results.set(file, await runFile(suite, file))
      } else {
        console.log(`failed  ${file}: not run, ${suite.name} has taken more than ${suiteMs / minuteMs} minutes`)
        results.set(file, { ...noCounts, failed: 1 })
      }
    }
  }
  const isBeside = (file: string): boolean => suite.beside?.test(file) === true
  await Promise.all([runLane(files.filter(isBeside)), runLane(files.filter((file) => !isBeside(file)))])
  const failed = [...results].filter(([, { failed }]) => failed > 0).map(([file]) => file)
  if (failed.length <= repeatedFilesAtMost && performance.now() - startedMs < suiteMs) {
    for (const file of failed) {
      if (interrupted) break
      console.log(`once more: ${file}`)
      const again = await runFile(suite, file)
      if (again.failed > 0) continue
      console.log(`flaky: failed, then passed: ${file}`)
      results.set(file, again)
    }
  }
  return [...results.values()].reduce(addCounts, noCounts)
}

/** All files in one run, and the few that failed once more, each alone. */
async function runTogether (suite: Suite, folder: string): Promise<Counts> {
  const failures: string[] = []
  let counts = await runOnce(suite, undefined, undefined, failures)
  const failed = filesOfFailures(failures, globSync(`${folder}**/*.test.ts`), folder)
  // A failure that no mark tells of (a file that hung or broke) is one.
  if (failed === undefined || failures.length !== counts.failed || failed.length > repeatedFilesAtMost) return counts
  for (const file of failed) {
    if (interrupted) break
    console.log(`once more: ${file}`)
    if ((await runFile(suite, file)).failed > 0) continue
    console.log(`flaky: failed, then passed: ${file}`)
    const passed = failures.filter((failure) => filesOfFailures([failure], [file], folder) !== undefined).length
    counts = addCounts(counts, { passed, failed: -passed, skipped: 0 })
  }
  return counts
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    interrupted = true
    for (const child of running) end(child)
  })
}

let total = noCounts
for (const suite of suites) {
  if (
    interrupted || (values.fast && (suite.files !== undefined || suite.isLeftOutWhenFast)) ||
    (values.only ?? suite.name) !== suite.name
  ) continue
  const startedMs = performance.now()
  console.log(`--- ${suite.name}`)
  const files = positionals.length > 0
    ? positionals
    : suite.files === undefined
    ? undefined
    : globSync(suite.files).sort()
  const counts = files !== undefined
    ? await runFiles(suite, files)
    : suite.together !== undefined
    ? await runTogether(suite, suite.together)
    : await runOnce(suite)
  total = addCounts(total, counts)
  console.log(`${suite.name}: ${formatCounts(counts)} (${seconds(startedMs)})`)
}
removeFolder(runFolder)
if (isRoot) removeLeftGroups()
if (interrupted) {
  console.error('interrupted')
  process.exit(130)
}
console.log(formatCounts(total))
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1
