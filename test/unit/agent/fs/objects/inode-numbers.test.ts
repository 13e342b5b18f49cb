import test from 'ava'
import { InodeNumbers } from '../../../../../agent/fs/objects/inode-numbers.ts'
import { rootNodeid } from '../../../../../agent/fs/operations.ts'
import { toFileName } from '../../../../../agent/base/brands.ts'
import { Errno } from '../../../../../agent/base/errno.ts'
import { good, root, World } from '../../../../peers/filesystem-user.ts'

test('objects of the root’s file system keep their numbers, others get one of their own, always the same', (t) => {
  const numbers = new InodeNumbers()
  numbers.setMain(7n)
  t.is(numbers.of({ fsid: 7n, fileid: 42n }), 42n)
  const other = numbers.of({ fsid: 8n, fileid: 42n })
  t.not(other, 42n)
  t.is(numbers.of({ fsid: 8n, fileid: 42n }), other)
  t.true(other > 0n && other < 1n << 64n)
})

test('ten thousand file systems that number from 1 have no two numbers alike', (t) => {
  const numbers = new InodeNumbers()
  numbers.setMain(0n)
  const seen = new Set<bigint>()
  for (let fsid = 0n; fsid < 10_000n; fsid++) {
    for (let fileid = 1n; fileid <= 8n; fileid++) seen.add(numbers.of({ fsid, fileid }))
  }
  t.is(seen.size, 80_000)
})

test('an object on another file system is shown under another number, in listings too, and nothing leads across', async (t) => {
  const world = new World()
  world.server.put('/here', 'x')
  good(await world.mkdir('/child'))
  world.server.put('/child/there', 'y')
  for (const path of ['/child', '/child/there']) world.server.moveToFilesystem(path, 2n, 5n)
  world.clock.advance(120_000)
  const shown = await world.stat('/child/there')
  t.not(shown.fileid, 5n)
  const listed = await world.list('/child')
  t.true(listed.some(({ name, fileid }) => name === toFileName('there') && fileid === shown.fileid))
  t.is(await world.link('/here', '/child/here'), Errno.EXDEV)
  t.is(await world.rename('/here', '/child/here'), Errno.EXDEV)
  t.is(await world.rename('/here', '/there'), undefined)
})

test('a server whose fsid changes with every answer has one file system', async (t) => {
  const world = new World()
  world.server.put('/file', 'x')
  good(await world.mkdir('/dir'))
  let fsid = 100n
  world.server.fsidOf = () => fsid++
  for (let look = 0; look < 3; look++) {
    world.clock.advance(3_600_000)
    await world.stat('/file')
  }
  world.server.put('/new', 'x')
  world.clock.advance(3_600_000)
  t.is((await world.stat('/new')).fileid, world.server.node('/new')?.fileid ?? 0n)
  t.is(await world.rename('/file', '/dir/file'), undefined)
  t.false(good(await world.fs.statfs(rootNodeid, root)).totalBytes === 0n)
})
