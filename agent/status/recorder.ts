/**
 * Looks at all sessions every few seconds and remembers the last minutes of each.
 *
 * Owns when to look, for how many sessions there is room, and which change of health is worth telling. A look asks the
 * sessions over their sockets and no mount: a dead server cannot hold it up. Does not know who reads what it remembers.
 */
import { monotonicMs } from '../base/deadline.ts'
import type { StatusTrend } from '../../proto/csi/types.ts'
import type { VolumeHealthState, VolumeView } from '../volumes/operations.ts'
import { Trend } from './trend.ts'
import { healthOf } from './words.ts'

export interface HealthChange {
  readonly source: string
  readonly before: VolumeHealthState
  readonly now: VolumeHealthState
  readonly reason: string
}

export interface RecorderOptions {
  /** Never waits for a server. */
  readonly list: () => Promise<readonly VolumeView[]>
  readonly onHealth: (change: HealthChange) => void
  readonly intervalMs?: number
  readonly nowMs?: () => number
  readonly timeMs?: () => number
}

/** A look costs each session one report of some kilobytes; twelve a minute show an incident's shape. */
const intervalMsDefault = 5000
/** kubelet runs 110 pods unless told otherwise; 256 histories are 2 MiB. More sessions have none. */
export const trendsMax = 256
/** A machine that is busy answers late now and then: what lasts two looks is told. */
const looksToTell = 2

interface Remembered {
  readonly trend: Trend
  told: VolumeHealthState
  differs: number
}

export class Recorder {
  readonly #options: RecorderOptions
  readonly #intervalMs: number
  readonly #sessions = new Map<string, Remembered>()
  #timer: NodeJS.Timeout | undefined
  #isLooking = false

  constructor (options: RecorderOptions) {
    this.#options = options
    this.#intervalMs = options.intervalMs ?? intervalMsDefault
  }

  start (): void {
    const look = (): void => { this.look().catch(() => undefined) }
    look()
    this.#timer ??= setInterval(look, this.#intervalMs)
    this.#timer.unref()
  }

  stop (): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** One at a time: a look that takes longer than the interval leaves a gap, not a queue. */
  async look (): Promise<void> {
    if (this.#isLooking) return
    this.#isLooking = true
    try {
      const views = await this.#options.list()
      const atMs = (this.#options.nowMs ?? monotonicMs)()
      const timeMs = (this.#options.timeMs ?? Date.now)()
      const leads = leadsOf(views)
      for (const key of this.#sessions.keys()) if (!leads.has(key)) this.#sessions.delete(key)
      for (const [key, view] of leads) this.#remember(key, view, atMs, timeMs)
    } finally {
      this.#isLooking = false
    }
  }

  trends (): readonly StatusTrend[] {
    return [...this.#sessions].map(([key, { trend }]) => trend.view(key))
  }

  #remember (key: string, view: VolumeView, atMs: number, timeMs: number): void {
    const known = this.#sessions.get(key)
    if (known === undefined && this.#sessions.size >= trendsMax) return
    const session = known ?? { trend: new Trend(this.#intervalMs), told: 'healthy', differs: 0 }
    this.#sessions.set(key, session)
    session.trend.add(view, atMs, timeMs)
    this.#tell(session, view)
  }

  #tell (session: Remembered, { source, health }: VolumeView): void {
    session.differs = health.state === session.told ? 0 : session.differs + 1
    if (session.differs < looksToTell) return
    this.#options.onHealth({ source, before: session.told, now: health.state, reason: health.reason })
    session.told = health.state
    session.differs = 0
  }
}

/** The volume of each session that is worst off. */
function leadsOf (views: readonly VolumeView[]): ReadonlyMap<string, VolumeView> {
  const leads = new Map<string, VolumeView>()
  for (const view of views) {
    const lead = leads.get(view.key)
    if (lead === undefined || healthOf(view.health.state).rank > healthOf(lead.health.state).rank) {
      leads.set(view.key, view)
    }
  }
  return leads
}
