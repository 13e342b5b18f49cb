/*
 * The reply to one call is lost and its connection reset, once per operation: the server did what was asked, the client
 * asks again from another port, so no duplicate-request cache helps. What does the caller hear?
 */
import * as files from 'node:fs/promises'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { Errno, isErrno } from '../../../agent/base/errno.ts'
import { Stability } from '../../../agent/fs/backend.ts'
import type { NfsClient } from '../../../agent/nfs/client.ts'
import { NFS_PROGRAM, type Nfs3ProcedureName, procedures } from '../../../proto/nfs3/procedures.ts'
import { FaultProxy } from '../../peers/fault-proxy.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { good, mounted, name, root } from './mounted.ts'

let server: Ganesha
let proxy: FaultProxy
let client: NfsClient
/** The procedure whose next call loses its reply, and what the call must be about. */
let losing: { procedure: number, handle: Buffer } | undefined
/** Of the call that was chosen. */
let chosen: number | undefined

test.before(async () => {
  server = await Ganesha.start()
  proxy = await FaultProxy.start({
    port: server.nfsPort,
    decide: (record) => {
      // By what the call is about: after a reconnect the client looks at its root, and that reply is none of the
      // test's.
      if (
        record.direction === 'call' && record.program === NFS_PROGRAM && record.procedure === losing?.procedure &&
        record.bytes.includes(losing.handle)
      ) {
        chosen = record.xid
        losing = undefined
      }
      if (record.direction !== 'reply' || record.xid !== chosen) return undefined
      chosen = undefined
      return { resetAfterBytes: 0 }
    }
  })
  client = await mounted({ host: '127.0.0.1', nfsPort: proxy.port, mountPort: server.mountPort, folder: server.folder })
})
test.after.always(async () => {
  await client.close()
  await proxy.close()
  await server.close()
})

const at = (entry: string): string => path.join(server.folder, entry)

/** Runs `work` while the reply to its first `procedure` about `handle` is lost. */
async function losingReply<T> (
  t: ExecutionContext,
  procedure: Nfs3ProcedureName,
  work: () => Promise<T>,
  handle = client.backend.root.handle
): Promise<T> {
  const before = client.transport.counters()['retransmissions'] ?? 0
  losing = { procedure: procedures[procedure].number, handle: Buffer.from(handle, 'latin1') }
  const answer = await work()
  t.true(losing === undefined, 'the call was made')
  t.true(chosen === undefined, 'its reply was lost')
  t.true((client.transport.counters()['retransmissions'] ?? 0) > before, 'the call was repeated')
  return answer
}

test.serial('calls that may be repeated are', async (t) => {
  const { backend } = client
  await files.writeFile(at('plain'), 'content')
  const { handle } = good(
    await losingReply(t, 'LOOKUP', () => backend.lookup(backend.root.handle, name('plain'), root))
  )
  good(await losingReply(t, 'GETATTR', () => backend.getattr(handle, root), handle))
  good(await losingReply(t, 'SETATTR', () => backend.setattr(handle, { mode: 0o600 }, root), handle))
  const state = { handle, credential: root }
  const read = good(await losingReply(t, 'READ', () => backend.read(state, 0, 100), handle))
  t.is(read.data.toString(), 'content')
  read.release()
  good(await losingReply(t, 'WRITE', () => backend.write(state, 0, [Buffer.from('CON')], Stability.file), handle))
  good(await losingReply(t, 'COMMIT', () => backend.commit(state, 0, 0), handle))
  t.is(await files.readFile(at('plain'), 'utf8'), 'CONtent')
})

test.serial('an exclusive create is recognised by its verifier', async (t) => {
  const { backend } = client
  const made = good(
    await losingReply(
      t,
      'CREATE',
      () => backend.create(backend.root.handle, name('exclusive'), { kind: 'exclusive' }, { mode: 0o640 }, root)
    )
  )
  t.is(made.attributes?.mode, 0o640)
  t.is((await files.stat(at('exclusive'))).mode & 0o7777, 0o640)
})

test.serial('removals, renames and links are looked at and found done', async (t) => {
  const { backend } = client
  const dir = backend.root.handle
  const file = good(await backend.create(dir, name('a'), { kind: 'unchecked' }, {}, root))
  good(await losingReply(t, 'LINK', () => backend.link(file.handle, dir, name('b'), root), file.handle))
  good(await losingReply(t, 'RENAME', () => backend.rename(dir, name('b'), dir, name('c'), root)))
  good(await losingReply(t, 'REMOVE', () => backend.remove(dir, name('c'), root)))
  good(await losingReply(t, 'SYMLINK', () => backend.symlink(dir, name('soft'), 'target', {}, root)))
  good(await backend.mkdir(dir, name('folder'), {}, root))
  good(await losingReply(t, 'RMDIR', () => backend.rmdir(dir, name('folder'), root)))
  t.deepEqual(
    (await files.readdir(server.folder)).filter((entry) => ['a', 'b', 'c', 'folder', 'soft'].includes(entry)).sort(),
    ['a', 'soft']
  )
})

test.serial('mkdir and guarded create answer as the server does: they may be locks', async (t) => {
  const { backend } = client
  t.is(await losingReply(t, 'MKDIR', () => backend.mkdir(backend.root.handle, name('lock'), {}, root)), Errno.EEXIST)
  t.is(
    await losingReply(
      t,
      'CREATE',
      () => backend.create(backend.root.handle, name('guard'), { kind: 'guarded' }, {}, root)
    ),
    Errno.EEXIST
  )
})

test.serial('a black hole in the middle of many calls costs time and nothing else', async (t) => {
  const second = await mounted({
    host: '127.0.0.1', nfsPort: proxy.port, mountPort: server.mountPort, folder: server.folder
  }, { options: { timeoMs: 300, nconnect: 2 } })
  const { backend } = second
  const calls = (): Promise<unknown>[] => Array.from({ length: 200 }, () => backend.getattr(backend.root.handle, root))
  const early = calls()
  await Promise.race(early)
  proxy.blackHole()
  const late = calls()
  t.false((await second.probe(500)).ok)
  proxy.heal()
  for (const answer of await Promise.all([...early, ...late])) t.false(isErrno(answer))
  await second.close()
})
