/**
 * The page that the agent shows: one document, read only, whole without scripts.
 *
 * Owns its outline, how much of it there can be, and the headers it goes out with. Does not know HTTP servers or how
 * anything was found out: it is made from what `volbridge status --json` tells.
 */
import { createHash } from 'node:crypto'
import type { StatusResponse, StatusTrouble } from '../../proto/csi/types.ts'
import { foreign, html, Html, nothing } from './html.ts'
import { shareRow, sign } from './rows.ts'
import { script } from './script.ts'
import { iconOf, style, symbols } from './style.ts'
import {
  capitalised,
  countHealths,
  formatBytes,
  formatCaching,
  formatDuration,
  formatLocks,
  formatSummary,
  healthOf,
  sharesOf,
  shortVolumeId,
  splitRemedy
} from './words.ts'

export interface Document {
  readonly contentType: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** The worst come first, so what is left out is well. A row with charts is some 7 KB, one without 700 bytes: a page
 * stays below 2 MB. */
export const sharesDetailed = 100
export const sharesShown = 1000
export const volumesTold = 1000

const cachingNotesMax = 10
const lossesMax = 20

/** Without scripts the browser loads the page anew. */
const reloadSeconds = 10

const sha256 = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`

/** Nothing is loaded from anywhere, nothing runs but the one script and style of the page itself, nobody may frame
 * it. */
const policy =
  `default-src 'none'; style-src ${sha256(style)}; script-src ${sha256(script)}; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`

const headers = {
  'content-security-policy': policy,
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin'
} as const

function kubelet ({ registration, registrationError }: StatusResponse): Html {
  if (registration === '') return html`not served`
  return html`${registration}${registrationError === '' ? nothing : html` (${foreign(registrationError)})`}`
}

function facts (status: StatusResponse): Html {
  const fact = (name: string, value: Html | string): Html => html`<div><dt>${name}</dt><dd>${value}</dd></div>`
  return html`<dl class="facts">${[
    fact('Node', foreign(status.nodeId)),
    fact('Kubelet', kubelet(status)),
    fact('Agent', html`volbridge ${status.version}, process ${status.pid}`),
    fact('Up', formatDuration(Number(status.uptimeMs)))
  ]}</dl>`
}

function volumesTable (status: StatusResponse): Html {
  const nowMs = Number(status.timeMs)
  const rank = (health: string): number => healthOf(health).rank
  const shares = sharesOf(status).toSorted((one, other) =>
    rank(other.lead.health) - rank(one.lead.health) || (one.lead.source < other.lead.source ? -1 : 1)
  )
  if (shares.length === 0) {
    return html`<p class="panel empty">No volume is mounted through this agent. The first pod that needs one brings it here.</p>`
  }
  const rows = shares.slice(0, sharesShown).map((share, index) =>
    shareRow(share, { nowMs, isDetailed: index < sharesDetailed })
  )
  const left = shares.length - sharesShown
  return html`<div class="panel"><table role="table" class="shares"><caption class="unseen">Volumes by what they are mounted from, the worst first</caption>
<thead role="rowgroup"><tr role="row">${['Health', 'Volume', 'Throughput', 'Requests', 'Time per request', 'Space'].map((name) => html`<th role="columnheader" scope="col">${name}</th>`)}</tr></thead>
<tbody role="rowgroup">
${rows}</tbody></table>${left > 0 ? html`<p class="empty">${left} more are not shown, none of them worse than these; volbridge status tells all.</p>` : nothing}</div>`
}

function troubleRow (
  { timeMs, count, level, operation, subject, message, remedy }: StatusTrouble,
  nowMs: number
): Html {
  const when = new Date(Number(timeMs))
  return html`<tr role="row"><td role="cell" class="c-when"><time datetime="${when.toISOString()}">${formatDuration(nowMs - when.getTime())} ago</time>${count > 1 ? html`<br><span class="soft">${count} times</span>` : nothing}</td>
<td role="cell" class="c-where"><span class="level ${level}">${level === 'error' ? 'Error' : 'Warning'}</span> <span class="soft">${foreign(operation)}</span>${subject === '' ? nothing : html`<br>${foreign(shortVolumeId(subject))}`}</td>
<td role="cell">${foreign(capitalised(message))}</td>
<td role="cell" class="c-do remedy" data-name="What to do">${remedy === '' ? '–' : foreign(capitalised(remedy))}</td></tr>
`
}

function troublesTable ({ troubles, timeMs, uptimeMs }: StatusResponse): Html {
  if (troubles.length === 0) {
    return html`<p class="panel empty">None since the agent started ${formatDuration(Number(uptimeMs))} ago.</p>`
  }
  return html`<div class="panel"><table role="table"><caption class="unseen">Last warnings and errors of the agent, newest first</caption>
<thead role="rowgroup"><tr role="row">${['When', 'Where', 'What', 'What to do'].map((name) => html`<th role="columnheader" scope="col">${name}</th>`)}</tr></thead>
<tbody role="rowgroup">
${troubles.map((trouble) => troubleRow(trouble, Number(timeMs)))}</tbody></table></div>`
}

/** What is true of a volume all the time and surprises those who do not know it. */
function notes (status: StatusResponse): Html {
  const locks = [...new Set(status.volumes.map((volume) => volume.locks).filter((text) => text !== ''))]
    .map((text) =>
      html`<li>Locks (fcntl, flock) are ${foreign(formatLocks(text))}. Programs that write one file from several nodes need another way to agree.</li>`
    )
  const caching = sharesOf(status).map(({ lead }) => ({ lead, ...splitRemedy(formatCaching(lead)) })).filter(
    ({ remedy }) => remedy !== ''
  ).slice(0, cachingNotesMax)
    .map(({ lead, what, remedy }) =>
      html`<li>${foreign(lead.source)}: caching is ${foreign(what)}. <span class="remedy">${foreign(capitalised(remedy))}.</span></li>`
    )
  const lost = status.losses.slice(0, lossesMax).map(({ source, bytes, at }) =>
    html`<li><span class="level error">Data loss</span> ${foreign(source)}: ${formatBytes(Number(bytes))} that programs had written were lost when it was unmounted at ${at}.</li>`
  )
  const all = [...lost, ...locks, ...caching]
  return all.length === 0 ? nothing : html`<h2>Good to know</h2><ul class="panel notes">${all}</ul>`
}

const logo =
  html`<svg viewBox="0 0 26 18" aria-hidden="true" focusable="false"><path d="M1 15h24M5 15V6M21 15V6M1 11c3-.6 4-3 4-5 3 6 13 6 16 0 0 2 1 4.4 4 5M9 15v-5M13 15v-4.5M17 15v-5"/></svg>`

const worstOf = ({ volumes }: StatusResponse): ReturnType<typeof healthOf> =>
  healthOf(countHealths(volumes)[0]?.[0] ?? 'healthy')

export function statusPage (status: StatusResponse): Document {
  const worst = worstOf(status)
  const summary = formatSummary(status.volumes)
  const told = new Date(Number(status.timeMs)).toISOString()
  const { text } = html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${summary} · ${status.nodeId.slice(0, 100)} · volbridge</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">
<noscript><meta http-equiv="refresh" content="${reloadSeconds}"></noscript>
<link rel="icon" href="${iconOf(worst.state)}"><style>${new Html(style)}</style></head>
<body>${symbols}<header><div class="wide"><span class="name">${logo}volbridge</span><span class="node">${foreign(status.nodeId)}</span>
<span class="told"><span id="told">told at <time datetime="${told}">${told.slice(11, 19)} UTC</time></span><button id="pause" type="button" hidden>Pause</button></span></div></header>
<p id="announce" class="unseen" role="status"></p>
<main class="wide" id="live"><h1>${sign(worst.state)}${capitalised(summary)}</h1>
${facts(status)}
${volumesTable(status)}
<h2>Last warnings and errors</h2>
${troublesTable(status)}
${notes(status)}
</main>
<footer class="wide"><a href="/status.json">The same as JSON</a><a href="/metrics">Metrics</a><a href="/readyz">Readiness</a><a href="/healthz">Liveness</a></footer>
<script>${new Html(script)}</script></body></html>
`
  return { contentType: 'text/html; charset=utf-8', headers, body: text }
}

/** The same as JSON, in the form of `volbridge status --json`. What is not known is null. */
export function statusJson (status: StatusResponse): Document {
  const rank = (health: string): number => healthOf(health).rank
  const volumes = status.volumes.length <= volumesTold
    ? status.volumes
    : status.volumes.toSorted((one, other) => rank(other.health) - rank(one.health)).slice(0, volumesTold)
  return {
    contentType: 'application/json; charset=utf-8', headers,
    body: `${JSON.stringify({ ...status, volumes }, null, 2)}\n`
  }
}
