/*
 * Every method of the back end on a real nfs-ganesha; the exported folder itself and libnfs (nfs-cp) say whether it is
 * true.
 */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import * as files from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { Errno } from '../../../agent/base/errno.ts'
import { Access, badCookie, Stability } from '../../../agent/fs/backend.ts'
import type { NfsClient } from '../../../agent/nfs/client.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { good, mounted, name, root, user } from './mounted.ts'

const run = promisify(execFile)
let server: Ganesha
let client: NfsClient
const at = (...parts: string[]): string => path.join(server.folder, ...parts)

test.before(async () => {
  server = await Ganesha.start()
  client = await mounted(server)
})
test.after.always(async () => {
  await client.close()
  await server.close()
})

test('the root is the exported folder', async (t) => {
  const attributes = good(await client.backend.getattr(client.backend.root.handle, root))
  const truth = await files.stat(server.folder, { bigint: true })
  t.is(attributes.kind, 'directory')
  t.is(attributes.fileid, truth.ino)
  t.is(attributes.mtimeSeconds, Number(truth.mtimeNs / 1_000_000_000n))
  t.is(attributes.mtimeNanoseconds, Number(truth.mtimeNs % 1_000_000_000n))
  t.is(client.backend.capabilities.readBytesMax, 1024 * 1024)
})

test('a file written in parts is the same in the folder and through libnfs', async (t) => {
  const { backend } = client
  const made = good(
    await backend.create(backend.root.handle, name('written'), { kind: 'guarded' }, { mode: 0o640 }, root)
  )
  const state = good(await backend.open(made.handle, root, { read: true, write: true }))
  const bytes = randomBytes(300_001)
  const parts = [bytes.subarray(0, 7), bytes.subarray(7, 4096), bytes.subarray(4096)]
  const written = good(await backend.write(state, 0, parts, Stability.unstable))
  t.is(written.count, bytes.length)
  const committed = good(await backend.commit(state, 0, 0))
  t.is(committed.verifier, written.verifier)
  t.deepEqual(await files.readFile(at('written')), bytes)
  t.is((await files.stat(at('written'))).mode & 0o7777, 0o640)
  const copy = path.join(server.folder, '..', 'libnfs-copy')
  await run('nfs-cp', [server.url('/written'), copy])
  t.deepEqual(await files.readFile(copy), bytes)
})

test('reads give the data, shorter at the end, with its end told', async (t) => {
  const bytes = randomBytes(100_000)
  await files.writeFile(at('read'), bytes)
  const { backend } = client
  const found = good(await backend.lookup(backend.root.handle, name('read'), root))
  const state = good(await backend.open(found.handle, root, { read: true, write: false }))
  for (const [offset, count] of [[0, 100_000], [0, 1], [99_000, 4096], [31_000, 33_000], [100_000, 10], [
    200_000, 10
  ]] as const) {
    const answer = good(await backend.read(state, offset, count))
    t.deepEqual(Buffer.from(answer.data), bytes.subarray(offset, offset + count))
    t.is(answer.eof, offset + count >= bytes.length)
    answer.release()
  }
  t.is(client.transport.gauges()['recordMemoryLeased'], 0)
})

test('many large reads at once arrive whole', async (t) => {
  const bytes = randomBytes(24 * 1024 * 1024)
  await files.writeFile(at('large'), bytes)
  const { backend } = client
  const found = good(await backend.lookup(backend.root.handle, name('large'), root))
  const state = good(await backend.open(found.handle, root, { read: true, write: false }))
  const sizes = Array.from(
    { length: 48 },
    (_, index) => ({ offset: index * 512 * 1024, count: index % 2 === 0 ? 512 * 1024 : 1024 * 1024 })
  )
  await Promise.all(sizes.map(async ({ offset, count }) => {
    const answer = good(await backend.read(state, offset, count))
    t.true(Buffer.from(answer.data).equals(bytes.subarray(offset, offset + count)))
    answer.release()
  }))
})

test('names keep every byte', async (t) => {
  const { backend } = client
  const directory = good(await backend.mkdir(backend.root.handle, name('bytes'), { mode: 0o755 }, root))
  const names = [Buffer.from([0x80, 0xff, 0xfe, 0x20]), Buffer.alloc(255, 0xe9), Buffer.from('日本'), Buffer.from('a\nb')]
  for (const bytes of names) {
    good(await backend.create(directory.handle, name(bytes), { kind: 'exclusive' }, { mode: 0o600 }, root))
  }
  const truth = (await files.readdir(at('bytes'), { encoding: 'buffer' })).map((entry) => entry.toString('latin1'))
    .sort()
  t.deepEqual(truth, names.map((bytes) => bytes.toString('latin1')).sort())
  const page = good(
    await backend.readdir(
      directory.handle,
      { cookie: 0n, cookieVerifier: '', replyBytes: 65536, withAttributes: true },
      root
    )
  )
  if (page === badCookie) throw new Error('bad cookie')
  const listed: string[] = page.entries.map((entry) => entry.name).filter((entry) =>
    entry !== name('.') && entry !== name('..')
  ).sort()
  t.deepEqual(listed, truth)
  t.is(
    await backend.create(directory.handle, name(Buffer.alloc(256, 97)), { kind: 'unchecked' }, {}, root),
    Errno.ENAMETOOLONG
  )
})

test('exclusive create makes the file once, with the attributes asked for', async (t) => {
  const { backend } = client
  const made = good(
    await backend.create(backend.root.handle, name('exclusive'), { kind: 'exclusive' }, { mode: 0o604 }, root)
  )
  const truth = await files.stat(at('exclusive'))
  t.is(truth.mode & 0o7777, 0o604)
  t.true(Math.abs(truth.mtimeMs - Date.now()) < 600_000, 'times are not the verifier')
  t.is(made.attributes?.mode, 0o604)
  t.is(await backend.create(backend.root.handle, name('exclusive'), { kind: 'exclusive' }, {}, root), Errno.EEXIST)
  t.is(await backend.create(backend.root.handle, name('exclusive'), { kind: 'guarded' }, {}, root), Errno.EEXIST)
  good(await backend.create(backend.root.handle, name('exclusive'), { kind: 'unchecked' }, {}, root))
})

test('setattr changes what it names and nothing else', async (t) => {
  await files.writeFile(at('attributes'), 'twelve bytes', { mode: 0o644 })
  const { backend } = client
  const { handle } = good(await backend.lookup(backend.root.handle, name('attributes'), root))
  const before = good(await backend.getattr(handle, root))
  good(await backend.setattr(handle, { uid: 1234, gid: 2345 }, root))
  // Apart from the owner, because changing that clears set-id bits.
  const change = good(
    await backend.setattr(handle, { mode: 0o4711, mtime: { seconds: 1_000_000_000, nanoseconds: 123_456_789 } }, root)
  )
  t.not(change.after?.change, before.change)
  const truth = await files.stat(at('attributes'), { bigint: true })
  t.is(Number(truth.mode & 0o7777n), 0o4711)
  t.is(truth.uid, 1234n)
  t.is(truth.gid, 2345n)
  t.is(truth.mtimeNs, 1_000_000_000_123_456_789n)
  good(await backend.setattr(handle, { sizeBytes: 6 * 2 ** 30 }, root))
  t.is((await files.stat(at('attributes'))).size, 6 * 2 ** 30)
  good(await backend.setattr(handle, { sizeBytes: 3, atime: 'server', mtime: 'server' }, root))
  t.is(await files.readFile(at('attributes'), 'utf8'), 'twe')
  t.is(await backend.setattr(handle, { mtime: { seconds: 2 ** 32, nanoseconds: 0 } }, root), Errno.EINVAL)
})

test('links, renames and removals do in the folder what they say', async (t) => {
  const { backend } = client
  const directory = good(await backend.mkdir(backend.root.handle, name('tree'), { mode: 0o755 }, root))
  const other = good(await backend.mkdir(directory.handle, name('other'), { mode: 0o755 }, root))
  const file = good(await backend.create(directory.handle, name('file'), { kind: 'unchecked' }, { mode: 0o644 }, root))
  const linked = good(await backend.link(file.handle, other.handle, name('hard'), root))
  t.is(linked.attributes?.nlink, 2)
  t.is((await files.stat(at('tree/other/hard'))).nlink, 2)
  const renamed = good(await backend.rename(directory.handle, name('file'), other.handle, name('moved'), root))
  t.not(renamed.from.after, undefined)
  t.deepEqual((await files.readdir(at('tree/other'))).sort(), ['hard', 'moved'])
  good(await backend.symlink(directory.handle, name('soft'), '../\xe9', { mode: 0o777 }, root))
  t.deepEqual(await files.readlink(at('tree/soft'), { encoding: 'buffer' }), Buffer.from('../\xe9', 'latin1'))
  const soft = good(await backend.lookup(directory.handle, name('soft'), root))
  t.is(good(await backend.readlink(soft.handle, root)).target, '../\xe9')
  t.is(await backend.rmdir(directory.handle, name('other'), root), Errno.ENOTEMPTY)
  good(await backend.remove(other.handle, name('hard'), root))
  good(await backend.remove(other.handle, name('moved'), root))
  good(await backend.rmdir(directory.handle, name('other'), root))
  t.deepEqual(await files.readdir(at('tree')), ['soft'])
  t.is(await backend.remove(directory.handle, name('other'), root), Errno.ENOENT)
  t.is(await backend.getattr(file.handle, root), Errno.ESTALE)
})

test('special files keep kind and numbers', async (t) => {
  const { backend } = client
  for (const [kind, is] of [['fifo', 'isFIFO'], ['socket', 'isSocket'], ['character', 'isCharacterDevice'], [
    'block', 'isBlockDevice'
  ]] as const) {
    const made = good(
      await backend.mknod(backend.root.handle, name(kind), { kind, major: 7, minor: 300 }, { mode: 0o600 }, root)
    )
    t.is(made.attributes?.kind, kind)
    t.true((await files.stat(at(kind)))[is]())
    if (kind === 'block') t.deepEqual([made.attributes?.rdevMajor, made.attributes?.rdevMinor], [7, 300])
  }
})

test('a caller has the rights of its uid, gid and groups', async (t) => {
  await files.mkdir(at('private'), { mode: 0o700 })
  await files.writeFile(at('group'), 'x', { mode: 0o640 })
  await files.chown(at('group'), 0, 4242)
  const { backend } = client
  const directory = good(await backend.lookup(backend.root.handle, name('private'), root))
  t.is(await backend.lookup(directory.handle, name('any'), user(1000, 1000)), Errno.EACCES)
  const file = good(await backend.lookup(backend.root.handle, name('group'), root))
  const wanted = Access.read | Access.modify
  t.is(good(await backend.access(file.handle, wanted, user(1000, 1000))).granted, 0)
  t.is(good(await backend.access(file.handle, wanted, user(1000, 4242))).granted, Access.read)
  t.is(good(await backend.access(file.handle, wanted, user(1000, 1000, [7, 4242]))).granted, Access.read)
  const many = [...Array.from({ length: 15 }, (_, index) => 5000 + index), 4242, 6000, 6001]
  t.is(good(await backend.access(file.handle, wanted, user(1000, 1000, many))).granted, Access.read)
})

test('a folder of 5000 names is listed once each, in pages, with and without attributes', async (t) => {
  await files.mkdir(at('many'))
  const names = Array.from({ length: 5000 }, (_, index) => `entry-${index}-${'x'.repeat(index % 40)}`)
  await Promise.all(names.map((entry) => files.writeFile(at('many', entry), '')))
  const { backend } = client
  const directory = good(await backend.lookup(backend.root.handle, name('many'), root))
  for (const withAttributes of [true, false]) {
    const seen: string[] = []
    let position = { cookie: 0n, cookieVerifier: '' }
    let pages = 0
    for (let isEnd = false; !isEnd;) {
      const page = good(
        await backend.readdir(directory.handle, { ...position, replyBytes: 32 * 1024, withAttributes }, root)
      )
      if (page === badCookie) throw new Error('bad cookie')
      for (const entry of page.entries) {
        seen.push(entry.name)
        if (withAttributes && entry.name.startsWith('entry')) t.is(entry.attributes?.kind, 'file')
      }
      position = { cookie: page.entries.at(-1)?.cookie ?? position.cookie, cookieVerifier: page.cookieVerifier }
      isEnd = page.eof
      pages++
    }
    t.true(pages > 3)
    t.deepEqual(seen.filter((entry) => entry.startsWith('entry')).sort(), [...names].sort())
  }
})

test('statistics are those of the file system, and last values are told as such', async (t) => {
  const truth = await files.statfs(server.folder, { bigint: true })
  const answer = good(await client.statistics(5000))
  t.is(answer.stale, false)
  t.is(answer.statistics.totalBytes, truth.blocks * truth.bsize)
  t.is(answer.statistics.totalFiles, truth.files)
  t.true((await client.probe(5000)).ok)
})

test('four connections carry the same as one', async (t) => {
  const second = await mounted(server, { options: { nconnect: 4 } })
  const { backend } = second
  const made = good(
    await backend.create(backend.root.handle, name('spread'), { kind: 'unchecked' }, { mode: 0o644 }, root)
  )
  const state = good(await backend.open(made.handle, root, { read: true, write: true }))
  const bytes = randomBytes(4 * 1024 * 1024)
  await Promise.all(Array.from({ length: 64 }, async (_, index) => {
    good(
      await backend.write(state, index * 65536, [bytes.subarray(index * 65536, (index + 1) * 65536)], Stability.file)
    )
  }))
  t.true((await files.readFile(at('spread'))).equals(bytes))
  t.is(second.transport.gauges()['connections'], 4)
  await second.close()
})

test('subDir leads to a folder below the share, and errors name it', async (t) => {
  await files.mkdir(at('a/b'), { recursive: true })
  await files.writeFile(at('a/file'), '')
  await files.symlink('b', at('a/link'))
  const below = await mounted(server, { subDir: [name('a'), name('b')] })
  t.is(below.backend.root.attributes?.fileid, (await files.stat(at('a/b'), { bigint: true })).ino)
  await below.close()
  const failing = async (subDir: string[]): Promise<unknown> =>
    await mounted(server, { subDir: subDir.map(name) }).then(() => undefined, (error: unknown) => error)
  t.like(await failing(['a', 'none']), { code: 'NOT_FOUND', field: 'subDir' })
  t.like(await failing(['a', 'link']), { code: 'INVALID', field: 'subDir' })
  t.like(await failing(['a', 'file']), { code: 'INVALID', field: 'subDir' })
})

test('what cannot be mounted is refused with field and remedy', async (t) => {
  const failing = async (overrides: Parameters<typeof mounted>[1]): Promise<unknown> =>
    await mounted(server, overrides, { stepMs: 2000, portmapPort: 1 }).then(() => undefined, (error: unknown) => error)
  t.like(await failing({ share: '/no/such/export' }), { code: 'NOT_FOUND', field: 'share' })
  t.like(await failing({ servers: ['no-such-host.invalid'] }), { code: 'UNAVAILABLE', field: 'server' })
  t.like(await failing({ options: { mountPort: 1 } }), { code: 'UNAVAILABLE', field: 'server' })
  t.like(await failing({ options: { port: 1 } }), { code: 'UNAVAILABLE', field: 'server' })
  t.like(await failing({ options: { mountPort: undefined } }), { code: 'UNAVAILABLE', field: 'server' })
  t.like(await failing({ options: { port: server.mountPort } }), { code: 'UNAVAILABLE', field: 'server' })
})
