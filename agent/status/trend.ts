/**
 * The last minutes of one session: rates and times from its counters, and when its health changed.
 *
 * Owns the ring and the arithmetic between two looks. Does not know who looks, or when.
 */
import type { StatusTrend } from '../../proto/csi/types.ts'
import type { LatencyView, VolumeView } from '../volumes/operations.ts'

/** Ten minutes of looks every five seconds: what an operator wants to see of an incident, in 5 KiB a session. */
export const trendLooks = 120

const columns = [
  'readBytesPerSecond', 'writtenBytesPerSecond', 'requestsPerSecond', 'medianSeconds', 'p99Seconds'
] as const
type Sample = Readonly<Record<typeof columns[number], number>>
const unknown: Sample = {
  readBytesPerSecond: Number.NaN, writtenBytesPerSecond: Number.NaN, requestsPerSecond: Number.NaN,
  medianSeconds: Number.NaN, p99Seconds: Number.NaN
}

export type Seen = Pick<VolumeView, 'counters' | 'latency' | 'health' | 'sessionPid'>

/** A session's counters at one moment. They start anew with a new process. */
interface Look {
  readonly atMs: number
  readonly pid: number | undefined
  readonly readBytes: number
  readonly writtenBytes: number
  readonly requests: number
  readonly times: Times
}

/** Requests by upper bound, not cumulative; the last bound is endless. */
type Times = ReadonlyMap<number, number>

function timesOf (latency: Readonly<Record<string, LatencyView>>): Times {
  const times = new Map<number, number>()
  for (const { count, buckets } of Object.values(latency)) {
    let below = 0
    for (const { upToSeconds, count: cumulative } of [...buckets, { upToSeconds: Number.POSITIVE_INFINITY, count }]) {
      times.set(upToSeconds, (times.get(upToSeconds) ?? 0) + cumulative - below)
      below = cumulative
    }
  }
  return times
}

/**
 * The time that a share of the requests took at most: within a bucket they are taken to lie evenly. What took longer
 * than the last bound is told as that bound: nothing longer is known.
 */
export function quantileSeconds (times: Times, share: number): number {
  const rows = [...times].sort(([one], [other]) => one - other)
  const total = rows.reduce((sum, [, count]) => sum + count, 0)
  if (total <= 0) return Number.NaN
  const wanted = total * share
  let before = 0
  let lower = 0
  for (const [upper, count] of rows) {
    if (count > 0 && before + count >= wanted) {
      return Number.isFinite(upper)
        ? lower + (upper - lower) * (wanted - before) / count
        : lower
    }
    before += count
    lower = Number.isFinite(upper) ? upper : lower
  }
  return lower
}

function lookOf ({ counters, latency, sessionPid }: Seen, atMs: number): Look {
  const requests = Object.entries(counters).reduce(
    (sum, [name, value]) => name.startsWith('fuseRequests:') ? sum + value : sum,
    0
  )
  return {
    atMs, pid: sessionPid, readBytes: counters['fuseReadBytes'] ?? 0, writtenBytes: counters['fuseWrittenBytes'] ?? 0,
    requests, times: timesOf(latency)
  }
}

function sampleBetween (before: Look | undefined, now: Look | undefined): Sample {
  if (before === undefined || now === undefined || now.pid !== before.pid || now.atMs <= before.atMs) return unknown
  const seconds = (now.atMs - before.atMs) / 1000
  const rate = (from: number, to: number): number => Math.max(0, to - from) / seconds
  const times = new Map(
    [...now.times].map(([bound, count]) => [bound, Math.max(0, count - (before.times.get(bound) ?? 0))])
  )
  return {
    readBytesPerSecond: rate(before.readBytes, now.readBytes),
    writtenBytesPerSecond: rate(before.writtenBytes, now.writtenBytes),
    requestsPerSecond: rate(before.requests, now.requests),
    medianSeconds: quantileSeconds(times, 0.5),
    p99Seconds: quantileSeconds(times, 0.99)
  }
}

/** Short enough to be read and sent, exact enough for a line of a few hundred points. */
const rounded = (value: number): number => Number(value.toPrecision(4))

export class Trend {
  readonly #intervalMs: number
  readonly #samples: Sample[] = []
  readonly #health: { readonly timeMs: number, readonly health: string }[] = []
  /** Of the last answer. */
  #last: Look | undefined
  /** Of the last look, answered or not. */
  #lookedAtMs: number | undefined
  #timeMs = 0

  constructor (intervalMs: number) {
    this.#intervalMs = intervalMs
  }

  /** `atMs` is of the monotonic clock, `timeMs` of the calendar. A session that did not answer has no counters. */
  add (seen: Seen, atMs: number, timeMs: number): void {
    this.#note(seen.health.state, timeMs)
    const now = Object.keys(seen.counters).length === 0 ? undefined : lookOf(seen, atMs)
    if (this.#lookedAtMs !== undefined) {
      // Looks that could not be made leave a gap of their own width.
      const missed = Math.min(trendLooks, Math.round((atMs - this.#lookedAtMs) / this.#intervalMs) - 1)
      for (let gap = 0; gap < missed; gap++) this.#samples.push(unknown)
      this.#samples.push(sampleBetween(this.#last, now))
      this.#samples.splice(0, this.#samples.length - trendLooks)
    }
    this.#lookedAtMs = atMs
    this.#timeMs = timeMs
    if (now !== undefined) this.#last = now
  }

  view (key: string): StatusTrend {
    const column = (name: typeof columns[number]): number[] => this.#samples.map((sample) => rounded(sample[name]))
    return {
      key,
      intervalMs: this.#intervalMs,
      timeMs: `${Math.round(this.#timeMs)}`,
      readBytesPerSecond: column('readBytesPerSecond'),
      writtenBytesPerSecond: column('writtenBytesPerSecond'),
      requestsPerSecond: column('requestsPerSecond'),
      medianSeconds: column('medianSeconds'),
      p99Seconds: column('p99Seconds'),
      health: this.#health.map(({ timeMs, health }) => ({ timeMs: `${Math.round(timeMs)}`, health }))
    }
  }

  #note (health: string, timeMs: number): void {
    if (this.#health.at(-1)?.health !== health) this.#health.push({ timeMs, health })
    const horizonMs = timeMs - this.#intervalMs * trendLooks
    // The one that held at the horizon stays: it says what was before.
    while ((this.#health[1]?.timeMs ?? Number.POSITIVE_INFINITY) < horizonMs) this.#health.shift()
  }
}
