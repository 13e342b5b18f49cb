import test from 'ava'
import {
  activityOf, capitalised, formatActivity, formatBytes, formatSeconds, formatSummary, formatUsage, formatVolumeId,
  healthOf,
  healthSinceMs, sharesOf, splitRemedy
} from '../../../../agent/status/words.ts'
import { formatStatus } from '../../../../agent/cli/status.ts'
import { atMs, statusOf, trendOf, volumeOf } from './reports.ts'

test('bytes are shown with three digits and a unit', (t) => {
  t.deepEqual([0, 1023, 1024, 1536, 10_000_000, 2 ** 60, 1.7].map(formatBytes), [
    '0 B', '1023 B', '1.00 KiB', '1.50 KiB', '9.54 MiB', '1.00 EiB', '2 B'
  ])
})

test('what a server has without a limit, or does not tell, is said and not counted', (t) => {
  const usage = {
    totalBytes: '10240', usedBytes: '5120', availableBytes: '5120', totalInodes: '10', usedInodes: '3',
    availableInodes: '7', stale: false
  }
  const noLimit = '9223372036854775807'
  t.is(formatUsage(usage), '5.00 KiB of 10.0 KiB used, 5.00 KiB available; 3 of 10 inodes')
  t.is(
    formatUsage({ ...usage, totalBytes: noLimit, totalInodes: noLimit, stale: true }),
    '5.00 KiB used, no limit; 3 inodes, no limit (last known)'
  )
  t.is(
    formatUsage({ ...usage, totalBytes: '0', totalInodes: '0' }),
    'size not told by the server; inodes not counted by the server'
  )
})

test('times are shown with two digits and a unit that fits', (t) => {
  t.deepEqual([0.000_05, 0.000_42, 0.0012, 0.0123, 0.9, 2.34, 61].map(formatSeconds), [
    '50 µs', '0.42 ms', '1.2 ms', '12 ms', '900 ms', '2.3 s', '61 s'
  ])
})

test('the summary says when all are well, and else names the worst first', (t) => {
  const of = (...healths: string[]): string => formatSummary(healths.map((health) => volumeOf({ health })))
  t.deepEqual([
    of(), of('healthy'), of('dead'), of('healthy', 'healthy'), of('healthy', 'unreachable', 'dead', 'healthy')
  ], [
    'no volumes', 'the one volume is healthy', 'the one volume is dead', 'all 2 volumes are healthy',
    '4 volumes: 1 dead, 1 unreachable, 2 healthy'
  ])
})

test('a health that this version does not know is not well', (t) => {
  t.is(healthOf('burning').state, 'degraded')
  t.is(healthOf('constructor').state, 'degraded')
})

test('the worst volume of a session speaks for it', (t) => {
  const shares = sharesOf(
    statusOf({
      volumes: [
        volumeOf(), volumeOf({ volumeId: 'v2', health: 'degraded' }), volumeOf({ volumeId: 'v3', key: 'other' })
      ]
    })
  )
  t.deepEqual(shares.map(({ lead, volumes, trend }) => [lead.volumeId, volumes.length, trend?.key]), [['v2', 2, 'k'], [
    'v3', 1, undefined
  ]])
})

test('now is the last seconds, without what is not known', (t) => {
  t.like(activityOf(trendOf()), {
    readBytesPerSecond: 2048, requestsPerSecond: 20, medianSeconds: 0.002, p99Seconds: 0.02
  })
  t.is(
    formatActivity(trendOf()),
    'read 2.00 KiB/s, written 0 B/s, 20 requests/s; half within 2.0 ms, 99 % within 20 ms'
  )
  t.is(
    formatActivity(
      trendOf({ requestsPerSecond: [9, 0, 0, 0], medianSeconds: [1, Number.NaN, Number.NaN, Number.NaN] })
    ),
    'idle'
  )
  t.is(formatActivity(trendOf({ requestsPerSecond: [Number.NaN] })), 'not known yet')
})

test('how long a health lasts is told only when its beginning was seen', (t) => {
  const share = (health: string): number | undefined =>
    healthSinceMs({ lead: volumeOf({ health }), volumes: [], trend: trendOf() })
  t.is(share('healthy'), atMs - 600_000)
  t.is(share('dead'), undefined)
})

test('a sentence is set apart from its remedy, and names are not capitalised', (t) => {
  t.deepEqual(splitRemedy('nas (a; b) is away; check it'), { what: 'nas (a; b) is away', remedy: 'check it' })
  t.deepEqual(splitRemedy('nas is away'), { what: 'nas is away', remedy: '' })
  t.deepEqual(['check it', 'nas:/x is away', 'server: no'].map(capitalised), [
    'Check it', 'nas:/x is away', 'server: no'
  ])
})

test('the hash that names a volume of Flex or by hand is shortened, a name that somebody gave is not', (t) => {
  for (const door of ['hand', 'flex']) {
    t.is(formatVolumeId(volumeOf({ volumeId: `${door}-${'a'.repeat(64)}`, door })), `${door}-aaaaaaaaaaaa…`)
  }
  for (const volumeId of ['flex-data', 'hand', 'a'.repeat(70)]) t.is(formatVolumeId(volumeOf({ volumeId })), volumeId)
})

test('the terminal tells now, for how long, and the last troubles with what to do', (t) => {
  const text = formatStatus(statusOf({
    volumes: [
      volumeOf({ health: 'unreachable', healthReason: 'nas does not answer; check it', gauges: { fuseInFlight: 2 } })
    ],
    trends: [
      trendOf({
        health: [{ timeMs: `${atMs - 600_000}`, health: 'healthy' }, {
          timeMs: `${atMs - 180_000}`, health: 'unreachable'
        }]
      })
    ],
    troubles: [{
      timeMs: `${atMs - 60_000}`, count: 3, level: 'warn', operation: 'NodePublishVolume', subject: 'v9',
      message: 'server: "x" has no address', remedy: 'check DNS'
    }]
  }))
  for (const words of [
    'the one volume is unreachable', 'nas:/x  unreachable: nas does not answer; check it (for 3 min)',
    'now      read 2.00 KiB/s', 'waiting  2 requests of programs',
    'two nodes can hold the same lock',
    '1 min ago, 3 times: NodePublishVolume v9: server: "x" has no address\n    check DNS'
  ]) t.true(text.includes(words), `${words}\n${text}`)
})
