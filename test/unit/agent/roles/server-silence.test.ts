/** What is known about a server, with a transport that says what it is told to. */
import test from 'ava'
import { Errno } from '../../../../agent/base/errno.ts'
import type { FilesystemStatistics } from '../../../../agent/fs/backend.ts'
import type { DatedStatistics, ProbeAnswer } from '../../../../agent/nfs/client.ts'
import { type AskedServer, ServerHealth } from '../../../../agent/roles/server-health.ts'

const figures: FilesystemStatistics = {
  totalBytes: 8n, freeBytes: 4n, availableBytes: 4n, totalFiles: 2n, freeFiles: 1n, availableFiles: 1n
}
const healthy: ProbeAnswer = { ok: true, health: 'healthy', ms: 1, reason: '' }
const unreachable: ProbeAnswer = { ok: false, health: 'unreachable', ms: 5000, reason: 'no answer' }

/** A server that has fallen silent, and what becomes of questions to it. */
class Server implements AskedServer {
  nowMs = 1_000
  heardAtMs = 0
  pending = 0
  asked = 0
  answers = false
  readonly health: ServerHealth
  readonly transport: AskedServer['transport']

  constructor () {
    const server = this
    this.transport = {
      serverAddress: '192.0.2.1:2049',
      sinceLastReplyMs: () => server.nowMs - server.heardAtMs,
      counters: () => ({}),
      gauges: () => ({ pending: server.pending })
    }
    this.health = new ServerHealth(this, () => this.nowMs)
  }

  probe (): Promise<ProbeAnswer> { return this.#ask(healthy, unreachable) }
  checkRoot (): ReturnType<AskedServer['checkRoot']> { return Promise.resolve({ isCurrent: true, reason: '' }) }
  statistics (): Promise<DatedStatistics | Errno> {
    return this.#ask<DatedStatistics | Errno>({ statistics: figures, stale: false, ageMs: 0 }, Errno.ETIMEDOUT)
  }

  #ask<T> (heard: T, silent: T): Promise<T> {
    this.asked += 1
    if (this.answers) this.heardAtMs = this.nowMs
    this.nowMs += 1
    return Promise.resolve(this.answers ? heard : silent)
  }
}

test('a soft mount is asked again after each question that it gave up, and the silence ends', async (t) => {
  const server = new Server()
  t.is((await server.health.probe(10)).health, 'unreachable')
  t.is((await server.health.probe(10)).health, 'unreachable')
  await t.throwsAsync(server.health.statistics(10), { code: 'UNAVAILABLE' })
  t.is(server.asked, 3)
  t.is(server.health.current.health, 'unreachable')
  server.answers = true
  t.is((await server.health.statistics(10)).totalBytes, '8')
  t.is((await server.health.probe(10)).health, 'healthy')
  t.is(server.health.current.health, 'healthy')
})

test('while a question to a silent server is pending, no other is asked, until anything is heard', async (t) => {
  const server = new Server()
  await server.health.probe(10)
  server.pending = 1
  t.is((await server.health.probe(10)).health, 'unreachable')
  await t.throwsAsync(server.health.statistics(10), { code: 'UNAVAILABLE' })
  t.is(server.asked, 1)
  t.is(server.health.current.health, 'unreachable')
  server.pending = 0
  server.heardAtMs = server.nowMs
  t.is(server.health.current.health, 'healthy')
  server.answers = true
  t.is((await server.health.probe(10)).health, 'healthy')
  t.is(server.asked, 2)
})
