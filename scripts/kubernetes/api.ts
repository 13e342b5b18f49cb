/**
 * The cluster's API, as far as scripts and tests ask it: objects as JSON over HTTPS with a client certificate.
 * Owns requests and their errors. Does not know what the objects mean; paths are given by the caller.
 */
import { readFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { monotonicMs, pause } from '../../agent/base/deadline.ts'
import { certificateOf } from './certificates.ts'

export interface KubernetesObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly uid?: string
    readonly deletionTimestamp?: string
    readonly labels?: Readonly<Record<string, string>>
    readonly annotations?: Readonly<Record<string, string>>
  }
  readonly spec?: unknown
  readonly status?: unknown
}

/** The server's answer when it is not a success. */
export class ApiError extends Error {
  readonly code: number
  constructor (code: number, message: string) {
    super(message)
    this.name = 'ApiError'
    this.code = code
  }
}

const requestMs = 30_000

export class KubernetesApi {
  readonly #url: string
  readonly #agent: Agent

  constructor (url: string, certificates: string) {
    const own = certificateOf(certificates, 'admin')
    this.#url = url
    this.#agent = new Agent({
      keepAlive: true,
      ca: readFileSync(certificateOf(certificates, 'authority').certificate), cert: readFileSync(own.certificate),
      key: readFileSync(own.key)
    })
  }

  /** @throws ApiError for any answer but a success, Error when there is none. */
  async text (method: string, path: string, body?: unknown, contentType = 'application/json'): Promise<string> {
    return await new Promise((resolve, reject) => {
      const outgoing = request(`${this.#url}${path}`, {
        method, agent: this.#agent, timeout: requestMs,
        headers: body === undefined ? {} : { 'content-type': contentType }
      }, (incoming) => {
        let text = ''
        incoming.setEncoding('utf8').on('data', (more: string) => { text += more })
        incoming.once('error', reject)
        incoming.once('end', () => {
          const code = incoming.statusCode ?? 0
          if (code >= 200 && code < 300) resolve(text)
          else reject(new ApiError(code, `${method} ${path}: ${code} ${text.slice(0, 1000)}`))
        })
      })
      outgoing.once('timeout', () => {
        outgoing.destroy(new Error(`${method} ${path}: no answer for ${requestMs / 1000} s`))
      })
      outgoing.once('error', reject)
      outgoing.end(body === undefined ? undefined : JSON.stringify(body))
    })
  }

  async get (path: string): Promise<KubernetesObject> {
    return JSON.parse(await this.text('GET', path)) as KubernetesObject
  }

  /** The object, or undefined when there is none. */
  async find (path: string): Promise<KubernetesObject | undefined> {
    try {
      return await this.get(path)
    } catch (error) {
      if (error instanceof ApiError && error.code === 404) return undefined
      throw error
    }
  }

  async list (path: string): Promise<readonly KubernetesObject[]> {
    return (JSON.parse(await this.text('GET', path)) as { items: KubernetesObject[] }).items
  }

  async create (path: string, object: unknown): Promise<KubernetesObject> {
    return JSON.parse(await this.text('POST', path, object)) as KubernetesObject
  }

  async delete (path: string): Promise<void> {
    try {
      await this.text('DELETE', path)
    } catch (error) {
      if (!(error instanceof ApiError && error.code === 404)) throw error
    }
  }

  close (): void { this.#agent.destroy() }
}

/** Asks until there is an answer. `lateMs` means that something hangs; `what` says for what was waited, or is asked
 * to. */
export async function until<T> (
  what: string | (() => Promise<string> | string),
  ask: () => Promise<T | undefined> | T | undefined,
  lateMs: number,
  stepMs = 200
): Promise<T> {
  const untilMs = monotonicMs() + lateMs
  for (let last = '';;) {
    try {
      const answer = await ask()
      if (answer !== undefined) return answer
    } catch (error) {
      last = error instanceof Error ? `: ${error.message}` : ''
    }
    if (monotonicMs() > untilMs) {
      throw new Error(
        `after ${Math.round(lateMs / 1000)} s still waiting for ${typeof what === 'string' ? what : await what()}${last}`
      )
    }
    await pause(stepMs)
  }
}
