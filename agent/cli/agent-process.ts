/**
 * The node's agent: find it, or start one and wait for it.
 *
 * Owns the race between several callers that find none, and the words when it can't be had. Used by the Flex door and
 * by the command line; loads no parser and no addon. Does not know what the agent is asked.
 */
import { closeSync, openSync, readFileSync, statSync, unlinkSync, writeSync } from 'node:fs'
import { connect } from 'node:net'
import path from 'node:path'
import { monotonicMs, pause } from '../base/deadline.ts'
import { VolumeError, messageOf } from '../base/errors.ts'
import { unixSocketPathBytesMax } from '../base/limits.ts'
import type { CpuLatencyChoice } from '../host/cpu-latency.ts'
import { startDetached } from '../host/processes.ts'
import type { StartedProcess } from '../host/processes.ts'
import { CsiClient } from '../../proto/csi/client.ts'
import { loadServices } from '../../proto/csi/load.ts'
import { makePlaces } from './places.ts'
import type { Places } from './places.ts'

/** How this binary is started again: the executable, and the script when it isn't packed. */
export interface Program { readonly file: string, readonly args: readonly string[] }

export interface OpenOptions {
  readonly places: Places
  readonly program: Program
  /** Environment of a started agent: as little as possible, nothing of kubelet's or the caller's. */
  readonly environment?: Readonly<Record<string, string>>
  /** For an agent that has to be started, and asked only then: a wrong one must not keep anybody from an agent that
   * runs. */
  readonly cpuLatency?: () => CpuLatencyChoice | undefined
  /** More of its arguments, asked for in the same way. */
  readonly consents?: () => readonly string[]
  readonly startMs?: number
}

const lookMs = 20
/** An agent on a slow node needs a second; recovery of many volumes a few. */
const startMsDefault = 30_000
/** Whoever holds the start lock for longer is stuck or gone: a living starter gives up before, and a slow one must not
 * get a rival. */
const startLockMs = startMsDefault + 5000

/** Whether somebody accepts connections there. The connection is closed again: a gRPC channel makes its own. */
export async function isListening (socketPath: string): Promise<boolean> {
  if (Buffer.byteLength(socketPath) > unixSocketPathBytesMax) {
    throw new VolumeError(
      'INVALID',
      `the agent's socket path ${JSON.stringify(socketPath)} has ${Buffer.byteLength(socketPath)} bytes, at most ${unixSocketPathBytesMax} are possible`,
      { field: '--run-dir', remedy: 'choose a shorter folder' }
    )
  }
  return await new Promise((resolve) => {
    const socket = connect({ path: socketPath })
    const settle = (listening: boolean): void => { socket.destroy(); resolve(listening) }
    socket.once('connect', () => { settle(true) })
    socket.once('error', () => { settle(false) })
  })
}

/**
 * One starter at a time: a hundred Flex calls at once must not start a hundred agents. The lock is only a courtesy; the
 * agent's own lock on the state folder decides, so a lock taken over wrongly costs one process that says "already
 * running" and ends.
 */
function takeStartLock (file: string): boolean {
  try {
    const fd = openSync(file, 'wx', 0o600)
    writeSync(fd, `${process.pid}\n`)
    closeSync(fd)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  if (isStale(file)) unlinkIfThere(file)
  return false
}

function unlinkIfThere (file: string): void {
  try { unlinkSync(file) } catch (error) { if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error }
}

function isStale (file: string): boolean {
  try {
    if (Date.now() - statSync(file).mtimeMs > startLockMs) return true
    const pid = Number.parseInt(readFileSync(file, 'utf8'), 10)
    // Not yet written: its maker is between two system calls.
    if (Number.isNaN(pid)) return false
    process.kill(pid, 0)
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
}

/** The last thing a failed agent wrote: the reason an operator needs. */
function lastWords (logFile: string): string {
  try {
    const line = readFileSync(logFile, 'utf8').trimEnd().split('\n').at(-1) ?? ''
    const { msg } = JSON.parse(line) as { msg?: unknown }
    return typeof msg === 'string' ? `: ${msg}` : ''
  } catch {
    return ''
  }
}

async function startAgent ({ places, program, environment, cpuLatency, consents }: OpenOptions): Promise<
  StartedProcess
> {
  const choice = cpuLatency?.()
  return await startDetached({
    file: program.file,
    args: [
      ...program.args, 'agent', '--state-dir', places.stateDir, '--run-dir', places.runDir, '--agent-socket',
      places.agentSocket,
      '--log-file', places.logFile, '--leave-when-idle', ...choice === undefined ? [] : ['--cpu-latency', choice],
      ...consents?.() ?? []
    ],
    env: environment ?? { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    fds: []
  })
}

/** Waits until somebody listens, or the agent we started has ended and nobody else has come up. */
async function waitListening (places: Places, started: StartedProcess | undefined, untilMs: number): Promise<boolean> {
  let ended: string | undefined
  void started?.ended.then((how) => { ended = how })
  while (!await isListening(places.agentSocket)) {
    if (ended !== undefined) {
      // Another one may have won the race for the state folder and be about to listen.
      await pause(500)
      if (await isListening(places.agentSocket)) return true
      throw new VolumeError('UNAVAILABLE', `the agent ${ended}${lastWords(places.logFile)}`, {
        remedy: `see ${places.logFile}`
      })
    }
    if (monotonicMs() > untilMs) return false
    await pause(lookMs)
    if (started === undefined) return false
  }
  return true
}

async function ensureAgent (options: OpenOptions): Promise<void> {
  const { places, startMs = startMsDefault } = options
  if (await isListening(places.agentSocket)) return
  const untilMs = monotonicMs() + startMs
  await makePlaces(places)
  const lockFile = path.join(places.runDir, 'agent.starting')
  while (monotonicMs() < untilMs) {
    if (takeStartLock(lockFile)) {
      try {
        if (await isListening(places.agentSocket) || await waitListening(places, await startAgent(options), untilMs)) {
          return
        }
      } finally {
        unlinkIfThere(lockFile)
      }
    } else if (await waitListening(places, undefined, untilMs)) {
      return
    }
  }
  throw new VolumeError(
    'UNAVAILABLE',
    `no agent answered at ${places.agentSocket} within ${Math.round(startMs / 1000)} s`,
    { remedy: `see ${places.logFile}` }
  )
}

/** A client of the running agent. @throws VolumeError UNAVAILABLE when there is none. */
export async function findAgent (places: Places): Promise<CsiClient> {
  if (await isListening(places.agentSocket)) return new CsiClient(loadServices(), places.agentSocket)
  throw new VolumeError('UNAVAILABLE', `no agent is running (nobody listens at ${places.agentSocket})`, {
    remedy: 'start one with `volbridge agent`; `volbridge mount` and Flex do so by themselves'
  })
}

/** A client of the node's agent, started if there is none. @throws VolumeError with the reason why there can't be
 * one. */
export async function openAgent (options: OpenOptions): Promise<CsiClient> {
  try {
    await ensureAgent(options)
  } catch (error) {
    if (error instanceof VolumeError) throw error
    const { logFile } = options.places
    throw new VolumeError(
      'UNAVAILABLE',
      `no agent is running and none can be started: ${messageOf(error)}${lastWords(logFile)}`,
      { cause: error, remedy: `see ${logFile}` }
    )
  }
  return new CsiClient(loadServices(), options.places.agentSocket)
}
