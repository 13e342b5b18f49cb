/** A session and the agent's client of its control socket, over a real unix socket. */
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { once } from 'node:events'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { toStageKey } from '../../../../agent/base/brands.ts'
import { Errno } from '../../../../agent/base/errno.ts'
import { InvariantError, VolumeError } from '../../../../agent/base/errors.ts'
import { controlVersion } from '../../../../agent/session/control.ts'
import type {
  ControlAnswer,
  ControlCall,
  ControlCalls,
  SessionConfiguration
} from '../../../../agent/session/control.ts'
import { runSession } from '../../../../agent/session/process.ts'
import type { ConfiguredSession, SessionParts } from '../../../../agent/session/process.ts'
import { MemoryFilesystem } from '../../../peers/memory-filesystem.ts'
import { initBody, name, request, ScriptedDevice } from './scripted-device.ts'

const configuration = {
  key: toStageKey('aa'), spec: {}, softReval: true, dirtyBytesMax: 1
} as unknown as SessionConfiguration

class Peer {
  readonly device = new ScriptedDevice()
  readonly memory = new MemoryFilesystem()
  readonly path: string
  readonly ended: ReturnType<typeof runSession>
  configured = 0
  closed = 0
  failure: Error | undefined

  constructor (folder: string, extra: Partial<SessionParts> = {}) {
    this.path = join(folder, 'session.sock')
    this.ended = runSession({
      socketPath: this.path,
      version: '1.2.3',
      device: this.device,
      taskReader: { head: () => undefined, later: async () => undefined },
      isTrusted: () => true,
      log: () => {},
      configure: async () => this.#configure(),
      ...extra
    })
  }

  #configure (): ConfiguredSession {
    this.configured++
    if (this.failure !== undefined) throw this.failure
    return {
      operations: this.memory,
      serverAddress: '192.0.2.1:2049',
      rootMode: 0o755,
      maxReadBytes: 1024 * 1024,
      readAheadBytes: 8 * 1024 * 1024,
      isSoloWriter: false,
      report: () => ({
        health: 'healthy', healthReason: '', serverAddress: '192.0.2.1:2049', sinceLastReplyMs: 5,
        counters: { nfsCalls: 3 }, gauges: {}
      }),
      statistics: async (deadlineMs) => { throw new VolumeError('TIMED_OUT', `nothing within ${deadlineMs} ms`) },
      probe: async () => ({ health: 'healthy', reason: '', ms: 1 }),
      checkRoot: async () => ({ isCurrent: false, reason: 'it was made anew' }),
      giveGroup: async ({ group }, deadlineMs) => ({ isDone: false, progress: `group ${group} in ${deadlineMs} ms` }),
      close: () => { this.closed++ }
    }
  }

  async call<C extends ControlCall> (call: C, body: ControlCalls[C]['request']): Promise<ControlAnswer<C>> {
    const [line] = await this.lines(`${JSON.stringify({ id: 7, call, body })}\n`)
    return JSON.parse(line ?? 'null') as ControlAnswer<C>
  }

  /** What comes back for these bytes, until one line or the end. */
  async lines (bytes: string | Buffer): Promise<string[]> {
    for (;;) {
      const socket = connect(this.path)
      try {
        await once(socket, 'connect')
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 5))
        continue
      }
      let text = ''
      socket.on('data', (chunk: Buffer) => {
        text += chunk.toString()
        if (text.endsWith('\n')) socket.end()
      })
      socket.on('error', () => {})
      socket.write(bytes)
      if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve))
      return text.split('\n').slice(0, -1)
    }
  }
}

async function session (t: ExecutionContext, extra: Partial<SessionParts> = {}): Promise<Peer> {
  const folder = await mkdtemp(join(tmpdir(), 'volbridge-session-'))
  t.teardown(async () => { await rm(folder, { recursive: true }) })
  return new Peer(folder, extra)
}

test('from hello to the end of the mount, every call answers in its phase', async (t) => {
  const peer = await session(t)
  t.like(await peer.call('hello', { version: controlVersion }), {
    id: 7, body: { version: controlVersion, report: { phase: 'new', key: '', pid: process.pid } }
  })
  t.like(await peer.call('configure', configuration), { body: { serverAddress: '192.0.2.1:2049', rootMode: 0o755 } })
  const serve = peer.call('serve', { mountPoint: '/x', device: '0:99' })
  while (!peer.device.isStarted) await new Promise((resolve) => setTimeout(resolve, 5))
  peer.device.push(request('INIT', { unique: 2, body: initBody }))
  t.deepEqual(await serve, { id: 7, body: { minor: 45 } })
  t.like(await peer.call('report', {}), {
    body: { phase: 'serving', key: 'aa', health: 'healthy', version: '1.2.3', counters: { nfsCalls: 3 } }
  })
  t.like(await peer.call('probe', { deadlineMs: 10 }), { body: { health: 'healthy' } })
  t.like(await peer.call('checkRoot', { deadlineMs: 10 }), { body: { isCurrent: false, reason: 'it was made anew' } })
  t.like(await peer.call('statistics', { deadlineMs: 10 }), { error: { code: 'TIMED_OUT' } })
  t.like(await peer.call('stop', {}), { error: { code: 'CONFLICT' } })
  t.like(await peer.call('drain', { deadlineMs: 10 }), { body: { lostBytes: 0 } })
  peer.device.end(19)
  t.deepEqual(await peer.ended, { errno: 19, reason: 'unmounted' })
  t.is(peer.closed, 1)
  t.true(peer.device.isClosed)
})

test('a server that cannot be used is an error of configure with code, field and remedy, and may be tried again', async (t) => {
  const peer = await session(t)
  peer.failure = new VolumeError('NOT_FOUND', 'share "/x" is not exported', { field: 'share', remedy: 'export it' })
  t.deepEqual(await peer.call('configure', configuration), {
    id: 7,
    error: { code: 'NOT_FOUND', message: 'share "/x" is not exported; export it', field: 'share', remedy: 'export it' }
  })
  peer.failure = undefined
  t.like(await peer.call('configure', configuration), { body: { rootMode: 0o755 } })
  t.like(await peer.call('configure', configuration), { body: { rootMode: 0o755 } })
  t.is(peer.configured, 2)
  t.like(await peer.call('configure', { ...configuration, key: toStageKey('bb') }), { error: { code: 'CONFLICT' } })
  t.deepEqual(await peer.call('stop', {}), { id: 7, body: {} })
  t.is((await peer.ended).reason, 'closed')
})

test('another protocol version and unknown calls are refused by name', async (t) => {
  const peer = await session(t)
  t.like(await peer.call('hello', { version: 99 }), { error: { code: 'UNSUPPORTED' } })
  const [line] = await peer.lines('{"id":1,"call":"constructor","body":{}}\n')
  t.regex(line ?? '', /UNSUPPORTED.*constructor/)
  t.like(await peer.call('serve', { mountPoint: '/x', device: '0:1' }), { error: { code: 'CONFLICT' } })
  await peer.call('stop', {})
  await peer.ended
})

test('garbage, endless lines and strangers lose their connection, the session goes on', async (t) => {
  const peer = await session(t)
  t.deepEqual(await peer.lines('not json\n'), [])
  t.deepEqual(await peer.lines('{"id":"x","call":1,"body":null}\n'), [])
  t.deepEqual(await peer.lines(Buffer.alloc(1024 * 1024 + 2, 0x61)), [])
  t.like(await peer.call('report', {}), { body: { phase: 'new' } })
  await peer.call('stop', {})
  await peer.ended
  const stranger = await session(t, { isTrusted: () => false })
  t.deepEqual(await stranger.lines('{"id":1,"call":"stop","body":{}}\n'), [])
  stranger.device.end(19)
})

test('a session that nobody uses and nobody asks for ends', async (t) => {
  const peer = await session(t, { orphanMs: 30 })
  t.is((await peer.ended).reason, 'closed')
})

test('a session whose socket path is taken says so', async (t) => {
  const peer = await session(t)
  await peer.call('report', {})
  const second = runSession({
    socketPath: peer.path, version: '', device: new ScriptedDevice(),
    taskReader: { head: () => undefined, later: async () => undefined },
    isTrusted: () => true, log: () => {}, configure: async () => { throw new Error('never') }
  })
  await t.throwsAsync(second, { code: 'EADDRINUSE' })
  await peer.call('stop', {})
  await peer.ended
})

/** A session that serves, and whose next lookups are `lookup`. */
async function serving (t: ExecutionContext, extra: Partial<SessionParts> = {}): Promise<Peer> {
  const peer = await session(t, extra)
  await peer.call('configure', configuration)
  const serve = peer.call('serve', { mountPoint: '/x', device: '0:99' })
  while (!peer.device.isStarted) await new Promise((resolve) => setTimeout(resolve, 5))
  peer.device.push(request('INIT', { unique: 2, body: initBody }))
  await serve
  return peer
}

const lookup = (unique: number): Buffer => request('LOOKUP', { unique, body: name('x') })

for (const [when, fail] of Object.entries({
  'at once': () => { throw new InvariantError('it holds') },
  'later': async () => { throw new InvariantError('it holds') }
})) {
  test(`a broken invariant met ${when} ends the session: its request gets EIO, nothing more is served or sent, the log has the stack once`, async (t) => {
    const lines: { level: string, fields: Readonly<Record<string, unknown>>, message: string | undefined }[] = []
    const peer = await serving(t, { log: (level, fields, message) => { lines.push({ level, fields, message }) } })
    peer.memory.lookup = fail
    const before = peer.device.answered.length
    peer.device.push(lookup(4))
    if (when === 'later') await new Promise((resolve) => { process.nextTick(resolve) })
    t.is(peer.closed, 1, 'the connections to the server are closed before anything else is done')
    peer.device.push(lookup(6), lookup(8))
    t.deepEqual(await peer.ended, { errno: 5, reason: 'ended by a bug of ours', isBroken: true })
    t.deepEqual(peer.device.answered.slice(before).map(({ unique, errno }) => [Number(unique), errno]), [[4, 5]])
    const told = lines.filter(({ level }) => level === 'error')
    t.is(told.length, 1)
    t.regex(String(told[0]?.fields['stack']), /InvariantError: it holds\n.*process\.test\.ts/)
    t.true(peer.device.isClosed)
  })
}

test('another error inside costs the one request', async (t) => {
  const peer = await serving(t)
  peer.memory.lookup = () => { throw new TypeError('a fault') }
  peer.device.push(lookup(4))
  peer.memory.lookup = () => Errno.ENOENT
  peer.device.push(lookup(6))
  t.deepEqual(peer.device.answered.slice(-2).map(({ errno }) => errno), [5, 2])
  t.like(await peer.call('report', {}), { body: { phase: 'serving' } })
  peer.device.end(19)
  t.is((await peer.ended).isBroken, undefined)
})

test('a broken invariant met by a control call, or by nobody who waits, ends the session as well', async (t) => {
  const called = await serving(t)
  called.memory.drain = async () => { throw new InvariantError('it holds') }
  t.like(await called.call('drain', { deadlineMs: 10 }), { error: { code: 'INTERNAL', message: 'it holds' } })
  t.true((await called.ended).isBroken)
  const broken = new AbortController()
  const unawaited = await serving(t, { broken: broken.signal })
  broken.abort(new TypeError('nobody awaits this'))
  t.true((await unawaited.ended).isBroken)
  t.is(unawaited.closed, 2, 'at once, and with the end')
})
