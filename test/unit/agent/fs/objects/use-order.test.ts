/** The order of use against a Map, which keeps the same order by other means. */
import test from 'ava'
import { UseOrder } from '../../../../../agent/fs/objects/use-order.ts'
import { randomOf } from '../../../../model/exercise.ts'
import { chooseSeed } from '../../../../model/seed.ts'

test('whatever is put, put again and taken out, the oldest is the one that was used longest ago', (t) => {
  const random = randomOf(chooseSeed((line) => { t.log(line) }))
  const order = new UseOrder<string, number>()
  const model = new Map<string, number>()
  for (let step = 0; step < 20_000; step++) {
    const [oldest] = model.keys()
    const key = random() < 0.25 && oldest !== undefined ? oldest : `k${Math.floor(random() * 40)}`
    const wasThere = model.delete(key)
    if (random() < 0.5) {
      model.set(key, step)
      if (order.put(key, step) === wasThere) t.fail(`step ${step}: put`)
    } else if (order.delete(key) !== wasThere) t.fail(`step ${step}: delete`)
    const [first] = model.keys()
    if (order.size !== model.size || order.oldest !== first || order.get(key) !== model.get(key)) {
      t.fail(`step ${step}`)
    }
    if (step % 1000 === 0) t.deepEqual([...order], [...model])
  }
  while (order.oldest !== undefined) order.delete(order.oldest)
  t.is(order.size, 0)
  t.deepEqual([...order], [])
})
