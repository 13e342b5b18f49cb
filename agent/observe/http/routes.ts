/**
 * What is told at which path, and to whom.
 *
 * Owns the answers: /healthz, /readyz and /metrics for everybody, because scrapers are simple and these say nothing of
 * servers, shares, paths or pods; documents that others make for those who prove who they are. Read only.
 * Does not know connections, nor how health is found out.
 */
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import { within } from '../../base/deadline.ts'
import { refusalOf, type Judge } from './authorization.ts'
import { isOwnHost } from './hosts.ts'

/** `reason` is for everybody: no path, no name. */
export interface Readiness { readonly ready: boolean, readonly reason: string }

/** An answer that somebody else has made. */
export interface Document {
  readonly contentType: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body: string | Buffer
}

export interface HttpContents {
  readonly readiness: () => Readiness
  readonly metrics: () => Promise<Document>
  /** More that is served, by path: details. */
  readonly documents?: Readonly<Record<string, () => Promise<Document>>>
  /** Who decides whether somebody may see details; none: nobody may. */
  readonly judges?: readonly Judge[]
  /** What this node is called, beside its addresses. */
  readonly names?: readonly string[]
}

export interface Page extends Omit<Document, 'headers'> {
  readonly status: number
  readonly headers?: OutgoingHttpHeaders
}
type Route = (contents: HttpContents) => Page | Promise<Page>

export const plain = (status: number, body: string, headers: OutgoingHttpHeaders = {}): Page => ({
  status, contentType: 'text/plain; charset=utf-8', body: `${body}\n`, headers
})

/** A scrape must not pile up behind one that hangs. */
const pageMs = 5000

const routes = {
  '/healthz': () => plain(200, 'ok'),
  '/readyz': ({ readiness }) => {
    const { ready, reason } = readiness()
    return plain(ready ? 200 : 503, ready ? 'ready' : reason)
  },
  '/metrics': async ({ metrics }) => ({ status: 200, ...await metrics() })
} as const satisfies Readonly<Record<string, Route>>

/** Both, because a browser knows only the second: it asks for a password, which is the token. */
const challenge = { 'www-authenticate': ['Bearer realm="volbridge"', 'Basic realm="volbridge", charset="UTF-8"'] }

/** Undefined: this request may see details. */
async function refused (
  { headers }: IncomingMessage,
  contents: HttpContents,
  isTrusted: boolean
): Promise<Page | undefined> {
  if (!isOwnHost(headers.host, contents.names ?? [])) {
    return plain(421, 'this Host is not a name of this node; use its address, its name or localhost')
  }
  const refusal = isTrusted ? undefined : await refusalOf(headers.authorization, contents.judges ?? [])
  return refusal === undefined
    ? undefined
    : plain(refusal.status, refusal.text, refusal.status === 401 ? challenge : {})
}

async function answer (request: IncomingMessage, contents: HttpContents, isTrusted: boolean): Promise<Page> {
  const path = (request.url ?? '/').split('?', 1)[0] ?? '/'
  if (Object.hasOwn(routes, path)) return await routes[path as keyof typeof routes](contents)
  const { documents = {} } = contents
  const make = Object.hasOwn(documents, path) ? documents[path] : undefined
  if (make === undefined) {
    return plain(404, `nothing here; there is ${Object.keys({ ...documents, ...routes }).join(', ')}`)
  }
  return await refused(request, contents, isTrusted) ?? { status: 200, ...await make() }
}

/** `isTrusted`: the connection itself proves that it is root's. */
export async function pageOf (request: IncomingMessage, contents: HttpContents, isTrusted: boolean): Promise<Page> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return plain(405, 'only GET and HEAD', { allow: 'GET, HEAD' })
  }
  return await within(pageMs, answer(request, contents, isTrusted), () => plain(503, 'took too long'))
}
