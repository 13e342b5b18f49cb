/** The agent's page, in a browser: a real volume goes from healthy to unreachable, dies and comes back, in front of
 * it. */
import process from 'node:process'
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { createRequire } from 'node:module'
import path from 'node:path'
import test from 'ava'
import type { StatusResponse } from '../../../proto/csi/types.ts'
import { Browser, type BrowserPage } from '../../peers/browser.ts'
import { freePort, Ganesha } from '../../peers/ganesha.ts'
import { Kubelet, type CsiVolume } from '../../peers/kubelet.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { mountsBelow, TestNode } from '../endtoend/node.ts'

const needs = ['root', 'fuse', 'ganesha', 'chromium'] as const
const check = testNeeding(...needs)
const driver = 'csi.volbridge.io'
/** It would run as soon as it were HTML. */
const attack = '<img src=x onerror="window.pwned=1;alert(1)">'

let server: Ganesha
let node: TestNode
let kubelet: Kubelet
let browser: Browser
let volume: CsiVolume
let target: string
let address: string
let port: number

test.before(async () => {
  if (missing(...needs) !== undefined) return
  server = await Ganesha.start()
  mkdirSync(path.join(server.folder, attack))
  node = new TestNode()
  port = await freePort()
  address = `http://127.0.0.1:${port}`
  await node.startAgent(node.httpArguments(`${port}`))
  kubelet = new Kubelet(node.kubelet)
  volume = {
    handle: `pv-${attack}`,
    attributes: {
      server: server.host, share: server.folder, subDir: attack, mountOptions: server.mountOptions,
      'csi.storage.k8s.io/pod.name': attack, 'csi.storage.k8s.io/pod.namespace': 'shop'
    }
  }
  await kubelet.stage(node.csiSocket, driver, volume)
  target = await kubelet.publish(node.csiSocket, driver, volume, 'pod', 'pv')
  browser = await Browser.start()
  // As somebody who was asked for a password: the browser keeps it for this address, and the page's script uses it too.
  await (await browser.page()).open(`http://operator:${node.httpToken}@127.0.0.1:${port}/status.json`)
})

test.after.always(async () => {
  await browser?.close()
  await node?.close()
  await server?.close()
})

async function fetched (
  url: string,
  method = 'GET'
): Promise<{ status: number, headers: NodeJS.Dict<string | string[]>, body: string }> {
  return await new Promise((resolve, reject) => {
    request(`${address}${url}`, { method, agent: false, headers: node.httpHeaders }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks).toString() })
      })
    }).on('error', reject).end()
  })
}

const hangMs = 60_000
const opened = async (options: { scripts?: boolean } = {}): Promise<BrowserPage> => {
  const page = await browser.page(options)
  await page.open(`${address}/`)
  return page
}

check('a volume goes from healthy to unreachable, dies and comes back, in front of the page, with scripts and without', async (t) => {
  const [scripted, plain] = await Promise.all([opened(), opened({ scripts: false })])
  const both = async (expected: RegExp): Promise<readonly string[]> =>
    await Promise.all([scripted.until(expected, hangMs), plain.until(expected, hangMs)])
  await both(/^The one volume is healthy$/m)

  await server.kill9()
  const unreachable = await both(/^The one volume is unreachable$/m)
  for (const text of unreachable) {
    t.regex(text, /The server 127\.0\.0\.1:\d+ (does not|did not) answer.*\. Check the server and the network\./)
  }
  t.regex(
    (await node.command(['status', ...node.places])).stdout,
    /^the one volume is unreachable$/m,
    'the terminal says the same'
  )
  t.regex(await scripted.evaluate<string>('document.title'), /^the one volume is unreachable · test-node/)

  // Its session dies as well, and cannot be replaced while the server is away.
  const { volumes } = JSON.parse((await node.command(['status', '--json', ...node.places])).stdout) as StatusResponse
  process.kill(volumes[0]?.sessionPid ?? 0, 'SIGKILL')
  for (const told of await both(/^The one volume is dead$[^]*Error mount-died/m)) {
    t.regex(told, /The mount is not served \(/)
  }

  await server.restart()
  await scripted.until(/^The one volume is healthy$[^]*mounted anew after its session died/m, hangMs)
  const working = setInterval(() => { writeFileSync(path.join(target, 'file'), Buffer.alloc(1024 * 1024)) }, 500)
  try {
    await scripted.until(
      /^The one volume is healthy$[^]*read .*\nwritten [\d.]+ [KM]iB\/s\nnow [\d.]+\/s\nmost [\d.]+\/s\nhalf \d.*\n99 % \d/m,
      hangMs
    )
  } finally {
    clearInterval(working)
  }

  t.is(scripted.loads, 1, 'with scripts it exchanges its content')
  t.true(plain.loads > 2, 'without, the browser loads it anew')
  t.deepEqual([...scripted.complaints, ...plain.complaints], [], 'nothing was refused by the policy, nothing failed')

  await kubelet.unpublish(node.csiSocket, volume.handle, target)
  await kubelet.unstage(node.csiSocket, driver, volume.handle)
  await scripted.until(/No volume is mounted through this agent/, hangMs)
  t.deepEqual(mountsBelow(node.folder), [])
  await kubelet.stage(node.csiSocket, driver, volume)
  target = await kubelet.publish(node.csiSocket, driver, volume, 'pod', 'pv')
})

check('what a volume, a pod and a folder are called is text, whatever it is', async (t) => {
  const page = await opened()
  const text = await page.until(/^The one volume is healthy$/m, hangMs)
  t.true(text.includes(`pv-${attack}`), 'the volume')
  t.true(text.includes(`for shop/${attack}`), 'the pod')
  t.regex(text, /\/export\/<img src=x/, 'the folder')
  t.is(
    await page.evaluate('document.images.length + document.querySelectorAll("body script").length'),
    1,
    'the page\'s own script'
  )
  t.is(await page.evaluate<undefined>('window.pwned'), undefined)
  t.deepEqual(page.complaints, [])
  await page.evaluate(
    'const late = document.createElement("script"); late.textContent = "window.pwned = 2"; document.body.append(late)'
  )
  await page.evaluate(
    'const picture = new Image(); picture.src = "http://127.0.0.1:1/x.png"; document.body.append(picture)'
  )
  t.is(await page.evaluate<undefined>('window.pwned'), undefined, 'the policy refuses any other script')
  t.true(page.complaints.some((text) => /Content Security Policy/.test(text)))
})

check('somebody who reads the page keeps their place: details stay open, focus stays, a pause holds', async (t) => {
  const page = await opened()
  await page.evaluate('document.querySelector("summary").click(); document.querySelector("summary").focus()')
  const told = await page.text('#told')
  t.regex(
    await page.text('details'),
    /client\s+fuse[^]*locks\s+node-local: two nodes can hold the same lock[^]*process \d+/
  )
  await page.evaluate('document.dispatchEvent(new Event("visibilitychange"))')
  for (const endMs = Date.now() + hangMs; await page.text('#told') === told && Date.now() < endMs;) {
    await page.evaluate(
      'new Promise((resolve) => setTimeout(resolve, 1000)).then(() => document.dispatchEvent(new Event("visibilitychange")))'
    )
  }
  t.not(await page.text('#told'), told)
  t.true(await page.evaluate<boolean>('document.querySelector("details").open'))
  t.is(await page.evaluate<string>('document.activeElement.tagName'), 'SUMMARY')
  await page.evaluate('document.getElementById("pause").click()')
  t.is(await page.text('#pause'), 'Resume')

  // The agent goes: what is shown is not passed off as new.
  await page.evaluate('document.getElementById("pause").click()')
  await node.stopAgent()
  await page.evaluate('document.dispatchEvent(new Event("visibilitychange"))')
  t.regex(
    await page.until(/The agent does not answer/, hangMs),
    /The agent does not answer\. Last told at \d\d:\d\d:\d\d UTC/
  )
  await node.startAgent(node.httpArguments(`${port}`))
  await page.until(/The one volume is healthy/, hangMs)
  for (const endMs = Date.now() + hangMs; /does not answer/.test(await page.text('#told')) && Date.now() < endMs;) {
    await page.evaluate(
      'new Promise((resolve) => setTimeout(resolve, 200)).then(() => document.dispatchEvent(new Event("visibilitychange")))'
    )
  }
  t.regex(await page.text('#told'), /^told at/)
})

check('the page can be heard, and fits a phone and the dark', async (t) => {
  const page = await opened()
  await page.until(/half|not known yet/, hangMs)
  const heard = await page.accessible()
  const names = (role: string): readonly string[] =>
    heard.filter((found) => found.role === role).map(({ name }) => name)
  t.deepEqual(names('columnheader').slice(0, 6), [
    'Health', 'Volume', 'Throughput', 'Requests', 'Time per request', 'Space'
  ])
  t.is(names('rowheader').length, 1)
  t.deepEqual(names('heading').slice(0, 2), ['The one volume is healthy', 'Last warnings and errors'])
  t.true(names('image').some((name) => /^Health in the last ten minutes/.test(name)))

  const widthOf = async (): Promise<number> => await page.evaluate<number>('document.scrollingElement.scrollWidth')
  const light = await page.evaluate<string>('getComputedStyle(document.body).backgroundColor')
  await page.call('Emulation.setDeviceMetricsOverride', { width: 360, height: 740, deviceScaleFactor: 2, mobile: true })
  await page.call('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: 'dark' }] })
  t.is(await widthOf(), 360, 'nothing has to be scrolled sideways')
  t.not(await page.evaluate<string>('getComputedStyle(document.body).backgroundColor'), light)
  t.deepEqual(
    (await page.accessible()).filter(({ role }) => role === 'columnheader').length,
    heard.filter(({ role }) => role === 'columnheader').length,
    'a table stays a table'
  )
})

/** The names of all fields, however deep; what maps are keyed with is data. */
function shapeOf (value: unknown, isMap = false): unknown {
  if (Array.isArray(value)) return value.length === 0 ? [] : [shapeOf(value[0])]
  if (typeof value !== 'object' || value === null) return value === null ? 'number' : typeof value
  return isMap
    ? 'map'
    : Object.fromEntries(
      Object.entries(value).sort().map(
        ([name, inner]) => [name, shapeOf(inner, ['counters', 'gauges', 'latency'].includes(name))]
      )
    )
}

check('the same is had as JSON, in the shape of status --json; the address is read only and of this machine', async (t) => {
  const page = await fetched('/')
  t.like(page, {
    status: 200,
    headers: {
      'content-type': 'text/html; charset=utf-8', 'x-content-type-options': 'nosniff', 'cache-control': 'no-store',
      'referrer-policy': 'no-referrer'
    }
  })
  t.regex(
    String(page.headers['content-security-policy']),
    /^default-src 'none'; style-src 'sha256-[^']+'; script-src 'sha256-[^']+'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'$/
  )
  const json = await fetched('/status.json')
  t.is(json.headers['content-type'], 'application/json; charset=utf-8')
  const typed = await node.command(['status', '--json', ...node.places])
  t.deepEqual(shapeOf(JSON.parse(json.body)), shapeOf(JSON.parse(typed.stdout)))
  const head = await fetched('/', 'HEAD')
  t.like(head, { status: 200, body: '' })
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
    t.like(await fetched('/', method), { status: 405, headers: { allow: 'GET, HEAD' } }, method)
  }
  t.is((await fetched('/etc/passwd')).status, 404)
  t.regex(node.agentLog, new RegExp(`"address":"127.0.0.1","port":${port}`))
})

interface Named { readonly expression: string, readonly shown: string }
interface Rules {
  readonly groups: readonly {
    readonly rules: readonly {
      readonly alert: string
      readonly expr: string
      readonly annotations: { readonly summary: string, readonly description: string }
    }[]
  }[]
}
interface Dashboard {
  readonly panels: readonly { readonly targets: readonly { readonly expr: string, readonly legendFormat: string }[] }[]
  readonly templating: { readonly list: readonly { readonly definition?: string }[] }
}

/** Labels that Prometheus gives, or that an expression makes. */
const labelsOfOthers = new Set(['instance', 'job'])

function named (): readonly Named[] {
  const folder = path.resolve(import.meta.dirname, '../../../deploy/monitoring')
  const yaml = createRequire(import.meta.url)('js-yaml') as { safeLoad: (text: string) => unknown }
  const { groups } = yaml.safeLoad(readFileSync(path.join(folder, 'prometheus-rules.yaml'), 'utf8')) as Rules
  const { panels, templating } = JSON.parse(
    readFileSync(path.join(folder, 'grafana-dashboard.json'), 'utf8')
  ) as Dashboard
  return [
    ...groups.flatMap(({ rules }) => rules).map(({ expr, annotations }) => ({
      expression: expr, shown: `${annotations.summary} ${annotations.description}`
    })),
    ...panels.flatMap(({ targets }) => targets).map(({ expr, legendFormat }) => ({
      expression: expr, shown: legendFormat
    })),
    ...templating.list.map(({ definition = '' }) => ({
      expression: definition.replace(/label_values\((.*), (\w+)\)/, 'sum by ($2) ($1)'), shown: ''
    })).filter(({ expression }) => expression !== '')
  ]
}

check('every metric and label of the dashboard and the alerts is there on a live /metrics', async (t) => {
  // One request that fails, so that all kinds of counters are there.
  mkdirSync(path.join(target, 'folder/inner'), { recursive: true })
  t.throws(() => { rmdirSync(path.join(target, 'folder')) }, { code: 'ENOTEMPTY' })
  const labels = new Map<string, Set<string>>()
  for (const [, name = '', list = ''] of (await fetched('/metrics')).body.matchAll(
    /^(volbridge_\w+)(?:\{(.*)\})? /gm
  )) {
    const known = labels.get(name) ?? new Set()
    for (const [, label = ''] of list.matchAll(/(?:^|,)(\w+)="/g)) known.add(label)
    labels.set(name, known)
  }
  const all = named()
  t.true(all.length > 25)
  for (const { expression, shown } of all) {
    const found = [...expression.matchAll(/\b(volbridge_\w+)(?:\{([^}]*)\})?/g)]
    t.true(found.length > 0, expression)
    const possible = new Set(labelsOfOthers)
    for (const [, name = '', matchers = ''] of found) {
      const known = labels.get(name)
      t.truthy(known, `${name} is not on /metrics: ${expression}`)
      for (const [, label = ''] of matchers.matchAll(/(\w+)(?:=|!=|=~|!~)"/g)) {
        t.true(labelsOfOthers.has(label) || known?.has(label), `${name} has no label ${label}`)
      }
      for (const label of known ?? []) possible.add(label)
    }
    const grouped = [...expression.matchAll(/\b(?:by|on|group_left) \(([^)]*)\)/g)].flatMap(([, list = '']) =>
      list.split(', ')
    )
    for (const label of grouped) t.true(possible.has(label), `no series of ${expression} has the label ${label}`)
    for (const [, label = ''] of shown.matchAll(/\{\{ ?(?:\$labels\.)?(\w+) ?\}\}/g)) {
      t.true(
        possible.has(label) && (grouped.length === 0 || grouped.includes(label)),
        `${shown}: ${expression} has no label ${label}`
      )
    }
  }
})
