/**
 * The machine that the cluster believes it has: mount, pid and cgroup namespaces on this one, with this one's network.
 *
 * Owns making them, entering them, and their end, which takes every process and mount inside with it. Does not know
 * Kubernetes. The node's folder is /run/cluster inside, its programs /run/programs, and /run, /var/lib and /var/log are
 * its own.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  openSync,
  closeSync,
  readFileSync,
  readdirSync,
  rmSync,
  rmdirSync,
  writeFileSync
} from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { monotonicMs, pause } from '../../agent/base/deadline.ts'
import { isAlive, signalProcess, startTicksOf, waitGone, type ProcessId } from '../../agent/host/processes.ts'
import { readMountinfoSync } from '../../agent/host/mountinfo.ts'

export interface Ran { readonly code: number, readonly stdout: string, readonly stderr: string }

/** What must be known to find a node again from another process. */
export interface NodeRecord {
  readonly init: ProcessId
  /** This node's group in each hierarchy. */
  readonly groups: readonly string[]
}

export interface NodePlan {
  readonly folder: string
  readonly programs: string
  readonly name: string
  readonly address: string
}

const startMs = 30_000
const endMs = 30_000

/** Each hierarchy once; a hierarchy that is mounted twice is used where it was mounted last. */
function hierarchies (): ReadonlyMap<string, string> {
  return new Map(
    readMountinfoSync().filter(({ type, mountPoint }) =>
      (type === 'cgroup' || type === 'cgroup2') && mountPoint.startsWith('/sys/fs/cgroup')
    )
      .map(({ mountPoint, type }) => [mountPoint, type])
  )
}

function makeGroup (hierarchy: string, name: string): string {
  const group = path.join(hierarchy, name)
  mkdirSync(group, { recursive: true })
  // cgroup v1: a new cpuset has no processors and no memory, and takes no process until it has.
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    const own = path.join(group, file)
    if (existsSync(own) && existsSync(path.join(hierarchy, 'cpuset.mems'))) {
      writeFileSync(own, readFileSync(path.join(hierarchy, file)))
    }
  }
  return group
}

const groupsBelow = (group: string): readonly string[] =>
  readdirSync(group, { withFileTypes: true })
    .filter((entry) => entry.isDirectory()).map(({ name }) => path.join(group, name))

/** Ends what is in the group, which is this node's alone, and removes it. Groups below first: only an empty one can
 * go. */
function removeGroup (group: string): void {
  if (!existsSync(group)) return
  for (const below of groupsBelow(group)) removeGroup(below)
  for (const pid of readFileSync(path.join(group, 'cgroup.procs'), 'utf8').split('\n').map(Number)) {
    if (pid > 1) try { process.kill(pid, 'SIGKILL') } catch { /* It has ended meanwhile. */ }
  }
  rmdirSync(group)
}

export class ClusterNode {
  readonly record: NodeRecord
  readonly folder: string

  constructor (folder: string, record: NodeRecord) {
    this.folder = folder
    this.record = record
  }

  /** `intend` is told what will be made before it is. */
  static async start (plan: NodePlan, intend: (groups: readonly string[]) => void): Promise<ClusterNode> {
    const name = `volbridge-cluster-${createHash('sha256').update(plan.folder).digest('hex').slice(0, 8)}`
    const found = hierarchies()
    intend([...found.keys()].map((hierarchy) => path.join(hierarchy, name)))
    const groups = [...found.keys()].map((hierarchy) => makeGroup(hierarchy, name))
    writeFileSync(
      path.join(plan.folder, 'cgroups'),
      [...found].map(([hierarchy, type], index) => `${hierarchy}\t${groups[index] ?? ''}\t${type}\n`).join('')
    )
    const pidFile = path.join(plan.folder, 'node.pid')
    rmSync(pidFile, { force: true })
    const logFile = path.join(plan.folder, 'log', 'node.log')
    const log = openSync(logFile, 'w')
    const child = spawn('bash', [
      '-c',
      'while IFS=$\'\\t\' read -r _ group _; do echo $$ > "$group/cgroup.procs"; done < "$1/cgroups"; shift; exec "$@"',
      'bash', plan.folder,
      'unshare', '--mount', '--pid', '--cgroup', '--fork', '--kill-child', '--propagation', 'private',
      'bash', path.join(import.meta.dirname, 'node-init'), plan.folder, plan.programs, plan.name, plan.address
    ], { detached: true, stdio: ['ignore', log, log], cwd: '/' })
    closeSync(log)
    let isOver = false
    child.once('error', () => { isOver = true })
    child.once('exit', () => { isOver = true })
    const untilMs = monotonicMs() + startMs
    while (!existsSync(pidFile)) {
      if (isOver || monotonicMs() > untilMs) throw new Error(`the node did not start: ${readFileSync(logFile, 'utf8')}`)
      await pause(20)
    }
    child.unref()
    const pid = Number(readFileSync(pidFile, 'utf8'))
    const startTicks = await startTicksOf(pid)
    if (startTicks === undefined) throw new Error(`the node ended at once: ${readFileSync(logFile, 'utf8')}`)
    return new ClusterNode(plan.folder, { init: { pid, startTicks }, groups })
  }

  async isRunning (): Promise<boolean> { return await isAlive(this.record.init) }

  /** argv that runs a program on the node: in its namespaces and, as everything there, in its groups. */
  entering (command: readonly string[]): readonly string[] {
    return [
      'bash', '-c',
      'while IFS=$\'\\t\' read -r _ group type; do [ "$type" = cgroup2 ] && [ -d "$group/node-init" ] && group="$group/node-init"; echo $$ > "$group/cgroup.procs"; done < "$1/cgroups"; shift; exec "$@"',
      'bash', this.folder,
      'nsenter', '--target', String(this.record.init.pid), '--mount', '--pid', '--cgroup', '--', ...command
    ]
  }

  /** Runs a program to its end. Its failure is an answer; `timeoutMs` means a hang. */
  async run (
    command: readonly string[],
    { timeoutMs = 60_000, input = '' }: { readonly timeoutMs?: number, readonly input?: string } = {}
  ): Promise<Ran> {
    const [program = '', ...args] = this.entering(command)
    return await new Promise((resolve) => {
      const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], timeout: timeoutMs, killSignal: 'SIGKILL' })
      let stdout = ''
      let stderr = ''
      child.stdout.setEncoding('utf8').on('data', (text: string) => { stdout += text })
      child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text })
      child.once('error', (error) => { resolve({ code: -1, stdout, stderr: error.message }) })
      child.once('close', (code, signal) => {
        resolve({ code: code ?? -1, stdout, stderr: signal === null ? stderr : `${stderr}ended by ${signal}` })
      })
      child.stdin.on('error', () => undefined)
      child.stdin.end(input)
    })
  }

  /** The same through a shell; throws with all it printed. */
  async shell (command: string, options: Parameters<ClusterNode['run']>[1] = {}): Promise<string> {
    const ran = await this.run(['bash', '-euo', 'pipefail', '-c', command], options)
    if (ran.code !== 0) {
      throw new Error(`${command}\nexit ${ran.code}\n${ran.stdout.slice(-2000)}\n${ran.stderr.slice(-4000)}`)
    }
    return ran.stdout
  }

  /** Starts a program that stays, orphaned to the node's process 1; answers its pid there. */
  async startDaemon (name: string, command: readonly string[]): Promise<number> {
    const text = await this.shell(
      `setsid ${command.map(quote).join(' ')} < /dev/null >> /run/cluster/log/${name}.log 2>&1 & echo $!`
    )
    return Number(text)
  }

  /** Ends every process and mount of the node and removes its groups. What cannot be removed is an error. */
  static async end (record: { readonly init?: ProcessId, readonly groups: readonly string[] }): Promise<void> {
    if (record.init !== undefined && await signalProcess(record.init, 'SIGKILL')) {
      if (!await waitGone(record.init, endMs)) {
        throw new Error(
          `process ${record.init.pid}, the node, does not end; what holds it is in /proc/${record.init.pid}/stack`
        )
      }
    }
    const untilMs = monotonicMs() + endMs
    for (const group of record.groups) {
      for (;;) {
        try {
          removeGroup(group)
          break
        } catch (error) {
          // Killed processes leave their group when they are through with dying.
          if (monotonicMs() > untilMs) throw error
          await pause(50)
        }
      }
    }
  }
}

const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`
