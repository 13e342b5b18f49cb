import { createHash } from 'node:crypto'
import test from 'ava'
import { escapeHtml, foreign, html } from '../../../../agent/status/html.ts'
import { statusJson, statusPage } from '../../../../agent/status/page.ts'
import { script } from '../../../../agent/status/script.ts'
import { style } from '../../../../agent/status/style.ts'
import { healths } from '../../../../agent/status/words.ts'
import { atMs, statusOf, trendOf, volumeOf } from './reports.ts'

const attack = '"\'><img src=x onerror=alert(1)><script>alert(2)</script>&amp;\u202e\0'

test('a value in a template is text, whatever it is', (t) => {
  t.is(
    html`<p title="${attack}">${attack}</p>`.text.replaceAll(/&(lt|gt|quot|#39|amp);/g, ''),
    '<p title="img src=x onerror=alert(1)script' +
      'alert(2)/scriptamp;\uFFFD\uFFFD">img src=x onerror=alert(1)scriptalert(2)/scriptamp;\uFFFD\uFFFD</p>'
  )
  t.is(html`${html`<b>`}${[html`<i>`, html`${'<'}`]}`.text, '<b><i>&lt;')
  t.is(escapeHtml('a\ud800b'), 'a\uFFFDb')
  t.true(foreign('x'.repeat(10_000)).text.length < 400)
})

test('nothing that comes from elsewhere gets out of its place', (t) => {
  const target = { path: attack, readOnly: false, owner: attack, problem: attack, unprotected: attack }
  const status = statusOf({
    version: attack, nodeId: attack, registration: attack, registrationError: attack,
    volumes: [
      volumeOf({
        volumeId: attack, door: attack, source: attack, client: attack, clientReason: attack, state: attack,
        staging: attack, targets: [target], health: attack, healthReason: `${attack}; ${attack}`, locks: attack,
        key: attack, counters: { [`fuseErrors:${attack}`]: 1 }
      })
    ],
    trends: [trendOf({ key: attack, health: [{ timeMs: `${atMs}`, health: attack }] })],
    troubles: [{
      timeMs: `${atMs}`, count: 1, level: attack, operation: attack, subject: attack, message: attack, remedy: attack
    }]
  })
  const { body } = statusPage(status)
  t.true(body.split('&lt;img src=x').length > 15, 'it is all there, as text')
  t.false(body.includes('<img'))
  t.false(body.includes('alert(2)</script>'))
  t.is(body.split('<script>').length, 2, 'one script, our own')
  t.false(body.includes('\u202e'))
})

test('the policy allows the page\'s own style and script by hash, and nothing else', (t) => {
  const { headers, body } = statusPage(statusOf())
  const hash = (text: string): string => createHash('sha256').update(text).digest('base64')
  const inPage = (name: string): string => new RegExp(`<${name}>([^]*?)</${name}>`).exec(body)?.[1] ?? ''
  t.is(inPage('style'), style)
  t.is(inPage('script'), script)
  t.is(
    headers['content-security-policy'],
    `default-src 'none'; style-src 'sha256-${hash(style)}'; script-src 'sha256-${hash(script)}'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`
  )
  t.notRegex(body, /\sstyle=|\son[a-z]+=|javascript:/)
})

test('the page says what the terminal says', (t) => {
  const { body } = statusPage(statusOf({
    volumes: [
      volumeOf(),
      volumeOf({ key: 'other', source: 'nas:/y', health: 'unreachable', healthReason: 'nas does not answer; check it' })
    ],
    troubles: [{
      timeMs: `${atMs - 60_000}`, count: 3, level: 'warn', operation: 'health', subject: 'nas:/y',
      message: 'nas does not answer', remedy: 'check it'
    }]
  }))
  for (const words of [
    '<title>2 volumes: 1 unreachable, 1 healthy · node-a', 'two nodes can hold the same lock', 'read 2.00 KiB/s now',
    'half within 2.0 ms', '50 %', '1 min ago', '3 times', 'Check it</bdi>.'
  ]) t.true(body.includes(words), words)
  t.true(body.indexOf('nas:/y') < body.indexOf('nas:/x'), 'the worst comes first')
})

test('what would do a volume good is said, once for each session', (t) => {
  const { body } = statusPage(
    statusOf({
      volumes: [
        volumeOf({ exclusive: true }),
        volumeOf({ key: 'o', gauges: { soloWriter: 1 }, counters: { soloWriterEnded: 2 } }), volumeOf({ key: 'p' })
      ]
    })
  )
  t.regex(
    body,
    /nas:\/x<\/bdi>: caching is <bdi>standard<\/bdi>\. <span class="remedy"><bdi>The volume is for one pod alone/
  )
  t.is(body.split(': caching is').length, 3)
})

test('what was lost, healed and noted is said', (t) => {
  const { body } = statusPage(statusOf({
    losses: [{ source: '<nas>:/x', bytes: '2048', at: '2026-11-21T12:00:00Z' }],
    volumes: [volumeOf({ heals: 2, notes: ['<b> is not ours'] })]
  }))
  for (const words of [
    '&lt;nas&gt;:/x</bdi>: 2.00 KiB that programs had written were lost', '2 times: its session died',
    '<bdi>&lt;b&gt; is not ours'
  ]) t.true(body.includes(words), words)
})

test('without volumes and troubles it says so', (t) => {
  const { body } = statusPage(statusOf({ volumes: [], trends: [] }))
  for (const words of ['No volumes', 'No volume is mounted', 'None since the agent started 2 min ago']) {
    t.true(body.includes(words), words)
  }
})

test('a thousand volumes, and ten thousand, make a page and a JSON of bounded size', (t) => {
  const long = 'ü'.repeat(3000)
  const values = Array.from({ length: 120 }, (_, index) => index * 1234.5)
  const volumes = Array.from(
    { length: 10_000 },
    (_, index) =>
      volumeOf({
        key: `${index}`.padStart(64, '0'), volumeId: `v${index}`, source: `nas${index}:/${long}`,
        ...index === 9999 ? { health: 'dead', healthReason: long } : {}
      })
  )
  const trends = volumes.slice(0, 256).map(({ key }) =>
    trendOf({
      key, readBytesPerSecond: values, writtenBytesPerSecond: values, requestsPerSecond: values, medianSeconds: values,
      p99Seconds: values
    })
  )
  const page = statusPage(statusOf({ volumes, trends }))
  t.true(Buffer.byteLength(page.body) < 4 * 1024 * 1024, `${Buffer.byteLength(page.body)}`)
  t.true(page.body.includes('v9999<'))
  t.true(page.body.includes('9000 more are not shown'))
  const short = statusPage(
    statusOf({ volumes: volumes.slice(0, 1000).map((volume) => ({ ...volume, source: 'nas:/export/data' })), trends })
  )
  t.true(Buffer.byteLength(short.body) < 2 * 1024 * 1024, `${Buffer.byteLength(short.body)}`)
  const told = JSON.parse(statusJson(statusOf({ volumes, trends })).body) as { volumes: { volumeId: string }[] }
  t.is(told.volumes.length, 1000)
  t.is(told.volumes[0]?.volumeId, 'v9999')
})

/** WCAG 2.2, relative luminance and contrast ratio. */
function contrast (one: string, other: string): number {
  const luminance = (hex: string): number => {
    const full = hex.length === 4 ? [...hex.slice(1)].map((digit) => digit + digit).join('') : hex.slice(1)
    const [red = 0, green = 0, blue = 0] = [0, 2, 4].map((at) => Number.parseInt(full.slice(at, at + 2), 16) / 255).map(
      (value) => value <= 0.040_45 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  }
  const [dark = 0, light = 0] = [luminance(one), luminance(other)].sort((a, b) => a - b)
  return (light + 0.05) / (dark + 0.05)
}

test('text stands out from what it is on, light and dark', (t) => {
  const themes = [...style.matchAll(/:root\{([^}]*)\}/g)].map(([, rules = '']): Record<string, string> =>
    Object.fromEntries(
      [...rules.matchAll(/--([a-z-]+):(#[0-9a-f]+)/g)].map(([, name = '', colour = '']) => [name, colour])
    )
  )
  t.is(themes.length, 2)
  for (const theme of themes) {
    const pairs = [
      ...['text', 'soft', 'link', 'first', 'second', ...Object.keys(healths)].flatMap(
        (name) => [[name, 'panel'], [name, 'ground']]
      ),
      ...Object.keys(healths).flatMap((name) => [[name, `${name}-soft`], ['text', `${name}-soft`]])
    ]
    for (const [one = '', other = ''] of pairs) {
      const ratio = contrast(theme[one] ?? '', theme[other] ?? '')
      t.true(ratio >= 4.5, `${one} on ${other}: ${ratio.toFixed(2)}`)
    }
  }
})
