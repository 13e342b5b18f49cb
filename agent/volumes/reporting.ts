/**
 * What is told about volumes: figures of one, and the list for `status`. Owns what is said of a volume that is dead,
 * silent, or not to be seen where it was put. Changes nothing and takes no lock; deeds are `service.ts`.
 */
import type { StageKey } from '../base/brands.ts'
import { VolumeError, messageOf } from '../base/errors.ts'
import { showSource, type VolumeSpec } from '../base/volume-spec.ts'
import { topMountAt, type MountEntry, type Mountinfo } from '../host/mountinfo.ts'
import type { MountReport, RawStatistics } from './mounter.ts'
import type { DataLoss, VolumeHealth, VolumeOperations, VolumeStatistics, VolumeView } from './operations.ts'
import type { EngineParts } from './parts.ts'
import { withLoss } from './records/losses.ts'
import type { BindRecord } from './records/records.ts'
import type { VolumeTable } from './records/table.ts'
import type { HealFacts } from './recovery/healing.ts'
import { stillThere } from './recovery/strays.ts'
import { sameButGroup } from './spec/key.ts'

export type StatisticsRequest = Parameters<VolumeOperations['statistics']>[0]
const reportMs = 1000

/** What is known of mounts that were brought back. */
export interface Heals {
  factsOf (key: StageKey): HealFacts
}

/** What is known of mounts that are being taken away. */
export interface EndingMounts {
  /** Why it has not gone yet, to be added to a sentence; '' when nothing has failed. */
  problemOf (key: StageKey): string
}

/** A target is a mount; a staged volume has none at its path (`attaching.ts`), only the shared one that it holds. */
export function isHeld (table: VolumeTable, bind: BindRecord, top: MountEntry | undefined): boolean {
  return top !== undefined || (bind.role === 'staging' && table.mount(bind.key) !== undefined)
}

export class Reporting {
  readonly #parts: EngineParts
  readonly #heals: Heals
  readonly #endings: EndingMounts
  readonly #lastStatistics = new Map<StageKey, RawStatistics>()

  constructor (parts: EngineParts, beside: { readonly heals: Heals, readonly endings: EndingMounts }) {
    this.#parts = parts
    this.#heals = beside.heals
    this.#endings = beside.endings
  }

  /** The mount of this key is gone. */
  forget (key: StageKey): void {
    this.#lastStatistics.delete(key)
  }

  async statistics (request: StatisticsRequest): Promise<VolumeStatistics> {
    const { volume, path, deadlineMs } = request
    const record = this.#parts.table.bind(path)
    const top = record === undefined ? undefined : topMountAt(await this.#parts.host.mountinfo(), record.resolved)
    if (record === undefined || record.volume !== volume || !isHeld(this.#parts.table, record, top)) {
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

  async shows ({ volume, path, spec, readOnly }: Parameters<VolumeOperations['shows']>[0]): Promise<boolean> {
    const { table, shared, host } = this.#parts
    const bind = table.bind(path)
    if (bind?.phase !== 'attached' || bind.volume !== volume || bind.readOnly !== readOnly) return false
    const [held, live] = [table.mount(bind.key), shared.live(bind.key)]
    if (held === undefined || live === undefined) return false
    const unrestrained = (of: VolumeSpec): VolumeSpec => ({ ...of, restraint: undefined })
    if (!sameButGroup(unrestrained(held.spec), unrestrained(spec))) return false
    return bind.role === 'staging' || topMountAt(await host.mountinfo(), bind.resolved)?.device === live.facts.device
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
      notes: [...report?.notes ?? [], ...record?.spec.optionNotes ?? []],
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
