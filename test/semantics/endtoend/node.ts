/**
 * One throw-away node: the packed binary, an agent with folders of its own, and what kubelet would have made.
 *
 * Owns those folders and processes and removes them all in `close()`. Everything goes through `dist/volbridge`, as a
 * user's would. Does not know which server is mounted.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import { removeFolder } from '../../../scripts/testing/remove-folder.ts'

const root = path.resolve(import.meta.dirname, '../../..')
export const binary = path.join(root, 'dist/volbridge')

export interface Ran { readonly code: number, readonly stdout: string, readonly stderr: string }

/** Runs a program to its end. A failure is an answer. `timeoutMs` means a hang and is generous. */
export async function run (
  program: string,
  args: readonly string[],
  options: { cwd?: string, uid?: number, gid?: number, env?: NodeJS.ProcessEnv, timeoutMs?: number, input?: string } =
    {}
): Promise<Ran> {
  return await new Promise((resolve) => {
    const child = execFile(program, [...args], {
      maxBuffer: 64 * 1024 * 1024,
      timeout: options.timeoutMs ?? 180_000,
      killSignal: 'SIGKILL',
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.uid === undefined ? {} : { uid: options.uid }),
      ...(options.gid === undefined ? {} : { gid: options.gid }),
      ...(options.env === undefined ? {} : { env: options.env })
    }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1
      resolve({ code, stdout, stderr: code === -1 ? `${stderr}${String(error)}` : stderr })
    })
    // A program that ends before it has read everything says why itself.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(options.input ?? '')
  })
}

/** Runs a shell command and fails with all it printed when it fails. */
export async function shell (command: string, options: Parameters<typeof run>[2] = {}): Promise<string> {
  const ran = await run('/bin/bash', ['-euo', 'pipefail', '-c', command], options)
  if (ran.code !== 0) {
    throw new Error(`${command}\nexit ${ran.code}\n${ran.stdout.slice(-2000)}\n${ran.stderr.slice(-4000)}`)
  }
  return ran.stdout
}

export interface MountEntry {
  readonly point: string
  readonly source: string
  readonly device: string
  readonly type: string
  readonly options: string
}

/** Mounts at or below a folder, read from /proc/self/mountinfo. */
export function mountsBelow (folder: string): readonly MountEntry[] {
  return readFileSync('/proc/self/mountinfo', 'utf8').trimEnd().split('\n').map((line) => {
    const [left = '', right = ''] = line.split(' - ')
    const fields = left.split(' ')
    const [type = '', source = ''] = right.split(' ')
    return { device: fields[2] ?? '', point: fields[4] ?? '', options: fields[5] ?? '', type, source }
  }).filter((entry) => entry.point === folder || entry.point.startsWith(`${folder}/`))
}

/** Processes whose command line mentions this folder. */
export async function processesOf (folder: string): Promise<readonly string[]> {
  const ran = await run('pgrep', ['-af', '--', folder])
  return ran.stdout.split('\n').filter((line) => line !== '' && !line.includes('pgrep'))
}

export class TestNode {
  readonly folder: string
  readonly kubelet: string
  readonly state: string
  readonly runtime: string
  readonly agentSocket: string
  readonly csiSocket: string
  readonly httpToken = randomBytes(16).toString('hex')
  #agent: ChildProcess | undefined
  #agentLog = ''

  constructor () {
    this.folder = mkdtempSync('/var/tmp/volbridge-node-')
    // Pods' users reach their folders.
    chmodSync(this.folder, 0o755)
    this.kubelet = this.#folder('kubelet')
    this.state = path.join(this.folder, 'state')
    this.runtime = path.join(this.folder, 'run')
    this.agentSocket = path.join(this.runtime, 'agent.sock')
    this.csiSocket = path.join(this.#folder('kubelet/plugins/csi.volbridge.io'), 'csi.sock')
    this.#folder('kubelet/plugins_registry')
  }

  #folder (name: string): string {
    const made = path.join(this.folder, name)
    mkdirSync(made, { recursive: true, mode: 0o755 })
    return made
  }

  /** A fresh empty folder of this node, for instance a mount point. */
  makeFolder (name: string): string { return this.#folder(name) }

  get places (): readonly string[] {
    return ['--state-dir', this.state, '--run-dir', this.runtime]
  }

  /** `confined` is a cgroup's folder that the agent is in from its first instruction, as in a container. */
  async startAgent (extra: readonly string[] = [], confined = ''): Promise<void> {
    const child = spawn('/bin/sh', [
      '-c', '[ -z "$0" ] || echo $$ > "$0/cgroup.procs"; exec "$@"', confined, binary, 'agent', ...this.places,
      '--kubelet-dir', this.kubelet, '--csi-endpoint', `unix://${this.csiSocket}`, '--node-id',
      'test-node', ...extra
    ], { stdio: ['ignore', 'ignore', 'pipe'] })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#agentLog = (this.#agentLog + text).slice(-200_000)
    })
    this.#agent = child
    const endMs = monotonicMs() + 20_000
    while (!existsSync(this.csiSocket) || !existsSync(this.agentSocket)) {
      if (child.exitCode !== null || monotonicMs() > endMs) {
        throw new Error(`the agent did not start: ${this.#agentLog}`)
      }
      await pause(20)
    }
  }

  /** Arguments of an agent whose HTTP port tells details to who has `httpToken`. */
  httpArguments (listen: string): readonly string[] {
    const file = path.join(this.folder, 'http-token')
    writeFileSync(file, `${this.httpToken}\n`, { mode: 0o600 })
    return ['--listen', listen, '--http-token-file', file]
  }

  get httpHeaders (): Record<string, string> { return { authorization: `Bearer ${this.httpToken}` } }

  get agentPid (): number | undefined { return this.#agent?.pid }
  get agentLog (): string { return this.#agentLog }

  async stopAgent (signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#agent
    this.#agent = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise((resolve) => { child.once('exit', resolve) })
    child.kill(signal)
    await gone
  }

  async command (args: readonly string[], options: Parameters<typeof run>[2] = {}): Promise<Ran> {
    return await run(binary, args, options)
  }

  /** `volbridge mount SOURCE DIR` on this node; throws with its words when it fails. */
  async mount (source: string, folder: string, options: string): Promise<void> {
    const ran = await this.command(['mount', source, folder, '-o', options, ...this.places])
    if (ran.code !== 0) {
      throw new Error(`mount failed with ${ran.code}: ${ran.stderr}${ran.stdout}\n${this.#agentLog.slice(-3000)}`)
    }
  }

  async unmount (folder: string): Promise<Ran> {
    return await this.command(['unmount', folder, ...this.places])
  }

  /** Unmounts what is left, ends every process of this node by its id, removes every file. */
  async close (): Promise<void> {
    for (const entry of mountsBelow(this.folder).filter((mount) => !mount.point.startsWith(this.state))) {
      await this.unmount(entry.point)
    }
    await this.stopAgent()
    for (const entry of [...mountsBelow(this.folder)].reverse()) await run('umount', ['-l', entry.point])
    for (const line of await processesOf(this.folder)) {
      const pid = Number(line.split(' ')[0])
      if (Number.isInteger(pid) && pid > 1 && pid !== process.pid) {
        try { process.kill(pid, 'SIGKILL') } catch { /* already gone */ }
      }
    }
    removeFolder(this.folder)
  }
}
