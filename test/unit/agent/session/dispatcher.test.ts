/** The life of requests, with a scripted device in the kernel's place and the in-memory file system behind. */
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { Errno } from '../../../../agent/base/errno.ts'
import { FuseConnection } from '../../../../agent/session/connection.ts'
import { MemoryFilesystem } from '../../../peers/memory-filesystem.ts'
import type { MemoryOptions } from '../../../peers/memory-filesystem.ts'
import { initBody, name, readBody, request, ScriptedDevice, turn, u32, u64 } from './scripted-device.ts'

const aliveStatus = 'State:\tS (sleeping)\nGroups:\t5 6 \nSigPnd:\t0000000000000000\nShdPnd:\t0000000000004000\n'
const killedStatus = aliveStatus.replace('SigPnd:\t0000000000000000', 'SigPnd:\t0000000000000100')

/** No task can be seen. */
const noTasks = { head: () => undefined, later: async () => undefined }

interface Bench {
  readonly device: ScriptedDevice
  readonly memory: MemoryFilesystem
  readonly connection: FuseConnection
  readonly logged: string[]
  status: string | undefined
  /** Threads and processes that have ended. */
  readonly gone: Set<number>
}

async function serving (options: MemoryOptions = {}): Promise<Bench> {
  const device = new ScriptedDevice()
  const memory = new MemoryFilesystem(options)
  memory.plant('hello', Buffer.from('hello'))
  const logged: string[] = []
  const connection = new FuseConnection({
    device,
    taskReader: {
      head: (tid) => bench.gone.has(tid) ? undefined : bench.status,
      later: async (tid) => bench.gone.has(tid) ? undefined : bench.status
    },
    log: (level, fields, message) => {
      logged.push(`${level} ${fields.op} ${message ?? ''} ${String(fields['error'] ?? '')}`)
    }
  })
  const bench: Bench = { device, memory, connection, logged, status: aliveStatus, gone: new Set() }
  const ready = connection.serve(memory)
  device.push(request('INIT', { unique: 2, body: initBody }))
  await ready
  device.answered.length = 0
  return bench
}

const replyOf = (t: ExecutionContext, { device }: Bench, unique: number): { errno: number, body: Buffer } => {
  const found = device.answered.filter((reply) => reply.unique === BigInt(unique))
  t.is(found.length, 1, `replies to ${unique}`)
  return found[0]!
}

test('answers that are there at once leave in the same call', async (t) => {
  const bench = await serving()
  bench.device.push(
    request('LOOKUP', { unique: 4, body: name('hello') }),
    request('LOOKUP', { unique: 6, body: name('nobody') })
  )
  t.is(replyOf(t, bench, 4).errno, 0)
  t.is(replyOf(t, bench, 4).body.readBigUInt64LE(0), 2n)
  t.is(replyOf(t, bench, 6).errno, Errno.ENOENT)
})

test('a late answer leaves when it comes, others overtake it', async (t) => {
  const bench = await serving()
  const open = bench.memory.gate('lookup')
  bench.device.push(request('LOOKUP', { unique: 4, body: name('hello') }))
  bench.device.push(request('GETATTR', { unique: 6, body: Buffer.concat([u32(0, 0), u64(0)]) }))
  t.deepEqual(bench.device.answered.map(({ unique }) => unique), [6n])
  t.is(bench.connection.gauges()['fuseInFlight'], 1)
  open()
  await turn()
  t.is(replyOf(t, bench, 4).errno, 0)
  t.is(bench.connection.gauges()['fuseInFlight'], 0)
})

test('a lookup counts once the kernel has taken the answer, and not when it vanished', async (t) => {
  const bench = await serving()
  bench.device.writeErrors = [0, Errno.ENOENT, 0]
  bench.device.push(...[4, 6, 8].map((unique) => request('LOOKUP', { unique, body: name('hello') })))
  t.is(bench.memory.remembered.get(2), 2)
  bench.device.push(request('FORGET', { unique: 10, nodeid: 2, body: u64(2) }))
  t.is(bench.memory.remembered.size, 0)
})

test('attributes are acknowledged once the kernel has taken them, and not when they vanished', async (t) => {
  const bench = await serving()
  const requests = (first: number): Buffer[] => [
    request('LOOKUP', { unique: first, body: name('hello') }),
    request('GETATTR', { unique: first + 2, nodeid: 2, body: Buffer.concat([u32(0, 0), u64(0)]) }),
    request('SETATTR', { unique: first + 4, nodeid: 2, body: Buffer.alloc(88) }),
    request('MKDIR', { unique: first + 6, body: Buffer.concat([u32(0o755, 0), name(`new${first}`)]) })
  ]
  bench.device.writeErrors = [Errno.ENOENT, Errno.ENOENT, Errno.ENOENT, Errno.ENOENT]
  bench.device.push(...requests(4))
  t.deepEqual(bench.memory.acknowledged, [])
  bench.device.push(...requests(20))
  t.is(bench.memory.acknowledged.length, 4)
  t.deepEqual(bench.memory.acknowledged.slice(0, 3), [2, 2, 2])
})

test('a reference given and forgotten in one batch is counted before it is forgotten', async (t) => {
  const bench = await serving()
  bench.device.push(request('LOOKUP', { unique: 4, body: name('hello') }))
  bench.device.push(
    request('LOOKUP', { unique: 6, body: name('hello') }),
    request('BATCH_FORGET', { unique: 8, body: Buffer.concat([u32(1, 0), u64(2, 1)]) })
  )
  t.is(bench.memory.remembered.get(2), 1)
})

test('a missing name that may be believed is no reference', async (t) => {
  const bench = await serving({ negativeTtlMs: 1000 })
  bench.device.push(request('LOOKUP', { unique: 4, body: name('nobody') }))
  t.is(replyOf(t, bench, 4).errno, 0)
  t.is(bench.memory.remembered.size, 0)
})

test('an open that nobody waits for any more is closed again, a created name is not counted', async (t) => {
  const bench = await serving()
  bench.device.writeErrors = [Errno.ENOENT, Errno.ENOENT, Errno.ENOENT]
  bench.device.push(
    request('OPEN', { unique: 4, nodeid: 2, body: u32(0, 0) }),
    request('OPENDIR', { unique: 6, nodeid: 1, body: u32(0, 0) }),
    request('CREATE', { unique: 8, body: Buffer.concat([u32(1, 0o644, 0, 0), name('new')]) })
  )
  t.is(bench.memory.handles.size, 0)
  t.is(bench.memory.remembered.size, 0)
})

test('a failed close counts as told once the kernel has taken it, and not when it vanished', async (t) => {
  const bench = await serving({ flushErrno: Errno.ENOSPC })
  const flush = (unique: number): Buffer => request('FLUSH', { unique, nodeid: 2, body: u64(7, 0, 0) })
  bench.device.writeErrors = [Errno.ENOENT]
  bench.device.push(flush(4))
  t.deepEqual(bench.memory.told, [])
  bench.device.push(flush(6))
  t.is(replyOf(t, bench, 6).errno, Errno.ENOSPC)
  t.deepEqual(bench.memory.told, [7])
})

test('readdirplus counts every entry with an inode but . and ..', async (t) => {
  const bench = await serving()
  bench.device.push(request('OPENDIR', { unique: 4, nodeid: 1, body: u32(0, 0) }))
  const handle = Number(replyOf(t, bench, 4).body.readBigUInt64LE(0))
  bench.device.push(request('READDIRPLUS', { unique: 6, nodeid: 1, body: readBody(handle, 0, 4096) }))
  t.deepEqual([...bench.memory.remembered], [[2, 1]])
  t.deepEqual(bench.memory.acknowledged, [2])
  bench.device.writeErrors = [Errno.ENOENT]
  bench.device.push(request('READDIRPLUS', { unique: 8, nodeid: 1, body: readBody(handle, 0, 4096) }))
  t.deepEqual([...bench.memory.remembered], [[2, 1]])
  t.deepEqual(bench.memory.acknowledged, [2])
})

test('read data is given back after the write, whether the kernel took it or not', async (t) => {
  const bench = await serving()
  bench.device.push(request('OPEN', { unique: 4, nodeid: 2, body: u32(0, 0) }))
  const handle = Number(replyOf(t, bench, 4).body.readBigUInt64LE(0))
  bench.device.push(request('READ', { unique: 6, nodeid: 2, body: readBody(handle, 1, 100) }))
  t.is(replyOf(t, bench, 6).body.toString(), 'ello')
  bench.device.writeErrors = [Errno.ENOENT]
  bench.device.push(request('READ', { unique: 8, nodeid: 2, body: readBody(handle, 0, 100) }))
  t.is(bench.memory.unreleasedReads, 0)
})

test('a signal to a living caller does not end the request', async (t) => {
  const bench = await serving()
  const open = bench.memory.gate('lookup')
  bench.device.push(request('LOOKUP', { unique: 4, pid: 77, body: name('hello') }))
  bench.device.push(request('INTERRUPT', { unique: 5, body: u64(4) }))
  t.deepEqual(bench.device.answered, [])
  open()
  await turn()
  t.is(replyOf(t, bench, 4).errno, 0)
  t.is(bench.connection.gauges()['fuseInterrupted'], 0)
})

test('a read whose thread has ended goes on for its process, and ends with that', async (t) => {
  const bench = await serving()
  bench.status = `Tgid:\t50\n${aliveStatus}`
  const go = bench.memory.gate('read')
  for (const unique of [4, 6]) {
    bench.device.push(request('READ', { unique, pid: 77, nodeid: 2, body: readBody(1, 0, 4096) }))
  }
  bench.gone.add(77)
  bench.device.push(request('INTERRUPT', { unique: 5, body: u64(4) }))
  t.deepEqual(bench.device.answered, [])
  bench.gone.add(50)
  bench.device.push(request('INTERRUPT', { unique: 7, body: u64(6) }))
  await turn()
  t.is(replyOf(t, bench, 6).errno, Errno.EINTR)
  go()
  await turn()
  t.not(replyOf(t, bench, 4).errno, Errno.EINTR)
})

test('a killed caller gets EINTR, the late result is dropped without a reference', async (t) => {
  const bench = await serving()
  const open = bench.memory.gate('create')
  bench.status = killedStatus
  bench.device.push(request('CREATE', { unique: 4, pid: 77, body: Buffer.concat([u32(1, 0o644, 0, 0), name('new')]) }))
  bench.device.push(request('INTERRUPT', { unique: 5, body: u64(4) }))
  await turn()
  t.is(replyOf(t, bench, 4).errno, Errno.EINTR)
  open()
  await turn()
  t.is(replyOf(t, bench, 4).errno, Errno.EINTR)
  t.is(bench.memory.handles.size, 0)
  t.is(bench.memory.remembered.size, 0)
})

test('a caller that is gone is a dying one; one we cannot see is not', async (t) => {
  const bench = await serving()
  const open = bench.memory.gate('lookup')
  bench.status = undefined
  bench.device.push(
    request('LOOKUP', { unique: 4, pid: 77, body: name('hello') }),
    request('LOOKUP', { unique: 6, pid: 0, body: name('hello') })
  )
  bench.device.push(
    request('INTERRUPT', { unique: 5, body: u64(4) }),
    request('INTERRUPT', { unique: 7, body: u64(6) })
  )
  await turn()
  t.deepEqual(bench.device.answered.map(({ unique, errno }) => [unique, errno]), [[4n, Errno.EINTR]])
  open()
  await turn()
  t.is(replyOf(t, bench, 6).errno, 0)
})

test('an INTERRUPT for an unknown request asks to be repeated, but not for ever', async (t) => {
  const bench = await serving()
  for (let round = 0; round < 10; round++) bench.device.push(request('INTERRUPT', { unique: 5, body: u64(4) }))
  t.is(bench.device.answered.length, 3)
  t.true(bench.device.answered.every(({ unique, errno }) => unique === 5n && errno === Errno.EAGAIN))
})

test('a repetition of a request in flight is not done twice, and the answer carries its mark', async (t) => {
  const bench = await serving()
  const open = bench.memory.gate('create')
  const body = Buffer.concat([u32(1, 0o644, 0, 0), name('new')])
  bench.device.push(request('CREATE', { unique: 4, body }))
  bench.device.push(request('CREATE', { unique: 4n | 2n ** 63n, body }))
  open()
  await turn()
  t.deepEqual(bench.device.answered.map(({ unique, errno }) => [unique, errno]), [[4n | 2n ** 63n, 0]])
  t.is(bench.memory.calls.filter((call) => call === 'create').length, 1)
})

test('what is not served is refused with the errno that has a fallback in the kernel', async (t) => {
  const bench = await serving()
  bench.device.push(
    request('GETXATTR', { unique: 4 }),
    request('IOCTL', { unique: 6 }),
    request(63, { unique: 8 }),
    request(4000, { unique: 10 })
  )
  t.deepEqual(bench.device.answered.map(({ errno }) => errno), [Errno.ENOSYS, Errno.ENOTTY, Errno.ENOSYS, Errno.ENOSYS])
})

test('a malformed request is answered with an error and logged, and the next one is served', async (t) => {
  const bench = await serving()
  bench.device.push(
    request('LOOKUP', { unique: 4, body: Buffer.from('no end') }),
    request('READ', { unique: 6, body: u64(1) }),
    request('LOOKUP', { unique: 8, body: name('hello') })
  )
  t.deepEqual(bench.device.answered.map(({ unique, errno }) => [unique, errno]), [[4n, Errno.EIO], [6n, Errno.EIO], [
    8n, 0
  ]])
  t.is(bench.connection.counters()['fuseMalformed'], 2)
  t.is(bench.logged.length, 2)
})

test('an offset that no server has is EFBIG', async (t) => {
  const bench = await serving()
  bench.device.push(
    request('READ', { unique: 4, body: Buffer.concat([u64(1, 2n ** 62n), u32(1, 0), u64(0), u32(0, 0)]) })
  )
  t.is(replyOf(t, bench, 4).errno, Errno.EFBIG)
})

test('a file system that throws or rejects costs one request, not the session', async (t) => {
  const bench = await serving()
  // The in-memory file system throws for an inode that was never made.
  bench.device.push(request('GETATTR', { unique: 4, nodeid: 999, body: Buffer.concat([u32(0, 0), u64(0)]) }))
  t.is(replyOf(t, bench, 4).errno, Errno.EIO)
  const open = bench.memory.gate('getattr')
  bench.device.push(request('GETATTR', { unique: 6, nodeid: 999, body: Buffer.concat([u32(0, 0), u64(0)]) }))
  open()
  await turn()
  t.is(replyOf(t, bench, 6).errno, Errno.EIO)
  t.is(bench.logged.length, 2)
})

test('an answer that cannot be encoded costs its request only, at once or late', async (t) => {
  const bench = await serving()
  const broken = { nodeid: 2, generation: 0, entryTtlMs: 0, attributesTtlMs: 0, attributes: { fileid: 'no number' } }
  const answers: unknown[] = [broken, Promise.resolve(broken)]
  bench.memory.lookup = () => answers.shift() as never
  bench.device.push(
    request('LOOKUP', { unique: 4, body: name('x') }),
    request('LOOKUP', { unique: 6, body: name('x') }),
    request('ACCESS', { unique: 8, body: u64(0) })
  )
  await turn()
  t.deepEqual(bench.device.answered.map(({ unique, errno }) => [unique, errno]), [[4n, Errno.EIO], [8n, 0], [
    6n, Errno.EIO
  ]])
  t.is(bench.memory.remembered.size, 0)
})

test('a reply the kernel does not like is replaced by EIO, so that nobody waits for ever', async (t) => {
  const bench = await serving()
  bench.device.writeErrors = [Errno.EINVAL]
  bench.device.push(request('LOOKUP', { unique: 4, body: name('hello') }))
  await turn()
  t.is(replyOf(t, bench, 4).errno, Errno.EIO)
  t.is(bench.memory.remembered.size, 0)
})

test('groups are looked up only when somebody asks, and a caller that is not visible has none', async (t) => {
  const bench = await serving()
  bench.device.push(
    request('LOOKUP', { unique: 4, uid: 1, gid: 2, pid: 77, body: name('hello') }),
    request('LOOKUP', { unique: 6, uid: 1, gid: 2, pid: 0, body: name('hello') })
  )
  t.deepEqual(bench.memory.callers.map((caller) => caller.credential.groups), [[5, 6], []])
  t.is(bench.memory.callers[0]!.credential.key, '1:2:5,6')
})

test('nothing is invalidated before the kernel listens, and it is joined while it waits', async (t) => {
  const device = new ScriptedDevice()
  const connection = new FuseConnection({ device, taskReader: noTasks, log: () => {} })
  connection.invalidator.inode(5, 0, 0)
  connection.invalidator.inode(5, 8192, 100)
  connection.invalidator.inode(5, 4096, 100)
  t.is(device.notices.length, 0)
  const ready = connection.serve(new MemoryFilesystem())
  device.push(request('INIT', { unique: 2, body: initBody }))
  await ready
  t.is(device.notices.length, 1)
  t.deepEqual([16, 24, 32].map((at) => device.notices[0]!.readBigInt64LE(at)), [5n, 4096n, 4196n])
  device.reportNotified([Errno.ENOENT])
  t.is(connection.counters()['fuseNotificationsUnknown'], 1)
})

test('a full queue keeps invalidations until there is room', async (t) => {
  const { device, connection } = await serving()
  device.notifyResult = Errno.EAGAIN
  connection.invalidator.inode(5, 0, -1)
  connection.invalidator.inode(5, 0, -1)
  connection.invalidator.entry(1, 'name' as never, 'expire')
  t.is(connection.gauges()['fuseNotificationsWaiting'], 2)
  device.notifyResult = 0
  device.reportNotified([])
  t.is(device.notices.length, 2)
})

test('a name only expires where the kernel offers that, and is dropped when anybody wants it dropped', async (t) => {
  // FUSE_HAS_EXPIRE_ONLY is bit 35: bit 3 of flags2, the fifth word.
  const old = Buffer.from(initBody)
  old.writeUInt32LE(old.readUInt32LE(16) & ~(1 << 3), 16)
  for (const { body, asked, flags } of [
    { body: initBody, asked: ['expire'], flags: 1 }, { body: initBody, asked: ['expire', 'drop'], flags: 0 },
    { body: initBody, asked: ['drop', 'expire'], flags: 0 },
    { body: old, asked: ['expire'], flags: 0 }
  ] as const) {
    const device = new ScriptedDevice()
    const connection = new FuseConnection({ device, taskReader: noTasks, log: () => {} })
    const ready = connection.serve(new MemoryFilesystem())
    device.push(request('INIT', { unique: 2, body }))
    await ready
    device.notifyResult = Errno.EAGAIN
    for (const how of asked) connection.invalidator.entry(1, 'name' as never, how)
    device.notifyResult = 0
    device.reportNotified([])
    t.deepEqual(device.notices.map((notice) => notice.readUInt32LE(28)), [flags], asked.join())
  }
})

test('the end of the connection is told once, with its reason, and closes the device', async (t) => {
  const { device, connection } = await serving()
  device.end(Errno.ECONNABORTED)
  device.end(Errno.ENODEV)
  t.deepEqual(await connection.ended, { errno: Errno.ECONNABORTED, reason: 'aborted' })
  t.true(device.isClosed)
})

test('a kernel without idmapped FUSE mounts: a volume that wants them is refused by name, with the remedy', async (t) => {
  // FUSE_ALLOW_IDMAP is bit 40: bit 8 of flags2, the fifth word.
  const body = Buffer.from(initBody)
  for (const flags2 of [body.readUInt32LE(16) & ~0x100, body.readUInt32LE(16) | 0x100]) {
    body.writeUInt32LE(flags2, 16)
    const device = new ScriptedDevice()
    const connection = new FuseConnection({ device, taskReader: noTasks, log: () => {} })
    const ready = connection.serve(new MemoryFilesystem(), { idmappedDevice: '0:55' })
    device.push(request('INIT', { unique: 2, body }))
    if ((flags2 & 0x100) === 0) {
      const error = await t.throwsAsync(ready, { message: /^idmap: .*Linux 6\.12/ })
      t.like(error, { code: 'UNSUPPORTED', field: 'idmap' })
    } else t.true((await ready).flags.has('ALLOW_IDMAP'))
  }
})

test('a connection that ends before INIT is an error, not a hang', async (t) => {
  const device = new ScriptedDevice()
  const connection = new FuseConnection({ device, taskReader: noTasks, log: () => {} })
  const ready = connection.serve(new MemoryFilesystem())
  device.end(Errno.EPERM)
  await t.throwsAsync(ready, { message: /before INIT: not mounted/ })
})

test('requests are counted by name, with errors and latencies', async (t) => {
  const { device, connection } = await serving()
  device.push(
    request('LOOKUP', { unique: 4, body: name('hello') }),
    request('LOOKUP', { unique: 6, body: name('nobody') })
  )
  t.like(connection.counters(), { 'fuseRequests:LOOKUP': 2, 'fuseErrors:LOOKUP': 1 })
  t.deepEqual(
    Object.entries(connection.counters()).filter(([counter]) => counter.startsWith('fuseErrnos:')).map(([, count]) =>
      count
    ),
    [1]
  )
  const { LOOKUP } = connection.statistics.latency()
  t.is(LOOKUP?.count, 2)
  t.is(LOOKUP?.buckets.at(-1), 2)
})
