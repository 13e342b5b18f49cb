/** The order of idle inodes against a Map, which keeps the same order by other means. */
import test from 'ava'
import { CachedAttributes } from '../../../../../agent/fs/objects/cached-attributes.ts'
import type { RemoteHandle } from '../../../../../agent/fs/backend.ts'
import { IdleInodes } from '../../../../../agent/fs/objects/idle-inodes.ts'
import { Inode } from '../../../../../agent/fs/objects/inode.ts'
import { randomOf } from '../../../../model/exercise.ts'
import { chooseSeed } from '../../../../model/seed.ts'

const inodes = Array.from(
  { length: 40 },
  (_, index) =>
    new Inode({
      nodeid: index + 2, generation: 1, handle: `h${index}` as RemoteHandle, kind: 'file', fileid: BigInt(index),
      ino: BigInt(index)
    }, new CachedAttributes())
)

test('whoever is added, added again and taken out, the oldest is the one that has waited longest', (t) => {
  const random = randomOf(chooseSeed((line) => { t.log(line) }))
  const idle = new IdleInodes()
  const model = new Map<Inode, number>()
  for (let nowMs = 0; nowMs < 20_000; nowMs++) {
    const [oldest] = model.keys()
    const chosen = random() < 0.25 && oldest !== undefined ? oldest : inodes[Math.floor(random() * inodes.length)]
    if (chosen === undefined) throw new Error('no such inode')
    model.delete(chosen)
    if (random() < 0.5) {
      model.set(chosen, nowMs)
      idle.add(chosen, nowMs)
    } else {
      idle.delete(chosen)
    }
    const [first] = model
    if (idle.size !== model.size || idle.oldest !== first?.[0] || idle.oldest?.idle?.sinceMs !== first?.[1]) {
      t.fail(`step ${nowMs}`)
    }
  }
  const left: Inode[] = []
  for (let next = idle.oldest; next !== undefined; next = idle.oldest) {
    left.push(next)
    idle.delete(next)
  }
  t.deepEqual(left.map(({ nodeid }) => nodeid), [...model.keys()].map(({ nodeid }) => nodeid))
  t.is(idle.size, 0)
})
