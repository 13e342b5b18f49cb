/**
 * The packed agent whose HTTP port somebody else has, or besieges: its sockets, its mounts and its probes do not care.
 */
import { existsSync, readdirSync } from 'node:fs'
import { request } from 'node:http'
import { connect, createServer, type Server } from 'node:net'
import path from 'node:path'
import test from 'ava'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import type { StatusResponse } from '../../../proto/csi/types.ts'
import { freePort, Ganesha } from '../../peers/ganesha.ts'
import { Kubelet } from '../../peers/kubelet.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { TestNode, type Ran } from '../endtoend/node.ts'

const needs = ['root', 'fuse', 'ganesha'] as const
const check = testNeeding(...needs)
const driver = 'csi.volbridge.io'
const hangMs = 60_000

let server: Ganesha
let node: TestNode
let port: number

test.before(async () => {
  if (missing(...needs) !== undefined) return
  server = await Ganesha.start()
  node = new TestNode()
  port = await freePort()
})

test.after.always(async () => {
  await node?.close()
  await server?.close()
})

async function squat (): Promise<Server> {
  const squatter = createServer()
  await new Promise<void>((resolve) => { squatter.listen(port, '127.0.0.1', resolve) })
  return squatter
}

async function until<T> (what: string, look: () => Promise<T | undefined>): Promise<T> {
  for (const end = monotonicMs() + hangMs;; await pause(50)) {
    const found = await look()
    if (found !== undefined) return found
    if (monotonicMs() > end) throw new Error(`still not: ${what}\n${node.agentLog.slice(-3000)}`)
  }
}

const status = async (...args: readonly string[]): Promise<Ran> =>
  await node.command(['status', ...args, ...node.places])
const doctor = async (): Promise<{ verdict: string, found: string } | undefined> =>
  (JSON.parse((await node.command(['doctor', '--json', '--kubelet-dir', node.kubelet, ...node.places])).stdout) as {
    check: string
    verdict: string
    found: string
  }[])
    .find((finding) => finding.check === 'agent')

async function asked (url: string, where: object = { host: '127.0.0.1', port }): Promise<number> {
  return await new Promise((resolve, reject) => {
    request({ ...where, path: url, agent: false, timeout: hangMs }, (response) => {
      response.resume()
      resolve(response.statusCode ?? 0)
    }).on('error', reject).end()
  })
}

check('an agent whose HTTP port is taken registers, mounts and answers probes; status, doctor and log say so, and it comes when it is free', async (t) => {
  const squatter = await squat()
  const kubelet = new Kubelet(node.kubelet)
  const stop = new AbortController()
  const watching = kubelet.watchPlugins(stop.signal)
  t.teardown(async () => {
    stop.abort()
    await watching
  })
  await node.startAgent(['--listen', `${port}`])
  const volume = {
    handle: 'v', attributes: { server: server.host, share: server.folder, mountOptions: server.mountOptions }
  }
  await kubelet.stage(node.csiSocket, driver, volume)
  const target = await kubelet.publish(node.csiSocket, driver, volume, 'pod', 'pv')
  t.true(existsSync(target))
  t.is((await status('--live')).code, 0)
  await until('it is ready', async () => (await status('--ready')).code === 0 ? true : undefined)
  const told = JSON.parse((await status('--json')).stdout) as StatusResponse
  t.like(told, { http: `127.0.0.1:${port}`, registration: 'registered' })
  t.regex(told.httpError, /EADDRINUSE/)
  t.regex((await status()).stdout, /HTTP is not served at 127\.0\.0\.1:\d+: .*EADDRINUSE.*tried again/)
  t.like(await doctor(), { verdict: 'warning' })
  t.is(node.agentLog.split('\n').filter((line) => line.includes('"op":"listen"')).length, 1, 'one line')

  await new Promise((resolve) => { squatter.close(resolve) })
  t.is(await until('HTTP is served', async () => await asked('/healthz').catch(() => undefined)), 200)
  t.is((JSON.parse((await status('--json')).stdout) as StatusResponse).httpError, '')
  t.like(await doctor(), { verdict: 'ok' })
  await kubelet.unpublish(node.csiSocket, 'v', target)
  await kubelet.unstage(node.csiSocket, driver, 'v')
})

check('beside 700 slow connections the packed agent’s /healthz and /readyz answer, and so do its probes', async (t) => {
  const sockets = Array.from({ length: 700 }, () => {
    const socket = connect(port, '127.0.0.1', () => { socket.write('GET / HTTP/1.1\r\nHost: x') })
    return socket.on('error', () => undefined)
  })
  t.teardown(() => { for (const socket of sockets) socket.destroy() })
  for (let n = 0; n < 10; n++) t.is(await asked('/healthz'), 200)
  t.is((await status('--live')).code, 0)
})

check('details are refused over the port without a token, and told over the socket that only root can open', async (t) => {
  for (const url of ['/', '/status.json']) {
    t.is(await asked(url), 403, url)
    t.is(await asked(url, { socketPath: path.join(node.runtime, 'http.sock') }), 200, url)
    t.is(
      await asked(url, { socketPath: path.join(node.runtime, 'http.sock'), headers: { host: 'evil.example' } }),
      421,
      url
    )
  }
})

check('an agent that is told to deregister takes its sockets away when it ends; one that is not leaves kubelet’s, for its successor', async (t) => {
  const sockets = (): string[] =>
    [
      ...readdirSync(path.join(node.kubelet, 'plugins_registry')), ...readdirSync(path.dirname(node.csiSocket)),
      ...readdirSync(node.runtime).filter((name) => name.endsWith('.sock'))
    ].sort()
  await node.stopAgent()
  t.deepEqual(sockets(), [`${driver}-reg.sock`])
  await node.startAgent(['--deregister-on-exit'])
  t.deepEqual(sockets(), ['agent.sock', 'csi.sock', `${driver}-reg.sock`, 'http.sock'])
  await node.stopAgent()
  t.deepEqual(sockets(), [])
})

check('a wrong --listen, a token file that others can read, and a review without an API are refused before anything starts', async (t) => {
  for (const [args, words] of [
    [['--listen', 'nonsense'], /--listen: "nonsense"/],
    [['--http-token-file', '/etc/passwd'], /--http-token-file: .*others/],
    [['--http-token-review'], /--http-token-review: .*KUBERNETES_SERVICE_HOST/]
  ] as const) {
    const ran = await node.command(['agent', ...node.places, ...args])
    t.is(ran.code, 2, ran.stderr)
    t.regex(ran.stderr, words)
    t.false(existsSync(node.agentSocket))
  }
})
