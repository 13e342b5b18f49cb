import test from 'ava'
import { pause } from '../../../../agent/base/deadline.ts'
import { IdleMemory } from '../../../../agent/host/idle-memory.ts'

async function until (condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition() && tries < 500; tries += 1) await pause(10)
}

test('memory is given back once after work has ended, and again only after more work', async (t) => {
  let work = 0
  let released = 0
  const memory = new IdleMemory({ work: () => work, release: () => { released += 1 }, intervalMs: 20 })
  try {
    await pause(100)
    t.is(released, 0, 'a session that never worked has nothing to give back')
    work = 10
    await until(() => released > 0)
    await pause(100)
    t.is(released, 1)
    work = 11
    await until(() => released > 1)
    t.is(released, 2)
  } finally {
    memory.close()
  }
})

test('nothing is given back while requests keep coming', async (t) => {
  let work = 0
  let released = 0
  const memory = new IdleMemory({ work: () => (work += 1), release: () => { released += 1 }, intervalMs: 10 })
  try {
    await pause(150)
    t.is(released, 0)
  } finally {
    memory.close()
  }
})
