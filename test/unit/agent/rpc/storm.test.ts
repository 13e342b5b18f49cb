/**
 * Thousands of clients lose one server at the same moment. The real reconnector of each, with a clock that is turned by
 * hand and connections that are made of nothing: how many connections a second reach the server, and when everybody is
 * back.
 */
import test, { type ExecutionContext } from 'ava'
import { TransportError } from '../../../../agent/base/errors.ts'
import type { Clock } from '../../../../agent/base/clock.ts'
import type { Connection } from '../../../../agent/rpc/connection.ts'
import { newCounters } from '../../../../agent/rpc/events.ts'
import { Reconnector } from '../../../../agent/rpc/reconnector.ts'
import { RecordPool } from '../../../../agent/rpc/record-pool.ts'
import { randomOf } from '../../../model/exercise.ts'
import { chooseSeed } from '../../../model/seed.ts'

const clients = 3_000
const endpoint = { address: '192.0.2.1', port: 2049 }

/** Timers by millisecond: tens of thousands of them. */
class SimulatedClock implements Clock {
  #now = 0
  readonly #due = new Map<number, Set<() => void>>()

  nowMs (): number { return this.#now }

  after (ms: number, task: () => void): () => void {
    const at = Math.floor(this.#now + Math.max(1, ms))
    const tasks = this.#due.get(at) ?? new Set()
    this.#due.set(at, tasks.add(task))
    return () => { tasks.delete(task) }
  }

  async run (untilMs: number): Promise<void> {
    while (this.#now < untilMs) {
      this.#now++
      const tasks = this.#due.get(this.#now)
      this.#due.delete(this.#now)
      if (tasks === undefined) continue
      for (const task of tasks) task()
      // What a timer wakes takes some turns of promises, and no time.
      for (let turn = 0; turn < 25; turn++) await Promise.resolve()
    }
  }
}

interface Outage {
  /** The server refuses connections from 0 to this moment, or takes no packet at all. */
  readonly downMs: number
  readonly kind: 'refused' | 'silent'
}

/** Connections that arrived at the server, by millisecond, and when each client had its own again. */
async function storm (
  t: ExecutionContext,
  { downMs, kind }: Outage
): Promise<{ arrivals: number[], backMs: number[] }> {
  const seed = chooseSeed((line) => { t.log(line) })
  const random = randomOf(seed)
  const clock = new SimulatedClock()
  const arrivals: number[] = []
  const backMs: number[] = []
  const parts = { clock, pool: new RecordPool(), counters: newCounters() }
  const open = async (): Promise<Connection> => {
    if (clock.nowMs() < downMs && kind === 'silent') {
      await new Promise<void>((resolve) => { clock.after(10_000, resolve) })
      throw new TransportError('TIMED_OUT', 'no answer', { sent: false })
    }
    arrivals.push(clock.nowMs())
    if (clock.nowMs() < downMs) throw new TransportError('REFUSED', 'refused', { sent: false })
    return { endpoint, sourcePort: 700 } as unknown as Connection
  }
  const route = {
    endpoints: async () => await Promise.resolve([endpoint]), admit: async () => await Promise.resolve(undefined)
  }
  const all = Array.from(
    { length: clients },
    () => new Reconnector({ route, resvport: true, connectMs: 10_000, observe: () => undefined, random, open }, parts)
  )
  for (const client of all) {
    // Each had a connection for an hour, with calls under way.
    client.lost('lost', { livedMs: 3_600_000, replies: 1_000, pending: 3 })
    void client.connect().then((connection) => { if (connection !== undefined) backMs.push(clock.nowMs()) })
  }
  for (let turn = 0; turn < 25; turn++) await Promise.resolve()
  await clock.run(downMs + 30_000)
  for (const client of all) client.stop()
  return { arrivals, backMs }
}

/** The most that arrive in any window of this length that begins after `fromMs`. */
function mostWithin (arrivals: readonly number[], windowMs: number, fromMs: number): number {
  const sorted = arrivals.filter((at) => at >= fromMs).sort((a, b) => a - b)
  let most = 0
  for (let first = 0, last = 0; last < sorted.length; last++) {
    while ((sorted[last] ?? 0) - (sorted[first] ?? 0) >= windowMs) first++
    most = Math.max(most, last - first + 1)
  }
  return most
}

test('a server that resets thousands of clients at once and lives on gets them back over half a second, not in one moment', async (t) => {
  const { arrivals, backMs } = await storm(t, { downMs: 0, kind: 'refused' })
  t.is(backMs.length, clients)
  t.is(arrivals.length, clients, 'nobody tries twice')
  t.true(mostWithin(arrivals, 10, 0) < clients / 10, `${mostWithin(arrivals, 10, 0)} within 10 ms`)
  t.true(Math.max(...backMs) <= 501)
})

for (const downMs of [2_000, 60_000]) {
  test(`a server that was away for ${downMs / 1000} s is asked rarely meanwhile, and gets thousands of clients back spread over seconds`, async (t) => {
    const { arrivals, backMs } = await storm(t, { downMs, kind: 'refused' })
    t.is(backMs.length, clients, 'everybody is back')
    t.true(Math.max(...backMs) - downMs <= 7_500, `the last after ${Math.max(...backMs) - downMs} ms`)
    const back = arrivals.filter((at) => at >= downMs)
    t.is(back.length, clients, 'one connection each')
    // Pauses reach five seconds on average: a fifth of all clients in a second, twice that at most.
    const bound = downMs > 10_000 ? clients * 2 / 5 : clients
    t.true(mostWithin(arrivals, 1_000, downMs) <= bound, `${mostWithin(arrivals, 1_000, downMs)} in the fullest second`)
    t.true(mostWithin(arrivals, 10, downMs) <= clients / 20, `${mostWithin(arrivals, 10, downMs)} in the fullest 10 ms`)
    const early = arrivals.filter((at) => at < downMs).length / clients
    t.true(early <= 6 + downMs / 5_000 * 1.5, `${early} attempts by each while it was away`)
  })
}

test('a server that takes no packet is tried again at different moments by each', async (t) => {
  const { arrivals, backMs } = await storm(t, { downMs: 45_000, kind: 'silent' })
  t.is(backMs.length, clients)
  t.true(
    mostWithin(arrivals, 100, 45_000) <= clients / 10,
    `${mostWithin(arrivals, 100, 45_000)} in the fullest 100 ms`
  )
})
