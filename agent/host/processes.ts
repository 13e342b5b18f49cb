/**
 * Processes that outlive us. Owns starting one without ties, knowing it again by pid and start time, and ending exactly
 * that one. Does not know what they do.
 */
import { spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { monotonicMs, pause } from '../base/deadline.ts'
import { HostError } from '../base/errors.ts'

/** A pid alone may be reused; with the start time (clock ticks since boot, proc(5) stat field 22) it is one process. */
export interface ProcessId {
  readonly pid: number
  readonly startTicks: string
}

export interface LaunchRequest {
  readonly file: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** Descriptors of the child from 3 on. */
  readonly fds: readonly number[]
  /** Descriptor for its stderr; without one it goes to /dev/null. */
  readonly stderrFd?: number
}

export interface StartedProcess {
  readonly id: ProcessId
  /** Settles when it ends, with a sentence how. It never rejects. */
  readonly ended: Promise<string>
}

/**
 * Starts a process in a session of its own, in `/`, with nothing of our stdio: a child that keeps kubelet's pipe keeps
 * kubelet waiting.
 * @throws HostError when it cannot be started.
 */
export async function startDetached (request: LaunchRequest): Promise<StartedProcess> {
  const child = spawn(request.file, request.args, {
    cwd: '/',
    detached: true,
    env: { ...request.env },
    stdio: ['ignore', 'ignore', request.stderrFd ?? 'ignore', ...request.fds]
  })
  const ended = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => {
      resolve(signal === null ? `exited with code ${code ?? 'unknown'}` : `was ended by ${signal}`)
    })
    child.once('error', (error) => { resolve(error.message) })
  })
  child.unref()
  const { pid } = child
  if (pid === undefined) {
    throw new HostError(
      { code: 'ENOENT', errno: 2, call: `starting ${request.file}` },
      `starting ${request.file}: ${await ended}`
    )
  }
  const startTicks = await startTicksOf(pid)
  if (startTicks === undefined) throw endedAtOnce(request.file, await ended)
  return { id: { pid, startTicks }, ended }
}

export function endedAtOnce (file: string, how: string): HostError {
  return new HostError({ code: 'ECHILD', errno: 10, call: `starting ${file}` }, `starting ${file}: it ${how} at once`)
}

/** Start time of a live process, or undefined when there is none with that pid or it is only waiting to be reaped. */
export async function startTicksOf (pid: number): Promise<string | undefined> {
  try {
    return parseStartTicks(await readFile(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return undefined
  }
}

/** proc(5): the command name in parentheses may itself contain spaces and parentheses. Zombies and dead tasks are no
 * processes any more. */
export function parseStartTicks (stat: string): string | undefined {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).trim().split(' ')
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
}

export async function isAlive (id: ProcessId): Promise<boolean> {
  return await startTicksOf(id.pid) === id.startTicks
}

/** Sends a signal to exactly that process; false when it is gone. */
export async function signalProcess (id: ProcessId, signal: NodeJS.Signals): Promise<boolean> {
  if (!await isAlive(id)) return false
  try {
    process.kill(id.pid, signal)
    return true
  } catch {
    return false
  }
}

/** True once the process is gone, false when it is still there after `ms`. */
export async function waitGone (id: ProcessId, ms: number): Promise<boolean> {
  const until = monotonicMs() + ms
  for (let step = 2; await isAlive(id); step = Math.min(step * 2, 50)) {
    if (monotonicMs() >= until) return false
    await pause(step)
  }
  return true
}

/** Waits, then asks with SIGTERM, then SIGKILLs, each with a share of the time. False when it is still there (D
 * state). */
export async function endProcess (
  id: ProcessId,
  patience: { readonly waitMs: number, readonly termMs: number, readonly killMs: number }
): Promise<boolean> {
  if (await waitGone(id, patience.waitMs)) return true
  await signalProcess(id, 'SIGTERM')
  if (await waitGone(id, patience.termMs)) return true
  await signalProcess(id, 'SIGKILL')
  return await waitGone(id, patience.killMs)
}
