import test from 'ava'
import { pause } from '../../../agent/base/deadline.ts'
import { Cleanup } from '../../../scripts/demonstration/cleanup.ts'

test('a step that goes on is waited for, however long; one that gets no further is told, and the next have their turn', async (t) => {
  const cleanup = new Cleanup()
  const done: string[] = []
  cleanup.add('last', () => { done.push('last') })
  cleanup.add('stuck', async () => { await new Promise(() => undefined) })
  cleanup.add('broken', () => { throw new Error('no') })
  cleanup.add('slow', async (moved) => {
    for (let part = 0; part < 8; part++) {
      await pause(250)
      moved()
    }
    done.push('slow')
  })
  t.deepEqual(await cleanup.run(1500), ['broken: no', 'stuck: not done after 1.5 s'])
  t.deepEqual(done, ['slow', 'last'])
})
