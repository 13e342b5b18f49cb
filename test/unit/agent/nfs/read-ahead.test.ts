import test from 'ava'
import { mebibyteBytes } from '../../../../agent/base/limits.ts'
import type { ProbeAnswer } from '../../../../agent/nfs/client.ts'
import { measureRoundTrip, readAheadFor } from '../../../../agent/nfs/read-ahead.ts'

const answers =
  (...ms: readonly (number | undefined)[]): { probe: () => Promise<ProbeAnswer>, asked: () => number } => {
    let asked = 0
    return {
      asked: () => asked,
      probe: async () => {
        const one = ms[asked++]
        return one === undefined
          ? { ok: false, health: 'unreachable', ms: 500, reason: 'silent' }
          : { ok: true, health: 'healthy', ms: one, reason: '' }
      }
    }
  }

test('read-ahead grows with the way to the server, between 8 and 32 MiB', (t) => {
  const mebibytes = [0, 0.3, 4, 4.1, 10, 16, 200].map((ms) => readAheadFor(ms) / mebibyteBytes)
  t.deepEqual(mebibytes, [8, 8, 8, 9, 20, 32, 32])
})

test('the round trip is the shortest of three answers', async (t) => {
  t.is(await measureRoundTrip(answers(12, 10.5, 30)), 10.5)
})

test('a server that does not answer is not waited for again, and counts as near', async (t) => {
  const silent = answers(undefined)
  t.is(await measureRoundTrip(silent), 0)
  t.is(silent.asked(), 1)
  t.is(await measureRoundTrip(answers(11, undefined)), 11)
})
