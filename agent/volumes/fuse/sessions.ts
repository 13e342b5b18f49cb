/**
 * Session processes: started with a descriptor of /dev/fuse, spoken to over their socket, found again after an agent
 * restart. Owns their start, their liveness and their end. Does not know mounts.
 */
import { randomBytes } from 'node:crypto'
import { unlink } from 'node:fs/promises'
import { monotonicMs, pause, within } from '../../base/deadline.ts'
import { VolumeError, messageOf } from '../../base/errors.ts'
import type { StageKey } from '../../base/brands.ts'
import { hostCallMs } from '../../base/limits.ts'
import { endProcess, isAlive, type ProcessId } from '../../host/processes.ts'
import { checkSocketPath } from '../../host/sockets.ts'
import type { ViewRule } from '../../host/view.ts'
import {
  brokenExitCode,
  controlVersion,
  cpuLatencyFlag,
  type ControlCall,
  type ControlCalls,
  type SessionReport
} from '../../session/control.ts'
import { Births, type BirthCertificate, type BirthPlace } from './births.ts'
import { ControlClient } from './control-client.ts'
import type { SessionLogs } from './session-logs.ts'
import { StartGate } from './start-gate.ts'

export interface SessionCommand {
  readonly file: string
  readonly args: readonly string[]
  /** The program and what it loads beside the system's libraries. */
  readonly files: readonly ViewRule[]
}

export interface SessionsOptions extends BirthPlace {
  /** Folder of the sockets, 0700. */
  readonly runDir: string
  /** The sessions' own log files. */
  readonly logs: SessionLogs
  /** Program and leading arguments; `--socket PATH` and `--cpu-latency` are appended. Descriptor 3 is /dev/fuse, 4
   * /dev/cpu_dma_latency. */
  readonly command: SessionCommand
  readonly env: Readonly<Record<string, string>>
  /** How many may be starting now. */
  readonly startsAtOnce: () => number
}

/** kubelet gives up after two minutes and asks again; what the start itself takes comes on top. */
const startWaitMs = 60_000
/** A cold start of the packed binary takes 100 ms; a busy node may be a hundred times slower. */
const connectMs = 30_000
const helloMs = 2000
/** A session that is alive but dropped its control connection gets this many tries before it counts as dead. */
const reconnectTries = 5
/** A control connection that lasted so long was a good one. */
const steadyMs = 5000
/** A start that has not entered its group by then has failed (`host/launch.ts`). */
const sweepMs = hostCallMs + 5000
/** Between a process's last socket closing and our hearing of its end. */
const exitNewsMs = 500

export class Session {
  readonly socketPath: string
  readonly process: ProcessId | undefined
  readonly ended: Promise<string>
  #client: ControlClient
  #isEnding = false

  constructor (parts: {
    client: ControlClient
    socketPath: string
    process: ProcessId | undefined
    exited: Promise<string> | undefined
  }) {
    this.socketPath = parts.socketPath
    this.process = parts.process
    this.#client = parts.client
    const watched = this.#watch()
    const exited = parts.exited?.then((how) =>
      `the session process ${how}${how.endsWith(` ${brokenExitCode}`) ? ' (a bug of ours; its log says where)' : ''}`
    )
    // A process that ends closes its socket first. How it ended says more, and comes a moment later.
    this.ended = exited === undefined
      ? watched
      : Promise.race([exited, watched.then(async (reason) => await within(exitNewsMs, exited, () => reason))])
  }

  async call<C extends ControlCall> (
    call: C,
    body: ControlCalls[C]['request'],
    deadlineMs: number
  ): Promise<ControlCalls[C]['answer']> {
    return await this.#client.call(call, body, deadlineMs)
  }

  /** From here on the closed socket is no news. */
  close (): void {
    this.#isEnding = true
    this.#client.close()
  }

  /** Settles when the session is really gone: a lost connection to a living process is made again. */
  async #watch (): Promise<string> {
    for (let short = 0;; short++) {
      const sinceMs = monotonicMs()
      const reason = await this.#client.closed
      // One that lives and lets us go again and again is not asked in a loop without end; it ends with the process.
      if (monotonicMs() - sinceMs > steadyMs) short = 0
      if (short > 0 && !this.#isEnding) await pause(Math.min(steadyMs, 50 * 2 ** short))
      const next = this.#isEnding ? undefined : await this.#reconnect()
      if (next === undefined) return reason
      this.#client = next
    }
  }

  async #reconnect (): Promise<ControlClient | undefined> {
    for (let n = 0; n < reconnectTries; n++) {
      if (this.process !== undefined && !await isAlive(this.process)) return undefined
      try {
        return await ControlClient.connect(this.socketPath, helloMs)
      } catch {
        await pause(50 * 2 ** n)
      }
    }
    return undefined
  }
}

/** Where a hundred sessions end at once, a killed one waits seconds for its turn to die. An unmount must still answer
 * within ten. */
const killedMs = 4000

export class Sessions {
  readonly #options: SessionsOptions
  readonly #gate: StartGate
  readonly #births: Births

  constructor (options: SessionsOptions) {
    this.#options = options
    this.#births = new Births(options)
    this.#gate = new StartGate({ atOnce: options.startsAtOnce, waitMs: startWaitMs })
  }

  /**
   * Cgroups of sessions that are none of these go when they are still empty a while from now: one that is empty at this
   * moment may be another agent's, whose session is about to enter it. Answers how to call it off.
   */
  async sweep (socketPaths: readonly string[]): Promise<() => void> {
    const strangers = await this.#births.strangers(socketPaths)
    const timer = setTimeout(() => { void this.#births.removeEmpty(strangers) }, sweepMs).unref()
    return () => { clearTimeout(timer) }
  }

  /** A name nobody uses: an old session of the same key may still hold the old one. */
  planSocket (key: StageKey): string {
    const path = `${this.#options.runDir}/${key.slice(0, 16)}-${randomBytes(4).toString('hex')}.sock`
    checkSocketPath(path)
    return path
  }

  /**
   * Starts a process with `fuseFd` as its descriptor 3, and `latencyFd` as its 4, and waits until it says hello: some
   * at once, the others wait for their turn. `started` is called as soon as there is a process, so that a crash of the
   * agent does not lose it.
   */
  async start (request: {
    readonly key: StageKey
    readonly socketPath: string
    readonly fuseFd: number
    readonly latencyFd: number | undefined
    /** Where its server may be, if the volume says. */
    readonly serverPorts: readonly number[] | undefined
    readonly started: (id: ProcessId) => Promise<void>
  }): Promise<{ session: Session, birth: BirthCertificate }> {
    return await this.#gate.run(async () => await this.#startNow(request))
  }

  async #startNow (request: Parameters<Sessions['start']>[0]): ReturnType<Sessions['start']> {
    const { command, env } = this.#options
    const log = await this.#options.logs.open(request.key)
    try {
      const program = {
        file: command.file, env,
        args: [
          ...command.args, '--socket', request.socketPath, ...request.latencyFd === undefined ? [] : [cpuLatencyFlag]
        ],
        fds: [request.fuseFd, ...request.latencyFd === undefined ? [] : [request.latencyFd]],
        ...log === undefined ? {} : { stderrFd: log.fd }
      }
      const { child, birth } = await this.#births.launch(program, {
        program: command.files, socketPath: request.socketPath, serverPorts: request.serverPorts
      })
      await request.started(child.id)
      const client = await this.#connectNew(request.socketPath, child.ended)
      const session = new Session({ client, socketPath: request.socketPath, process: child.id, exited: child.ended })
      await this.#hello(session, undefined)
      return { session, birth }
    } finally {
      await log?.close()
    }
  }

  /**
   * The session that listens there, if it serves `key`. One that lives but is too busy to answer is taken on as it is:
   * to call it dead would end it, and its pods with it, at the next publish.
   */
  async find (key: StageKey, socketPath: string, id: ProcessId | undefined): Promise<Session | undefined> {
    let session: Session | undefined
    try {
      const client = await ControlClient.connect(socketPath, helloMs)
      session = new Session({ client, socketPath, process: id, exited: undefined })
      if (await this.#hello(session, key) !== undefined) return session
    } catch (error) {
      const isLate = error instanceof VolumeError && error.code === 'TIMED_OUT'
      if (isLate && session !== undefined && id !== undefined && await isAlive(id)) return session
    }
    /* Nobody there, or somebody who does not speak to us: not found. */
    session?.close()
    return undefined
  }

  /**
   * SIGTERM, then SIGKILL; a session whose mount was just taken away ends by itself and gets time for that.
   * @throws VolumeError INTERNAL when it survives SIGKILL (D state).
   */
  async end (id: ProcessId | undefined, socketPath: string | undefined, endsByItself: boolean): Promise<void> {
    const gone = id === undefined ||
      await endProcess(id, { waitMs: endsByItself ? 500 : 0, termMs: 300, killMs: killedMs })
    if (socketPath !== undefined) {
      await unlink(socketPath).catch(() => undefined)
      await this.#births.forget(socketPath)
    }
    if (!gone) {
      throw new VolumeError('INTERNAL', `the session process ${id.pid} does not end even by SIGKILL`, {
        remedy: 'it hangs in the kernel; it ends when the kernel lets go, or with a reboot'
      })
    }
  }

  async #hello (session: Session, key: StageKey | undefined): Promise<SessionReport | undefined> {
    const { version, report } = await session.call('hello', { version: controlVersion }, helloMs)
    if (version !== controlVersion) {
      throw new VolumeError(
        'UNSUPPORTED',
        `the session speaks control version ${version}, this agent ${controlVersion}`,
        { remedy: 'unmount and mount anew' }
      )
    }
    return key === undefined || report.key === key ? report : undefined
  }

  async #connectNew (socketPath: string, exited: Promise<string>): Promise<ControlClient> {
    let how: string | undefined
    void exited.then((text) => { how = text })
    const until = monotonicMs() + connectMs
    for (let step = 5;; step = Math.min(step * 2, 100)) {
      if (how !== undefined) {
        throw new VolumeError('INTERNAL', `the session process ${how} before it could be asked`, {
          remedy: `see its log in ${this.#options.logs.folder}`
        })
      }
      try {
        return await ControlClient.connect(socketPath, helloMs)
      } catch (error) {
        if (monotonicMs() > until) {
          throw new VolumeError('INTERNAL', `the session process does not listen: ${messageOf(error)}`, {
            cause: error, remedy: `see its log in ${this.#options.logs.folder}`
          })
        }
        await pause(step)
      }
    }
  }
}
