/**
 * A session: one FUSE connection and the control socket through which an agent steers it.
 *
 * Owns the phases (new → configured → serving → draining → ended) and what each control call does in them. The file
 * system behind it is made by an injected `configure`; neither NFS nor the core is known here. No state outside the
 * object: several sessions may live in one process.
 */
import { toStageKey } from '../base/brands.ts'
import { VolumeError, messageOf } from '../base/errors.ts'
import type { Identity } from '../base/volume-spec.ts'
import type { FilesystemOperations, Invalidator } from '../fs/operations.ts'
import type { Socket } from 'node:net'
import type { FuseDevice } from '../host/fuse-device.ts'
import type { InitWishes } from '../../proto/fuse/init.ts'
import { FuseConnection } from './connection.ts'
import type { ConnectionEnd } from './connection.ts'
import { controlVersion } from './control.ts'
import type {
  ControlCalls,
  GroupGift,
  GroupState,
  SessionConfiguration,
  SessionReport,
  SessionStatistics
} from './control.ts'
import { ControlServer } from './control-server.ts'
import type { ControlHandlers } from './control-server.ts'
import type { TaskReader } from './proc-status.ts'
import type { Log } from './log.ts'
import type { KernelRequestLimits } from './request-limit.ts'
import { IdleMemory } from '../host/idle-memory.ts'

/** What `configure` makes: the file system and what is known about its server. */
export interface ConfiguredSession {
  readonly operations: FilesystemOperations
  readonly serverAddress: string
  /** Permission bits of the volume's root. */
  readonly rootMode: number
  readonly maxReadBytes: number
  /** Window of the kernel's read-ahead that suits the way to the server. */
  readonly readAheadBytes: number
  /** The kernel may keep written pages (consistency=solowriter). */
  readonly isSoloWriter: boolean
  /** Who everybody is to the server, where the volume says so. */
  readonly identity?: Identity | undefined
  /** Binds of the mount may be idmapped. */
  readonly allowsIdmap?: boolean
  report (): Pick<
    SessionReport,
    'health' | 'healthReason' | 'serverAddress' | 'sinceLastReplyMs' | 'counters' | 'gauges' | 'notes'
  >
  statistics (deadlineMs: number): Promise<SessionStatistics>
  probe (deadlineMs: number): Promise<ControlCalls['probe']['answer']>
  checkRoot (deadlineMs: number): Promise<ControlCalls['checkRoot']['answer']>
  giveGroup (gift: GroupGift, deadlineMs: number): Promise<GroupState>
  /** Lets go of memory kept for the next request. */
  trim? (): void
  close (): Promise<void> | void
}

export interface SessionParts {
  readonly socketPath: string
  readonly version: string
  readonly device: FuseDevice
  readonly taskReader: TaskReader
  readonly isTrusted: (socket: Socket) => boolean
  readonly log: Log
  readonly configure: (
    configuration: SessionConfiguration,
    upward: { readonly invalidator: Invalidator }
  ) => Promise<ConfiguredSession>
  /** Gives away what serving does not need, for ever; sentences about what could not be given away. */
  readonly confine?: (needs: { readonly reservedPorts: boolean }) => readonly string[]
  readonly wishes?: InitWishes
  /** Where the number of requests under way is kept for others to see. */
  readonly underWay?: Int32Array
  /** How long idle CPUs were kept awake, for the report. */
  readonly cpusAwakeMs?: Float64Array
  readonly requestLimits?: () => KernelRequestLimits
  /** Collects garbage and gives free memory back to the system; called when the session has become idle. */
  readonly releaseMemory?: () => void
  /** Ends the session: what is written is saved first, within the time that whoever asks leaves us. */
  readonly leave?: AbortSignal
  /** Aborted, with what was thrown, when something failed that nobody awaits: the session ends. */
  readonly broken?: AbortSignal
  /** How long a session that serves nothing waits for an agent to come back; then it ends. */
  readonly orphanMs?: number
}

/** Shorter than the 10 s that a service manager usually leaves between SIGTERM and SIGKILL. */
const leaveMs = 8_000

/** An agent that dies between starting a session and using it must not leave a process behind. Longer than its
 * restart. */
const orphanMsDefault = 60_000

type Phase = SessionReport['phase']

class Session {
  readonly #parts: SessionParts
  readonly #connection: FuseConnection
  readonly #control: ControlServer
  #phase: Phase = 'new'
  #configuration: SessionConfiguration | undefined
  #configuring: Promise<ConfiguredSession> | undefined
  #configured: ConfiguredSession | undefined
  #orphanTimer: NodeJS.Timeout | undefined

  constructor (parts: SessionParts) {
    this.#parts = parts
    const { device, taskReader, log, wishes, requestLimits, underWay } = parts
    this.#connection = new FuseConnection({
      device, taskReader, log, ...(wishes === undefined ? undefined : { wishes }),
      ...(requestLimits === undefined ? undefined : { requestLimits }),
      ...(underWay === undefined ? undefined : { underWay }),
      onBroken: () => { void this.#configured?.close() }
    })
    this.#control = new ControlServer({
      path: parts.socketPath,
      handlers: this.#handlers(),
      isTrusted: parts.isTrusted,
      log,
      onBroken: (error) => { this.#connection.break(error) },
      onClients: (count) => { this.#watchOrphanhood(count) }
    })
  }

  async run (): Promise<ConnectionEnd> {
    const { releaseMemory, leave, broken } = this.#parts
    const { statistics } = this.#connection
    const idle = releaseMemory === undefined ? undefined : new IdleMemory({
      work: () => statistics.requests,
      release: () => {
        this.#configured?.trim?.()
        releaseMemory()
      }
    })
    broken?.addEventListener('abort', () => { this.#connection.break(broken.reason) }, { once: true })
    leave?.addEventListener('abort', () => { void this.#leave() }, { once: true })
    try {
      await this.#control.listen()
      this.#watchOrphanhood(0)
      return await this.#connection.ended
    } finally {
      this.#phase = 'ended'
      idle?.close()
      clearTimeout(this.#orphanTimer)
      this.#connection.close()
      // Nothing is sent to the server after this: another node may own the volume by now.
      await this.#configured?.close()
      await this.#control.close()
    }
  }

  /** A node that goes down ends us with a signal, while pods may still hold the mount: save first, then let go. */
  async #leave (): Promise<void> {
    this.#phase = 'draining'
    try {
      const { lostBytes, files } = await this.#configured?.operations.drain(leaveMs) ?? { lostBytes: 0, files: [] }
      if (lostBytes > 0) {
        this.#parts.log(
          'error',
          { op: 'leave', outcome: 'data-lost', lostBytes, files: files.slice(0, 20) },
          `${lostBytes} bytes that programs had written could not be saved: the server did not take them in time`
        )
      }
    } catch (error) {
      this.#parts.log('error', { op: 'leave', outcome: 'failed' }, messageOf(error))
    }
    this.#connection.close()
  }

  #handlers (): ControlHandlers {
    return {
      hello: ({ version }) => {
        if (version !== controlVersion) {
          throw new VolumeError(
            'UNSUPPORTED',
            `control version ${version} is not spoken here, only ${controlVersion}`,
            { remedy: 'use an agent of the same version' }
          )
        }
        return { version: controlVersion, report: this.#report() }
      },
      configure: async (configuration) => await this.#configure(configuration),
      serve: async ({ device }) => await this.#serve(device),
      report: () => this.#report(),
      statistics: async ({ deadlineMs }) => await this.#needConfigured().statistics(deadlineMs),
      probe: async ({ deadlineMs }) => await this.#needConfigured().probe(deadlineMs),
      checkRoot: async ({ deadlineMs }) => await this.#needConfigured().checkRoot(deadlineMs),
      giveGroup: async ({ deadlineMs, ...gift }) => await this.#needConfigured().giveGroup(gift, deadlineMs),
      drain: async ({ deadlineMs }) => {
        const { operations } = this.#needConfigured()
        this.#phase = 'draining'
        const drained = await operations.drain(deadlineMs)
        // Calls that the server has not answered would be repeated as soon as it is back, after the volume has gone to
        // another node.
        if (drained.lostBytes > 0) void this.#configured?.close()
        return drained
      },
      stop: () => {
        if (this.#phase === 'serving') {
          throw new VolumeError('CONFLICT', 'the session serves a mount', {
            remedy: 'unmount it, which ends the session'
          })
        }
        setImmediate(() => { this.#connection.close() })
        return {}
      }
    }
  }

  async #configure (configuration: SessionConfiguration): Promise<ControlCalls['configure']['answer']> {
    if (this.#phase !== 'new' && this.#configuration?.key !== configuration.key) {
      throw new VolumeError('CONFLICT', `the session belongs to key ${this.#configuration?.key ?? ''}`, {
        field: 'key', remedy: 'start another'
      })
    }
    // A repeat waits for the same start; a failed one may be tried again.
    this.#configuration = configuration
    this.#configuring ??= this.#parts.configure(configuration, { invalidator: this.#connection.invalidator })
    try {
      const configured = await this.#configuring
      this.#configured = configured
      if (this.#phase === 'new') this.#phase = 'configured'
      const { serverAddress, rootMode, maxReadBytes, readAheadBytes } = configured
      return { serverAddress, rootMode, maxReadBytes, readAheadBytes }
    } catch (error) {
      this.#configuring = undefined
      throw error
    }
  }

  #lacks: readonly string[] | undefined
  #serving: Promise<{ minor: number }> | undefined
  async #serve (device: string): Promise<{ minor: number }> {
    const configured = this.#needConfigured()
    this.#confine()
    const idmappedDevice = configured.allowsIdmap === true ? device : undefined
    this.#serving ??= this.#connection.serve(configured.operations, { ...configured, idmappedDevice }).then(
      ({ minor }) => {
        this.#phase = 'serving'
        clearTimeout(this.#orphanTimer)
        return { minor }
      }
    )
    return await this.#serving
  }

  /** Before the first request: what a pod sends is met by a process without power. */
  #confine (): void {
    const { confine } = this.#parts
    if (confine === undefined || this.#configuration === undefined) return
    this.#lacks ??= confine({ reservedPorts: this.#configuration.spec.target.options.resvport })
  }

  #needConfigured (): ConfiguredSession {
    if (this.#configured !== undefined) return this.#configured
    throw new VolumeError('CONFLICT', 'the session is not configured yet', { remedy: 'send configure first' })
  }

  #watchOrphanhood (clients: number): void {
    clearTimeout(this.#orphanTimer)
    if (clients > 0 || (this.#phase !== 'new' && this.#phase !== 'configured')) return
    this.#orphanTimer = setTimeout(() => {
      this.#parts.log(
        'warn',
        { op: 'session', outcome: 'orphaned' },
        'no agent came back and nothing is served: the session ends'
      )
      this.#connection.close()
    }, this.#parts.orphanMs ?? orphanMsDefault)
  }

  #report (): SessionReport {
    const remote = this.#configured?.report()
    return {
      key: this.#configuration?.key ?? toStageKey(''),
      pid: process.pid,
      version: this.#parts.version,
      phase: this.#phase,
      health: remote?.health ?? 'unreachable',
      healthReason: remote?.healthReason ?? 'the session is not configured yet',
      serverAddress: remote?.serverAddress ?? '',
      sinceLastReplyMs: remote?.sinceLastReplyMs ?? -1,
      locks: 'node-local',
      counters: {
        ...this.#connection.counters(), ...remote?.counters, cpusAwakeMs: Math.round(this.#parts.cpusAwakeMs?.[0] ?? 0)
      },
      gauges: { ...this.#connection.gauges(), ...remote?.gauges, residentBytes: process.memoryUsage.rss() },
      notes: [...this.#connection.notes, ...this.#lacks ?? [], ...remote?.notes ?? []],
      latency: this.#connection.statistics.latency()
    }
  }
}

/**
 * Runs a session until its mount is gone, it is stopped, or nobody wants it. The caller has opened the device; it is
 * closed here. Resolves with how the connection ended; rejects when the control socket cannot be made.
 */
export async function runSession (parts: SessionParts): Promise<ConnectionEnd> {
  return await new Session(parts).run()
}
