/** The HTTP port under people who mean no good: it answers probes, tells strangers nothing, and decides nothing. */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { monotonicMs, pause } from '../../../../../agent/base/deadline.ts'
import { VolumeError } from '../../../../../agent/base/errors.ts'
import { httpConnectionsMax, httpPeerConnectionsMax } from '../../../../../agent/base/limits.ts'
import type { Judge } from '../../../../../agent/observe/http/authorization.ts'
import { HttpDoor, type HttpDoorOptions, type HttpState } from '../../../../../agent/observe/http/http-door.ts'
import { parseListenAddress } from '../../../../../agent/observe/http/listen-address.ts'
import { tokenFileJudge } from '../../../../../agent/observe/http/token-file.ts'

const hangMs = 30_000
const token = 'a-token-of-more-than-sixteen-characters'
const judge: Judge = async (told) =>
  await Promise.resolve(told === token ? 'allowed' : told === 'known' ? 'forbidden' : 'unknown')

const options = (changes: Partial<HttpDoorOptions> = {}): HttpDoorOptions => ({
  readiness: () => ({ ready: true, reason: '' }),
  metrics: async () => await Promise.resolve({ contentType: 'text/plain', body: 'm 1\n' }),
  documents: {
    '/status.json': async () => await Promise.resolve({ contentType: 'application/json', body: '"nas:/share"' })
  },
  ...changes
})

interface Opened { readonly door: HttpDoor, readonly port: number, readonly states: HttpState[] }

async function opened (
  t: ExecutionContext,
  changes: Partial<HttpDoorOptions> = {},
  address = '127.0.0.1:0'
): Promise<Opened> {
  const states: HttpState[] = []
  const door = new HttpDoor(options({ onChange: (state) => states.push(state), ...changes }))
  t.teardown(() => { door.close() })
  door.start(address)
  await until('it is open', () => door.state.phase === 'open')
  return { door, port: parseListenAddress(door.state.address).port, states }
}

async function until (what: string, condition: () => boolean): Promise<void> {
  for (const end = monotonicMs() + hangMs; !condition(); await pause(10)) {
    if (monotonicMs() > end) throw new Error(`still not: ${what}`)
  }
}

interface Got { readonly status: number, readonly body: string, readonly headers: IncomingHttpHeaders }

async function get (
  port: number,
  url: string,
  { method = 'GET', headers = {} }: { method?: string, headers?: Record<string, string> } = {}
): Promise<Got> {
  return await new Promise((resolve, reject) => {
    const request = httpRequest(
      { host: '127.0.0.1', port, path: url, method, headers, agent: false, timeout: hangMs },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () => {
          resolve({
            status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString(), headers: response.headers
          })
        })
      }
    )
    request.on('timeout', () => request.destroy(new Error('no answer')))
    request.on('error', reject)
    request.end()
  })
}

const bearer = (text: string): Record<string, string> => ({ authorization: `Bearer ${text}` })

test('liveness is the process, readiness has a reason, everything else is refused', async (t) => {
  let ready = false
  const { port } = await opened(t, {
    readiness: () => ({ ready, reason: ready ? '' : 'kubelet has not registered the driver yet' })
  })
  t.like(await get(port, '/healthz'), { status: 200, body: 'ok\n' })
  t.like(await get(port, '/readyz'), { status: 503, body: 'kubelet has not registered the driver yet\n' })
  ready = true
  t.is((await get(port, '/readyz?verbose')).status, 200)
  t.like(await get(port, '/metrics'), { status: 200, body: 'm 1\n' })
  t.is((await get(port, '/constructor')).status, 404)
  t.is((await get(port, '/../etc/passwd')).status, 404)
  t.is((await get(port, '/healthz', { method: 'POST' })).status, 405)
})

test('a listen address is HOST:PORT, IPv6 in brackets; anything else is refused by value', (t) => {
  t.deepEqual(parseListenAddress('127.0.0.1:9810'), { host: '127.0.0.1', port: 9810 })
  t.deepEqual(parseListenAddress('[::1]:0'), { host: '::1', port: 0 })
  t.deepEqual(
    parseListenAddress('9810'),
    { host: '127.0.0.1', port: 9810 },
    'a port alone is reached from this machine only'
  )
  for (const bad of ['', '98100', ':9810', 'a:b', '::1:9810', 'a:99999', 'a b:1']) {
    t.throws(() => parseListenAddress(bad), { instanceOf: VolumeError, message: /--listen/ }, bad)
  }
  t.throws(() => { new HttpDoor(options()).start('nonsense') }, { instanceOf: VolumeError, message: /--listen/ })
})

test('a port that somebody else has is told, and taken as soon as it is free', async (t) => {
  const squatter = createServer()
  await new Promise<void>((resolve) => { squatter.listen(0, '127.0.0.1', resolve) })
  const { port } = squatter.address() as AddressInfo
  const states: HttpState[] = []
  const door = new HttpDoor(options({ onChange: (state) => states.push(state), retry: { firstMs: 10, maxMs: 40 } }))
  t.teardown(() => { door.close() })
  door.start(`127.0.0.1:${port}`)
  await until('it waits', () => door.state.phase === 'waiting')
  t.like(door.state, { address: `127.0.0.1:${port}` })
  t.regex(door.state.error, /EADDRINUSE/)
  await pause(100)
  t.is(states.filter(({ phase }) => phase === 'waiting').length, 1, 'told once, however often it is tried')
  await new Promise((resolve) => { squatter.close(resolve) })
  await until('it is open', () => door.state.phase === 'open')
  t.is((await get(port, '/healthz')).status, 200)
})

test('a door that is closed while it waits for its port never opens', async (t) => {
  const squatter = createServer()
  await new Promise<void>((resolve) => { squatter.listen(0, '127.0.0.1', resolve) })
  const { port } = squatter.address() as AddressInfo
  const door = new HttpDoor(options({ retry: { firstMs: 10, maxMs: 10 } }))
  door.start(`127.0.0.1:${port}`)
  await until('it waits', () => door.state.phase === 'waiting')
  door.close()
  await new Promise((resolve) => { squatter.close(resolve) })
  await pause(100)
  await t.throwsAsync(get(port, '/healthz'), { code: 'ECONNREFUSED' })
})

/** Connections that send a part of a request and then nothing. */
async function slow (t: ExecutionContext, port: number, count: number): Promise<readonly Socket[]> {
  const sockets = await Promise.all(Array.from({ length: count }, async () =>
    await new Promise<Socket>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => {
        socket.write('GET /healthz HTTP/1.1\r\nHost: 127')
        resolve(socket)
      })
      socket.on('error', () => { resolve(socket) })
    })))
  t.teardown(() => { for (const socket of sockets) socket.destroy() })
  return sockets
}

for (const count of [70, 700]) {
  test(`probes are answered beside ${count} slow connections of the same peer, again and again`, async (t) => {
    const { port } = await opened(t)
    const sockets = await slow(t, port, count)
    for (let n = 0; n < 5; n++) {
      t.is((await get(port, '/healthz')).status, 200)
      t.is((await get(port, '/metrics')).status, 200)
    }
    await until(
      'the slow ones are cut to what one peer may have',
      () =>
        sockets.filter((socket) => !socket.destroyed && socket.readyState === 'open').length <= httpPeerConnectionsMax
    )
    t.true(httpPeerConnectionsMax < httpConnectionsMax)
  })
}

test('a request that is not whole after some seconds is over, and its connection with it', async (t) => {
  const { port } = await opened(t)
  const [socket] = await slow(t, port, 1)
  socket!.resume()
  const started = monotonicMs()
  await new Promise((resolve) => { socket!.once('close', resolve) })
  t.true(monotonicMs() - started < hangMs)
})

test('without anybody to judge tokens nobody is told details', async (t) => {
  const { port } = await opened(t)
  for (const headers of [{}, bearer(token)]) t.like(await get(port, '/status.json', { headers }), { status: 403 })
  t.regex((await get(port, '/status.json')).body, /volbridge status.*--http-token-file/)
})

test('details are for who brings a token that is known and allowed, as bearer or as a browser’s password', async (t) => {
  const { port } = await opened(t, { judges: [judge] })
  const asked = async (headers: Record<string, string>): Promise<number> =>
    (await get(port, '/status.json', { headers })).status
  const refused = await get(port, '/status.json')
  t.is(refused.status, 401)
  t.regex(refused.headers['www-authenticate'] ?? '', /Bearer.*Basic/)
  t.false(refused.body.includes('nas'))
  t.is(await asked(bearer(token)), 200)
  t.is(await asked({ authorization: `bearer ${token}` }), 200)
  t.is(await asked({ authorization: `Basic ${Buffer.from(`anybody:${token}`).toString('base64')}` }), 200)
  t.is(await asked(bearer('known')), 403)
  for (const bad of [bearer('wrong'), bearer(''), { authorization: token }, { authorization: `Basic ${token}` }, {
    authorization: 'Basic OnNvbWU=x'
  }]) {
    t.is(await asked(bad), 401, JSON.stringify(bad))
  }
  for (const free of ['/healthz', '/readyz', '/metrics']) t.is((await get(port, free)).status, 200, free)
})

test('a judge that cannot judge now refuses nobody for good, and another one may still allow', async (t) => {
  const broken: Judge = async () => await Promise.reject(new Error('the API does not answer'))
  const alone = await opened(t, { judges: [broken] })
  t.like(await get(alone.port, '/status.json', { headers: bearer(token) }), {
    status: 503, body: 'the token cannot be judged now: the API does not answer\n'
  })
  const both = await opened(t, { judges: [broken, judge] })
  t.is((await get(both.port, '/status.json', { headers: bearer(token) })).status, 200)
})

test('a foreign Host gets no details, with or without a token; addresses, localhost and the node’s names do', async (t) => {
  const { port } = await opened(t, { judges: [judge], names: ['node-a.example.org'] })
  const as = async (host: string, url = '/status.json'): Promise<number> =>
    (await get(port, url, { headers: { host, ...bearer(token) } })).status
  for (const foreign of [
    'evil.example', `evil.example:${port}`, 'localhost.evil.example', '127.0.0.1.evil.example',
    'node-a.example.org.evil.example', 'evil@localhost'
  ]) {
    t.is(await as(foreign), 421, foreign)
  }
  for (const own of [
    '127.0.0.1', `127.0.0.1:${port}`, `[::1]:${port}`, 'localhost', `LOCALHOST:${port}`, `node-a.example.org:${port}`,
    'node-a.example.org.'
  ]) {
    t.is(await as(own), 200, own)
  }
  t.is(await as('prometheus-target.example', '/metrics'), 200, 'scrapers use any name')
})

test('over a socket that only root can open details need no token, but a name of this node', async (t) => {
  const door = new HttpDoor(options())
  const folder = mkdtempSync(path.join(os.tmpdir(), 'vb-http-'))
  const socketPath = path.join(folder, 's')
  const server = createServer((socket) => { door.acceptTrusted(socket) })
  await new Promise<void>((resolve) => { server.listen(socketPath, resolve) })
  t.teardown(() => {
    door.close()
    server.close()
    rmSync(folder, { recursive: true })
  })
  const asked = async (host: string): Promise<number> =>
    await new Promise((resolve, reject) => {
      httpRequest({ socketPath, path: '/status.json', headers: { host }, agent: false }, (response) => {
        response.resume()
        resolve(response.statusCode ?? 0)
      }).on('error', reject).end()
    })
  t.is(await asked('localhost:9810'), 200)
  t.is(await asked('evil.example'), 421)
})

test('a page that fails says so without saying why, and the reason is kept for the log', async (t) => {
  const failures: unknown[] = []
  const { port } = await opened(t, {
    metrics: async () => await Promise.reject(new Error('/var/lib/secret')),
    onFailure: (error) => { failures.push(error) }
  })
  const { status, body } = await get(port, '/metrics')
  t.is(status, 500)
  t.notRegex(body, /secret/)
  t.regex(String(failures[0]), /secret/)
})

test('a token’s file is root’s alone, regular and small, its token long; what is wrong is told without the token', async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'vb-token-'))
  t.teardown(() => { rmSync(folder, { recursive: true }) })
  const file = path.join(folder, 'token')
  const put = (text: string, mode = 0o600): void => {
    rmSync(file, { force: true, recursive: true })
    writeFileSync(file, text, { mode })
    chmodSync(file, mode)
  }
  const refused = (message: RegExp): void => {
    const error = t.throws(() => tokenFileJudge(file), { instanceOf: VolumeError, message })
    t.is(error?.field, '--http-token-file')
    t.false(error?.message.includes('secret-token'))
  }
  refused(/ENOENT.*openssl rand/)
  put(`${token}\n`)
  const judged = tokenFileJudge(file)
  t.deepEqual([await judged(token), await judged(`${token}x`), await judged('')], ['allowed', 'unknown', 'unknown'])
  put('another-secret-token')
  t.deepEqual(
    [await judged(token), await judged('another-secret-token')],
    ['unknown', 'allowed'],
    'a new token counts at once'
  )
  put('another-secret-token', 0o644)
  await t.throwsAsync(judged('another-secret-token'), { message: /mode 644.*chmod 0600/ })
  refused(/mode 644/)
  put('secret-token')
  refused(/12 characters.*at least 16/)
  put('two secret-token words here')
  refused(/no token/)
  put('x'.repeat(10_000))
  refused(/10000 bytes/)
  rmSync(file)
  symlinkSync('/etc/hostname', file)
  refused(/ELOOP/)
  rmSync(file)
  execFileSync('mkfifo', ['-m', '600', file])
  refused(/not a regular file/)
})
