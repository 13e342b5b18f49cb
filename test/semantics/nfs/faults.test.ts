/*
 * A real nfs-ganesha that is killed, stopped and restarted under our client.
 */
import { randomBytes } from 'node:crypto'
import * as files from 'node:fs/promises'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { Errno, isErrno } from '../../../agent/base/errno.ts'
import { pause } from '../../../agent/base/deadline.ts'
import { Stability } from '../../../agent/fs/backend.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import type { NfsClient } from '../../../agent/nfs/client.ts'
import { good, mounted, name, root } from './mounted.ts'

async function started (t: ExecutionContext, options: Parameters<typeof Ganesha.start>[0] = {}): Promise<Ganesha> {
  const server = await Ganesha.start(options)
  t.teardown(async () => { await server.close() })
  return server
}

/** SIGSTOP reaches the threads of a process one after the other: wait until none of them can answer. */
async function stopped (server: Ganesha): Promise<void> {
  server.stop()
  for (;;) {
    const threads = await files.readdir(`/proc/${server.pid}/task`)
    const states = await Promise.all(
      threads.map((thread) => files.readFile(`/proc/${server.pid}/task/${thread}/stat`, 'latin1'))
    )
    if (states.every((stat) => / T /.test(stat.slice(stat.lastIndexOf(')'))))) return
    await pause(5)
  }
}

async function mount (t: ExecutionContext, ...args: Parameters<typeof mounted>): Promise<NfsClient> {
  const client = await mounted(...args)
  t.teardown(async () => { await client.close() })
  return client
}

test('calls pending when the server is killed are answered by the restarted one', async (t) => {
  const server = await started(t)
  const client = await mount(t, server, { options: { nconnect: 2 } })
  const { backend } = client
  const made = good(
    await backend.create(backend.root.handle, name('file'), { kind: 'unchecked' }, { mode: 0o644 }, root)
  )
  const state = good(await backend.open(made.handle, root, { read: true, write: true }))
  const bytes = randomBytes(32 * 1024 * 1024)
  const blockBytes = 256 * 1024
  const writes = Array.from(
    { length: bytes.length / blockBytes },
    async (_, index) =>
      good(
        await backend.write(
          state,
          index * blockBytes,
          [bytes.subarray(index * blockBytes, (index + 1) * blockBytes)],
          Stability.file
        )
      )
  )
  const names = Array.from(
    { length: 300 },
    async (_, index) =>
      await backend.create(backend.root.handle, name(`made-${index}`), { kind: 'unchecked' }, { mode: 0o644 }, root)
  )
  await Promise.race(writes)
  await server.kill9()
  await pause(300)
  await server.restart()
  for (const answer of await Promise.all(writes)) t.is(answer.count, blockBytes)
  for (const answer of await Promise.all(names)) t.false(isErrno(answer))
  t.true((await files.readFile(path.join(server.folder, 'file'))).equals(bytes))
  t.is((await files.readdir(server.folder)).filter((entry) => entry.startsWith('made-')).length, 300)
  t.true((client.transport.counters()['retransmissions'] ?? 0) > 0)
  t.true((await client.probe(5000)).ok)
})

test('a stopped server is unreachable to a probe, keeps its last statistics, and goes on', async (t) => {
  const server = await started(t)
  const client = await mount(t, server)
  good(await client.statistics(5000))
  await stopped(server)
  const pending = client.backend.getattr(client.backend.root.handle, root)
  t.like(await client.probe(200), { ok: false, health: 'unreachable' })
  t.like(good(await client.statistics(200)), { stale: true })
  server.resume()
  t.false(isErrno(await pending))
  t.true((await client.probe(10_000)).ok)
})

test('soft and softerr mounts of a stopped server end with their errors', async (t) => {
  const server = await started(t)
  for (const [recovery, errno] of [['soft', Errno.EIO], ['softerr', Errno.ETIMEDOUT]] as const) {
    const client = await mount(t, server, { options: { recovery, timeoMs: 200, retrans: 1 } })
    await stopped(server)
    t.is(await client.backend.getattr(client.backend.root.handle, root), errno)
    server.resume()
  }
})

test('closing answers everything pending with the errno given', async (t) => {
  const server = await started(t)
  const client = await mount(t, server)
  await stopped(server)
  const pending = Array.from({ length: 300 }, () => client.backend.getattr(client.backend.root.handle, root))
  await pause(50)
  await client.close(Errno.ENOTCONN)
  for (const answer of await Promise.all(pending)) t.is(answer, Errno.ENOTCONN)
})

test('a root that is gone is told as stale', async (t) => {
  const server = await started(t)
  await files.mkdir(path.join(server.folder, 'sub'))
  const client = await mount(t, server, { subDir: [name('sub')] })
  await files.rmdir(path.join(server.folder, 'sub'))
  t.like(await client.probe(5000), { ok: false, health: 'stale' })
})

test('after a reconnect a subDir that leads elsewhere is told as stale, and open files go on', async (t) => {
  const server = await started(t)
  const at = (entry: string): string => path.join(server.folder, entry)
  await files.mkdir(at('sub'))
  await files.writeFile(at('sub/file'), 'mine')
  const client = await mount(t, server, { subDir: [name('sub')] })
  const file = good(await client.backend.lookup(client.backend.root.handle, name('file'), root))
  await server.kill9()
  await files.rename(at('sub'), at('moved'))
  await files.symlink('/etc', at('sub'))
  await server.restart()
  const answer = good(await client.backend.read({ handle: file.handle, credential: root }, 0, 10))
  t.is(answer.data.toString(), 'mine')
  answer.release()
  let probe = await client.probe(5000)
  for (let round = 0; round < 100 && probe.ok; round++) {
    await pause(50)
    probe = await client.probe(5000)
  }
  t.like(probe, { ok: false, health: 'stale' })
})

test('an address that belongs to another server is not used, and the probe says why', async (t) => {
  const first = await started(t)
  const client = await mount(t, first, { servers: ['127.0.0.1', '127.0.0.2'] })
  await first.kill9()
  const probe = await client.probe(500)
  t.like(probe, { ok: false, health: 'unreachable' })
})

test('a squashed root still mounts, and is refused like anybody', async (t) => {
  const server = await started(t, { squash: 'Root_Squash' })
  await files.writeFile(path.join(server.folder, 'secret'), 'x', { mode: 0o600 })
  const client = await mount(t, server)
  const file = good(await client.backend.lookup(client.backend.root.handle, name('secret'), root))
  t.is(await client.backend.read({ handle: file.handle, credential: root }, 0, 1), Errno.EACCES)
})
