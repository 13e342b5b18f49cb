/**
 * The volume engine. Owns the locks around each deed, what a volume id may mean, statistics and the list for `status`.
 * Does not know gRPC, Flex or NFS; binding is `attaching.ts`, shared mounts are `shared-mounts.ts`, start-up is
 * `recovering.ts`.
 */
import type { AbsolutePath, StageKey } from '../base/brands.ts'
import { VolumeError, messageOf } from '../base/errors.ts'
import { showSource, type VolumeSpec } from '../base/volume-spec.ts'
import { topMountAt, type MountEntry, type Mountinfo } from '../host/mountinfo.ts'
import type { Attaching, AttachingParts } from './attaching.ts'
import { keyFor, mountsOfVolume } from './identity.ts'
import type { Endings } from './recovery/ending.ts'
import { sameButGroup, stageKeyOf } from './spec/key.ts'
import { withLoss } from './records/losses.ts'
import { toVolumeError } from './failures.ts'
import type { HealFacts } from './recovery/healing.ts'
import { stillThere } from './recovery/strays.ts'
import type { NameLocks } from './locks.ts'
import type { MountReport, RawStatistics } from './mounter.ts'
import type {
  DataLoss, Door, PublishRequest, StageRequest, VolumeHealth, VolumeOperations, VolumeStatistics, VolumeView
} from './operations.ts'
import type { BindRecord, MountRecord } from './records/records.ts'

type UnstageRequest = Parameters<VolumeOperations['unstage']>[0]
type UnpublishRequest = Parameters<VolumeOperations['unpublish']>[0]
type StatisticsRequest = Parameters<VolumeOperations['statistics']>[0]

const reportMs = 1000

/** What is known of mounts that were brought back. */
export interface Heals {
  factsOf (key: StageKey): HealFacts
}

export class VolumeService implements VolumeOperations {
  readonly #parts: AttachingParts
  readonly #attaching: Attaching
  readonly #locks: NameLocks
  readonly #heals: Heals
  readonly #endings: Endings
  readonly #lastStatistics = new Map<StageKey, RawStatistics>()

  constructor (
    parts: AttachingParts,
    beside: {
      readonly attaching: Attaching
      readonly endings: Endings
      readonly locks: NameLocks
      readonly heals: Heals
    }
  ) {
    this.#parts = parts
    this.#attaching = beside.attaching
    this.#locks = beside.locks
    this.#heals = beside.heals
    this.#endings = beside.endings
  }

  async stage (request: StageRequest): Promise<void> {
    const { volume, staging, door } = request
    await this.#locked(volume, staging, async () => {
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
    await this.#locked(volume, target, async () => {
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

  /** The mount of this key is gone. */
  forget (key: StageKey): void {
    this.#lastStatistics.delete(key)
  }

  async statistics (request: StatisticsRequest): Promise<VolumeStatistics> {
    const { volume, path, deadlineMs } = request
    const record = this.#parts.table.bind(path)
    const top = record === undefined ? undefined : topMountAt(await this.#parts.host.mountinfo(), record.resolved)
    if (record === undefined || record.volume !== volume || !this.#isHeld(record, top)) {
      throw new VolumeError('NOT_FOUND', `volume_path: the volume "${volume}" is not mounted at "${path}"`, {
        field: 'volume_path'
      })
    }
    const { key } = record
    const [figures, health] = await Promise.all([
      this.#figures(key, deadlineMs), this.#health(key, Math.min(deadlineMs, reportMs))
    ])
    const problem = record.role === 'target' ? this.#problemOf(record, top) : ''
    const shown: VolumeHealth = problem === '' || health.state === 'dead' ? health : { state: 'dead', reason: problem }
    return { ...figures, health: withLoss(shown, this.#parts.table.loss(key)) }
  }

  /** Whether an agent is needed: also a shared mount that nobody has any more, but that could not go yet, has to be
   * looked after. */
  get isInUse (): boolean {
    const { table } = this.#parts
    return table.binds().length > 0 || table.mounts().length > 0
  }

  async list (): Promise<readonly VolumeView[]> {
    const groups = new Map<string, BindRecord[]>()
    for (const bind of this.#parts.table.binds()) {
      const name = JSON.stringify([bind.volume, bind.key])
      groups.set(name, [...groups.get(name) ?? [], bind])
    }
    const mounts = await this.#parts.host.mountinfo()
    const reports = new Map<StageKey, Promise<MountReport | undefined>>()
    return await Promise.all([...groups.values()].map(async (binds) => await this.#view(binds, mounts, reports)))
  }

  losses (): readonly DataLoss[] {
    return this.#parts.table.losses().map(({ key, source, bytes, at }) => ({ key, source, bytes, at }))
  }

  /** A target is a mount; a staged volume has none at its path (`attaching.ts`), only the shared one that it holds. */
  #isHeld (bind: BindRecord, top: MountEntry | undefined): boolean {
    return top !== undefined || (bind.role === 'staging' && this.#parts.table.mount(bind.key) !== undefined)
  }

  /** Why the volume is not to be seen at a path where it was put: a new session serves new binds, and not those of the
   * one that died. */
  #problemOf (bind: BindRecord, top: MountEntry | undefined): string {
    const { shared, isOurType } = this.#parts
    if (bind.phase !== 'attached') return ''
    if (top === undefined) return 'somebody else unmounted it; delete the pod, or mount it again'
    const device = shared.live(bind.key)?.facts.device
    if (device === undefined || top.device === device) return ''
    if (isOurType(top.type)) return 'the session that served it has ended; it is mounted anew'
    return `a mount of type ${top.type} lies over it; unmount that`
  }

  /** `reports`: volumes of one key share a session, which is asked once. */
  async #view (
    binds: readonly BindRecord[],
    mounts: Mountinfo,
    reports: Map<StageKey, Promise<MountReport | undefined>>
  ): Promise<VolumeView> {
    const [first] = binds
    if (first === undefined) throw new VolumeError('INTERNAL', 'a volume without binds')
    const { volume, key } = first
    const record = this.#parts.table.mount(key)
    const live = this.#parts.shared.live(key)
    const asked = reports.get(key) ??
      Promise.resolve(live?.report(reportMs).catch((error: unknown) => unanswered(error)))
    reports.set(key, asked)
    const report = await asked
    const unsettled = binds.find((bind) => bind.phase !== 'attached')
    const targets = binds.filter((bind) => bind.role === 'target')
      .map((bind) => ({ ...bind, problem: this.#problemOf(bind, topMountAt(mounts, bind.resolved)) }))
    return {
      volume,
      door: (targets[0] ?? first).door,
      source: record === undefined ? '' : showSource(record.spec),
      client: record?.spec.client ?? '',
      clientReason: [record?.spec.clientReason ?? '', report?.detail ?? ''].filter((text) => text !== '').join('; '),
      key,
      state: live === undefined ? 'dead' : unsettled?.phase ?? (targets.length > 0 ? 'published' : 'staged'),
      staging: binds.find((bind) => bind.role === 'staging')?.path,
      targets: targets.map(({ path, resolved, readOnly, owner, problem, protection }) => ({
        path, resolved, readOnly, owner, problem,
        unprotected: typeof protection === 'object' ? protection.unprotected : ''
      })),
      health: withLoss(
        report === undefined
          ? this.#deadHealth(key)
          : worsened(report.health, [
            ...targets.filter(({ problem }) => problem !== '').map(({ path }) => path),
            ...stillThere(this.#heals.factsOf(key).unhealed, mounts).map(({ path, reason }) => `${path} (${reason})`)
          ]),
        this.#parts.table.loss(key)
      ),
      locks: report?.locks ?? '',
      notes: report?.notes ?? [],
      sessionPid: report?.pid ?? record?.facts.process?.pid,
      counters: report?.counters ?? {},
      gauges: report?.gauges ?? {},
      latency: report?.latency ?? {},
      exclusive: targets.some(({ exclusive }) => exclusive === true),
      heals: this.#heals.factsOf(key).count
    }
  }

  async #figures (key: StageKey, deadlineMs: number): Promise<RawStatistics> {
    const live = this.#parts.shared.live(key)
    try {
      if (live === undefined) {
        throw new VolumeError('UNAVAILABLE', `the mount is dead: ${this.#parts.shared.deathOf(key) ?? ''}`)
      }
      const figures = await live.statistics(deadlineMs)
      this.#lastStatistics.set(key, figures)
      return figures
    } catch (error) {
      const last = this.#lastStatistics.get(key)
      if (last === undefined) {
        throw new VolumeError('UNAVAILABLE', `no figures: ${messageOf(error)}`, {
          cause: error, remedy: 'they come with the server\'s next answer'
        })
      }
      return { ...last, stale: true }
    }
  }

  async #health (key: StageKey, deadlineMs: number): Promise<VolumeHealth> {
    const live = this.#parts.shared.live(key)
    if (live === undefined) return this.#deadHealth(key)
    return (await live.report(deadlineMs).catch((error: unknown) => unanswered(error))).health
  }

  #deadHealth (key: StageKey): VolumeHealth {
    if (this.#parts.table.mount(key)?.phase === 'ending') {
      return { state: 'dead', reason: `it is being taken away${this.#endings.problemOf(key)}` }
    }
    const { problem, failures } = this.#heals.factsOf(key)
    const death = this.#parts.shared.deathOf(key) ?? 'it is being started'
    return {
      state: 'dead',
      reason: problem === ''
        ? `the mount is not served (${death}); it is being mounted anew`
        : `the mount is not served (${death}), and ${failures} tries to mount it anew have failed: ${problem}`
    }
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

  /** Two PersistentVolumes with one handle and different attributes would else silently get the first one's data. */
  async #refuseOtherVolume (volume: BindRecord['volume'], spec: VolumeSpec): Promise<void> {
    const others = this.#parts.table.bindsOfVolume(volume).filter((bind) =>
      bind.phase === 'attached' && !this.#isOf(bind, spec)
    )
    if (others.length === 0) return
    /* A bind that somebody unmounted by hand is in nobody's way. */
    const mounts = await this.#parts.host.mountinfo()
    const other = others.find((bind) => this.#isHeld(bind, topMountAt(mounts, bind.resolved)))
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

function unanswered (error: unknown): MountReport {
  return {
    health: { state: 'degraded', reason: `its session does not answer (${messageOf(error)}); see its log` },
    locks: '', notes: [], pid: undefined, counters: {}, gauges: {}, latency: {}
  }
}

/** A served volume that some of its folders do not show. */
function worsened (health: VolumeHealth, missing: readonly string[]): VolumeHealth {
  if (missing.length === 0 || health.state !== 'healthy') return health
  return { state: 'degraded', reason: `it is not to be seen at ${missing.join(', ')}` }
}
