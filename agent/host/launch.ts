/**
 * Programs that outlive us, started in the node's namespaces and in cgroups of their own. Owns the wait for exec and
 * the news of the end. Does not know what they do; `processes.ts` starts those that only lose their ties.
 */
import { Socket } from 'node:net'
import { constants } from 'node:os'
import { getSystemErrorName } from 'node:util'
import { within } from '../base/deadline.ts'
import { HostError } from '../base/errors.ts'
import { hostCallMs } from '../base/limits.ts'
import { loadAddon, type LaunchAddon } from './addon.ts'
import { sameNamespaces, type NodeNamespaces } from './namespaces.ts'
import { endedAtOnce, startTicksOf, type LaunchRequest, type StartedProcess } from './processes.ts'
import { viewLetters, type ViewRule } from './view.ts'

/** How soon the end of a session is noticed; its closed socket tells sooner. */
const lookMs = 250

/** What the child does in those namespaces before it becomes the program: `text` is written to a file that is there;
 * nothing to write makes a folder, which may be there. */
export interface Preparation {
  readonly path: string
  readonly text: string
}

export interface PreparationFailure extends Preparation {
  /** Name of the errno. */
  readonly code: string
}

export interface LaunchedProcess extends StartedProcess {
  /** Preparations that were refused; the program runs without them. */
  readonly unprepared: readonly PreparationFailure[]
  /** What of its confinement was refused, each with the errno's name. */
  readonly unconfined: readonly string[]
}

export interface PreparedLaunch extends LaunchRequest {
  readonly preparations?: readonly Preparation[]
  /** Two halves of a mask of capabilities: no others are left, and no way to get some. Our own unless given. */
  readonly capabilities?: readonly number[]
  /** With `capabilities`: of files and ports it can name these alone. All that its user may unless given. */
  readonly view?: readonly ViewRule[]
}

/** As `startDetached`, in `namespaces`. The file is what has that path there. @throws HostError when it cannot be
 * started. */
export async function launch (
  request: PreparedLaunch,
  namespaces: NodeNamespaces = sameNamespaces(),
  addon: LaunchAddon = loadAddon()
): Promise<LaunchedProcess> {
  const { file, args, env, fds, stderrFd = -1, preparations = [], capabilities = [], view = [] } = request
  const environment = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  const counts = Int32Array.of(
    namespaces.enter.length,
    args.length + 1,
    environment.length,
    preparations.length,
    view.length
  )
  const strings = [
    file, ...namespaces.enter, file, ...args, ...environment,
    ...preparations.flatMap(({ path, text }) => [path, text]),
    ...view.flatMap(({ kind, what }) => [viewLetters[kind], what])
  ]
  if (strings.some((text) => text.includes('\0'))) throw new TypeError('an argument contains a NUL byte')
  const [pid, report] = addon.startProgram(
    Buffer.from(strings.map((text) => `${text}\0`).join('')),
    counts,
    Int32Array.of(-1, -1, stderrFd, ...fds),
    Int32Array.from(capabilities)
  )
  const ended = untilReaped(pid, addon)
  const told = await within(hostCallMs, readToEnd(report), () => undefined)
  if (told === undefined) {
    process.kill(pid, 'SIGKILL')
    throw new HostError(
      { code: 'ETIMEDOUT', errno: 110, call: `starting ${file}` },
      `starting ${file}: it did not begin within ${hostCallMs} ms`
    )
  }
  const failures = decodeFailures(told)
  const fatal = failures.find(({ step }) => step >= 0)
  if (fatal !== undefined) throw refusal(file, namespaces, fatal)
  const startTicks = await startTicksOf(pid)
  if (startTicks === undefined) throw endedAtOnce(file, await ended)
  const unprepared = failures.flatMap(({ step, errno }) => {
    const refused = preparations[-1 - step]
    return refused === undefined ? [] : [{ ...refused, code: getSystemErrorName(-errno) }]
  })
  const unconfined = failures.flatMap(({ step, errno }) => {
    const what = confinements.get(step)
    return what === undefined ? [] : [`${what} (${getSystemErrorName(-errno)})`]
  })
  return { id: { pid, startTicks }, ended, unprepared, unconfined }
}

/** Steps of native/launch.c that stop nothing, and what is so when they fail. */
const confinements: ReadonlyMap<number, string> = new Map([
  [-1001, 'leaves a core file when it dies'], [-1002, 'keeps all capabilities'],
  [-1003, 'may gain privileges by executing a file'], [-1004, 'may wait for its own dirty pages'],
  [-1005, 'may use io_uring, which no filter sees'],
  [-1006, 'can name every file and port that its user may: this kernel has no Landlock']
])

interface Failure { readonly step: number, readonly errno: number }

/** `struct failure` of native/launch.c. */
function decodeFailures (told: Buffer): readonly Failure[] {
  return Array.from(
    { length: Math.floor(told.length / 8) },
    (_, n) => ({ step: told.readInt32LE(n * 8), errno: told.readInt32LE(n * 8 + 4) })
  )
}

function refusal (file: string, { enter }: NodeNamespaces, { step, errno }: Failure): HostError {
  const code = getSystemErrorName(-errno)
  const what = enter[step] === undefined ? `starting ${file}` : `entering ${enter[step]}`
  const remedy = step === enter.length + 1 && code === 'EACCES'
    ? '; its folder must be on a file system without noexec (--state-dir)'
    : ''
  return new HostError({ code, errno, call: what }, `${what} on the node: ${code}${remedy}`)
}

async function readToEnd (fd: number): Promise<Buffer> {
  const socket = new Socket({ fd, readable: true, writable: false })
  const chunks: Buffer[] = []
  return await new Promise((resolve) => {
    socket.on('data', (chunk: Buffer) => { chunks.push(chunk) })
    socket.on('error', () => undefined)
    socket.on('close', () => { resolve(Buffer.concat(chunks)) })
  })
}

/** libuv knows nothing of this child, so nobody else waits for it. Does not keep us alive. */
async function untilReaped (pid: number, addon: LaunchAddon): Promise<string> {
  for (;;) {
    const how = addon.reapProgram(pid)
    if (how !== undefined) return showEnd(how)
    await new Promise<void>((resolve) => { setTimeout(resolve, lookMs).unref() })
  }
}

function showEnd ([code, signal]: readonly [code: number, signal: number]): string {
  if (code >= 0) return `exited with code ${code}`
  if (signal < 0) return 'ended'
  return `was ended by ${Object.entries(constants.signals).find(([, number]) => number === signal)?.[0] ?? `signal ${signal}`}`
}
