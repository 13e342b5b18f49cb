/**
 * The volume engine's deeds. Owns the locks around each, and what a volume id may mean. Does not know gRPC, Flex or
 * NFS; binding is `attaching.ts`, shared mounts are `shared-mounts.ts`, what is told of volumes is `reporting.ts`,
 * start-up is `recovery/recovering.ts`.
 */
import type { AbsolutePath, StageKey } from '../base/brands.ts'
import { VolumeError } from '../base/errors.ts'
import type { VolumeSpec } from '../base/volume-spec.ts'
import { topMountAt } from '../host/mountinfo.ts'
import type { Attaching } from './attaching.ts'
import type { EngineParts } from './parts.ts'
import { keyFor, mountsOfVolume } from './identity.ts'
import type { Endings } from './recovery/ending.ts'
import { sameButGroup, stageKeyOf } from './spec/key.ts'
import { toVolumeError } from './failures.ts'
import type { NameLocks } from './locks.ts'
import type {
  DataLoss, Door, PublishRequest, StageRequest, VolumeOperations, VolumeStatistics, VolumeView
} from './operations.ts'
import { Quota, type NodeLimits, type Wanted } from './policy/quota.ts'
import { isHeld, type Reporting, type StatisticsRequest } from './reporting.ts'
import type { BindRecord, MountRecord } from './records/records.ts'

type UnstageRequest = Parameters<VolumeOperations['unstage']>[0]
type UnpublishRequest = Parameters<VolumeOperations['unpublish']>[0]

export class VolumeService implements VolumeOperations {
  readonly #parts: EngineParts
  readonly #attaching: Attaching
  readonly #locks: NameLocks
  readonly #reporting: Reporting
  readonly #endings: Endings
  readonly #quota: Quota

  constructor (
    parts: EngineParts,
    beside: {
      readonly attaching: Attaching
      readonly endings: Endings
      readonly locks: NameLocks
      readonly reporting: Reporting
      readonly limits: NodeLimits
    }
  ) {
    this.#parts = parts
    this.#attaching = beside.attaching
    this.#locks = beside.locks
    this.#reporting = beside.reporting
    this.#endings = beside.endings
    this.#quota = new Quota(parts.table, beside.limits)
  }

  async stage (request: StageRequest): Promise<void> {
    const { volume, staging, door } = request
    await this.#counted({ volume, path: staging, spec: request.spec }, async () => {
      const { spec, key } = this.#stagedAlready(request) ??
        { spec: request.spec, key: await keyFor(this.#parts, request.spec) }
      await this.#refuseOtherVolume(volume, spec)
      await this.#attaching.attach({
        role: 'staging', volume, spec, key, path: staging, readOnly: spec.flags.readOnly, door, owner: undefined
      })
    })
  }

  async unstage (request: UnstageRequest): Promise<void> {
    const { volume, staging } = request
    await this.#locked(volume, staging, async () => {
      this.#refuseOtherOwner(this.#parts.table.bind(staging), volume, 'csi')
      await this.#endings.end({ volume, path: staging, role: 'staging', door: 'csi' })
    })
  }

  async publish (request: PublishRequest): Promise<void> {
    const { volume, spec, target, staging, door, owner } = request
    await this.#counted({ volume, path: target, spec }, async () => {
      const key = await this.#shownAt(request) ?? await keyFor(this.#parts, spec)
      await this.#refuseOtherVolume(volume, spec)
      if (staging !== undefined) this.#requireStaged(request)
      if (request.exclusive === true) await this.#refuseOtherTarget(volume, target)
      await this.#attaching.attach({
        role: 'target', volume, spec, key, path: target, readOnly: request.readOnly || spec.flags.readOnly, door, owner,
        exclusive: request.exclusive
      })
      if (staging !== undefined) await this.#stageLatest(staging, key)
    })
  }

  /** A pod keeps the mount it has, however often it is published: the key of what is to be seen at its target. */
  async #shownAt ({ volume, spec, target }: PublishRequest): Promise<StageKey | undefined> {
    const { table, host, shared } = this.#parts
    const bind = table.bind(target)
    if (bind?.phase !== 'attached' || bind.volume !== volume) return undefined
    if (!mountsOfVolume(table, spec).some(({ key }) => key === bind.key)) return undefined
    const device = shared.live(bind.key)?.facts.device
    const top = topMountAt(await host.mountinfo(), bind.resolved)
    return top !== undefined && top.device === device ? bind.key : undefined
  }

  /** Staging holds the mount that new pods get; the one before goes with the last pod that has it. */
  async #stageLatest (staging: AbsolutePath, key: StageKey): Promise<void> {
    const { table, shared } = this.#parts
    const bind = table.bind(staging)
    const [held, latest] = [bind === undefined ? undefined : table.mount(bind.key), table.mount(key)]
    if (bind === undefined || held === undefined || latest === undefined || bind.key === key) return
    if (stageKeyOf(held.spec) !== stageKeyOf(latest.spec)) return
    if ((held.generation ?? 1) > (latest.generation ?? 1)) return
    await table.put({ ...bind, key })
    /* The pod has its volume: what fails here is gone on with. */
    await shared.releaseIfUnused(held.key).catch(() => undefined)
  }

  async unpublish (request: UnpublishRequest): Promise<{ readonly lostBytes: number }> {
    const { volume, target, door, force = false } = request
    return await this.#locked(volume, target, async () => {
      this.#refuseOtherOwner(this.#parts.table.bind(target), volume, door)
      return await this.#endings.end({ volume, path: target, role: 'target', door }, force)
    })
  }

  async statistics (request: StatisticsRequest): Promise<VolumeStatistics> {
    return await this.#reporting.statistics(request)
  }

  async shows (request: Parameters<VolumeOperations['shows']>[0]): Promise<boolean> {
    return await this.#reporting.shows(request)
  }

  async list (): Promise<readonly VolumeView[]> { return await this.#reporting.list() }

  losses (): readonly DataLoss[] { return this.#reporting.losses() }

  /** Whether an agent is needed: also a shared mount that nobody has any more, but that could not go yet, has to be
   * looked after. */
  get isInUse (): boolean {
    const { table } = this.#parts
    return table.binds().length > 0 || table.mounts().length > 0
  }

  /** One call per volume and per path at a time; the rest are told to come again. */
  async #locked<T> (volume: string, path: string, work: () => Promise<T>): Promise<T> {
    const release = this.#locks.tryAcquire([`volume ${volume}`, `path ${path}`])
    if (release === undefined) {
      throw new VolumeError('IN_PROGRESS', `another call is working on the volume "${volume}" or on "${path}"`, {
        remedy: 'repeat when it is over'
      })
    }
    try {
      return await work()
    } catch (error) {
      throw toVolumeError(error)
    } finally {
      release()
    }
  }

  /** Counted in the tick in which it is locked, and until it is in the table or came to nothing. */
  async #counted (wanted: Wanted, work: () => Promise<void>): Promise<void> {
    await this.#locked(wanted.volume, wanted.path, async () => {
      const isOver = this.#quota.take(wanted)
      try {
        await work()
      } finally {
        isOver()
      }
    })
  }

  /** Two PersistentVolumes with one handle and different attributes would else silently get the first one's data. */
  async #refuseOtherVolume (volume: BindRecord['volume'], spec: VolumeSpec): Promise<void> {
    const others = this.#parts.table.bindsOfVolume(volume).filter((bind) =>
      bind.phase === 'attached' && !this.#isOf(bind, spec)
    )
    if (others.length === 0) return
    /* A bind that somebody unmounted by hand is in nobody's way. */
    const mounts = await this.#parts.host.mountinfo()
    const other = others.find((bind) => isHeld(this.#parts.table, bind, topMountAt(mounts, bind.resolved)))
    if (other === undefined) return
    throw new VolumeError('CONFLICT', `volume_id: "${volume}" is in use with other attributes at "${other.path}"`, {
      field: 'volume_id', remedy: 'give each volume a handle of its own, or unpublish the other first'
    })
  }

  /** CSI: SINGLE_NODE_SINGLE_WRITER is published at one target. The scheduler sees to that as well, but not for pods
   * with a node's name. */
  async #refuseOtherTarget (volume: BindRecord['volume'], target: AbsolutePath): Promise<void> {
    const others = this.#parts.table.bindsOfVolume(volume).filter((bind) =>
      bind.role === 'target' && bind.path !== target && bind.phase === 'attached'
    )
    if (others.length === 0) return
    const mounts = await this.#parts.host.mountinfo()
    const other = others.find((bind) => topMountAt(mounts, bind.resolved) !== undefined)
    if (other === undefined) return
    throw new VolumeError(
      'PRECONDITION',
      `volume_capability.access_mode: the volume "${volume}" is for one pod alone and is already at "${other.path}"`,
      {
        field: 'volume_capability.access_mode', remedy: 'delete the other pod, or use an access mode for several'
      }
    )
  }

  /**
   * Pods of different fsGroups may share a volume, and kubelet stages it once, with the group of whichever comes first:
   * the group is no part of what a volume is. Each group has a mount of its own, because new objects belong to it.
   */
  #isOf (bind: BindRecord, spec: VolumeSpec): boolean {
    // A damaged record of the mount is set aside; its name is left.
    if (bind.key === stageKeyOf(spec)) return true
    const held = this.#parts.table.mount(bind.key)
    return held !== undefined && sameButGroup(held.spec, spec)
  }

  /** A repeat with another group (after a restart kubelet begins with any pod) finds the volume staged. */
  #stagedAlready ({ volume, staging, spec }: StageRequest): Pick<MountRecord, 'spec' | 'key'> | undefined {
    const bind = this.#parts.table.bind(staging)
    if (bind?.phase !== 'attached' || bind.volume !== volume || !this.#isOf(bind, spec)) return undefined
    return this.#parts.table.mount(bind.key)
  }

  #requireStaged (request: PublishRequest): void {
    const record = request.staging === undefined ? undefined : this.#parts.table.bind(request.staging)
    if (record?.volume === request.volume && record.phase === 'attached' && this.#isOf(record, request.spec)) return
    throw new VolumeError(
      'PRECONDITION',
      `staging_target_path: the volume "${request.volume}" is not staged at "${request.staging ?? ''}"`,
      {
        field: 'staging_target_path', remedy: 'stage it there first, with the same attributes'
      }
    )
  }

  /** A path of another volume is not ours to clear, whoever asks; `volbridge unmount` knows only the path and means
   * it. */
  #refuseOtherOwner (record: BindRecord | undefined, volume: BindRecord['volume'], door: Door): void {
    if (record === undefined || record.volume === volume || door === 'hand') return
    throw new VolumeError(
      'CONFLICT',
      `volume_id: "${record.path}" holds the volume "${record.volume}", not "${volume}"`,
      { field: 'volume_id' }
    )
  }
}
