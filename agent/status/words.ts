/**
 * The words for what a volume is and does: the terminal and the page say the same thing the same way.
 *
 * Owns units, sentences, and how a health is called and marked. Does not know where they are shown.
 */
import { noLimit } from '../base/usage.ts'
import type { StatusResponse, StatusTrend, StatusUsage, StatusVolume } from '../../proto/csi/types.ts'
import type { VolumeHealthState } from '../volumes/operations.ts'

const byteUnits = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB']

/** Three digits and a unit, for people. */
export function formatBytes (bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < byteUnits.length - 1) { value /= 1024; unit++ }
  return `${unit === 0 ? Math.round(value) : value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${byteUnits[unit] ?? 'B'}`
}

export function formatDuration (ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`
  return `${Math.floor(seconds / 86_400)} days`
}

/** How long a request took: two digits and a unit. */
export function formatSeconds (seconds: number): string {
  const ms = seconds * 1000
  if (ms < 0.095) return `${Math.max(1, Math.round(ms * 1000))} µs`
  if (ms < 1) return `${ms.toFixed(2)} ms`
  if (ms < 9.95) return `${ms.toFixed(1)} ms`
  if (ms < 999.5) return `${ms.toFixed(0)} ms`
  return `${seconds.toFixed(seconds < 9.95 ? 1 : 0)} s`
}

export function formatCount (value: number): string {
  if (value === 0) return '0'
  if (value < 10) return value.toFixed(1)
  return Math.round(value).toLocaleString('en-US')
}

export const counted = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`

export interface HealthWords {
  readonly state: VolumeHealthState
  /** 0 is well; the worst is shown first. */
  readonly rank: number
}

export const healths = {
  healthy: { state: 'healthy', rank: 0 },
  degraded: { state: 'degraded', rank: 1 },
  unreachable: { state: 'unreachable', rank: 2 },
  stale: { state: 'stale', rank: 3 },
  dead: { state: 'dead', rank: 4 }
} as const satisfies Record<VolumeHealthState, HealthWords>

/** By our own convention an error or a state is told as `what is wrong; what to do`. */
export function splitRemedy (sentence: string): { readonly what: string, readonly remedy: string } {
  const at = sentence.lastIndexOf('; ')
  return at === -1 ? { what: sentence, remedy: '' } : { what: sentence.slice(0, at), remedy: sentence.slice(at + 2) }
}

/** Sentences begin so, names of shares and fields stay as they are. */
export const capitalised = (text: string): string =>
  /^[a-z]+[ ,]/.test(text) ? text.slice(0, 1).toUpperCase() + text.slice(1) : text

/** What this version has no word for is at least not well. */
export const healthOf = (name: string): HealthWords =>
  Object.hasOwn(healths, name) ? healths[name as VolumeHealthState] : healths.degraded

/** Volumes of one key are served by one session: what it does is told once, and its worst volume speaks for it. */
export interface Share {
  readonly lead: StatusVolume
  readonly volumes: readonly StatusVolume[]
  readonly trend: StatusTrend | undefined
}

export function sharesOf ({ volumes, trends }: StatusResponse): readonly Share[] {
  const byKey = new Map<string, StatusVolume[]>()
  for (const volume of volumes) byKey.set(volume.key, [...byKey.get(volume.key) ?? [], volume])
  const trendOf = new Map(trends.map((trend) => [trend.key, trend]))
  const worse = (one: StatusVolume, other: StatusVolume): StatusVolume =>
    healthOf(other.health).rank > healthOf(one.health).rank ? other : one
  return [...byKey].map(([key, those]) => ({ lead: those.reduce(worse), volumes: those, trend: trendOf.get(key) }))
}

/** `2 healthy, 1 unreachable`, the worst first. */
export function countHealths (volumes: readonly StatusVolume[]): readonly (readonly [VolumeHealthState, number])[] {
  return Object.values(healths).toSorted((one, other) => other.rank - one.rank)
    .map(({ state }) => [state, volumes.filter(({ health }) => healthOf(health).state === state).length] as const)
    .filter(([, count]) => count > 0)
}

export function formatSummary (volumes: readonly StatusVolume[]): string {
  if (volumes.length === 0) return 'no volumes'
  const counts = countHealths(volumes)
  const [state] = counts[0] ?? []
  if (counts.length === 1 && state !== undefined) {
    return volumes.length === 1
      ? `the one volume is ${state}`
      : `all ${volumes.length} volumes are ${state}`
  }
  return `${counted(volumes.length, 'volume')}: ${counts.map(([state, count]) => `${count} ${state}`).join(', ')}`
}

export function formatUsage (usage: StatusUsage | null): string {
  if (usage === null) return 'not known'
  return `${formatSpace(usage)}; ${formatInodes(usage)}${usage.stale ? ' (last known)' : ''}`
}

/** Servers have file systems without a limit, and some that do not tell. */
export const isLimited = (total: StatusUsage['totalBytes']): boolean =>
  BigInt(total) !== 0n && BigInt(total) !== noLimit

function formatSpace ({ totalBytes, usedBytes, availableBytes }: StatusUsage): string {
  if (BigInt(totalBytes) === 0n) return 'size not told by the server'
  const used = formatBytes(Number(usedBytes))
  if (!isLimited(totalBytes)) return `${used} used, no limit`
  return `${used} of ${formatBytes(Number(totalBytes))} used, ${formatBytes(Number(availableBytes))} available`
}

function formatInodes ({ totalInodes, usedInodes }: StatusUsage): string {
  if (BigInt(totalInodes) === 0n) return 'inodes not counted by the server'
  return isLimited(totalInodes) ? `${usedInodes} of ${totalInodes} inodes` : `${usedInodes} inodes, no limit`
}

/** Counters whose name begins so, without that beginning, the largest first. */
function named (counters: StatusVolume['counters'], prefix: string): readonly (readonly [string, number])[] {
  return Object.entries(counters)
    .filter(([name, value]) => name.startsWith(prefix) && value > 0)
    .map(([name, value]) => [name.slice(prefix.length), value] as const)
    .sort(([, a], [, b]) => b - a)
}

export function formatWork ({ counters, latency }: StatusVolume): string {
  const requests = named(counters, 'fuseRequests:').reduce((sum, [, value]) => sum + value, 0)
  const times = Object.values(latency)
  const count = times.reduce((sum, each) => sum + Number(each.count), 0)
  const meanMs = count === 0 ? 0 : 1000 * times.reduce((sum, each) => sum + each.sumSeconds, 0) / count
  return [
    `read ${formatBytes(counters['fuseReadBytes'] ?? 0)}`,
    `written ${formatBytes(counters['fuseWrittenBytes'] ?? 0)}`,
    `${counted(requests, 'request')}${count === 0 ? '' : `, ${meanMs < 10 ? meanMs.toFixed(1) : meanMs.toFixed(0)} ms on average`}`
  ].join(', ')
}

/** Requests that were answered with an error, by operation. A name that is not there is an answer. */
export const formatErrors = ({ counters }: StatusVolume): string =>
  named(counters, 'fuseErrors:').map(([name, value]) => `${name} ${value}`).join(', ')

/** What happened on the way to the server that should not have to. Most mounts have nothing to tell. */
export function formatNetwork ({ counters }: StatusVolume): string {
  const of = (...names: readonly string[]): number => names.reduce((sum, name) => sum + (counters[name] ?? 0), 0)
  return ([
    [of('retransmissions'), (n) => counted(n, 'retransmission')],
    [of('disconnects'), (n) => `connection lost ${counted(n, 'time')}`],
    [of('failedRounds'), (n) => counted(n, 'failed attempt to connect', 'failed attempts to connect')],
    [of('jukebox'), (n) => `server asked ${counted(n, 'time')} to wait`],
    [of('softFailures'), (n) => `${counted(n, 'call')} given up (soft)`],
    [of('garbage', 'undecodable', 'unmatchedReplies'), (n) => `${counted(n, 'answer')} not understood`],
    [of('rejections'), (n) => `${counted(n, 'call')} rejected`]
  ] as readonly (readonly [number, (n: number) => string])[]).filter(([n]) => n > 0).map(([n, show]) => show(n)).join(
    ', '
  )
}

export function formatUnsaved ({ gauges }: StatusVolume): string {
  const { dirtyBytes = 0, waitingWriters = 0 } = gauges
  if (dirtyBytes === 0) return ''
  return `${formatBytes(dirtyBytes)} not on the server yet${waitingWriters === 0 ? '' : `, ${counted(waitingWriters, 'writer')} waiting`}`
}

/** Requests under way, which the kernel waits for. A healthy volume answers them before anybody can look. */
export function formatWaiting ({ gauges, health }: StatusVolume): string {
  const { fuseInFlight = 0 } = gauges
  return fuseInFlight === 0 || health === 'healthy' ? '' : `${counted(fuseInFlight, 'request')} of programs`
}

/** Where nobody names volumes they have a hash for a name, of which the beginning tells them apart. */
export const shortVolumeId = (volumeId: string): string =>
  /^(?:hand|flex)-[0-9a-f]{64}$/.test(volumeId) ? `${volumeId.slice(0, 17)}…` : volumeId
export const formatVolumeId = ({ volumeId }: StatusVolume): string => shortVolumeId(volumeId)
/** For whoever comes from a dashboard. An agent of an earlier version tells none. */
export const formatLabel = ({ metricLabel }: StatusVolume): string =>
  metricLabel === '' ? '' : `, in metrics ${metricLabel}`

export const formatDoor = ({ state, door }: StatusVolume): string =>
  door === 'hand' ? `${state === 'published' ? 'mounted' : state} by hand` : `${state} through ${door}`

/** Locks are the promise that surprises most: it is said, not hidden. */
export const formatLocks = (locks: string): string =>
  locks === 'node-local' ? 'node-local: two nodes can hold the same lock' : locks

/** What is not as usual: consistency=solowriter and where it has ended, or that it would fit. */
export function formatCaching ({ client, counters, exclusive, gauges }: StatusVolume): string {
  const ended = counters['soloWriterEnded'] ?? 0
  if (gauges['soloWriter'] === 1) {
    return ended === 0
      ? 'solowriter'
      : `solowriter, ended for ${counted(ended, 'file or folder', 'files and folders')} that somebody else changed; if nodes share this volume, use consistency=standard`
  }
  return exclusive && client === 'fuse'
    ? 'standard; the volume is for one pod alone (ReadWriteOncePod): consistency=solowriter would keep more of it on the node'
    : ''
}

/** "Now" is the last quarter of a minute: shorter jumps about, longer hides that it has stopped. */
const nowMs = 15_000

export interface Activity {
  readonly readBytesPerSecond: number
  readonly writtenBytesPerSecond: number
  readonly requestsPerSecond: number
  /** NaN without requests. */
  readonly medianSeconds: number
  readonly p99Seconds: number
}

const mean = (values: readonly number[]): number => {
  const known = values.filter((value) => !Number.isNaN(value))
  return known.length === 0 ? Number.NaN : known.reduce((sum, value) => sum + value, 0) / known.length
}
export const largest = (values: readonly number[]): number =>
  values.reduce((most, value) => value > most ? value : most, 0)

/** Undefined when the last seconds are not known. */
export function activityOf (trend: StatusTrend | undefined): Activity | undefined {
  if (trend === undefined) return undefined
  const last = (values: readonly number[]): readonly number[] =>
    values.slice(-Math.max(1, Math.round(nowMs / trend.intervalMs)))
  const requestsPerSecond = mean(last(trend.requestsPerSecond))
  if (Number.isNaN(requestsPerSecond)) return undefined
  return {
    requestsPerSecond,
    readBytesPerSecond: mean(last(trend.readBytesPerSecond)),
    writtenBytesPerSecond: mean(last(trend.writtenBytesPerSecond)),
    medianSeconds: mean(last(trend.medianSeconds)),
    p99Seconds: last(trend.p99Seconds).some((value) => !Number.isNaN(value))
      ? largest(last(trend.p99Seconds))
      : Number.NaN
  }
}

export function formatActivity (trend: StatusTrend | undefined): string {
  const now = activityOf(trend)
  if (now === undefined) return 'not known yet'
  if (now.requestsPerSecond === 0) return 'idle'
  const times = Number.isNaN(now.medianSeconds)
    ? ''
    : `; half within ${formatSeconds(now.medianSeconds)}, 99 % within ${formatSeconds(now.p99Seconds)}`
  return `read ${formatBytes(now.readBytesPerSecond)}/s, written ${formatBytes(now.writtenBytesPerSecond)}/s, ${formatCount(now.requestsPerSecond)} requests/s${times}`
}

/** How long the volume has been as it is; undefined when that was not seen. */
export function healthSinceMs ({ lead, trend }: Share): number | undefined {
  const last = trend?.health.at(-1)
  return last?.health === lead.health ? Number(last.timeMs) : undefined
}
