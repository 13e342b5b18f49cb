/** What is said of a server: silence is one thing, an answer that is no figure another. */
import test from 'ava'
import { Errno } from '../../../../agent/base/errno.ts'
import type { FilesystemStatistics } from '../../../../agent/fs/backend.ts'
import type { DatedStatistics } from '../../../../agent/nfs/client.ts'
import { ServerHealth, type AskedServer } from '../../../../agent/roles/server-health.ts'

const figures: FilesystemStatistics = {
  totalBytes: 10n, freeBytes: 4n, availableBytes: 4n, totalFiles: 5n, freeFiles: 1n, availableFiles: 1n
} as FilesystemStatistics

function asked (
  statistics: () => DatedStatistics | Errno,
  heardAgoMs = 0
): { health: ServerHealth, calls: () => number } {
  let calls = 0
  const server: AskedServer = {
    probe: async () => ({ ok: true, health: 'healthy', ms: 1, reason: '' }),
    checkRoot: async () => ({ isCurrent: false, reason: 'the path leads elsewhere' }),
    statistics: async () => {
      calls++
      return statistics()
    },
    transport: {
      serverAddress: 'nas:2049', sinceLastReplyMs: () => heardAgoMs, counters: () => ({}),
      gauges: () => ({ pending: heardAgoMs > 0 ? 1 : 0 })
    }
  }
  return { health: new ServerHealth(server, () => 1000), calls: () => calls }
}

test('a server that answers ESTALE is not called silent: its volume is stale, and it is asked again', async (t) => {
  for (const answer of [Errno.ESTALE, { statistics: figures, stale: true, ageMs: 5, errno: Errno.ESTALE }] as const) {
    const { health, calls } = asked(() => answer)
    for (let n = 0; n < 2; n++) await health.statistics(100).catch(() => undefined)
    t.is(calls(), 2)
    t.is(health.current.health, 'stale')
    t.regex(health.current.reason, /no longer knows the volume's root/)
    t.notRegex(health.current.reason, /did not answer/)
  }
})

test('a server that does not answer is unreachable, and not asked again before it was heard', async (t) => {
  const { health, calls } = asked(() => ({ statistics: figures, stale: true, ageMs: 5 }), 60_000)
  for (let n = 0; n < 2; n++) t.like(await health.statistics(100), { stale: true, totalBytes: '10' })
  t.is(calls(), 1)
  t.regex(health.current.reason, /did not answer within 100 ms/)
})

test('a root that is not what its path leads to any more is the volume’s health', async (t) => {
  const { health } = asked(() => Errno.EIO)
  t.deepEqual(await health.checkRoot(100), { isCurrent: false, reason: 'the path leads elsewhere' })
  t.deepEqual(health.current, { health: 'stale', reason: 'the path leads elsewhere' })
})
