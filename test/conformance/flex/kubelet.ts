/**
 * kubelet's Flex side, played (Kubernetes 1.32, pkg/volume/flexvolume): driver calls, capabilities, what it remembers,
 * mounter, unmounter.
 *
 * Owns kubelet's manners toward an executable. Knows nothing of any driver, and imports nothing of this project, so
 * that the folder can be copied alone to a node. probe.ts plays the watcher.
 */
import { spawn } from 'node:child_process'
import { lstatSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs'
import path from 'node:path'

export interface Answer {
  readonly status: string
  readonly message?: string
  readonly capabilities?: Readonly<Record<string, unknown>>
}

/** What kubelet makes of a call. `kind` is its own verdict, not the driver's word. */
export interface Outcome {
  readonly kind: 'success' | 'failure' | 'unsupported' | 'driver bug' | 'not one JSON' | 'hang'
  readonly exitCode: number | null
  readonly signal: NodeJS.Signals | null
  /** stdout and stderr together, until everybody who holds them has closed them. */
  readonly output: string
  readonly answer: Answer | undefined
  readonly ms: number
  /** kubelet logs the arguments, base64 secrets included. */
  readonly argumentsLogged: boolean
}

/** Absent keys, as kubelet fills them in (driver-call.go, defaultCapabilities). */
const defaultCapabilities = {
  attach: true, selinuxRelabel: true, supportsMetrics: false, fsGroup: true, requiresFSResize: true
}
export type Capabilities = Readonly<Record<keyof typeof defaultCapabilities, boolean>>

/** kubelet itself waits for ever; nobody wants to see that. */
const patienceMs = 120_000

export interface CallOptions {
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  /** Told the process id as soon as there is one. */
  readonly started?: (pid: number) => void
}

/** encoding/json ignores the case of keys and keys it does not know, but takes exactly one value. */
function parseAnswer (output: string): Answer | undefined {
  try {
    const value: unknown = JSON.parse(output)
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [key.toLowerCase() === 'status' ? 'status' : key, item])
    ) as unknown as Answer
  } catch {
    return undefined
  }
}

function verdict (answer: Answer | undefined, exitCode: number | null): Pick<Outcome, 'kind' | 'argumentsLogged'> {
  const failed = exitCode !== 0
  if (answer === undefined) return { kind: 'not one JSON', argumentsLogged: failed }
  if (answer.status === 'Not supported') return { kind: 'unsupported', argumentsLogged: false }
  if (answer.status !== 'Success') return { kind: 'failure', argumentsLogged: failed }
  return failed ? { kind: 'driver bug', argumentsLogged: true } : { kind: 'success', argumentsLogged: false }
}

/** Exec, CombinedOutput, one JSON: also a grandchild that keeps the pipe keeps kubelet waiting. */
export async function call (
  executable: string,
  args: readonly string[],
  { env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' }, cwd = '/', started = () => undefined }: CallOptions = {}
): Promise<Outcome> {
  const begun = performance.now()
  const child = spawn(executable, [...args], { env: { ...env }, cwd, stdio: ['ignore', 'pipe', 'pipe'] })
  const chunks: Buffer[] = []
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  if (child.pid !== undefined) started(child.pid)
  const timer = setTimeout(() => { child.kill('SIGKILL'); child.stdout.destroy(); child.stderr.destroy() }, patienceMs)
  const [exitCode, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, by) => { resolve([code, by]) })
  }).finally(() => { clearTimeout(timer) })
  const ms = performance.now() - begun
  const output = Buffer.concat(chunks).toString('utf8')
  const answer = parseAnswer(output)
  const hung = ms >= patienceMs
  return {
    ...verdict(answer, exitCode), ...hung ? { kind: 'hang' as const } : {}, exitCode, signal, output, answer, ms
  }
}

const mountinfo = (): readonly string[][] =>
  readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map((line) => line.split(' '))
const escaped = (folder: string): string =>
  folder.replaceAll('\\', '\\134').replaceAll(' ', '\\040').replaceAll('\t', '\\011').replaceAll('\n', '\\012')

/** How many mounts lie at exactly this path, asked of no file system. */
export const mountsAt = (folder: string): number => mountinfo().filter((fields) => fields[4] === escaped(folder)).length
/** `major:minor` of the topmost, or undefined. */
export const deviceAt = (folder: string): string | undefined =>
  mountinfo().findLast((fields) => fields[4] === escaped(folder))?.[2]

export type Options = Readonly<Record<string, string>>
export interface PodVolume {
  readonly pod: string
  readonly name: string
  readonly options: Options
  readonly readOnly?: boolean
  readonly fsGroup?: number
  readonly secrets?: Options
}

/** The options object, in kubelet's order of merging: the user's come last and override. */
export function encodeOptions ({ pod, name, options, readOnly = false, fsGroup, secrets = {} }: PodVolume): string {
  return JSON.stringify({
    'kubernetes.io/fsType': '',
    'kubernetes.io/pod.name': pod,
    'kubernetes.io/pod.namespace': 'default',
    'kubernetes.io/pod.uid': `uid-${pod}`,
    'kubernetes.io/pvOrVolumeName': name,
    'kubernetes.io/readwrite': readOnly ? 'ro' : 'rw',
    'kubernetes.io/serviceAccount.name': 'default',
    ...fsGroup === undefined ? {} : { 'kubernetes.io/mounterArgs.FsGroup': `${fsGroup}` },
    ...Object.fromEntries(
      Object.entries(secrets).map(
        ([key, value]) => [`kubernetes.io/secret/${key}`, Buffer.from(value).toString('base64')]
      )
    ),
    ...options
  })
}

/** One loaded driver: capabilities read once, commands it does not support remembered until it is probed again. */
export class Plugin {
  readonly executable: string
  readonly #root: string
  readonly #unsupported = new Set<string>()
  readonly #env: Readonly<Record<string, string>> | undefined
  #capabilities: Capabilities = defaultCapabilities

  constructor (executable: string, root: string, env?: Readonly<Record<string, string>>) {
    this.executable = executable
    this.#root = root
    this.#env = env
  }

  get capabilities (): Capabilities { return this.#capabilities }

  /** A probe makes the plugin anew: what was remembered is forgotten. */
  async init (): Promise<Outcome> {
    this.#unsupported.clear()
    const outcome = await this.run('init', [])
    if (outcome.kind === 'success') {
      this.#capabilities = { ...defaultCapabilities, ...outcome.answer?.capabilities as Partial<Capabilities> }
    }
    return outcome
  }

  async run (command: string, args: readonly string[], options: CallOptions = {}): Promise<Outcome> {
    if (this.#unsupported.has(command)) {
      return {
        kind: 'unsupported', exitCode: null, signal: null, output: '', answer: undefined, ms: 0, argumentsLogged: false
      }
    }
    const outcome = await call(this.executable, [command, ...args], {
      ...this.#env === undefined ? {} : { env: this.#env }, ...options
    })
    if (outcome.kind === 'unsupported') this.#unsupported.add(command)
    return outcome
  }

  isUnsupported (command: string): boolean { return this.#unsupported.has(command) }

  target (pod: string, name: string): string {
    const [vendor = '', driver = ''] = path.basename(path.dirname(this.executable)).split('~')
    return path.join(this.#root, 'pods', `uid-${pod}`, 'volumes', `${vendor}~${driver}`, name)
  }

  /** mounter.go: a folder that is a mount point already is a success without a call; a failed call is followed by
   * rmdir. */
  async setUp (volume: PodVolume): Promise<Outcome | 'already mounted'> {
    const target = this.target(volume.pod, volume.name)
    if (mountsAt(target) > 0) return 'already mounted'
    mkdirSync(target, { recursive: true, mode: 0o750 })
    const outcome = await this.run('mount', [target, encodeOptions(volume)])
    if (outcome.kind !== 'success') rmdirSync(target)
    return outcome
  }

  /** unmounter.go: skipped without the folder; after a success the folder is removed, which fails when it is mounted or
   * not empty. */
  async tearDown (pod: string, name: string): Promise<Outcome | 'no folder'> {
    const target = this.target(pod, name)
    if (mountsAt(target) === 0 && lstatSync(target, { throwIfNoEntry: false }) === undefined) return 'no folder'
    const outcome = await this.run('unmount', [target])
    if (outcome.kind === 'success' && lstatSync(target, { throwIfNoEntry: false }) !== undefined) rmdirSync(target)
    return outcome
  }
}
