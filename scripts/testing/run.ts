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
import { addCounts, formatCounts, noCounts, ReportReader, type Counts } from './report.ts'

interface Suite {
  readonly name: string
  readonly command: readonly string[]
  /** `ava`: every test is counted. `exit`: the command is one test. */
  readonly result: 'ava' | 'exit'
  /** Each of these files runs alone, in namespaces of its own. Without it all is one run. */
  readonly files?: string
  /** A hang, not a figure: of one run of the command. */
  readonly lateMs: number
}

const minuteMs = 60_000

const suites: readonly Suite[] = [
  { name: 'checks', command: ['scripts/checks/all'], result: 'exit', lateMs: 10 * minuteMs },
  { name: 'unit', command: ['ava'], result: 'ava', lateMs: 15 * minuteMs },
  {
    name: 'system',
    command: ['ava', '--config', 'ava.system.config.js'],
    result: 'ava',
    files: 'test/{semantics,model,conformance,cluster}/**/*.test.ts',
    // A cluster takes four on a quiet machine.
    lateMs: 12 * minuteMs
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
  options: { fast: { type: 'boolean', default: false }, long: { type: 'boolean', default: false }, only: { type: 'string' } }, allowPositionals: true
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
let running: ChildProcess | undefined
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

async function runOnce (suite: Suite, file?: string): Promise<Counts> {
  const command = [...suite.command, ...file === undefined ? [] : [file]]
  const [program = '', ...args] = suite.files !== undefined && isRoot ? isolated(command) : command
  const child = spawn(program, args, {
    stdio: ['ignore', suite.result === 'ava' ? 'pipe' : 'inherit', 'inherit'],
    // A session of its own: a program that touches the terminal from the background would stop its whole group, tests and all.
    detached: true,
    // A TERM that knows Unicode gives the marks that the reader looks for.
    env: { ...process.env, TERM: 'dumb', NO_COLOR: '1', FORCE_COLOR: '0', TMPDIR: runFolder, VOLBRIDGE_TEST_DIR: runFolder, ...values.long ? { VOLBRIDGE_LONG: '1' } : {} }
  })
  running = child
  let counts = noCounts
  const reader = new ReportReader()
  const isTerminal = process.stderr.isTTY
  if (child.stdout !== null) {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const { counts: added, isShown } = reader.read(line)
      counts = addCounts(counts, added)
      if (isShown) console.log(line)
      else if (isTerminal) process.stderr.write(`\r\u001B[K${file ?? suite.name}: ${formatCounts(counts)}`)
    })
  }
  const { promise, resolve } = Promise.withResolvers<number | null>()
  child.once('error', (error) => { console.error(`${suite.name}: ${error.message}`) })
  child.once('close', resolve)
  const lateMs = suite.lateMs * (values.long ? longTimes : 1)
  const late = setTimeout(() => {
    console.log(`${file ?? suite.name}: no end after ${lateMs / minuteMs} minutes, ended by force; who was there:`)
    for (const line of whoIsInside(child.pid ?? 0)) console.log(`    ${line}`)
    end(child)
    setTimeout(() => { resolve(null) }, endMs).unref()
  }, lateMs)
  const code = await promise
  clearTimeout(late)
  child.stdout?.destroy()
  running = undefined
  if (isTerminal) process.stderr.write('\r\u001B[K')
  if (suite.result === 'exit') return { ...noCounts, [code === 0 ? 'passed' : 'failed']: 1 }
  return code !== 0 && counts.failed === 0 ? addCounts(counts, { ...noCounts, failed: 1 }) : counts
}

/**
 * File by file. One that fails is run once more: a failure that comes again is one, a failure that does not is printed as flaky, which is
 * a fault of test or product to be looked into, but no reason to doubt everything else.
 */
async function runFiles (suite: Suite, files: readonly string[]): Promise<Counts> {
  const startedMs = performance.now()
  let total = noCounts
  let repeated = 0
  for (const file of files) {
    if (interrupted) break
    if (!values.long && performance.now() - startedMs > suiteMs) {
      console.log(`failed  ${file}: not run, ${suite.name} has taken more than ${suiteMs / minuteMs} minutes`)
      total = addCounts(total, { ...noCounts, failed: 1 })
      continue
    }
    const fileMs = performance.now()
    let counts = await runOnce(suite, file)
    if (counts.failed > 0 && !interrupted && repeated < repeatedFilesAtMost) {
      repeated += 1
      console.log(`once more ${file}: ${formatCounts(counts)} (${seconds(fileMs)})`)
      const again = await runOnce(suite, file)
      if (again.failed === 0) {
        console.log(`flaky: failed, then passed: ${file}`)
        counts = again
      }
    }
    console.log(`${counts.failed === 0 ? 'ok    ' : 'failed'}  ${file}: ${formatCounts(counts)} (${seconds(fileMs)})`)
    total = addCounts(total, counts)
  }
  return total
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    interrupted = true
    if (running !== undefined) end(running)
  })
}

let total = noCounts
for (const suite of suites) {
  if (interrupted || (values.fast && suite.files !== undefined) || (values.only ?? suite.name) !== suite.name) continue
  const startedMs = performance.now()
  console.log(`--- ${suite.name}`)
  const files = positionals.length > 0 ? positionals : suite.files === undefined ? undefined : globSync(suite.files).sort()
  const counts = files === undefined ? await runOnce(suite) : await runFiles(suite, files)
  total = addCounts(total, counts)
  console.log(`${suite.name}: ${formatCounts(counts)} (${seconds(startedMs)})`)
}
removeFolder(runFolder)
if (interrupted) {
  console.error('interrupted')
  process.exit(130)
}
console.log(formatCounts(total))
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1
