import test from 'ava'
import { Trend, quantileSeconds, trendLooks, type Seen } from '../../../../agent/status/trend.ts'

const intervalMs = 5000
const seen = (changes: Partial<Seen> = {}): Seen => ({
  counters: { fuseReadBytes: 0 }, latency: {}, health: { state: 'healthy', reason: '' }, sessionPid: 1, ...changes
})
const counted = (bytes: number, requests: number, changes: Partial<Seen> = {}): Seen =>
  seen({
    counters: {
      fuseReadBytes: bytes, fuseWrittenBytes: 2 * bytes, 'fuseRequests:READ': requests, 'fuseRequests:LOOKUP': requests,
      retransmissions: 7
    },
    ...changes
  })

test('rates are the differences of counters by the time that has really passed', (t) => {
  const trend = new Trend(intervalMs)
  trend.add(counted(1000, 10), 0, 1000)
  trend.add(counted(11_000, 20), 5000, 6000)
  trend.add(counted(11_000, 20), 12_500, 13_500)
  t.like(trend.view('k'), {
    key: 'k', intervalMs, timeMs: '13500', readBytesPerSecond: [2000, 0].toSpliced(1, 0, Number.NaN),
    writtenBytesPerSecond: [4000, Number.NaN, 0], requestsPerSecond: [4, Number.NaN, 0]
  })
})

test('what is not known is a gap: no answer, another process, looks that were missed', (t) => {
  const trend = new Trend(intervalMs)
  const add = (at: number, what: Seen): void => { trend.add(what, at * intervalMs, at * intervalMs) }
  add(0, counted(0, 0))
  add(1, counted(5000, 0))
  add(2, seen({ counters: {} }))
  add(3, counted(15_000, 0))
  add(4, counted(0, 0, { sessionPid: 2 }))
  add(5, counted(5000, 0, { sessionPid: 2 }))
  add(8, counted(20_000, 0, { sessionPid: 2 }))
  t.deepEqual(trend.view('k').readBytesPerSecond, [
    1000, Number.NaN, 1000, Number.NaN, 1000, Number.NaN, Number.NaN, 1000
  ])
})

test('it remembers ten minutes and no more, also after a long sleep', (t) => {
  const trend = new Trend(intervalMs)
  for (let look = 0; look < 500; look++) trend.add(counted(look, look), look * intervalMs, look * intervalMs)
  t.is(trend.view('k').requestsPerSecond.length, trendLooks)
  trend.add(counted(9999, 9999), 1e12, 1e12)
  t.is(trend.view('k').requestsPerSecond.length, trendLooks)
})

test('times are quantiles of what came since the last look, over all operations', (t) => {
  const latency = (reads: readonly number[], lookups: readonly number[]): Seen['latency'] =>
    Object.fromEntries(
      Object.entries({ READ: reads, LOOKUP: lookups }).map(([name, [a = 0, b = 0, all = 0]]) => {
        return [name, {
          count: all, sumSeconds: 0, buckets: [{ upToSeconds: 0.001, count: a }, { upToSeconds: 0.01, count: b }]
        }]
      })
    )
  const trend = new Trend(intervalMs)
  trend.add(counted(0, 0, { latency: latency([1000, 1000, 1000], [0, 0, 0]) }), 0, 0)
  trend.add(counted(0, 0, { latency: latency([1000, 1050, 1050], [50, 50, 50]) }), 5000, 5000)
  trend.add(counted(0, 0, { latency: latency([1000, 1050, 1050], [50, 50, 50]) }), 10_000, 10_000)
  t.deepEqual(trend.view('k').medianSeconds, [0.001, Number.NaN])
  t.deepEqual(trend.view('k').p99Seconds, [0.009_82, Number.NaN])
})

test('a time beyond the last bound is told as that bound', (t) => {
  t.is(quantileSeconds(new Map([[0.001, 0], [60, 0], [Number.POSITIVE_INFINITY, 4]]), 0.5), 60)
  t.is(quantileSeconds(new Map(), 0.5), Number.NaN)
})

test('changes of health are kept as long as they are seen in the last ten minutes, and the one before', (t) => {
  const trend = new Trend(intervalMs)
  const states = ['healthy', 'healthy', 'unreachable', 'unreachable', 'healthy'] as const
  states.forEach((state, look) => {
    trend.add(seen({ health: { state, reason: '' } }), look * intervalMs, look * intervalMs)
  })
  t.deepEqual(trend.view('k').health, [{ timeMs: '0', health: 'healthy' }, { timeMs: '10000', health: 'unreachable' }, {
    timeMs: '20000', health: 'healthy'
  }])
  for (let look = 5; look < 200; look++) trend.add(seen(), look * intervalMs, look * intervalMs)
  t.deepEqual(trend.view('k').health, [{ timeMs: '20000', health: 'healthy' }])
})
