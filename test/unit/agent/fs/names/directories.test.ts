/** Listing folders: order, cookies, restarts, and what a listing teaches the caches. */
import test from 'ava'
import { Errno } from '../../../../../agent/base/errno.ts'
import { badCookie } from '../../../../../agent/fs/backend.ts'
import { good, root, World } from '../../../../peers/filesystem-user.ts'
import { turns } from '../../../../peers/manual-clock.ts'

const filled = (count: number, options: ConstructorParameters<typeof World>[0] = {}): World => {
  const world = new World(options)
  for (let index = 0; index < count; index++) world.server.put(`/f${index}`, 'x')
  return world
}
const namesOf = (listed: readonly { name: string }[]): string[] =>
  listed.map(({ name }) => name).filter((name) => name !== '.' && name !== '..').sort()

test('a folder lists . and .. first, then every name once', async (t) => {
  const world = filled(230)
  for (const plus of [false, true]) {
    const listed = await world.list('/', { plus, most: 7 })
    t.deepEqual(listed.slice(0, 2).map(({ name }) => name as string), ['.', '..'])
    t.deepEqual(namesOf(listed), world.server.names('/'))
    t.is(new Set(listed.map(({ nextOffset }) => nextOffset)).size, listed.length)
  }
})

test('100,000 entries are listed completely', async (t) => {
  const world = filled(100_000)
  world.server.pageEntries = 1_000
  const listed = await world.list('/', { most: 500 })
  t.is(listed.length, 100_002)
  t.is(new Set(listed.map(({ name }) => name)).size, 100_002)
})

test('names with any byte come through unchanged', async (t) => {
  const world = new World()
  const name = Buffer.from(Array.from({ length: 255 }, (_value, index) => index === 46 ? 1 : index + 1)).toString(
    'latin1'
  ).replaceAll('/', 'x').slice(0, 255)
  world.server.put('/a', 'x')
  world.server.root.names.set(name as never, {
    node: world.server.root.names.get('a' as never)?.node as never, cookie: 1n << 63n
  })
  t.true(namesOf(await world.list('/')).includes(name))
})

test('readdirplus fills the caches: lookup and getattr ask nothing more', async (t) => {
  const world = filled(120)
  await world.list('/', { plus: true })
  const calls = world.server.calls.length
  for (let index = 0; index < 120; index++) t.is((await world.stat(`/f${index}`)).sizeBytes, 1)
  t.is(world.server.calls.length, calls)
})

test('an entry without handle or attributes is listed by name alone', async (t) => {
  const world = filled(3)
  world.server.givesAttributes = false
  const listed = await world.list('/', { plus: true })
  t.deepEqual(namesOf(listed), ['f0', 'f1', 'f2'])
  t.true(listed.every(({ entry }) => entry === undefined))
})

test('a next page that failed before anybody needed it is asked for anew', async (t) => {
  const world = filled(120)
  const handle = good(await world.fs.opendir(1, root)).handle
  world.server.intercept('readdir', (proceed) => proceed())
  world.server.intercept('readdir', () => Errno.EIO)
  let offset = 0
  await world.fs.readdir(handle, 0, false, ({ nextOffset }) => {
    if (nextOffset > 20) return false
    offset = nextOffset
    return true
  })
  await turns()
  t.is(world.server.count('readdir'), 2)
  const rest = await world.listHandle(handle, { from: offset })
  t.is(rest.length + 20, 122)
})

test('the next page is asked for before it is needed', async (t) => {
  const world = filled(120)
  const handle = good(await world.fs.opendir(1, root)).handle
  let taken = 0
  await world.fs.readdir(handle, 0, false, () => taken++ < 10)
  t.is(world.server.count('readdir'), 2)
})

test('a refused entry is given again', async (t) => {
  const world = filled(60)
  const handle = good(await world.fs.opendir(1, root)).handle
  const refused: string[] = []
  await world.fs.readdir(handle, 0, false, ({ name }) => { refused.push(name); return refused.length < 10 })
  const again: string[] = []
  await world.fs.readdir(handle, 9, false, ({ name }) => { again.push(name); return false })
  t.is(again[0], refused[9])
})

test('going back to an earlier offset lists from there', async (t) => {
  const world = filled(200)
  const handle = good(await world.fs.opendir(1, root)).handle
  const all = await world.listHandle(handle)
  const again = await world.listHandle(handle, { from: 77 })
  t.deepEqual(again.map(({ name }) => name), all.slice(77).map(({ name }) => name))
  t.is(
    await world.fs.readdir(handle, 5_000, false, () => { throw new Error('an entry beyond the end') }),
    undefined
  )
})

test('a descriptor that is asked in the middle goes on where another one was, also when names before are gone', async (t) => {
  const world = filled(200)
  const first = good(await world.fs.opendir(1, root)).handle
  const all = await world.listHandle(first)
  for (const { name } of all.slice(2, 50)) good(await world.fs.unlink(1, name, root))
  const second = good(await world.fs.opendir(1, root)).handle
  t.deepEqual(
    (await world.listHandle(second, { from: 77 })).map(({ name }) => name),
    all.slice(77).map(({ name }) => name)
  )
  const third = good(await world.fs.opendir(1, root)).handle
  t.deepEqual(await world.listHandle(third, { from: all.length }), [], 'and ends where that one ended')
})

test('a descriptor that is asked in the middle of a folder nobody has listed counts from the start', async (t) => {
  const world = filled(200)
  const listed = await world.listHandle(good(await world.fs.opendir(1, root)).handle, { from: 77 })
  const all = await world.listHandle(good(await world.fs.opendir(1, root)).handle)
  t.deepEqual(listed.map(({ name }) => name), all.slice(77).map(({ name }) => name))
})

test('rewinddir sees new entries', async (t) => {
  const world = filled(3)
  const handle = good(await world.fs.opendir(1, root)).handle
  await world.listHandle(handle)
  world.server.put('/later', 'x')
  t.true(namesOf(await world.listHandle(handle)).includes('later'))
})

test('BAD_COOKIE starts again and gives no name twice and loses none', async (t) => {
  const world = filled(300)
  const handle = good(await world.fs.opendir(1, root)).handle
  const listed: string[] = []
  let offset = 0
  for (let round = 0;; round++) {
    let taken = 0
    if (round === 5) world.server.cookieVerifier = 'c2'
    const answer = await world.fs.readdir(handle, offset, false, ({ name, nextOffset }) => {
      if (taken === 20) return false
      taken += 1
      listed.push(name)
      offset = nextOffset
      return true
    })
    t.is(answer, undefined)
    if (taken === 0) break
  }
  t.is(listed.length, 302)
  t.deepEqual(namesOf(listed.map((name) => ({ name }))), world.server.names('/'))
})

test('a server that always says BAD_COOKIE ends in an error', async (t) => {
  const world = filled(300)
  const handle = good(await world.fs.opendir(1, root)).handle
  const listed: number[] = []
  await world.fs.readdir(handle, 0, false, ({ nextOffset }) => { listed.push(nextOffset); return nextOffset < 52 })
  world.server.intercept('readdir', () => badCookie, 1000)
  await world.fs.readdir(handle, 52, false, () => true)
  t.is(await world.fs.readdir(handle, 102, false, () => true), Errno.EIO)
})

test('a server whose cookies do not advance ends in ELOOP', async (t) => {
  const world = filled(10)
  const entry = { name: 'same', fileid: 5n, cookie: 9n, attributes: undefined, handle: undefined }
  world.server.intercept(
    'readdir',
    () => ({ entries: [entry], eof: false, cookieVerifier: '', directory: undefined }),
    1000
  )
  const handle = good(await world.fs.opendir(1, root)).handle
  await t.throwsAsync(world.listHandle(handle), { message: 'ELOOP' })
})

test('a page read before an unlink of ours does not bring the name back', async (t) => {
  const world = filled(120)
  const handle = good(await world.fs.opendir(1, root)).handle
  let offset = 0
  await world.fs.readdir(handle, 0, true, ({ nextOffset }) => {
    if (nextOffset > 10) return false
    offset = nextOffset
    return true
  })
  await world.unlink('/f70')
  const rest = await world.listHandle(handle, { plus: true, from: offset })
  t.is(rest.find(({ name }) => name === 'f70' as never)?.entry, undefined)
  t.is(await world.lookup('/f70'), Errno.ENOENT)
})

test('a file with unsent bytes is listed with its own size', async (t) => {
  const world = filled(3)
  const file = await world.open('/f1')
  await world.write(file, 0, 'longer than before')
  const listed = await world.list('/', { plus: true })
  const { entry } = listed.find(({ name }) => name === 'f1' as never) ?? {}
  t.is(entry?.attributes.sizeBytes, 18)
  t.is(entry?.attributesTtlMs, 0)
  await world.close(file)
})

test('a folder that goes away while it is listed answers ESTALE', async (t) => {
  const world = new World()
  await world.mkdir('/folder')
  for (let index = 0; index < 200; index++) world.server.put(`/folder/f${index}`, 'x')
  const handle = good(await world.fs.opendir(await world.nodeid('/folder'), root)).handle
  world.server.intercept('readdir', () => Errno.ESTALE, 100)
  await t.throwsAsync(world.listHandle(handle), { message: 'ESTALE' })
})

test('F13: names that are there all the time are listed exactly once while others come and go between the pages', async (t) => {
  const world = new World()
  world.server.pageEntries = 7
  world.server.makeFolder('/d')
  const stay = Array.from({ length: 100 }, (_, index) => `stay${index}`)
  for (const name of stay) world.server.put(`/d/${name}`, '')
  for (let index = 0; index < 50; index++) world.server.put(`/d/old${index}`, '')
  const handle = good(await world.fs.opendir(await world.nodeid('/d'), root)).handle
  const names: string[] = []
  let offset = 0
  for (let round = 0;; round++) {
    const before = names.length
    t.is(
      await world.fs.readdir(handle, offset, round % 2 === 0, (listed) => {
        if (names.length === before + 5) return false
        names.push(listed.name)
        if (listed.entry !== undefined) world.fs.remember(listed.entry.nodeid, 1)
        offset = listed.nextOffset
        return true
      }),
      undefined
    )
    if (names.length === before) break
    if (round < 50) world.server.unlink(`/d/old${round}`)
    world.server.put(`/d/new${round}`, '')
    if (round === 60) t.fail('it does not end')
  }
  t.deepEqual(names.filter((name) => name.startsWith('stay')).sort(), [...stay].sort())
  t.is(new Set(names).size, names.length)
})

/** As a socket would: other work comes in between. */
const nextTurn = async (): Promise<void> => { await new Promise((resolve) => { setImmediate(resolve) }) }

/** A folder that never ends: each page goes on where the last one was. */
function endless (world: World): void {
  world.server.intercept('readdir', async () => {
    await nextTurn()
    const first = world.server.count('readdir') * 100
    const entries = Array.from({ length: 100 }, (_value, index) => ({
      name: `n${first + index}` as never, fileid: BigInt(first + index), cookie: BigInt(first + index + 1),
      attributes: undefined, handle: undefined
    }))
    return { entries, eof: false, cookieVerifier: '', directory: undefined }
  }, 1_000_000)
}

test('a listing without end ends with who waits for it, and so does what was begun ahead', async (t) => {
  const world = new World()
  endless(world)
  const handle = good(await world.fs.opendir(1, root)).handle
  const reader = { isGivenUp: false }
  const answer = world.fs.readdir(handle, 1_000_000_000, false, () => true, reader)
  for (let round = 0; round < 50; round++) await nextTurn()
  t.true(world.server.count('readdir') > 20, 'it does not go on')
  reader.isGivenUp = true
  t.is(await answer, Errno.EINTR)
  const asked = world.server.count('readdir')
  for (let round = 0; round < 50; round++) await nextTurn()
  t.true(world.server.count('readdir') <= asked + 1)
  t.is(await world.fs.readdir(handle, 0, false, () => true, reader), Errno.EINTR, 'nobody waits for this one')
  world.fs.releasedir(handle)
  for (let round = 0; round < 10; round++) await nextTurn()
  t.true(world.server.count('readdir') <= asked + 1)
})

test('pages without a name of use end with who waits for them', async (t) => {
  const world = new World()
  world.server.intercept('readdir', async () => {
    await nextTurn()
    const cookie = BigInt(world.server.count('readdir'))
    const entry = { name: '.' as never, fileid: 1n, cookie, attributes: undefined, handle: undefined }
    return { entries: [entry], eof: false, cookieVerifier: '', directory: undefined }
  }, 1_000_000)
  const handle = good(await world.fs.opendir(1, root)).handle
  const reader = { isGivenUp: false }
  const answer = world.fs.readdir(handle, 2, false, () => true, reader)
  for (let round = 0; round < 50; round++) await nextTurn()
  reader.isGivenUp = true
  t.is(await answer, Errno.EINTR)
})

test('what open listings keep has a bound together, and each of them is complete', async (t) => {
  const listingsBytesMax = 100 * 1024
  const world = filled(3_000, { listingsBytesMax })
  const open = await Promise.all(
    Array.from({ length: 12 }, async () => ({
      handle: good(await world.fs.opendir(1, root)).handle, offset: 0, names: [] as string[], isOver: false
    }))
  )
  let most = 0
  while (open.some(({ isOver }) => !isOver)) {
    for (const one of open) {
      let taken = 0
      const answer = await world.fs.readdir(one.handle, one.offset, false, ({ name, nextOffset }) => {
        if (taken === 70) return false
        taken += 1
        one.names.push(name)
        one.offset = nextOffset
        return true
      })
      t.is(answer, undefined)
      one.isOver = taken === 0
      most = Math.max(most, world.fs.gauges().listingBytes)
    }
  }
  for (const { names } of open) {
    t.is(names.length, 3_002)
    t.is(new Set(names).size, 3_002)
  }
  t.true(most > listingsBytesMax / 2, `${most} bytes: the bound was not met`)
  // Who is reading just now may have the pages that it needs.
  t.true(most <= listingsBytesMax + 100 * 1024, `${most} bytes`)
  const again = await world.listHandle(open[0]!.handle, { from: 50 })
  t.is(again.length, 2_952, 'going back to what is not kept lists again')
  for (const { handle } of open) world.fs.releasedir(handle)
  await turns()
  t.true(world.fs.gauges().listingBytes <= 16 * 4_096, 'the folder keeps the places of one listing')
})

test('cookies that the server forgets while the names given are not kept end the listing with an error', async (t) => {
  const world = filled(3_000, { listingsBytesMax: 1 })
  const handles = [good(await world.fs.opendir(1, root)).handle, good(await world.fs.opendir(1, root)).handle]
  let offset = 0
  const [first, other] = handles
  const some = (from: number) => ({ nextOffset }: { nextOffset: number }) => {
    if (nextOffset > from + 60) return false
    offset = nextOffset
    return true
  }
  await world.fs.readdir(first!, 0, false, some(0))
  await world.listHandle(other!)
  world.server.intercept('readdir', () => badCookie, 1)
  t.is(await world.fs.readdir(first!, offset, false, () => true), Errno.EIO)
})
