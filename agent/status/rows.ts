/**
 * The rows of the page's table: one per session, with what it did in the last minutes.
 *
 * Owns what of a volume is shown at once and what on request. Words come from `words.ts`, so they are the terminal's.
 */
import type { StatusTarget, StatusUsage, StatusVolume } from '../../proto/csi/types.ts'
import { chart, healthRibbon } from './chart.ts'
import { foreign, html, nothing, type Html } from './html.ts'
import {
  activityOf, formatBytes, formatCaching, formatCount, formatDuration, formatErrors, formatLocks, formatNetwork,
  formatSeconds, formatUnsaved, formatUsage,
  capitalised, formatDoor, formatLabel, formatVolumeId, formatWaiting, formatWork, splitRemedy, healthOf, healthSinceMs,
  largest,
  isLimited,
  type Share
} from './words.ts'

/** Of a share that many pods use; the rest is counted. */
const volumesShown = 12
const targetsShown = 12

const sign = (state: string): Html =>
  html`<svg class="sign ${state}" aria-hidden="true" focusable="false"><use href="#sign-${state}"/></svg>`
export const mark = (health: string): Html => {
  const { state } = healthOf(health)
  return html`<span class="state ${state}">${sign(state)}${health}</span>`
}
export { sign }

function healthCell (share: Share, nowMs: number): Html {
  const { health } = share.lead
  const since = healthSinceMs(share)
  const lasts = since === undefined ? '' : `for ${formatDuration(nowMs - since)}`
  const changes = share.trend === undefined ? 0 : share.trend.health.length - 1
  const label =
    `Health in the last ten minutes: ${changes === 0 ? `${health} all the time` : `${changes} ${changes === 1 ? 'change' : 'changes'}, now ${health}`}`
  return html`<td role="cell" class="c-health">${mark(health)}${lasts === '' ? nothing : html`<span class="soft lasts">${lasts}</span>`}${share.trend === undefined ? nothing : healthRibbon(share.trend, label)}</td>`
}

const more = (total: number, shown: number, what: string): Html =>
  total <= shown ? nothing : html`<li class="soft">and ${total - shown} more ${what}</li>`

function volumeLine (volume: StatusVolume): Html {
  const { targets } = volume
  const owners = [...new Set(targets.map(({ owner }) => owner).filter((owner) => owner !== ''))]
  const forWhom = owners.length === 0
    ? nothing
    : html` for ${foreign(owners.slice(0, 3).join(', '))}${owners.length > 3 ? ` and ${owners.length - 3} more` : ''}`
  return html`<li>${foreign(formatVolumeId(volume))} <span class="soft">${formatDoor(volume)}${forWhom}${formatLabel(volume)}</span></li>`
}

const targetLine = ({ path, readOnly, problem, unprotected }: StatusTarget): Html =>
  html`<li>${foreign(path)}${readOnly ? ' (read-only)' : ''}${problem === '' ? nothing : html`: <strong>${foreign(problem)}</strong>`}${unprotected === '' ? nothing : html`; unprotected: ${foreign(unprotected)}`}</li>`

const detail = (name: string, value: Html | string): Html =>
  value === '' ? nothing : html`<dt>${name}</dt><dd>${value}</dd>`

function details ({ lead, volumes }: Share): Html {
  const targets = volumes.flatMap((volume) => volume.targets)
  const staging = volumes.map((volume) => volume.staging).filter((path) => path !== '')
  const list = (lines: readonly Html[], total: number): Html =>
    html`<ul class="volumes">${lines}${more(total, targetsShown, 'folders')}</ul>`
  return html`<details id="d-${lead.key.slice(0, 16)}"><summary>Details</summary><dl>${[
    detail('client', lead.clientReason === '' ? lead.client : `${lead.client} (${lead.clientReason})`),
    detail('locks', formatLocks(lead.locks)),
    detail('caching', formatCaching(lead)),
    detail('space', formatUsage(lead.usage)),
    ...lead.notes.map((note) => detail('note', foreign(note))),
    detail('healed', lead.heals === 0 ? '' : `${lead.heals === 1 ? 'once' : `${lead.heals} times`}: its session died and another took over`),
    detail('so far', Object.keys(lead.counters).length === 0 ? '' : formatWork(lead)),
    detail('errors', formatErrors(lead)),
    detail('network', formatNetwork(lead)),
    detail('session', lead.sessionPid === 0 ? '' : `process ${lead.sessionPid}`),
    detail('staged', staging.length === 0 ? '' : list(staging.slice(0, targetsShown).map((path) => html`<li>${foreign(path)}</li>`), staging.length)),
    detail('at', targets.length === 0 ? '' : list(targets.slice(0, targetsShown).map(targetLine), targets.length))
  ]}</dl></details>`
}

function reasonText (reason: string, state: string): Html {
  const { what, remedy } = splitRemedy(reason)
  return html`<p class="reason ${state}">${foreign(capitalised(what))}.${remedy === '' ? nothing : html` <span class="remedy">${foreign(capitalised(remedy))}.</span>`}</p>`
}

function volumeCell (share: Share, isDetailed: boolean): Html {
  const { lead, volumes } = share
  const { state } = healthOf(lead.health)
  const waiting = [formatWaiting(lead), formatUnsaved(lead)].filter((text) => text !== '')
  return html`<th role="rowheader" scope="row"><span class="source">${foreign(lead.source)}</span>
<ul class="volumes">${volumes.slice(0, volumesShown).map(volumeLine)}${more(volumes.length, volumesShown, 'volumes')}</ul>${
  lead.healthReason === '' ? nothing : html`${reasonText(lead.healthReason, state)}`}${
  waiting.length === 0 ? nothing : html`<p class="soft">waiting: ${waiting.join('; ')}</p>`}${
  isDetailed ? details(share) : nothing}</th>`
}

interface Figure { readonly kind?: 'first' | 'second', readonly name: string, readonly text: string }
const figures = (all: readonly Figure[]): Html => html`<div class="figures">${all.map(({ kind, name, text }) =>
  html`<span>${kind === undefined ? nothing : html`<span class="key ${kind}"></span>`}<span class="soft">${name}</span> ${text}</span>`)}</div>`

const rate = (bytes: number): string => `${formatBytes(bytes)}/s`
const time = (seconds: number): string => Number.isNaN(seconds) ? '–' : formatSeconds(seconds)

/** Charts have a scale of their own; a tenth of these is noise at the bottom. */
const topAtLeast = { bytesPerSecond: 64 * 1024, requestsPerSecond: 10, seconds: 0.001 }

function noFigures ({ client, health }: StatusVolume): string {
  if (client === 'kernel') return 'the kernel\'s client keeps its figures to itself'
  return health === 'dead' ? 'nothing is served' : 'not known yet'
}

function chartCells ({ lead, trend }: Share): Html {
  const now = activityOf(trend)
  if (trend === undefined || now === undefined) {
    return html`<td role="cell" colspan="3" class="soft none">${noFigures(lead)}</td>`
  }
  const throughput = [now.readBytesPerSecond, now.writtenBytesPerSecond].map(rate)
  const peaks = [trend.readBytesPerSecond, trend.writtenBytesPerSecond].map((values) => rate(largest(values)))
  const requests = formatCount(now.requestsPerSecond)
  const [half, most] = [time(now.medianSeconds), time(now.p99Seconds)]
  return html`<td role="cell" class="c-chart" data-name="Throughput">${chart({
    label: `Throughput in the last ten minutes: read ${throughput[0] ?? ''} now and ${peaks[0] ?? ''} at most, written ${throughput[1] ?? ''} now and ${peaks[1] ?? ''} at most`,
    series: [{ kind: 'first', values: trend.readBytesPerSecond }, { kind: 'second', values: trend.writtenBytesPerSecond }], topAtLeast: topAtLeast.bytesPerSecond
  })}${figures([{ kind: 'first', name: 'read', text: throughput[0] ?? '' }, { kind: 'second', name: 'written', text: throughput[1] ?? '' }])}</td>
<td role="cell" class="c-chart" data-name="Requests">${chart({
    label: `Requests in the last ten minutes: ${requests} per second now, ${formatCount(largest(trend.requestsPerSecond))} at most`,
    series: [{ kind: 'first', values: trend.requestsPerSecond }], topAtLeast: topAtLeast.requestsPerSecond
  })}${figures([{ name: 'now', text: `${requests}/s` }, { name: 'most', text: `${formatCount(largest(trend.requestsPerSecond))}/s` }])}</td>
<td role="cell" class="c-chart" data-name="Time per request">${chart({
    label: `Time per request in the last ten minutes: ${Number.isNaN(now.medianSeconds) ? 'no requests now' : `half within ${half}, 99 of 100 within ${most} now`}`,
    series: [{ kind: 'first', values: trend.medianSeconds }, { kind: 'second', values: trend.p99Seconds }], topAtLeast: topAtLeast.seconds
  })}${figures([{ kind: 'first', name: 'half', text: half }, { kind: 'second', name: '99 %', text: most }])}</td>`
}

function spaceCell (usage: StatusUsage | null): Html {
  if (usage === null) return html`<td role="cell" class="c-space soft" data-name="Space">not known</td>`
  const total = Number(usage.totalBytes)
  if (!isLimited(usage.totalBytes)) {
    const words = total === 0 ? 'not told' : `${formatBytes(Number(usage.usedBytes))}, no limit`
    return html`<td role="cell" class="c-space" data-name="Space">${words}</td>`
  }
  const share = Math.min(1, Number(usage.usedBytes) / total)
  return html`<td role="cell" class="c-space" data-name="Space">${Math.round(share * 100)} % <span class="soft lasts">of ${formatBytes(total)}${usage.stale ? ', last known' : ''}</span><svg class="bar" aria-hidden="true" viewBox="0 0 100 6" preserveAspectRatio="none"><rect class="all" width="100" height="6" rx="1"/><rect class="used" width="${Math.round(share * 1000) / 10}" height="6" rx="1"/></svg></td>`
}

/** Beyond what anybody looks at one by one, a row is short: no charts, no details. */
export function shareRow (share: Share, { nowMs, isDetailed }: { nowMs: number, isDetailed: boolean }): Html {
  const cells = isDetailed
    ? chartCells(share)
    : html`<td role="cell" colspan="3" class="soft">${activityText(share)}</td>`
  return html`<tr role="row">${healthCell(isDetailed ? share : { ...share, trend: undefined }, nowMs)}${volumeCell(share, isDetailed)}${cells}${spaceCell(share.lead.usage)}</tr>\n`
}

function activityText ({ trend }: Share): string {
  const now = activityOf(trend)
  return now === undefined ? '' : `${formatCount(now.requestsPerSecond)} requests/s`
}
