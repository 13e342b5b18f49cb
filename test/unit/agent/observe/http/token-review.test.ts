/** Tokens judged by an API over TLS: what it is asked, as whom, and what is made of its answers. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import type { ExecutionContext } from 'ava'
import { VolumeError } from '../../../../../agent/base/errors.ts'
import { apiOfPod, tokenReviewJudge, type ApiAccess } from '../../../../../agent/observe/http/token-review.ts'
import { testNeeding } from '../../../../peers/testing.ts'

const check = testNeeding('openssl')

interface Asked {
  readonly url: string
  readonly as: string | undefined
  readonly body: { readonly kind: string, readonly spec: Record<string, unknown> }
}
interface Api {
  readonly access: ApiAccess
  readonly asked: Asked[]
  answer: (asked: Asked) => { readonly code?: number, readonly status?: object, readonly text?: string }
}

/** An API server with a certificate of its own, and a pod's service account that trusts it. */
async function startApi (t: ExecutionContext): Promise<Api> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'vb-api-'))
  execFileSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=api',
    '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', path.join(folder, 'key'), '-out', path.join(folder, 'ca.crt')
  ], { stdio: 'ignore' })
  writeFileSync(path.join(folder, 'token'), 'own-token-1\n')
  const asked: Asked[] = []
  const server = createServer({
    key: readFileSync(path.join(folder, 'key')), cert: readFileSync(path.join(folder, 'ca.crt'))
  }, (request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const one = {
        url: request.url ?? '', as: request.headers.authorization,
        body: JSON.parse(Buffer.concat(chunks).toString()) as Asked['body']
      }
      asked.push(one)
      const { code = 201, status = {}, text } = api.answer(one)
      response.writeHead(code, { 'content-type': 'application/json' })
      response.end(text ?? JSON.stringify({ ...one.body, status }))
    })
  })
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
    rmSync(folder, { recursive: true })
  })
  const { port } = server.address() as AddressInfo
  const access = apiOfPod({ KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: `${port}` }, folder)
  const api: Api = { access, asked, answer: () => ({}) }
  return api
}

const jane = { username: 'jane', uid: '7', groups: ['operators', 'system:authenticated'], extra: { scope: ['a'] } }
const knows = ({ body }: Asked): { status: object } =>
  body.kind === 'TokenReview'
    ? { status: body.spec['token'] === 'janes' ? { authenticated: true, user: jane } : { authenticated: false } }
    : { status: { allowed: true } }

check('a token’s owner is asked for, then whether they may get /status.json; the API is asked as the pod’s own service account', async (t) => {
  const api = await startApi(t)
  api.answer = knows
  const judge = tokenReviewJudge(api.access)
  t.is(await judge('janes'), 'allowed')
  t.deepEqual(api.asked.map(({ url, as }) => [url, as]), [
    ['/apis/authentication.k8s.io/v1/tokenreviews', 'Bearer own-token-1'],
    ['/apis/authorization.k8s.io/v1/subjectaccessreviews', 'Bearer own-token-1']
  ])
  const { username: user, ...rest } = jane
  t.deepEqual(api.asked[1]?.body.spec, { user, ...rest, nonResourceAttributes: { path: '/status.json', verb: 'get' } })
  t.is(await judge('somebodys'), 'unknown')
  t.is(api.asked.length, 3, 'who is nobody is not asked about')
})

check('who is known and not allowed is forbidden', async (t) => {
  const api = await startApi(t)
  api.answer = (asked) => asked.body.kind === 'TokenReview' ? knows(asked) : { status: { allowed: false } }
  t.is(await tokenReviewJudge(api.access)('janes'), 'forbidden')
})

check('a verdict is kept for a while and then asked for anew, with the service account’s token of then', async (t) => {
  const api = await startApi(t)
  api.answer = knows
  let nowMs = 0
  const judge = tokenReviewJudge(api.access, () => nowMs)
  await judge('janes')
  nowMs = 59_000
  await judge('janes')
  t.is(api.asked.length, 2)
  writeFileSync(api.access.tokenFile, 'own-token-2')
  api.answer = () => ({ status: { authenticated: false } })
  nowMs = 61_000
  t.is(await judge('janes'), 'unknown', 'a right that was taken away ends within a minute')
  t.is(api.asked[2]?.as, 'Bearer own-token-2')
})

check('wrong tokens by the hundred are not a hundred questions at once, and a refusal is kept too', async (t) => {
  const api = await startApi(t)
  api.answer = knows
  const judge = tokenReviewJudge(api.access)
  const tried = await Promise.allSettled(Array.from({ length: 100 }, async (_, n) => await judge(`wrong-${n}`)))
  t.is(tried.filter(({ status }) => status === 'fulfilled').length, 4)
  t.is(api.asked.length, 4)
  t.is(await judge('wrong-0'), 'unknown')
  t.is(api.asked.length, 4)
})

check('an API that refuses us, fails, talks nonsense or is another one allows nobody, and says what to do', async (t) => {
  const api = await startApi(t)
  const judge = tokenReviewJudge(api.access)
  for (const [answer, message] of [
    [{ code: 403 }, /system:auth-delegator/], [{ code: 500 }, /answers 500/], [{ text: 'no JSON' }, /JSON/],
    [{ text: 'x'.repeat(2 * 1024 * 1024) }, /too much/]
  ] as const) {
    api.answer = () => answer
    await t.throwsAsync(judge('janes'), { message })
  }
  api.answer = () => ({ text: '{"status":{"authenticated":"yes","user":null}}' })
  t.is(await judge('janes'), 'unknown', 'nothing but true is a yes')
  const other = await startApi(t)
  other.answer = knows
  await t.throwsAsync(tokenReviewJudge({ ...other.access, caFile: api.access.caFile })('janes'), {
    message: /certificate|self.signed/
  })
  t.is(other.asked.length, 0, 'a stranger gets no token')
})

check('outside a pod, or in one without a service account, the option is refused with what to do', (t) => {
  t.throws(() => apiOfPod({}), {
    instanceOf: VolumeError, message: /--http-token-review.*KUBERNETES_SERVICE_HOST.*--http-token-file/
  })
  t.throws(() => apiOfPod({ KUBERNETES_SERVICE_HOST: '::1', KUBERNETES_SERVICE_PORT: '443' }, '/none'), {
    instanceOf: VolumeError, message: /\/none\/token.*automountServiceAccountToken/
  })
})
