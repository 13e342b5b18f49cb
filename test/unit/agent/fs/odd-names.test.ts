import test from 'ava'
import { toFileName, type FileName } from '../../../../agent/base/brands.ts'
import { Errno, isErrno } from '../../../../agent/base/errno.ts'
import type { RemoteHandle } from '../../../../agent/fs/backend.ts'
import { good, readOnly, root, World } from '../../../peers/filesystem-user.ts'
import { MemoryServer } from '../../../peers/memory-backend.ts'

const caseless = (name: FileName): FileName => toFileName(name.toLowerCase())
const composed = (name: FileName): FileName =>
  toFileName(Buffer.from(Buffer.from(name, 'latin1').toString('utf8').normalize('NFC'), 'utf8').toString('latin1'))

test('a server that does not tell upper from lower case: every spelling leads to the one object, listed as it was made', async (t) => {
  const world = new World({ server: new MemoryServer({ fold: caseless }) })
  await world.close(await world.create('/Read.Me'))
  const made = await world.nodeid('/Read.Me')
  t.is(await world.nodeid('/READ.me'), made)
  t.deepEqual((await world.list('/')).map(({ name }) => name).filter((name) => !`${name}`.startsWith('.')), [
    toFileName('Read.Me')
  ])
  t.is(await world.mkdir('/READ.ME'), Errno.EEXIST)
  t.is(await world.unlink('/read.me'), undefined)
  // A spelling that was known is believed until it is used: then it is gone.
  const opened = await world.fs.open(made, readOnly, root)
  t.is(opened, Errno.ESTALE)
  t.is(await world.lookup('/Read.Me'), Errno.ENOENT)
})

test('a server that composes names: what was made decomposed is found both ways and listed as the server has it', async (t) => {
  const world = new World({ server: new MemoryServer({ fold: composed }) })
  const bytes = (text: string): string => Buffer.from(text, 'utf8').toString('latin1')
  await world.close(await world.create(`/${bytes('e\u0301te')}`))
  t.is(await world.nodeid(`/${bytes('\u00e9te')}`), await world.nodeid(`/${bytes('e\u0301te')}`))
  t.is(await world.unlink(`/${bytes('\u00e9te')}`), undefined)
  world.clock.advance(120_000)
  t.is(await world.lookup(`/${bytes('e\u0301te')}`), Errno.ENOENT)
})

test('a name that can be reached and is not listed is found, also right after a whole listing', async (t) => {
  const server = new MemoryServer()
  const backend = server.backend()
  server.backend = () => ({
    ...backend,
    readdir: async (...args) => {
      const page = await backend.readdir(...args)
      return isErrno(page) || typeof page === 'symbol'
        ? page
        : { ...page, entries: page.entries.filter(({ name }) => name !== toFileName('.snapshot')) }
    }
  })
  const world = new World({ server })
  good(await world.mkdir('/vol'))
  server.put('/vol/.snapshot', 'of yesterday')
  server.put('/vol/seen', 'x')
  t.false((await world.list('/vol', { plus: true })).some(({ name }) => name === toFileName('.snapshot')))
  t.is(await world.readText(await world.open('/vol/.snapshot', readOnly)), 'of yesterday')
})

test('a server that gives another handle at each look: what is open goes on, and nothing grows', async (t) => {
  const server = new MemoryServer()
  server.put('/file', 'content')
  const backend = server.backend()
  let looks = 0
  // Handles are as good as the object: the part behind the slash is the server's whim.
  const real = (handle: RemoteHandle): RemoteHandle => `${handle}`.split('/')[0] as RemoteHandle
  server.backend = () => ({
    ...backend,
    lookup: async (directory, name, credential) => {
      const found = await backend.lookup(real(directory), name, credential)
      return isErrno(found) ? found : { ...found, handle: `${found.handle}/${looks++}` as RemoteHandle }
    },
    getattr: async (handle, credential) => await backend.getattr(real(handle), credential),
    access: async (handle, wanted, credential) => await backend.access(real(handle), wanted, credential),
    read: async (state, offset, count) => await backend.read({ ...state, handle: real(state.handle) }, offset, count)
  })
  const world = new World({ server, lookupCache: 'none' })
  const opened = await world.open('/file', readOnly)
  for (let round = 0; round < 2_000; round++) {
    const { nodeid } = good(await world.lookup('/file'))
    world.fs.forget(nodeid, 1)
    world.clock.advance(10)
  }
  t.is(await world.readText(opened), 'content')
  t.true(world.fs.gauges().inodes < 600, `${world.fs.gauges().inodes}`)
})
