/**
 * The agent's HTTP face: /healthz, /readyz and /metrics.
 *
 * Owns the listener and the three answers. Liveness is the process; readiness is that a kubelet could use us. Read only, no secrets.
 * Does not know how health is found out.
 */
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { within } from '../base/deadline.ts'
import { VolumeError, messageOf } from '../base/errors.ts'

export interface Readiness { readonly ready: boolean, readonly reason: string }

export interface HealthEndpointOptions {
  readonly readiness: () => Readiness
  readonly metrics: () => Promise<{ readonly contentType: string, readonly text: string }>
}

interface Page { readonly status: number, readonly contentType: string, readonly body: string }
type Route = (options: HealthEndpointOptions) => Page | Promise<Page>

const plain = (status: number, body: string): Page => ({ status, contentType: 'text/plain; charset=utf-8', body: `${body}\n` })

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

async function pageOf (request: IncomingMessage, options: HealthEndpointOptions): Promise<Page> {
  if (request.method !== 'GET' && request.method !== 'HEAD') return plain(405, 'only GET')
  const path = (request.url ?? '/').split('?', 1)[0] ?? '/'
  const route: Route | undefined = Object.hasOwn(routes, path) ? routes[path as keyof typeof routes] : undefined
  if (route === undefined) return plain(404, `nothing here; there is ${Object.keys(routes).join(', ')}`)
  return await within(pageMs, Promise.resolve(route(options)), () => plain(503, 'took too long'))
}

function respond (response: ServerResponse, { status, contentType, body }: Page): void {
  response.writeHead(status, { 'content-type': contentType, 'x-content-type-options': 'nosniff', 'cache-control': 'no-store' })
  response.end(body)
}

/** `HOST:PORT` with `[v6]:PORT`; port 0 takes a free one. */
export function parseListenAddress (text: string): { host: string, port: number } {
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text)
  const host = found?.[1] ?? found?.[2]
  const port = Number(found?.[3])
  if (host === undefined || port > 65535) {
    throw new VolumeError('INVALID', `--listen: ${JSON.stringify(text)} is not HOST:PORT`, { field: '--listen', remedy: 'for example 127.0.0.1:9810 or [::1]:9810' })
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
        reject(new VolumeError('INVALID', `--listen: ${address} can't be used: ${error.message}`, { field: '--listen', remedy: 'choose another port', cause: error }))
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
