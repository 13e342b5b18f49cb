/**
 * Bearer tokens judged by the Kubernetes API: whose is it (TokenReview), and may they (SubjectAccessReview)?
 *
 * Owns the two questions, the answers that are kept for a moment, and how many are asked at once. The right that is
 * asked for is `get` on the nonResourceURL `/status.json`, as metrics endpoints do it. Does not know what is shown.
 * Kubernetes: authentication.k8s.io/v1 TokenReview, authorization.k8s.io/v1 SubjectAccessReview.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { request } from 'node:https'
import { monotonicMs } from '../../base/deadline.ts'
import { VolumeError, messageOf } from '../../base/errors.ts'
import { mebibyteBytes } from '../../base/limits.ts'
import type { Judge, Judgement } from './authorization.ts'

export interface ApiAccess {
  readonly host: string
  readonly port: number
  /** Read anew for each question: kubelet exchanges the token every hour. */
  readonly tokenFile: string
  readonly caFile: string
}

const serviceAccount = '/var/run/secrets/kubernetes.io/serviceaccount'
export const statusUrl = '/status.json'

const field = '--http-token-review'
const askMs = 4000
const answerBytesMax = mebibyteBytes
/** Whoever sends wrong tokens makes us ask the API: not often, and not many at once. */
const asksMax = 4
const keptMax = 256
const keptMs = { allowed: 60_000, forbidden: 10_000, unknown: 10_000 } as const satisfies Record<Judgement, number>

/** Of the pod that we run in. @throws VolumeError INVALID where that is none, or has no service account. */
export function apiOfPod (
  environment: Readonly<Record<string, string | undefined>>,
  folder = serviceAccount
): ApiAccess {
  const { KUBERNETES_SERVICE_HOST: host = '', KUBERNETES_SERVICE_PORT: port = '' } = environment
  const remedy = 'run in a pod with automountServiceAccountToken: true and a service account that may review tokens ' +
    '(ClusterRole system:auth-delegator), or use --http-token-file'
  if (host === '' || !/^\d{1,5}$/.test(port)) {
    throw new VolumeError('INVALID', `${field}: there is no Kubernetes API here (KUBERNETES_SERVICE_HOST and _PORT)`, {
      field, remedy
    })
  }
  const access = { host, port: Number(port), tokenFile: `${folder}/token`, caFile: `${folder}/ca.crt` }
  for (const file of [access.tokenFile, access.caFile]) {
    try {
      readFileSync(file)
    } catch (error) {
      throw new VolumeError('INVALID', `${field}: ${messageOf(error)}`, { field, remedy, cause: error })
    }
  }
  return access
}

/** @throws when the API does not answer as it should; the message has no token in it. */
async function post (api: ApiAccess, path: string, body: object): Promise<Readonly<Record<string, unknown>>> {
  const text = JSON.stringify(body)
  const headers = {
    'authorization': `Bearer ${readFileSync(api.tokenFile, 'utf8').trim()}`,
    'content-type': 'application/json', 'content-length': Buffer.byteLength(text), 'accept': 'application/json'
  }
  const ca = readFileSync(api.caFile)
  return await new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(askMs)
    const options = { host: api.host, port: api.port, path, method: 'POST', headers, ca, agent: false, signal }
    const asked = request(options, (response) => {
      const chunks: Buffer[] = []
      let bytes = 0
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes > answerBytesMax) asked.destroy(new Error('the API answers too much'))
        else chunks.push(chunk)
      })
      response.on('error', reject)
      response.on('end', () => {
        try {
          resolve(statusOf(response.statusCode ?? 0, Buffer.concat(chunks)))
        } catch (error) { reject(error as Error) }
      })
    })
    asked.on('error', (error) => {
      reject(signal.aborted ? new Error(`the API does not answer within ${askMs} ms`) : error)
    })
    asked.end(text)
  })
}

const asRecord = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null ? value as Readonly<Record<string, unknown>> : {}

function statusOf (code: number, bytes: Buffer): Readonly<Record<string, unknown>> {
  if (code === 403 || code === 401) {
    throw new Error(
      `the API does not let this agent ask (${code}); bind its service account to the ClusterRole system:auth-delegator`
    )
  }
  if (code !== 201 && code !== 200) throw new Error(`the API answers ${code}`)
  return asRecord(asRecord(JSON.parse(bytes.toString('utf8')))['status'])
}

async function review (api: ApiAccess, token: string): Promise<Judgement> {
  const { authenticated, user } = await post(api, '/apis/authentication.k8s.io/v1/tokenreviews', {
    apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token }
  })
  if (authenticated !== true) return 'unknown'
  const { username, uid, groups, extra } = asRecord(user)
  const { allowed } = await post(api, '/apis/authorization.k8s.io/v1/subjectaccessreviews', {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SubjectAccessReview',
    spec: { user: username, uid, groups, extra, nonResourceAttributes: { path: statusUrl, verb: 'get' } }
  })
  return allowed === true ? 'allowed' : 'forbidden'
}

export function tokenReviewJudge (api: ApiAccess, nowMs: () => number = monotonicMs): Judge {
  /** By the token's hash, oldest first. */
  const kept = new Map<string, { readonly judgement: Judgement, readonly untilMs: number }>()
  let asking = 0
  return async (token) => {
    const key = createHash('sha256').update(token).digest('base64')
    const known = kept.get(key)
    if (known !== undefined && nowMs() < known.untilMs) return known.judgement
    if (asking >= asksMax) throw new Error('too many tokens are being judged')
    asking++
    try {
      const judgement = await review(api, token)
      kept.delete(key)
      kept.set(key, { judgement, untilMs: nowMs() + keptMs[judgement] })
      for (const oldest of kept.keys()) {
        if (kept.size <= keptMax) break
        kept.delete(oldest)
      }
      return judgement
    } finally {
      asking--
    }
  }
}
