/** The line in which starting sessions wait. */
import test from 'ava'
import { pause } from '../../../../../agent/base/deadline.ts'
import { VolumeError } from '../../../../../agent/base/errors.ts'
import { StartGate } from '../../../../../agent/volumes/fuse/start-gate.ts'

/** Work that ends when it is told, and what has begun so far. */
function stage (gate: StartGate): {
  start: (name: string) => Promise<void>
  end: (name: string) => void
  begun: string[]
} {
  const ends = new Map<string, () => void>()
  const begun: string[] = []
  return {
    begun,
    start: async (name) => {
      await gate.run(async () => {
        begun.push(name)
        await new Promise<void>((resolve) => { ends.set(name, resolve) })
      })
    },
    end: (name) => { ends.get(name)?.() }
  }
}

test('as many as there is room for begin; the others follow in order as those end', async (t) => {
  const { start, end, begun } = stage(new StartGate({ atOnce: () => 2, waitMs: 60_000 }))
  const all = ['a', 'b', 'c', 'd'].map(start)
  t.deepEqual(begun, ['a', 'b'])
  end('b')
  await pause(1)
  t.deepEqual(begun, ['a', 'b', 'c'])
  end('a')
  await pause(1)
  t.deepEqual(begun, ['a', 'b', 'c', 'd'])
  for (const name of ['c', 'd']) end(name)
  await Promise.all(all)
})

test('one that fails gives its place on', async (t) => {
  const gate = new StartGate({ atOnce: () => 1, waitMs: 60_000 })
  const failing = gate.run(async () => { await pause(1); throw new Error('no') })
  const next = gate.run(async () => 'next')
  await t.throwsAsync(failing, { message: 'no' })
  t.is(await next, 'next')
})

test('without room one still runs, and who waits too long is told why and is no longer in the line', async (t) => {
  const gate = new StartGate({ atOnce: () => 0, waitMs: 5 })
  const { start, end, begun } = stage(gate)
  const first = start('first')
  const error = await t.throwsAsync(start('late'), {
    instanceOf: VolumeError, message: /no turn within .*CPU or memory/
  })
  t.is((error as VolumeError).code, 'UNAVAILABLE')
  end('first')
  await first
  t.deepEqual(begun, ['first'])
  t.is(gate.waiting, 0)
  const again = start('again')
  t.deepEqual(begun, ['first', 'again'])
  end('again')
  await again
})
