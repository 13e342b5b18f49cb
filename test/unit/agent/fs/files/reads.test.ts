/** Reading: the server's bytes, our own, and the end of the file. */
import test from 'ava'
import { Errno } from '../../../../../agent/base/errno.ts'
import { World } from '../../../../peers/filesystem-user.ts'
import { turns } from '../../../../peers/manual-clock.ts'

test('our own bytes are read before the server has them, around and inside the server\'s', async (t) => {
  const world = new World()
  world.server.put('/a', '0123456789')
  const file = await world.open('/a')
  await world.write(file, 2, 'AB')
  await world.write(file, 6, 'CD')
  t.is(await world.readText(file), '01AB45CD89')
  t.is(await world.readText(file, 2, 2), 'AB')
  t.is(await world.readText(file, 3, 4), 'B45C')
})

test('a read that our own bytes cover asks nobody', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, 'hello')
  t.false(world.fs.read(file, 1, 3) instanceof Promise)
  t.is(world.server.count('read'), 0)
})

test('what lies between the server\'s end and our own bytes reads as zeros', async (t) => {
  const world = new World()
  world.server.put('/a', 'abc')
  const file = await world.open('/a')
  await world.write(file, 100_000, 'end')
  const data = await world.read(file, 0, 1 << 20)
  t.is(data.length, 100_003)
  t.is(data.subarray(0, 3).toString(), 'abc')
  t.true(data.subarray(3, 100_000).every((byte) => byte === 0))
  t.is(data.subarray(100_000).toString(), 'end')
  t.is((await world.read(file, 50_000, 10)).toString('hex'), '00'.repeat(10))
  t.is((await world.read(file, 200_000, 10)).length, 0)
})

test('many pieces are read in one request around them', async (t) => {
  const world = new World()
  world.server.put('/a', 'x'.repeat(1000))
  const file = await world.open('/a')
  for (let index = 0; index < 20; index++) await world.write(file, index * 50, 'OWN')
  const expected = Array.from({ length: 20 }, () => `OWN${'x'.repeat(47)}`).join('')
  t.is(await world.readText(file, 0, 1000), expected)
  t.is(world.server.count('read'), 1)
})

test('bytes that the server lost in a reboot are still read', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, Buffer.alloc(65536, 'a'))
  await turns()
  t.is(world.server.count('write'), 1)
  world.server.reboot()
  t.is(await world.readText(file, 0, 4), 'aaaa')
  t.is((await world.read(file, 0, 100_000)).length, 65536)
})

test('a READ that the server answered before our WRITE does not show old bytes, though they are committed when it arrives', async (t) => {
  const world = new World()
  world.server.put('/a', '0123456789')
  const file = await world.open('/a')
  await world.write(file, 0, 'NEW')
  const held = world.server.hold('read', 'after')
  const reading = world.readText(file)
  await held.arrived
  t.is(await world.fsync(file), undefined)
  t.is(world.fs.gauges().dirtyBytes, 0)
  held.go()
  t.is(await reading, 'NEW3456789')
})

test('requests larger than the server\'s are split and pipelined, up to the end', async (t) => {
  const world = new World()
  const data = Buffer.from(Array.from({ length: 300_000 }, (_value, index) => index % 251))
  world.server.put('/a', data)
  const file = await world.open('/a')
  t.true((await world.read(file, 0, 1 << 20)).equals(data))
  t.is((await world.read(file, 300_000, 10)).length, 0)
  t.true((await world.read(file, 60_000, 200_000)).equals(data.subarray(60_000, 260_000)))
})

test('short answers that are not the end are continued; empty ones end in EIO', async (t) => {
  const world = new World()
  world.server.put('/a', 'abcdefghij')
  const file = await world.open('/a')
  const part = (text: string, eof: boolean) => () => ({
    data: Buffer.from(text), eof, attributes: undefined, release: () => undefined
  })
  world.server.intercept('read', part('abc', false))
  world.server.intercept('read', part('d', false))
  t.is(await world.readText(file), 'abcdefghij')
  world.server.intercept('read', part('', false), 100)
  t.is(await world.fs.read(file, 0, 10), Errno.EIO)
})

test('every answer of the backend is released exactly once', async (t) => {
  const world = new World()
  world.server.put('/a', 'x'.repeat(200_000))
  const file = await world.open('/a')
  let lent = 0
  world.server.intercept('read', async (proceed) => {
    lent += 1
    return { ...await (proceed() as Promise<object>), release: () => { lent -= 1 } }
  }, 3)
  world.server.intercept('read', () => Errno.EIO)
  t.is(await world.fs.read(file, 0, 200_000), Errno.EIO)
  t.is(lent, 0)
})

test('memory that a reply still shows is not used again', async (t) => {
  const world = new World({ blockBytes: 4096 })
  const file = await world.create('/a')
  await world.write(file, 0, 'hello')
  const data = world.fs.read(file, 0, 5)
  if (data instanceof Promise || typeof data === 'number') return t.fail()
  await world.fsync(file)
  for (let index = 0; index < 50; index++) {
    await world.write(file, 0, Buffer.alloc(4096, 'z'))
    await world.fsync(file)
  }
  t.is(Buffer.concat([...data.parts]).toString(), 'hello')
  data.release()
  t.is(world.arena.usedBytes, 0)
})
