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

function formatVolume (volume: StatusVolume): string[] {
  const counters = Object.entries(volume.counters).filter(([, value]) => value > 0)
  return [
    `${volume.source}  ${volume.health}${volume.healthReason === '' ? '' : `: ${volume.healthReason}`}`,
    row('volume', volume.volumeId),
    row('door', volume.door),
    row('client', volume.clientReason === '' ? volume.client : `${volume.client} (${volume.clientReason})`),
    row('state', volume.sessionPid === 0 ? volume.state : `${volume.state}, session ${volume.sessionPid}`),
    row('locks', volume.locks),
    row('space', formatUsage(volume.usage)),
    ...(volume.staging === '' ? [] : [row('staged', volume.staging)]),
    ...volume.targets.map(({ path, readOnly, owner }) => row('mounted', `${path}${readOnly ? ' (read-only)' : ''}${owner === '' ? '' : ` for ${owner}`}`)),
    ...(counters.length === 0 ? [] : [row('counts', counters.map(([name, value]) => `${name} ${value}`).join(', '))])
  ]
}

export function formatStatus (status: StatusResponse): string {
  const registration = status.registration === '' ? 'no kubelet served' : `kubelet: ${status.registration}${status.registrationError === '' ? '' : ` (${status.registrationError})`}`
  return [
    `volbridge ${status.version}, agent ${status.pid}, up ${formatDuration(Number(status.uptimeMs))}, node ${status.nodeId}, ${registration}`,
    ...(status.volumes.length === 0 ? ['no volumes'] : status.volumes.flatMap((volume) => ['', ...formatVolume(volume)])),
    ''
  ].join('\n')
}
