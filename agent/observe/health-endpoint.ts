/**
 * The agent's HTTP face: /healthz, /readyz, /metrics, and documents that others make.
 *
 * Owns the listener and the answers. Liveness is the process; readiness is that a kubelet could use us. Read only, no
 * secrets. Does not know how health is found out or what a document shows.
 */
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { within } from '../base/deadline.ts'
import { VolumeError, messageOf } from '../base/errors.ts'

export interface Readiness { readonly ready: boolean, readonly reason: string }

/** An answer that somebody else has made. */
export interface Document {
  readonly contentType: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body: string
}

export interface HealthEndpointOptions {
  readonly readiness: () => Readiness
  readonly metrics: () => Promise<{ readonly contentType: string, readonly text: string }>
  /** More that is served, by path. */
  readonly documents?: Readonly<Record<string, () => Promise<Document>>>
}

interface Page extends Document { readonly status: number }
type Route = (options: HealthEndpointOptions) => Page | Promise<Page>

const plain = (status: number, body: string): Page => ({
  status, contentType: 'text/plain; charset=utf-8', body: `${body}\n`
})

/** A scrape must not pile up behind one that hangs. */
const pageMs = 5000

const routes = {
  '/healthz': () => plain(200, 'ok'),
  '/readyz': ({ readiness }) => {
    const { ready, reason } = readiness()
    return plain(ready ? 200 : 503, ready ? 'ready' : reason)
  },
  '/metrics': async ({ metrics }) => {
    const { contentType, text } = await metrics()
    return { status: 200, contentType, body: text }
  }
} as const satisfies Readonly<Record<string, Route>>

function routeOf (path: string, { documents = {} }: HealthEndpointOptions): Route | undefined {
  if (Object.hasOwn(routes, path)) return routes[path as keyof typeof routes]
  const make = Object.hasOwn(documents, path) ? documents[path] : undefined
  return make === undefined ? undefined : async () => ({ status: 200, ...await make() })
}

async function pageOf (request: IncomingMessage, options: HealthEndpointOptions): Promise<Page> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return { ...plain(405, 'only GET and HEAD'), headers: { allow: 'GET, HEAD' } }
  }
  const path = (request.url ?? '/').split('?', 1)[0] ?? '/'
  const route = routeOf(path, options)
  if (route === undefined) {
    return plain(404, `nothing here; there is ${Object.keys({ ...options.documents, ...routes }).join(', ')}`)
  }
  return await within(pageMs, Promise.resolve(route(options)), () => plain(503, 'took too long'))
}

function respond (response: ServerResponse, { status, contentType, body, headers = {} }: Page): void {
  const bytes = Buffer.from(body)
  response.writeHead(status, {
    ...headers, 'content-type': contentType, 'content-length': bytes.length, 'x-content-type-options': 'nosniff',
    'cache-control': 'no-store'
  })
  // Node sends no body in answer to HEAD.
  response.end(bytes)
}

/** `HOST:PORT` with `[v6]:PORT`, or a port of the loopback address; port 0 takes a free one. */
export function parseListenAddress (text: string): { host: string, port: number } {
  if (/^\d{1,5}$/.test(text) && Number(text) <= 65535) return { host: '127.0.0.1', port: Number(text) }
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text)
  const host = found?.[1] ?? found?.[2]
  const port = Number(found?.[3])
  if (host === undefined || port > 65535) {
    throw new VolumeError('INVALID', `--listen: ${JSON.stringify(text)} is not HOST:PORT`, {
      field: '--listen', remedy: 'for example 9810, which is 127.0.0.1:9810, or [::1]:9810'
    })
  }
  return { host, port }
}

export class HealthEndpoint {
  readonly #server: Server

  constructor (options: HealthEndpointOptions) {
    this.#server = createServer({ requestTimeout: 10_000, maxHeaderSize: 8192 }, (request, response) => {
      pageOf(request, options).catch((error: unknown) => plain(500, messageOf(error)))
        .then((page) => { respond(response, page) }, () => { response.destroy() })
    })
    this.#server.maxConnections = 64
  }

  /** @throws VolumeError INVALID when the address can't be had. */
  async listen (address: string): Promise<AddressInfo> {
    const { host, port } = parseListenAddress(address)
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) => {
        reject(
          new VolumeError('INVALID', `--listen: ${address} can't be used: ${error.message}`, {
            field: '--listen', remedy: 'choose another port', cause: error
          })
        )
      })
      this.#server.listen({ host, port }, resolve)
    })
    return this.#server.address() as AddressInfo
  }

  close (): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }
}
