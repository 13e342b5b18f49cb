/** Write-back against a server that reboots, forgets, refuses and lies (FUSE-NFS faults F1 to F6). */
import test from 'ava'
import { Errno, isErrno } from '../../../../../agent/base/errno.ts'
import { InvariantError } from '../../../../../agent/base/errors.ts'
import { Stability, type WriteAnswer, type WriteVerifier } from '../../../../../agent/fs/backend.ts'
import { randomOf } from '../../../../model/exercise.ts'
import { root, World } from '../../../../peers/filesystem-user.ts'
import { turns } from '../../../../peers/manual-clock.ts'
import { chooseSeed } from '../../../../model/seed.ts'

const kib = 1024

test('write answers when buffered; close sends the bytes and makes them stable', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  t.is(await world.write(file, 0, 'hello'), 5)
  t.is(world.server.count('write'), 0)
  t.is(await world.close(file), undefined)
  world.server.reboot()
  t.is(world.server.read('/a'), 'hello')
})

test('a small file is saved with one stable WRITE and no COMMIT', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, 'hello')
  t.is(await world.close(file), undefined)
  t.is(world.server.count('write'), 1)
  t.is(world.server.count('commit'), 0)
})

test('small sequential writes are joined into full WRITEs', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  for (let index = 0; index < 64; index++) await world.write(file, index * 4 * kib, Buffer.alloc(4 * kib, index))
  t.is(await world.close(file), undefined)
  t.is(world.server.count('write'), 4)
  t.is(world.server.count('commit'), 1)
  t.is(world.server.node('/a')?.stable.length, 256 * kib)
})

test('bytes that wait for more are sent after the write delay and committed after the commit delay, with nobody asking', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, 'hello')
  world.clock.advance(1_000)
  await turns()
  t.is(world.server.read('/a'), 'hello')
  world.clock.advance(5_000)
  await turns()
  t.is(world.server.node('/a')?.stable.toString(), 'hello')
  t.is(world.fs.gauges().dirtyBytes, 0)
})

test('F1: a server that reboots between WRITE and COMMIT gets the bytes again', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  const data = Buffer.alloc(300 * kib, 'abcdefg')
  await world.write(file, 0, data)
  await turns()
  t.true(world.server.count('write') > 0)
  world.server.reboot()
  t.is(await world.fsync(file), undefined)
  world.server.reboot()
  t.deepEqual(world.server.node('/a')?.data, data)
})

test('F2: a verifier that changes without a reboot, between WRITEs, has only those bytes written again that it doubts', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, Buffer.alloc(64 * kib, 1))
  await turns()
  world.server.verifier = 'v2'
  await world.write(file, 64 * kib, Buffer.alloc(64 * kib, 2))
  await turns()
  t.is(world.server.count('write'), 2)
  t.is(await world.fsync(file), undefined)
  t.is(world.server.count('write'), 3)
  t.is(world.fs.gauges().dirtyBytes, 0)
})

test('F3: verifiers that never match end in FILE_SYNC writes, not in a loop', async (t) => {
  const world = new World()
  let round = 0
  world.server.intercept('commit', (proceed) => {
    round += 1
    return { ...proceed() as object, verifier: `never${round}` as WriteVerifier }
  }, 100)
  const file = await world.create('/a')
  const data = Buffer.alloc(200 * kib, 'xyz')
  await world.write(file, 0, data)
  t.is(await world.close(file), undefined)
  t.true(round <= 3)
  t.deepEqual(world.server.node('/a')?.stable, data)
})

test('F3: WRITEs in flight when writes become FILE_SYNC are answered UNSTABLE and kept', async (t) => {
  const world = new World()
  const laterWrites = 12
  const [mib, kib64] = [1024 * kib, 64 * kib]
  let round = 0
  const firstCommit = Promise.withResolvers<undefined>()
  world.server.intercept('commit', async (proceed) => {
    round += 1
    if (round === 1) await firstCommit.promise
    return { ...proceed() as object, verifier: `never${round}` as WriteVerifier }
  }, 1000)
  const answers = Promise.withResolvers<undefined>()
  world.server.intercept('write', async (proceed, args) => {
    const [, offset, , stability] = args as [unknown, number, unknown, number]
    if (offset >= mib && stability === Stability.unstable) await answers.promise
    return proceed()
  }, 1000)
  const file = await world.create('/a')
  await world.write(file, 0, Buffer.alloc(kib64, 1))
  await world.write(file, kib64, Buffer.alloc(kib64, 1))
  const saved = world.fsync(file)
  await turns()
  for (let index = 0; index < laterWrites; index++) {
    await world.write(file, mib + index * kib64, Buffer.alloc(kib64, 2))
  }
  await turns()
  firstCommit.resolve(undefined)
  t.is(await saved, undefined)
  answers.resolve(undefined)
  await turns()
  t.is(await world.close(file), undefined)
  const stable = world.server.node('/a')?.stable
  t.is(stable?.length, mib + laterWrites * kib64)
  t.true(stable?.subarray(mib).every((byte) => byte === 2))
})

test('bytes for which there is no room after all are a fault that is told, not a loss', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  world.arena.acquire = () => undefined
  t.throws(() => world.fs.write(file, 0, Buffer.from('hello'), false), { instanceOf: InvariantError })
})

test('F3: a server that never keeps anything, not even FILE_SYNC, is an error and not a loop', async (t) => {
  const world = new World()
  let round = 0
  world.server.intercept(
    'write',
    (proceed) => ({ ...proceed() as object, committed: 0, verifier: `w${round++}` as WriteVerifier }),
    10_000
  )
  const file = await world.create('/a')
  await world.write(file, 0, Buffer.alloc(100 * kib))
  t.is(await world.close(file), Errno.EIO)
  t.true(round < 100)
})

test('F4: short counts are continued', async (t) => {
  const world = new World()
  world.server.intercept('write', (_proceed, args) => {
    const [open, offset, data] = args as [{ handle: string }, number, Buffer[]]
    const bytes = Buffer.concat(data)
    const node = world.server.node('/a')
    if (node === undefined || open.handle === '') throw new Error('no file')
    const content = Buffer.alloc(Math.max(node.data.length, offset + 1000))
    node.data.copy(content)
    bytes.copy(content, offset, 0, 1000)
    node.data = content
    return {
      count: 1000, committed: 0, verifier: 'v1' as WriteVerifier, change: { before: undefined, after: undefined }
    } satisfies WriteAnswer
  }, 3)
  const file = await world.create('/a')
  const data = Buffer.from(Array.from({ length: 10_000 }, (_value, index) => index % 251))
  await world.write(file, 0, data)
  t.is(await world.close(file), undefined)
  world.server.reboot()
  t.deepEqual(world.server.node('/a')?.data, data)
})

test('F4: a server that accepts no bytes at all ends in EIO', async (t) => {
  const world = new World()
  world.server.intercept(
    'write',
    () => ({ count: 0, committed: 0, verifier: 'v1', change: { before: undefined, after: undefined } }),
    1_000
  )
  const file = await world.create('/a')
  await world.write(file, 0, 'hello')
  t.is(await world.close(file), Errno.EIO)
  t.true(world.server.count('write') < 20)
})

test('F4: an answer that is already stable needs no COMMIT', async (t) => {
  const world = new World()
  world.server.intercept('write', (proceed) => ({ ...proceed() as object, committed: 2 }), 100)
  const file = await world.create('/a')
  await world.write(file, 0, Buffer.alloc(256 * kib))
  t.is(await world.close(file), undefined)
  t.is(world.server.count('commit'), 0)
})

for (const [name, errno] of [['EIO', Errno.EIO], ['ENOSPC', Errno.ENOSPC], ['EDQUOT', Errno.EDQUOT]] as const) {
  test(`F5: COMMIT failing with ${name} fails fsync once, and the next success is true`, async (t) => {
    const world = new World()
    const file = await world.create('/a')
    await world.write(file, 0, Buffer.alloc(200 * kib, 1))
    world.server.intercept('commit', () => errno)
    t.is(await world.fsync(file), errno)
    t.is(await world.fsync(file), undefined)
    t.is(world.fs.gauges().dirtyBytes, 0)
    await world.write(file, 0, 'again')
    t.is(await world.close(file), undefined)
    t.is(world.server.node('/a')?.stable.subarray(0, 5).toString(), 'again')
  })
}

for (const [name, errno] of [
  ['ENOSPC', Errno.ENOSPC], ['EDQUOT', Errno.EDQUOT], ['EACCES', Errno.EACCES], ['EROFS', Errno.EROFS],
  ['ESTALE', Errno.ESTALE], ['EIO', Errno.EIO]
] as const) {
  test(`F6: a WRITE in the background failing with ${name} is told to every open handle once, and memory is free again`, async (t) => {
    const world = new World()
    const first = await world.create('/a')
    const second = await world.open('/a')
    world.server.intercept('write', () => errno)
    await world.write(first, 0, Buffer.alloc(64 * kib))
    await turns()
    t.is(await world.flush(second), errno)
    t.is(await world.fs.write(first, 0, Buffer.from('x'), false), errno)
    t.is(await world.flush(first), undefined)
    t.is(await world.flush(second), undefined)
    t.is(world.fs.gauges().dirtyBytes, 0)
    t.is(world.arena.usedBytes, 0)
  })
}

test('an error that no open handle was told reaches the next opener', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  world.server.intercept('write', () => Errno.ENOSPC)
  await world.write(file, 0, Buffer.alloc(64 * kib))
  await world.release(file)
  const later = await world.open('/a')
  t.is(await world.fsync(later), Errno.ENOSPC)
  t.is(await world.fsync(later), undefined)
})

test('an error in an answer that nobody waited for reaches the next opener', async (t) => {
  for (const how of ['flush', 'fsync', 'write'] as const) {
    const world = new World()
    const file = await world.create('/a')
    world.server.intercept('write', () => Errno.ENOSPC)
    await world.write(file, 0, Buffer.alloc(64 * kib))
    await turns()
    // The program was killed meanwhile: the kernel takes no answer.
    const untold = how === 'write'
      ? world.fs.write(file, 0, Buffer.from('x'), false)
      : how === 'flush'
      ? world.fs.flush(file, root)
      : world.fs.fsync(file)
    t.is(await untold, Errno.ENOSPC)
    await world.release(file)
    const later = await world.open('/a')
    t.is(await world.fsync(later), Errno.ENOSPC)
    const last = await world.open('/a')
    t.is(await world.fsync(last), undefined)
  }
})

test('a faulty backend that throws is an I/O error, never a hang', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, 'hello')
  world.server.intercept('write', () => { throw new Error('broken') })
  t.is(await world.close(file), Errno.EIO)
})

test('rewriting bytes of a WRITE in flight waits for it, and the newest bytes win', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  const held = world.server.hold('write')
  await world.write(file, 0, Buffer.alloc(64 * kib, 'a'))
  await held.arrived
  await world.write(file, 100, Buffer.alloc(64 * kib - 100, 'b'))
  const closing = world.flush(file)
  await turns()
  t.is(world.server.count('write'), 1)
  t.is(await world.readText(file, 98, 4), 'aabb')
  held.go()
  t.is(await closing, undefined)
  const content = world.server.node('/a')?.stable
  t.is(content?.subarray(98, 102).toString(), 'aabb')
  t.is(content?.length, 64 * kib)
})

test('two writers closing at once share COMMITs', async (t) => {
  const world = new World()
  const first = await world.create('/a')
  const second = await world.open('/a')
  await world.write(first, 0, Buffer.alloc(64 * kib, 1))
  await world.write(second, 64 * kib, Buffer.alloc(64 * kib, 2))
  await turns()
  t.deepEqual(await Promise.all([world.flush(first), world.flush(second), world.flush(first)]), [
    undefined, undefined, undefined
  ])
  t.true(world.server.count('commit') <= 2)
})

test('bytes written while a COMMIT is under way are not taken for committed', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, Buffer.alloc(64 * kib, 'a'))
  await turns()
  const held = world.server.hold('commit', 'after')
  const syncing = world.fsync(file)
  await held.arrived
  await world.write(file, 0, Buffer.alloc(64 * kib, 'b'))
  await turns()
  held.go()
  t.is(await syncing, undefined)
  world.server.reboot()
  t.is(await world.fsync(file), undefined)
  world.server.reboot()
  t.is(world.server.read('/a'), 'b'.repeat(64 * kib))
})

test('stat sees own writes: they are on the server before it answers', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, 'hello')
  t.is((await world.stat('/a')).sizeBytes, 5)
  t.is(world.server.read('/a'), 'hello')
  await world.write(file, 5, 'again')
  const { mtimeNanoseconds } = await world.stat('/a')
  const node = world.server.node('/a')
  t.is(mtimeNanoseconds, Number((node?.mtime ?? 0n) % 1_000_000_000n))
})

test('the kernel asking for the size through a handle gets it without a WRITE, and is told to ask again', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, 'hello')
  const answer = world.fs.getattr(await world.nodeid('/a'), file, world.caller)
  t.like(answer, { attributesTtlMs: 0, attributes: { sizeBytes: 5 } })
  t.is(world.server.count('write'), 0)
})

test('a truncate waits for the writes before it, and nothing brings back what it cut', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, Buffer.alloc(100 * kib, 'a'))
  await world.truncate('/a', 10)
  world.server.verifier = 'v2'
  t.is(await world.fsync(file), undefined)
  t.is(world.server.read('/a'), 'a'.repeat(10))
  t.is((await world.read(file, 0, 1000)).length, 10)
})

test('times set after a write are not undone by a late WRITE', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, 'hello')
  const mtime = { seconds: 1000, nanoseconds: 5 }
  await world.fs.setattr(await world.nodeid('/a'), file, { mtime }, world.caller)
  t.is(await world.close(file), undefined)
  t.is((await world.stat('/a')).mtimeSeconds, 1000)
})

test('times and set-id bits set after a write survive a reboot of the server before close', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, Buffer.alloc(300_000, 1))
  await world.fs.setattr(await world.nodeid('/a'), undefined, {
    mode: 0o4755, mtime: { seconds: 1000, nanoseconds: 5 }
  }, world.caller)
  world.server.reboot()
  t.is(await world.close(file), undefined)
  const seen = await world.stat('/a')
  t.is(seen.mtimeSeconds, 1000)
  t.is(seen.mode, 0o4755)
  t.is(seen.sizeBytes, 300_000)
})

test('O_SYNC writes are stable when they are answered', async (t) => {
  const world = new World()
  const file = await world.create('/a', 0o644, { sync: true })
  await world.write(file, 0, 'hello')
  world.server.reboot()
  t.is(world.server.read('/a'), 'hello')
})

test('writers wait for memory in line, and all get through', async (t) => {
  const world = new World({ arenaBytes: 256 * kib, blockBytes: 16 * kib, dirtySessionBytesMax: 256 * kib })
  const files = await Promise.all(['/a', '/b', '/c', '/d'].map((path) => world.create(path)))
  const chunk = 50 * kib
  await Promise.all(files.map(async (file, index) => {
    await Promise.all(
      Array.from(
        { length: 12 },
        (_value, step) => world.write(file, step * chunk, Buffer.alloc(chunk, 65 + index + step))
      )
    )
  }))
  t.true(world.arena.usedBytes <= 256 * kib)
  for (const file of files) t.is(await world.close(file), undefined)
  for (const [index, name] of ['/a', '/b', '/c', '/d'].entries()) {
    const expected = Buffer.concat(Array.from({ length: 12 }, (_value, step) => Buffer.alloc(chunk, 65 + index + step)))
    t.true(world.server.node(name)?.stable.equals(expected))
  }
  t.is(world.arena.usedBytes, 0)
  t.is(world.state.dirty.size, 0)
})

test('writers that wait keep their own bytes, though the request is only lent and copies of earlier ones are used again', async (t) => {
  const world = new World({ arenaBytes: 256 * kib, blockBytes: 64 * kib, dirtySessionBytesMax: 256 * kib })
  const file = await world.create('/a')
  const lent = Buffer.alloc(64 * kib)
  const valueAt = (index: number): number => 1 + index * 37 % 250
  const rounds = 4
  for (let round = 0; round < rounds; round++) {
    const writes: Promise<unknown>[] = []
    for (let step = 0; step < 10; step++) {
      const index = round * 10 + step
      writes.push(world.write(file, index * lent.length, lent.fill(valueAt(index))))
    }
    lent.fill(0)
    t.deepEqual(await Promise.all(writes), Array.from(writes, () => lent.length))
  }
  t.is(await world.close(file), undefined)
  const expected = Buffer.concat(
    Array.from({ length: rounds * 10 }, (_value, index) => Buffer.alloc(lent.length, valueAt(index)))
  )
  t.true(world.server.node('/a')?.stable.equals(expected))
})

test('a write larger than all memory gets through in parts', async (t) => {
  const world = new World({ arenaBytes: 64 * kib, blockBytes: 16 * kib, dirtySessionBytesMax: 64 * kib })
  const file = await world.create('/a')
  const data = Buffer.from(Array.from({ length: 300 * kib }, (_value, index) => index % 253))
  await world.write(file, 0, data)
  t.is(await world.close(file), undefined)
  t.true(world.server.node('/a')?.stable.equals(data))
})

test('a file at its limit makes its writers wait, and lets others pass', async (t) => {
  const world = new World({ dirtyFileBytesMax: 128 * kib })
  const full = await world.create('/a')
  const held = world.server.hold('write')
  await world.write(full, 0, Buffer.alloc(64 * kib))
  await held.arrived
  world.server.intercept('write', async (proceed) => {
    await new Promise((resolve) => { setImmediate(resolve) })
    return proceed()
  }, 100)
  await world.write(full, 64 * kib, Buffer.alloc(64 * kib))
  const waiting = world.write(full, 128 * kib, Buffer.alloc(64 * kib))
  const other = await world.create('/b')
  t.is(await world.write(other, 0, 'b'), 1)
  held.go()
  t.is(await waiting, 64 * kib)
  t.is(await world.close(full), undefined)
})

test('no more than 16 WRITEs of one file are in flight', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  let running = 0
  let most = 0
  world.server.intercept('write', async (proceed) => {
    running += 1
    most = Math.max(most, running)
    await turns(2)
    running -= 1
    return proceed()
  }, 100)
  await world.write(file, 0, Buffer.alloc(1024 * kib * 3))
  t.is(await world.close(file), undefined)
  t.is(most, 16)
})

test('drain saves everything, and then nothing is sent any more', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, 'hello')
  t.deepEqual(await world.fs.drain(1000), { lostBytes: 0, files: [] })
  world.server.reboot()
  t.is(world.server.read('/a'), 'hello')
  const calls = world.server.calls.length
  t.is(await world.fs.write(file, 0, Buffer.from('more'), false), Errno.EIO)
  t.is(await world.fsync(file), undefined)
  await world.release(file)
  t.is(world.server.calls.length, calls)
})

test('drain with a silent server ends at its deadline and says what is lost', async (t) => {
  const world = new World()
  await world.mkdir('/folder')
  const file = await world.create('/folder/a')
  const held = world.server.hold('write')
  await world.write(file, 0, Buffer.alloc(100 * kib))
  const closing = world.flush(file)
  await held.arrived
  const draining = world.fs.drain(1000)
  await turns()
  world.clock.advance(1000)
  t.deepEqual(await draining, { lostBytes: 100 * kib, files: ['/folder/a'] })
  t.is(await closing, Errno.EIO)
  const writes = world.server.count('write')
  held.go()
  await turns()
  t.is(world.server.count('write'), writes)
})

test('writes of odd sizes go out as full WRITEs; what is beyond waits for more', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  for (let index = 0; index < 7; index++) await world.write(file, index * 10_000, Buffer.alloc(10_000, index))
  await turns()
  const sizes = world.server.calls.filter(({ name }) => name === 'write').map(({ args }) =>
    Buffer.concat(args[2] as Buffer[]).length
  )
  t.deepEqual(sizes, [65_536])
  t.is(await world.close(file), undefined)
})

test('with refusals at random, a success of fsync or close is always true and no refusal goes untold', async (t) => {
  const firstSeed = chooseSeed((line) => { t.log(line) })
  for (let seed = firstSeed; seed < firstSeed + 60; seed++) {
    const random = randomOf(seed * 31)
    const world = new World()
    world.server.pause = () => turns(Math.floor(random() * 3))
    const file = await world.create('/a')
    const length = 200_000
    let content = Buffer.alloc(length, '.')
    await world.write(file, 0, content)
    let refusals = 0
    let isTold = true
    for (let step = 0; step < 40; step++) {
      const dice = random()
      if (dice < 0.15) {
        world.server.intercept(random() < 0.7 ? 'write' : 'commit', () => {
          refusals += 1
          isTold = false
          return Errno.ENOSPC
        })
      } else if (dice < 0.2) {
        world.server.reboot()
      } else if (dice < 0.7) {
        const offset = Math.floor(random() * (length - 70_000))
        const bytes = Buffer.alloc(1 + Math.floor(random() * 70_000), 65 + step)
        const answer = await world.fs.write(file, offset, bytes, false)
        if (answer === Errno.ENOSPC) isTold = true
        else bytes.copy(content, offset)
      } else {
        const before = refusals
        const answer = await world.fsync(file)
        if (answer === undefined) {
          t.true(isTold && refusals === before, `seed ${seed} step ${step}: a refusal went untold`)
          if (before === 0) {
            t.true(world.server.node('/a')?.stable.equals(content), `seed ${seed} step ${step}: not stable`)
          }
        } else {
          t.is(answer, Errno.ENOSPC)
          isTold = true
        }
      }
      if (isTold && refusals > 0) {
        // As a program would: everything again.
        world.server.clearIntercepts()
        await world.fsync(file)
        content = Buffer.alloc(length, 48 + step % 10)
        refusals = 0
        isTold = true
        t.is(await world.write(file, 0, content), length)
        t.is(await world.fsync(file), undefined, `seed ${seed} step ${step}: refused without a reason`)
        t.true(world.server.node('/a')?.stable.equals(content), `seed ${seed} step ${step}: not stable after recovery`)
      }
    }
    world.server.clearIntercepts()
    await world.close(file)
    t.is(world.arena.usedBytes, 0)
  }
})

test('bytes that a verifier change brings back during a truncate are not sent around it', async (t) => {
  const world = new World()
  const file = await world.create('/a')
  await world.write(file, 0, Buffer.alloc(64 * kib, 'a'))
  await turns()
  const commit = world.server.hold('commit')
  const syncing = world.fsync(file)
  await commit.arrived
  const setattr = world.server.hold('setattr', 'after')
  const truncating = world.truncate('/a', 10)
  await setattr.arrived
  world.server.verifier = 'v2'
  const writes = world.server.count('write')
  commit.go()
  await turns()
  t.is(world.server.count('write'), writes)
  setattr.go()
  await truncating
  t.is(await syncing, undefined)
  t.is(world.server.read('/a'), 'a'.repeat(10))
})

test('writers that would wait with more bytes than there is memory for get ENOMEM, and the others get through', async (t) => {
  const world = new World({ arenaBytes: 128 * 1024, dirtyFileBytesMax: 128 * 1024, waitingBytesMax: 100_000 })
  const handle = await world.create('/a')
  const held = world.server.hold('write')
  const chunk = Buffer.alloc(32 * 1024, 7)
  const writes = Array.from(
    { length: 12 },
    (_, index) => Promise.resolve(world.fs.write(handle, index * chunk.length, chunk, false))
  )
  await held.arrived
  held.go()
  const answers = await Promise.all(writes)
  const refused = answers.filter((answer) => answer === Errno.ENOMEM).length
  t.true(refused > 0 && refused < 12, `${refused} refused`)
  t.true(answers.every((answer) => answer === Errno.ENOMEM || (!isErrno(answer) && answer.bytes === chunk.length)))
  t.is(await world.close(handle), undefined)
})

test('opens beyond the maximum get ENFILE, and one that is closed makes room', async (t) => {
  const world = new World({ openHandlesMax: 3 })
  world.server.put('/a', 'x')
  const handles = [await world.open('/a'), await world.open('/a'), await world.open('/a')]
  t.is(await world.opened('/a'), Errno.ENFILE)
  await world.close(handles[0] ?? 0)
  t.false(isErrno(await world.opened('/a')))
})
