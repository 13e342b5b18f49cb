/**
 * Shared mounts by our own FUSE client. Owns the order of a start and of an end, and what of each may be forced.
 * Does not know journals and binds, nor what the session does.
 *
 * start: /dev/fuse → session process with it as fd 3 (and the CPU latency device as fd 4, where that is wanted) → hello
 * → configure (the server's errors surface here, nothing is mounted yet)
 *        → mount(2) with the agent's copy → serve → the agent's copy is closed, read-ahead and mode of the root are
 *        set.
 * end:   umount → MNT_FORCE → fusectl abort → MNT_DETACH, each only if the one before did not do it → the process.
 */
import { closeSync } from 'node:fs'
import type { StageKey } from '../../base/brands.ts'
import { HostError, VolumeError, messageOf } from '../../base/errors.ts'
import { ioBytesMax, kibibyteBytes } from '../../base/limits.ts'
import { showSource, type VolumeSpec } from '../../base/volume-spec.ts'
import { idleFacts, judgeCpuLatency, openCpuLatencyDevice } from '../../host/cpu-latency.ts'
import {
  abortConnection,
  fuseMountData,
  fuseType,
  openFuseDevice,
  setReadAhead,
  type WriteControl
} from '../../host/fuse-connection.ts'
import { mountsAt, topMountAt } from '../../host/mountinfo.ts'
import { mountFlagBits, type Mounts } from '../../host/mounts.ts'
import { latencyBoundsSeconds, type GroupGift, type GroupState, type SessionReport } from '../../session/control.ts'
import type { VolumeEvents } from '../events.ts'
import {
  toRawStatistics,
  type LiveMount,
  type MountReport,
  type Mounter,
  type RawStatistics,
  type StartRequest
} from '../mounter.ts'
import type { VolumeHealth } from '../operations.ts'
import type { MountFacts, MountRecord } from '../records/records.ts'
import { birthNotes } from './births.ts'
import type { Session, Sessions } from './sessions.ts'

export interface FuseMounterParts {
  readonly sessions: Sessions
  readonly mounts: Mounts
  readonly events: VolumeEvents
  /** Dirty bytes a session may hold before writers wait. */
  readonly dirtyBytesMax: number
  /** Busy sessions may keep idle CPUs awake, on machines where that is worth it. */
  readonly mayKeepCpusAwake: boolean
}

const serveMs = 10_000
const unmountMs = 1000
const forceMs = 1000
const controlMs = 1000
/** A mount point of ours holds one mount; more are left by starts that were cut short. */
const stackMax = 8

export class FuseMounter implements Mounter {
  readonly #parts: FuseMounterParts

  constructor (parts: FuseMounterParts) {
    this.#parts = parts
  }

  plan (key: StageKey): MountFacts {
    return { socketPath: this.#parts.sessions.planSocket(key), process: undefined, device: undefined }
  }

  async start (request: StartRequest): Promise<LiveMount> {
    const { key, facts } = request
    const { socketPath } = facts
    if (socketPath === undefined) throw new VolumeError('INTERNAL', 'the start has no socket')
    const device = openFuseDevice()
    try {
      const { session, birth } = await this.#startSession(request, socketPath, device.fd)
      for (const text of birthNotes(birth)) this.#parts.events({ kind: 'note', key, text })
      try {
        return await this.#mount(request, session, device.fd)
      } catch (error) {
        session.close()
        throw error
      }
    } finally {
      device.close()
    }
  }

  async #startSession (
    { key, spec, facts, note }: StartRequest,
    socketPath: string,
    fuseFd: number
  ): ReturnType<Sessions['start']> {
    const latencyFd = this.#openCpuLatency(key)
    try {
      return await this.#parts.sessions.start({
        key, socketPath, fuseFd, latencyFd, serverPorts: serverPortsOf(spec),
        started: async (id) => { await note({ ...facts, process: id }) }
      })
    } finally {
      // A wish lasts as long as anybody has the descriptor: from here on that is the session alone.
      if (latencyFd !== undefined) closeSync(latencyFd)
    }
  }

  /** Judged for each: CPUs and the kernel's settings may change. Without it the volume is slower and otherwise the
   * same. */
  #openCpuLatency (key: StageKey): number | undefined {
    if (!this.#parts.mayKeepCpusAwake || !judgeCpuLatency(idleFacts()).isWanted) return undefined
    try {
      return openCpuLatencyDevice()
    } catch (error) {
      this.#parts.events({ kind: 'note', key, text: `idle CPUs sleep as the kernel decides: ${messageOf(error)}` })
      return undefined
    }
  }

  async #mount (request: StartRequest, session: Session, fuseFd: number): Promise<LiveMount> {
    const { key, spec, mountPoint } = request
    const configured = await session.call('configure', {
      key, spec, softReval: spec.target.options.softReval !== false, dirtyBytesMax: this.#parts.dirtyBytesMax
    }, request.deadlineMs)
    await this.#parts.mounts.mount({
      source: showSource(spec), target: mountPoint, type: fuseType, flags: mountFlagBits(spec.flags),
      data: fuseMountData({
        fd: fuseFd, maxReadBytes: Math.min(configured.maxReadBytes, ioBytesMax), kernelChecks: spec.idmap === true
      })
    }, { keep: [fuseFd], key: mountPoint })
    const device = topMountAt(await this.#parts.mounts.mountinfo(), mountPoint)?.device
    if (device === undefined) {
      throw new VolumeError('INTERNAL', `${mountPoint} is not in mountinfo after it was mounted`)
    }
    await request.note({ socketPath: session.socketPath, process: session.process, device })
    await session.call('serve', { mountPoint, device }, serveMs)
    const refusal = await setReadAhead(device, configured.readAheadBytes / kibibyteBytes, this.#writeControl)
    if (refusal !== undefined) {
      this.#parts.events({ kind: 'note', key, text: `the kernel's read-ahead stays as it is: ${refusal}` })
    }
    await this.#setPermissions(request)
    return new FuseMount(session, { socketPath: session.socketPath, process: session.process, device })
  }

  /** Through the mount, in a child: the server judges, and a refusal (root_squash) is the volume's error. */
  async #setPermissions ({ spec, mountPoint }: StartRequest): Promise<void> {
    if (spec.mountPermissions === undefined) return
    /* A mount group needs the root's set-group-id bit. */
    const mode = spec.mountPermissions | (spec.mountGroup === undefined ? 0 : 0o2000)
    try {
      await this.#parts.mounts.chmod(mountPoint, mode, { key: spec.target.servers.join(',') })
    } catch (error) {
      throw new VolumeError(
        'DENIED',
        `mountPermissions: the server refuses mode ${spec.mountPermissions.toString(8)} (${messageOf(error)})`,
        {
          cause: error, field: 'mountPermissions',
          remedy: 'export with no_root_squash, set the mode on the server, or use mountPermissions=0'
        }
      )
    }
  }

  async find (record: MountRecord): Promise<LiveMount | undefined> {
    const { socketPath, process, device } = record.facts
    if (socketPath === undefined || device === undefined) return undefined
    const session = await this.#parts.sessions.find(record.key, socketPath, process)
    return session === undefined ? undefined : new FuseMount(session, { socketPath, process, device })
  }

  async end (record: MountRecord): Promise<void> {
    const { socketPath, process, device } = record.facts
    let unmounts = 0
    while (unmounts < stackMax && await this.#isMounted(record.mountPoint)) {
      await this.#unmount(record.mountPoint, device)
      unmounts++
    }
    await this.#parts.sessions.end(process, socketPath, unmounts > 0)
  }

  readonly #writeControl: WriteControl = async (path, text) => {
    await this.#parts.mounts.writeControl(path, text, { deadlineMs: controlMs })
  }

  async #isMounted (mountPoint: string): Promise<boolean> {
    return mountsAt(await this.#parts.mounts.mountinfo(), mountPoint).length > 0
  }

  async #unmount (mountPoint: string, device: MountRecord['facts']['device']): Promise<void> {
    const { mounts } = this.#parts
    if (await succeeds(mounts.unmount(mountPoint, {}, { deadlineMs: unmountMs, key: mountPoint }))) return
    if (await succeeds(mounts.unmount(mountPoint, { force: true }, { deadlineMs: forceMs, key: mountPoint }))) return
    if (device !== undefined) await abortConnection(device, this.#writeControl)
    await mounts.unmount(mountPoint, { detach: true }, { deadlineMs: forceMs, key: mountPoint })
  }
}

/** Of both services, or undefined where the port mapper is asked for one. */
function serverPortsOf ({ target: { options: { port, mountPort } } }: VolumeSpec): readonly number[] | undefined {
  return port === undefined || mountPort === undefined ? undefined : [port, mountPort]
}

async function succeeds (work: Promise<void>): Promise<boolean> {
  try {
    await work
    return true
  } catch (error) {
    if (error instanceof HostError) return false
    throw error
  }
}

class FuseMount implements LiveMount {
  readonly facts: MountFacts
  readonly ended: Promise<string>
  readonly #session: Session

  constructor (session: Session, facts: MountFacts) {
    this.facts = facts
    this.ended = session.ended
    this.#session = session
  }

  async statistics (deadlineMs: number): Promise<RawStatistics> {
    /* The session answers by itself at its deadline; ours only catches one that hangs. */
    const answer = await this.#session.call('statistics', { deadlineMs: Math.max(50, deadlineMs - 100) }, deadlineMs)
    return toRawStatistics(
      {
        total: BigInt(answer.totalBytes), used: BigInt(answer.usedBytes), available: BigInt(answer.availableBytes)
      },
      {
        total: BigInt(answer.totalInodes), used: BigInt(answer.usedInodes), available: BigInt(answer.availableInodes)
      },
      answer.stale
    )
  }

  async report (deadlineMs: number): Promise<MountReport> {
    return toMountReport(await this.#session.call('report', {}, deadlineMs))
  }

  async probe (deadlineMs: number): Promise<VolumeHealth> {
    const { health, reason } = await this.#session.call(
      'probe',
      { deadlineMs: Math.max(50, deadlineMs - 100) },
      deadlineMs
    )
    return { state: health, reason }
  }

  async checkRoot (deadlineMs: number): Promise<{ isCurrent: boolean, reason: string }> {
    try {
      return await this.#session.call('checkRoot', { deadlineMs: Math.max(50, deadlineMs - 100) }, deadlineMs)
    } catch {
      // Too busy, dying, or of a version that does not know the call: it serves what it serves.
      return { isCurrent: true, reason: '' }
    }
  }

  async giveGroup (gift: GroupGift, deadlineMs: number): Promise<void> {
    const { isDone, progress } = await this.#askGroup(gift, deadlineMs)
    if (isDone) return
    throw new VolumeError('TIMED_OUT', `${progress}: the volume's files are being given to the pod's group`, {
      field: 'fsGroup', remedy: 'repeat the call: it goes on meanwhile, and what has the group is passed over'
    })
  }

  async #askGroup (gift: GroupGift, deadlineMs: number): Promise<GroupState> {
    try {
      return await this.#session.call('giveGroup', { ...gift, deadlineMs: Math.max(50, deadlineMs - 500) }, deadlineMs)
    } catch (error) {
      // Of a version that does not know the call: it has given the root when it started.
      if (error instanceof VolumeError && error.code === 'UNSUPPORTED') return { isDone: true, progress: '' }
      throw error
    }
  }

  async drain (deadlineMs: number): Promise<{ lostBytes: number }> {
    const { lostBytes } = await this.#session.call('drain', { deadlineMs }, deadlineMs + 300)
    return { lostBytes }
  }
}

function toMountReport (report: SessionReport): MountReport {
  return {
    health: { state: report.health, reason: report.healthReason },
    locks: report.locks,
    notes: report.notes ?? [],
    pid: report.pid,
    counters: report.counters,
    gauges: report.gauges,
    latency: Object.fromEntries(
      Object.entries(report.latency ?? {}).map(([operation, { count, sumSeconds, buckets }]) => [operation, {
        count, sumSeconds,
        buckets: latencyBoundsSeconds.map((upToSeconds, n) => ({ upToSeconds, count: buckets[n] ?? 0 }))
      }])
    )
  }
}
