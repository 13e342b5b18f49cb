/**
 * `volbridge status`: the agent's word about its volumes, for people.
 *
 * Owns the layout; the words are those of the agent's page. Does not know how the values were found.
 */
import type { StatusResponse, StatusTrouble, StatusVolume } from '../../proto/csi/types.ts'
import {
  formatActivity, formatBytes, formatCaching, formatDoor, formatDuration, formatLabel, formatErrors, formatLocks,
  formatNetwork,
  formatSummary, formatUnsaved, formatUsage, formatVolumeId, formatWaiting,
  formatWork, healthSinceMs, sharesOf, shortVolumeId, type Share
} from '../status/words.ts'

const row = (name: string, value: string): string => `  ${name.padEnd(9)}${value}`
/** Most have nothing to tell. */
const rowIfAny = (name: string, value: string): string[] => value === '' ? [] : [row(name, value)]

/** One session: what it did, and what is wrong with it if anything is. Volumes with one key share it. */
function formatSession ({ lead, trend }: Share): string[] {
  return [
    row('client', lead.clientReason === '' ? lead.client : `${lead.client} (${lead.clientReason})`),
    ...rowIfAny('locks', formatLocks(lead.locks)),
    ...rowIfAny('caching', formatCaching(lead)),
    ...lead.notes.map((note) => row('note', note)),
    row('space', formatUsage(lead.usage)),
    ...rowIfAny('session', lead.sessionPid === 0 ? '' : `process ${lead.sessionPid}`),
    ...rowIfAny('now', trend === undefined || Object.keys(lead.counters).length === 0 ? '' : formatActivity(trend)),
    ...rowIfAny('so far', Object.keys(lead.counters).length === 0 ? '' : formatWork(lead)),
    ...(lead.heals === 0
      ? []
      : [
        row('healed', `${lead.heals === 1 ? 'once' : `${lead.heals} times`}: its session died and another took over`)
      ]),
    ...rowIfAny('errors', formatErrors(lead)),
    ...rowIfAny('network', formatNetwork(lead)),
    ...rowIfAny('waiting', formatWaiting(lead)),
    ...rowIfAny('unsaved', formatUnsaved(lead))
  ]
}

function formatVolume (volume: StatusVolume): string[] {
  const { staging, targets } = volume
  return [
    row('volume', `${formatVolumeId(volume)}, ${formatDoor(volume)}${formatLabel(volume)}`),
    ...(staging === '' ? [] : [row('', `staged at ${staging}`)]),
    ...targets.map(({ path, readOnly, owner, problem, unprotected }) =>
      row(
        '',
        [
          `at ${path}${readOnly ? ' (read-only)' : ''}${owner === '' ? '' : ` for ${owner}`}${problem === '' ? '' : `: ${problem}`}`,
          ...unprotected === '' ? [] : [`unprotected: ${unprotected}`]
        ].join('; ')
      )
    )
  ]
}

/** Volumes that share a session are one entry: what the session did is said once. */
function formatShare (share: Share, nowMs: number): string[] {
  const { lead, volumes } = share
  const since = healthSinceMs(share)
  const lasts = lead.health === 'healthy' || since === undefined ? '' : ` (for ${formatDuration(nowMs - since)})`
  return [
    '',
    `${lead.source}  ${lead.health}${lead.healthReason === '' ? '' : `: ${lead.healthReason}`}${lasts}`,
    ...formatSession(share),
    ...volumes.flatMap(formatVolume)
  ]
}

/** The rest is in the log, and in `--json`. */
const troublesShown = 5

function formatTrouble (
  { timeMs, count, subject, operation, message, remedy }: StatusTrouble,
  nowMs: number
): string[] {
  const when = `${formatDuration(nowMs - Number(timeMs))} ago${count > 1 ? `, ${count} times` : ''}`
  return [
    `  ${when}: ${operation}${subject === '' ? '' : ` ${shortVolumeId(subject)}`}: ${message}`,
    ...(remedy === '' ? [] : [`    ${remedy}`])
  ]
}

function formatTroubles ({ troubles, timeMs }: StatusResponse): string[] {
  if (troubles.length === 0) return []
  return [
    '', 'last warnings and errors',
    ...troubles.slice(0, troublesShown).flatMap((trouble) => formatTrouble(trouble, Number(timeMs)))
  ]
}

/** Kept until the share is unmounted once more without a loss. */
function formatLosses ({ losses }: StatusResponse): string[] {
  if (losses.length === 0) return []
  return [
    '', 'data loss',
    ...losses.map(({ source, bytes, at }) =>
      `  ${source}: ${formatBytes(Number(bytes))} that programs had written were lost when it was unmounted at ${at}`
    )
  ]
}

export function formatStatus (status: StatusResponse): string {
  const registration = status.registration === ''
    ? 'no kubelet served'
    : `kubelet: ${status.registration}${status.registrationError === '' ? '' : ` (${status.registrationError})`}`
  return [
    `volbridge ${status.version}, agent ${status.pid}, up ${formatDuration(Number(status.uptimeMs))}, node ${status.nodeId}, ${registration}`,
    ...status.httpError === ''
      ? []
      : [`HTTP is not served at ${status.http}: ${status.httpError}; it is tried again, volumes do not need it`],
    formatSummary(status.volumes),
    ...sharesOf(status).flatMap((share) => formatShare(share, Number(status.timeMs))),
    ...formatTroubles(status),
    ...formatLosses(status),
    ''
  ].join('\n')
}
