/**
 * One FUSE connection: device, dispatcher, notifier and interrupts put together.
 *
 * Owns its life: made before the mount, started after it, ready when INIT is answered, ended by the kernel or by
 * `close`. Several may live in one process. Does not know what is served, nor who mounts.
 */
import { Errno } from '../base/errno.ts'
import { HostError, messageOf, VolumeError } from '../base/errors.ts'
import { monotonicMs } from '../base/deadline.ts'
import type { Identity } from '../base/volume-spec.ts'
import { fuseBackgroundMax, ioBytesMax } from '../base/limits.ts'
import type { FilesystemOperations, Invalidator } from '../fs/operations.ts'
import { showEnd } from '../host/fuse-device.ts'
import type { FuseDevice } from '../host/fuse-device.ts'
import type { InitWishes, Negotiated } from '../../proto/fuse/init.ts'
import { createServices } from './adapter.ts'
import { Credentials } from './credentials.ts'
import { Dispatcher } from './dispatcher.ts'
import { IdMapping } from './idmap.ts'
import { createTaskFileReader, createTaskOwnerReader } from './proc-namespaces.ts'
import type { Log } from './log.ts'
import { Interrupts } from './interrupts.ts'
import type { TaskReader } from './proc-status.ts'
import { Tasks } from './tasks.ts'
import { Notifier } from './notifier.ts'
import { RequestLimit, requestTimeoutFor } from './request-limit.ts'
import type { KernelRequestLimits } from './request-limit.ts'
import { OperationStatistics } from './statistics.ts'

/**
 * What a network file system wants from the kernel.
 * Left out on purpose: WRITEBACK_CACHE (the kernel would own size and mtime; `soloWriterWishes` has it), POSIX_LOCKS
 * and FLOCK_LOCKS (locks stay on this node until the server's can be used), EXPORT_SUPPORT (our inode numbers do not
 * outlive the session), DONT_MASK (the kernel applies the umask).
 */
export const defaultWishes: InitWishes = {
  maxWriteBytes: ioBytesMax,
  maxReadaheadBytes: 16 * ioBytesMax,
  maxBackground: fuseBackgroundMax,
  // The kernel's own proportion of the two (FUSE_DEFAULT_CONGESTION_THRESHOLD).
  congestionThreshold: fuseBackgroundMax * 3 / 4,
  readdirplus: 'auto',
  flags: [
    'ASYNC_READ', 'BIG_WRITES', 'ATOMIC_O_TRUNC', 'AUTO_INVAL_DATA', 'ASYNC_DIO', 'PARALLEL_DIROPS', 'CACHE_SYMLINKS',
    // Aborted (ECONNABORTED) can then be told from unmounted (ENODEV).
    'ABORT_ERROR',
    // The server drops set-id bits on write, truncate and chown. Without this the kernel would send a chmod with the
    // rights of the writer, who may not be the owner.
    'HANDLE_KILLPRIV_V2',
    'HAS_RESEND'
  ]
}

/**
 * For one writer alone: the kernel keeps written pages and says size and times itself (kernel
 * Documentation/filesystems/fuse/fuse-io.rst). Files that turn out to be shared bypass its cache; DIRECT_IO_ALLOW_MMAP
 * lets programs map them all the same (Linux 6.6).
 */
export const soloWriterWishes: InitWishes = {
  ...defaultWishes, flags: [...defaultWishes.flags, 'WRITEBACK_CACHE', 'DIRECT_IO_ALLOW_MMAP']
}

/** A limit of hours is nothing that a person has to know. */
const noteLimitMs = 3_600_000

export interface ConnectionParts {
  readonly device: FuseDevice
  readonly taskReader: TaskReader
  readonly log: Log
  readonly wishes?: InitWishes
  readonly now?: () => number
  /** The number of requests under way is kept in its first element. */
  readonly underWay?: Int32Array
  /** Told before the end when an invariant does not hold: nothing may be sent any more. */
  readonly onBroken?: () => void
  /** What the node's administrator allows a request; not given is no limit. */
  readonly requestLimits?: () => KernelRequestLimits
}

export interface ConnectionEnd {
  readonly errno: number
  readonly reason: string
  /** An invariant did not hold. */
  readonly isBroken?: boolean
}

const noIdmap = (): VolumeError =>
  new VolumeError('UNSUPPORTED', 'idmap: this node\'s kernel has no idmapped FUSE mounts; Linux 6.12 is the first', {
    field: 'idmap',
    remedy: 'leave idmap out and run the pod with hostUsers: true, or use a node with Linux 6.12 or later'
  })

export interface Serving {
  readonly isSoloWriter?: boolean
  readonly identity?: Identity | undefined
  /** `major:minor` of the mount, whose binds may be idmapped; it must be mounted with `default_permissions`. */
  readonly idmappedDevice?: string | undefined
}

const withIdmap = (wishes: InitWishes): InitWishes => ({ ...wishes, flags: [...wishes.flags, 'ALLOW_IDMAP'] })

export class FuseConnection {
  readonly statistics = new OperationStatistics()
  readonly #parts: ConnectionParts
  readonly #notifier: Notifier
  readonly #tasks: Tasks
  readonly #interrupts: Interrupts
  readonly #ended = Promise.withResolvers<ConnectionEnd>()
  #dispatcher: Dispatcher | undefined
  #requestLimit: RequestLimit | undefined
  #limitMs: number | undefined
  #hasEnded = false
  #isBroken = false

  constructor (parts: ConnectionParts) {
    this.#parts = parts
    this.#notifier = new Notifier(parts.device)
    this.#tasks = new Tasks(parts.taskReader, parts.now ?? monotonicMs)
    this.#interrupts = new Interrupts(this.#tasks)
  }

  /** For the core, from before the first request on; nothing is sent until the kernel listens. */
  get invalidator (): Invalidator { return this.#notifier }

  /** Resolves once: unmounted, aborted, or closed by us (errno 0). */
  get ended (): Promise<ConnectionEnd> { return this.#ended.promise }

  /**
   * Serves `operations` from now on; the file system must be mounted. Resolves when the kernel's INIT was answered.
   * @throws HostError when the connection ends before that, VolumeError UNSUPPORTED when idmapped mounts are asked for
   * and the kernel has none.
   */
  async serve (
    operations: FilesystemOperations,
    { isSoloWriter = false, identity, idmappedDevice }: Serving = {}
  ): Promise<Negotiated> {
    const {
      device,
      log,
      wishes = isSoloWriter ? soloWriterWishes : defaultWishes,
      now = monotonicMs,
      requestLimits,
      underWay = new Int32Array(1)
    } = this.#parts
    const ready = Promise.withResolvers<Negotiated>()
    const onBroken = (error: unknown): void => { this.break(error) }
    const { statistics } = this
    const timeout = requestLimits === undefined ? undefined : requestTimeoutFor(requestLimits())
    if (timeout !== undefined) this.#requestLimit = this.#limitOf(timeout.limitMs, now)
    const idMapping = idmappedDevice === undefined
      ? undefined
      : new IdMapping({
        read: createTaskFileReader(), readOwner: createTaskOwnerReader(), now, device: idmappedDevice
      })
    const flagged = idMapping === undefined ? wishes : withIdmap(wishes)
    const dispatcher = new Dispatcher({
      device,
      services: createServices({ operations, statistics, log, isSoloWriter, onBroken }),
      onBroken,
      operations,
      credentials: new Credentials(this.#tasks, now, identity, idMapping),
      interrupts: this.#interrupts,
      requestLimit: this.#requestLimit,
      statistics,
      wishes: timeout === undefined ? flagged : { ...flagged, requestTimeoutSeconds: timeout.wishedSeconds },
      log,
      now,
      underWay,
      onReady: (negotiated) => {
        this.#notifier.open(negotiated)
        if (idMapping !== undefined && !negotiated.flags.has('ALLOW_IDMAP')) ready.reject(noIdmap())
        else ready.resolve(negotiated)
      }
    })
    this.#dispatcher = dispatcher
    device.listen({
      requests: (count) => { dispatcher.requests(count) },
      ended: (errno) => {
        ready.reject(
          new HostError(
            { code: 'ENOTCONN', errno: Errno.ENOTCONN, call: 'FUSE INIT' },
            `the connection ended before INIT: ${showEnd(errno)}`
          )
        )
        this.#end(errno)
      },
      notified: (count) => { this.#notifier.noteWritten(count) }
    })
    device.start()
    return await ready.promise
  }

  /** What a person has to know about this connection; nothing usually. */
  get notes (): readonly string[] {
    const limitMs = this.#limitMs
    if (limitMs === undefined || limitMs > noteLimitMs) return []
    return [
      `this node gives a file system request ${Math.round(limitMs / 1000)} s (sysctl fs.fuse.max_request_timeout): programs get EIO when the server is silent for longer, also with hard`
    ]
  }

  #limitOf (limitMs: number, now: () => number): RequestLimit {
    this.#limitMs = limitMs
    return new RequestLimit(limitMs, now, () => {
      this.#parts.log(
        'error',
        { op: 'request-limit', outcome: 'EIO', limitMs },
        `no answer for ${Math.round(limitMs / 1000)} s: requests get EIO, because this node's fs.fuse.max_request_timeout would end the whole mount`
      )
    })
  }

  counters (): Record<string, number> {
    const { written, unknown, failed } = this.#notifier.counters
    return {
      ...this.statistics.counters(),
      fuseMalformed: this.#dispatcher?.malformed ?? 0,
      fuseNotifications: written,
      fuseNotificationsUnknown: unknown,
      fuseNotificationsFailed: failed
    }
  }

  gauges (): Record<string, number> {
    return {
      fuseInFlight: this.#dispatcher?.inFlight ?? 0,
      fuseInterrupted: this.#dispatcher?.interrupted ?? 0,
      fuseNotificationsWaiting: this.#notifier.counters.waiting
    }
  }

  /**
   * What this session holds in memory is no longer believed (ARCHITECTURE, "A broken invariant"): from now on nothing
   * is served and nothing is sent, and when the request that met it has its answer the connection ends.
   */
  break (error: unknown): void {
    if (this.#hasEnded || this.#isBroken) return
    this.#isBroken = true
    const stack = error instanceof Error ? error.stack : undefined
    this.#parts.log(
      'error',
      { op: 'session', outcome: 'broken', error: messageOf(error), stack },
      `a bug of ours (${messageOf(error)}): the session ends, and what it had not saved yet is not sent`
    )
    this.#dispatcher?.stop()
    this.#parts.onBroken?.()
    setImmediate(() => { this.#end(Errno.EIO) })
  }

  /** Closes our descriptor. The kernel ends the connection when it was the last one. */
  close (): void { this.#end(0) }

  #end (errno: number): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    this.#notifier.close()
    this.#interrupts.close()
    this.#requestLimit?.close()
    this.#parts.device.close()
    const reason = this.#isBroken ? 'ended by a bug of ours' : errno === 0 ? 'closed' : showEnd(errno)
    this.#ended.resolve({ errno, reason, ...this.#isBroken ? { isBroken: true } : undefined })
  }
}
