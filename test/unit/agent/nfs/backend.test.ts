import test from 'ava'
import { Errno } from '../../../../agent/base/errno.ts'
import { TransportError, WireError } from '../../../../agent/base/errors.ts'
import { badCookie, Stability } from '../../../../agent/fs/backend.ts'
import { RejectedError } from '../../../../agent/rpc/call.ts'
import { again, alice, attributes, failed, handle, name, noWcc, ok, scriptedBackend } from './scripted.ts'

const dir = handle('dir')
const asks = (asked: readonly { name: string }[]): string[] => asked.map((one) => one.name)
const found = (object: string, about = attributes): ReturnType<typeof ok> =>
  ok({ object, attributes: about, directory: undefined })

test('JUKEBOX is waited out five seconds at a time and asked anew', async (t) => {
  const { backend, asked, clock, asker } = scriptedBackend(
    failed('NFS3ERR_JUKEBOX'),
    failed('NFS3ERR_JUKEBOX'),
    ok(attributes)
  )
  const answer = backend.getattr(dir, alice)
  for (let round = 0; round < 2; round++) {
    while (clock.alarms === 0) await Promise.resolve()
    t.is(asked.length, round + 1)
    clock.advance(4999)
    t.is(clock.alarms, 1)
    clock.advance(1)
  }
  t.like(await answer, { sizeBytes: 5 })
  t.is(asker.jukebox, 2)
})

test('F15: a server in its grace period that puts changes off gets each of them when it is over, and reads go on meanwhile', async (t) => {
  const grace = Array.from({ length: 6 }, () => failed('NFS3ERR_JUKEBOX'))
  const { backend, asked, clock } = scriptedBackend(...grace, ok(attributes), ok(noWcc))
  const change = backend.setattr(dir, { mode: 0o600 }, alice)
  for (let round = 1; round <= 6; round++) {
    while (clock.alarms === 0) await Promise.resolve()
    t.is(asked.length, round)
    if (round < 6) clock.advance(5000)
  }
  t.like(await backend.getattr(dir, alice), { sizeBytes: 5 })
  clock.advance(5000)
  t.like(await change, { before: undefined, after: undefined })
  t.deepEqual(asks(asked), [...Array.from({ length: 6 }, () => 'SETATTR'), 'GETATTR', 'SETATTR'])
})

test('a shutdown ends a JUKEBOX pause, and every call answers its errno', async (t) => {
  const { backend, asker, clock } = scriptedBackend(failed('NFS3ERR_JUKEBOX'), {
    error: new TransportError('CLOSED', 'closed', { sent: false })
  })
  const answer = backend.getattr(dir, alice)
  while (clock.alarms === 0) await Promise.resolve()
  asker.shut(Errno.ENOTCONN)
  t.is(await answer, Errno.ENOTCONN)
  t.is(await backend.getattr(dir, alice), Errno.ENOTCONN)
  t.is(clock.alarms, 0)
})

test('faults of server and network become errno values, our own bugs do not', async (t) => {
  const rejected = new RejectedError('GETATTR', { kind: 'AUTH_TOOWEAK', versions: undefined })
  const cases: [Error, Errno][] = [
    [rejected, Errno.EACCES],
    [new TransportError('TIMED_OUT', '', { sent: true }), Errno.EIO],
    [new WireError('INVALID', ''), Errno.EIO]
  ]
  for (const [error, errno] of cases) t.is(await scriptedBackend({ error }).backend.getattr(dir, alice), errno)
  await t.throwsAsync(scriptedBackend({ error: new TypeError('bug') }).backend.getattr(dir, alice), {
    instanceOf: TypeError
  })
})

test('answers are counted, failures and refusals too; a call that ended without one is not', async (t) => {
  const rejected = new RejectedError('GETATTR', { kind: 'AUTH_TOOWEAK', versions: undefined })
  const answers: [Parameters<typeof scriptedBackend>[0], number][] = [
    [ok(attributes), 1],
    [failed('NFS3ERR_IO'), 1],
    [{ error: rejected }, 1],
    [{ error: new TransportError('TIMED_OUT', '', { sent: true }) }, 0],
    [{ error: new TransportError('CLOSED', '', { sent: true }) }, 0]
  ]
  for (const [answer, count] of answers) {
    const { backend } = scriptedBackend(answer)
    await backend.getattr(dir, alice)
    t.is(backend.answers, count)
  }
})

test('REMOVE and RMDIR that were sent twice and find nothing have done their work when the name is gone', async (t) => {
  for (const method of ['remove', 'rmdir'] as const) {
    const gone = scriptedBackend(again(failed('NFS3ERR_NOENT', noWcc)), failed('NFS3ERR_NOENT'))
    t.deepEqual(await gone.backend[method](dir, name('x'), alice), noWcc)
    t.is(
      await scriptedBackend(again(failed('NFS3ERR_NOENT', noWcc)), found('other')).backend[method](
        dir,
        name('x'),
        alice
      ),
      Errno.ENOENT
    )
    const once = scriptedBackend(failed('NFS3ERR_NOENT', noWcc))
    t.is(await once.backend[method](dir, name('x'), alice), Errno.ENOENT)
    t.is(once.asked.length, 1, 'a call sent once is never doubted')
  }
})

test('a RENAME sent twice has worked when the old name is gone and the new one is there', async (t) => {
  const both = { from: noWcc, to: noWcc }
  const rename = (...script: Parameters<typeof scriptedBackend>): Promise<unknown> =>
    scriptedBackend(...script).backend.rename(dir, name('a'), dir, name('b'), alice)
  t.deepEqual(await rename(again(failed('NFS3ERR_NOENT', both)), failed('NFS3ERR_NOENT'), found('f')), both)
  t.is(
    await rename(again(failed('NFS3ERR_NOENT', both)), failed('NFS3ERR_NOENT'), failed('NFS3ERR_NOENT')),
    Errno.ENOENT
  )
  t.is(await rename(again(failed('NFS3ERR_NOENT', both)), found('f')), Errno.ENOENT)
})

test('a LINK sent twice has worked when the name leads to the same file', async (t) => {
  const answer = { attributes: undefined, directory: noWcc }
  const link = (...script: Parameters<typeof scriptedBackend>): Promise<unknown> =>
    scriptedBackend(...script).backend.link(handle('f'), dir, name('b'), alice)
  t.deepEqual(await link(again(failed('NFS3ERR_EXIST', answer)), found('f')), answer)
  t.is(await link(again(failed('NFS3ERR_EXIST', answer)), found('someone else')), Errno.EEXIST)
  t.is(await link(failed('NFS3ERR_EXIST', answer)), Errno.EEXIST)
})

test('a SYMLINK sent twice has worked when ours has the same target', async (t) => {
  const symlink = (...script: Parameters<typeof scriptedBackend>): Promise<unknown> =>
    scriptedBackend(...script).backend.symlink(dir, name('l'), 'to', {}, alice)
  const link = { ...attributes, type: 'symlink' as const }
  t.like(
    await symlink(again(failed('NFS3ERR_EXIST', noWcc)), found('l', link), ok({ attributes: undefined, target: 'to' })),
    { handle: 'l' }
  )
  t.is(
    await symlink(
      again(failed('NFS3ERR_EXIST', noWcc)),
      found('l', link),
      ok({ attributes: undefined, target: 'elsewhere' })
    ),
    Errno.EEXIST
  )
  t.is(await symlink(again(failed('NFS3ERR_EXIST', noWcc)), found('l', { ...link, uid: 7 })), Errno.EEXIST)
})

test('MKDIR sent twice stays EEXIST: it may be somebody\'s lock', async (t) => {
  const { backend, asked } = scriptedBackend(again(failed('NFS3ERR_EXIST', noWcc)))
  t.is(await backend.mkdir(dir, name('d'), {}, alice), Errno.EEXIST)
  t.is(asked.length, 1)
})

test('exclusive CREATE sets attributes and times afterwards, and falls back to guarded', async (t) => {
  const made = ok({ object: 'new', attributes, directory: noWcc })
  const plain = scriptedBackend(made, ok({ before: undefined, after: attributes }))
  t.like(await plain.backend.create(dir, name('f'), { kind: 'exclusive' }, { mode: 0o600 }, alice), { handle: 'new' })
  t.deepEqual(asks(plain.asked), ['CREATE', 'SETATTR'])
  t.like(plain.asked[1]?.args['attributes'], { mode: 0o600, atime: 'server', mtime: 'server' })
  t.is((plain.asked[0]?.args['how'] as { verifier: string }).verifier.length, 8)

  const old = scriptedBackend(failed('NFS3ERR_NOTSUPP', noWcc), made)
  t.like(await old.backend.create(dir, name('f'), { kind: 'exclusive' }, { mode: 0o600 }, alice), { handle: 'new' })
  t.like(old.asked[1]?.args['how'], { kind: 'guarded' })

  const denied = scriptedBackend(made, failed('NFS3ERR_PERM', noWcc))
  t.is(await denied.backend.create(dir, name('f'), { kind: 'exclusive' }, {}, alice), Errno.EPERM)
})

test('CREATE of a name that something else has, a folder or a link, is EEXIST whichever word the server has for it', async (t) => {
  for (const status of ['NFS3ERR_EXIST', 'NFS3ERR_BADTYPE']) {
    const { backend } = scriptedBackend(failed(status as 'NFS3ERR_EXIST', noWcc))
    t.is(await backend.create(dir, name('f'), { kind: 'unchecked' }, {}, alice), Errno.EEXIST, status)
  }
})

test('what was made without a handle in the answer is looked up', async (t) => {
  const { backend, asked } = scriptedBackend(
    ok({ object: undefined, attributes: undefined, directory: noWcc }),
    found('new')
  )
  t.like(await backend.mkdir(dir, name('d'), { mode: 0o755 }, alice), { handle: 'new' })
  t.deepEqual(asks(asked), ['MKDIR', 'LOOKUP'])
})

test('READ gives its memory back on failure, and on an answer without data or end', async (t) => {
  const state = { handle: dir, credential: alice }
  const failing = scriptedBackend(
    failed('NFS3ERR_IO'),
    ok({ attributes: undefined, eof: false, data: Buffer.alloc(0) }),
    ok({ attributes: undefined, eof: true, data: Buffer.alloc(0) })
  )
  t.is(await failing.backend.read(state, 0, 10), Errno.EIO)
  t.is(await failing.backend.read(state, 0, 10), Errno.EIO)
  t.is(failing.leased(), 0)
  const atEnd = await failing.backend.read(state, 0, 10)
  t.like(atEnd, { eof: true })
})

test('READ and WRITE never ask for more than the server takes', async (t) => {
  const state = { handle: dir, credential: alice }
  const { backend, asked } = scriptedBackend(
    ok({ attributes: undefined, eof: true, data: Buffer.alloc(1) }),
    ok({ wcc: noWcc, countBytes: 65536, committed: 2, verifier: '12345678' })
  )
  await backend.read(state, 0, 1_000_000)
  t.is(asked[0]?.args['countBytes'], 65536)
  t.like(await backend.write(state, 0, [Buffer.alloc(60_000), Buffer.alloc(60_000)], Stability.unstable), {
    count: 65536
  })
  t.deepEqual((asked[1]?.args['data'] as Buffer[]).map((part) => part.length), [60_000, 5536])
})

test('a lost position is told as such, READDIRPLUS may be missing, and empty pages without an end are an error', async (t) => {
  const position = { cookie: 5n, cookieVerifier: '12345678', replyBytes: 8192, withAttributes: true }
  t.is(await scriptedBackend(failed('NFS3ERR_BAD_COOKIE')).backend.readdir(dir, position, alice), badCookie)
  const page = {
    directory: undefined, cookieverf: 'abcdefgh', eof: true,
    entries: [{ fileid: 1n, name: name('a'), cookie: 2n }, { fileid: 2n, name: name('a/b'), cookie: 3n }]
  }
  const plain = scriptedBackend(failed('NFS3ERR_NOTSUPP'), ok(page))
  t.like(await plain.backend.readdir(dir, position, alice), {
    eof: true, cookieVerifier: 'abcdefgh',
    entries: [{ name: 'a', handle: undefined, attributes: undefined, fileid: 1n, cookie: 2n }]
  })
  t.deepEqual(asks(plain.asked), ['READDIRPLUS', 'READDIR'])
  t.is(await scriptedBackend(ok({ ...page, entries: [], eof: false })).backend.readdir(dir, position, alice), Errno.EIO)
})

test('names and times that cannot be sent are refused without asking', async (t) => {
  const { backend, asked } = scriptedBackend()
  const long = name('x'.repeat(256))
  t.is(await backend.lookup(dir, long, alice), Errno.ENAMETOOLONG)
  t.is(await backend.rename(dir, name('a'), dir, long, alice), Errno.ENAMETOOLONG)
  t.is(await backend.setattr(dir, { atime: { seconds: -1, nanoseconds: 0 } }, alice), Errno.EINVAL)
  t.is(asked.length, 0)
})

test('a server that cannot make an object answers as mknod(2) does', async (t) => {
  t.is(
    await scriptedBackend(failed('NFS3ERR_NOTSUPP', noWcc)).backend.mknod(
      dir,
      name('n'),
      { kind: 'fifo', major: 0, minor: 0 },
      {},
      alice
    ),
    Errno.EPERM
  )
})
