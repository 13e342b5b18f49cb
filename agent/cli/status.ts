/**
 * `volbridge status`: the agent's word about its volumes, for people or as JSON.
 *
 * Owns the layout. Does not know how the values were found.
 */
import type { StatusResponse, StatusUsage, StatusVolume } from '../../proto/csi/types.ts'

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB']

/** Three digits and a unit, for people. */
export function formatBytes (bytes: number): string {
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit++ }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${units[unit] ?? 'B'}`
}

export function formatDuration (ms: number): string {
  const seconds = Math.floor(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`
  return `${Math.floor(seconds / 86_400)} days`
}

function formatUsage (usage: StatusUsage | null): string {
  if (usage === null) return 'not known'
  const bytes = `${formatBytes(Number(usage.usedBytes))} of ${formatBytes(Number(usage.totalBytes))} used, ${formatBytes(Number(usage.availableBytes))} available`
  return `${bytes}; ${usage.usedInodes} of ${usage.totalInodes} inodes${usage.stale ? ' (last known)' : ''}`
}

const row = (name: string, value: string): string => `  ${name.padEnd(9)}${value}`
const counted = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`

/** Counters whose name begins so, without that beginning, the largest first. */
function named (counters: StatusVolume['counters'], prefix: string): readonly (readonly [string, number])[] {
  return Object.entries(counters)
    .filter(([name, value]) => name.startsWith(prefix) && value > 0)
    .map(([name, value]) => [name.slice(prefix.length), value] as const)
    .sort(([, a], [, b]) => b - a)
}

function formatWork ({ counters, latency }: StatusVolume): string {
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

/** What happened on the way to the server that should not have to. Most mounts have nothing to tell. */
function formatNetwork ({ counters }: StatusVolume): string {
  const of = (...names: readonly string[]): number => names.reduce((sum, name) => sum + (counters[name] ?? 0), 0)
  return ([
    [of('retransmissions'), (n) => counted(n, 'retransmission')],
    [of('disconnects'), (n) => `connection lost ${counted(n, 'time')}`],
    [of('failedRounds'), (n) => counted(n, 'failed attempt to connect', 'failed attempts to connect')],
    [of('jukebox'), (n) => `server asked ${counted(n, 'time')} to wait`],
    [of('softFailures'), (n) => `${counted(n, 'call')} given up (soft)`],
    [of('garbage', 'undecodable', 'unmatchedReplies'), (n) => `${counted(n, 'answer')} not understood`],
    [of('rejections'), (n) => `${counted(n, 'call')} rejected`]
  ] as readonly (readonly [number, (n: number) => string])[]).filter(([n]) => n > 0).map(([n, show]) => show(n)).join(', ')
}

/** One session: what it did, and what is wrong with it if anything is. Volumes with one key share it. */
function formatSession (lead: StatusVolume): string[] {
  const errors = named(lead.counters, 'fuseErrors:').map(([name, value]) => `${name} ${value}`).join(', ')
  const network = formatNetwork(lead)
  const { dirtyBytes = 0, waitingWriters = 0 } = lead.gauges
  return [
    row('client', lead.clientReason === '' ? lead.client : `${lead.client} (${lead.clientReason})`),
    ...(lead.locks === '' ? [] : [row('locks', lead.locks)]),
    row('space', formatUsage(lead.usage)),
    ...(lead.sessionPid === 0 ? [] : [row('session', `process ${lead.sessionPid}`)]),
    ...(Object.keys(lead.counters).length === 0 ? [] : [row('so far', formatWork(lead))]),
    ...(errors === '' ? [] : [row('errors', errors)]),
    ...(network === '' ? [] : [row('network', network)]),
    ...(dirtyBytes === 0 ? [] : [row('unsaved', `${formatBytes(dirtyBytes)} not on the server yet${waitingWriters === 0 ? '' : `, ${counted(waitingWriters, 'writer')} waiting`}`)])
  ]
}

function formatVolume ({ volumeId, door, state, staging, targets }: StatusVolume): string[] {
  return [
    row('volume', `${volumeId}, ${state} through ${door}`),
    ...(staging === '' ? [] : [row('', `staged at ${staging}`)]),
    ...targets.map(({ path, readOnly, owner, problem }) =>
      row('', `at ${path}${readOnly ? ' (read-only)' : ''}${owner === '' ? '' : ` for ${owner}`}${problem === '' ? '' : `: ${problem}`}`))
  ]
}

/** Volumes that share a session are one entry: what the session did is said once. */
function formatShare (volumes: readonly StatusVolume[]): string[] {
  const lead = volumes.find(({ health }) => health !== 'healthy') ?? volumes[0]
  if (lead === undefined) return []
  return [
    '',
    `${lead.source}  ${lead.health}${lead.healthReason === '' ? '' : `: ${lead.healthReason}`}`,
    ...formatSession(lead),
    ...volumes.flatMap(formatVolume)
  ]
}

function byKey (volumes: readonly StatusVolume[]): readonly (readonly StatusVolume[])[] {
  return [...new Set(volumes.map(({ key }) => key))].map((key) => volumes.filter((volume) => volume.key === key))
}

export function formatStatus (status: StatusResponse): string {
  const registration = status.registration === '' ? 'no kubelet served' : `kubelet: ${status.registration}${status.registrationError === '' ? '' : ` (${status.registrationError})`}`
  return [
    `volbridge ${status.version}, agent ${status.pid}, up ${formatDuration(Number(status.uptimeMs))}, node ${status.nodeId}, ${registration}`,
    ...(status.volumes.length === 0 ? ['no volumes'] : byKey(status.volumes).flatMap(formatShare)),
    ''
  ].join('\n')
}
