/** The front before the real gRPC server: whether Node's HTTP/2 (nghttp2) agrees with what comes out of it. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { status } from '@grpc/grpc-js'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { headerListBytesMax, tableBytesMax } from '../../../../../agent/csi/authority/hpack.ts'
import { nodeService } from '../../../../../agent/csi/node.ts'
import { Registration } from '../../../../../agent/csi/registration.ts'
import { RpcServer } from '../../../../../agent/csi/server.ts'
import { CsiClient } from '../../../../../proto/csi/client.ts'
import type { CallError } from '../../../../../proto/csi/client.ts'
import { loadServices } from '../../../../../proto/csi/load.ts'
import { nodeParts, ScriptedVolumes } from '../scripted-volumes.ts'
import { RawClient, emptyMessage, frame, framesOf, literals, preface, requestFields, settings } from './raw-client.ts'

const services = loadServices()
const method = '/csi.v1.Node/NodeGetInfo'
const deadlineMs = 20_000

interface Fixture { socketPath: string, calls: string[], connect: () => RawClient, folder: string }

async function withServer (run: (fixture: Fixture) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'vb-front-'))
  const socketPath = path.join(folder, 'csi.sock')
  const calls: string[] = []
  const clients: RawClient[] = []
  const server = new RpcServer({
    services, socketPath, field: 'x',
    unary: { door: 'csi', observer: ({ method }) => ({ code }) => { calls.push(`${method} ${code}`) } }
  }, {
    Node: nodeService({ ...nodeParts, volumes: new ScriptedVolumes(), nodeId: 'node-a' })
  })
  await server.listen()
  const connect = (): RawClient => {
    const client = new RawClient(socketPath)
    clients.push(client)
    return client
  }
  try {
    await run({ socketPath, calls, connect, folder })
  } finally {
    for (const client of clients) await client.close()
    await server.close({ graceMs: 200 })
    rmSync(folder, { recursive: true })
  }
}

async function stillServes (t: ExecutionContext, socketPath: string): Promise<void> {
  const client = new CsiClient(services, socketPath)
  t.like(await client.call('Node', 'NodeGetInfo', {}, { deadlineMs }), { nodeId: 'node-a' })
  client.close()
}

const call = (stream: number, block: Buffer): Buffer =>
  Buffer.concat([frame(1, 4, stream, block), frame(0, 1, stream, emptyMessage)])

for (const [what, authority] of [
  ['the socket\'s path', '/var/lib/kubelet/plugins/x/csi.sock'], ['nothing', ''], ['localhost', 'localhost'],
  ['the path percent-encoded', '%2Fvar%2Flib%2Fkubelet%2Fplugins%2Fx%2Fcsi.sock'],
  ['no authority at all', undefined], ['a unix URL', 'unix:///var/lib/x/csi.sock'],
  ['a passthrough URL', 'passthrough:///x'], ['bytes that are no text', '\u00ff\u0000 \r\n']
] as const) {
  test(`a client whose authority is ${what} is served`, async (t) => {
    await withServer(async ({ connect }) => {
      const client = connect()
      client.send(preface, settings)
      for (const [stream, representation] of [[1, 0], [3, 0x40], [5, 0x10]] as const) {
        client.send(call(stream, literals(requestFields(method, authority), representation)))
        t.deepEqual(await client.answer(stream), { status: '0', reset: undefined })
      }
    })
  })
}

test('the server announces the sizes of tables, frames and headers that the front counts on', async (t) => {
  await withServer(async ({ connect }) => {
    const client = connect()
    client.send(preface, settings, call(1, literals(requestFields(method, '/x'))))
    await client.answer(1)
    t.is(client.announced.get(1) ?? 4096, tableBytesMax)
    t.is(client.announced.get(5) ?? 16_384, 16_384)
    t.true((client.announced.get(6) ?? headerListBytesMax) <= headerListBytesMax)
  })
})

test('what grpc-go sent is answered, also a byte at a time', async (t) => {
  const whole = readFileSync('test/fixtures/http2/grpc-go-socket-path-authority.bin')
  // Without the client's answers to that server's settings and pings, which this one has not sent, and without its
  // farewell.
  const asked = framesOf(whole.subarray(preface.length)).frames.filter(({ type, flags }) =>
    [0, 1, 9].includes(type) || (type === 4 && flags === 0)
  )
  const captured = Buffer.concat([
    preface, ...asked.map(({ type, flags, stream, payload }) => frame(type, flags, stream, payload))
  ])
  await withServer(async ({ connect, calls }) => {
    connect().socket.write(captured)
    const slow = connect()
    for (const byte of captured) slow.socket.write(Buffer.of(byte))
    for (const end = Date.now() + 30_000; calls.length < 6 && Date.now() < end;) await sleep(10)
    t.deepEqual(calls, Array.from({ length: 6 }, () => 'NodeGetInfo OK'))
  })
})

test('a hundred calls at once on one connection, with padding, priority and continuations', async (t) => {
  await withServer(async ({ connect }) => {
    const client = connect()
    client.send(preface, settings)
    const streams = Array.from({ length: 100 }, (_, index) => 1 + index * 2)
    for (const stream of streams) {
      const block = literals(
        [...requestFields(method, `/sock/${stream}`), ['trace', 'z'.repeat(stream * 100)]],
        stream % 3 === 0 ? 0x40 : 0
      )
      const [first, ...rest] = Array.from(
        { length: Math.ceil(block.length / 5000) },
        (_, index) => block.subarray(index * 5000, (index + 1) * 5000)
      )
      const padded = Buffer.concat([Buffer.of(3), Buffer.of(0, 0, 0, 0, 15), first ?? Buffer.alloc(0), Buffer.alloc(3)])
      client.send(
        frame(1, 0x28 | (rest.length === 0 ? 4 : 0), stream, padded),
        ...rest.map((piece, index) => frame(9, index === rest.length - 1 ? 4 : 0, stream, piece)),
        frame(0, 1, stream, emptyMessage)
      )
    }
    for (const stream of streams) t.deepEqual(await client.answer(stream), { status: '0', reset: undefined })
  })
})

test('large requests and small ones go through side by side', async (t) => {
  await withServer(async ({ socketPath }) => {
    const client = new CsiClient(services, socketPath)
    const big = { volumeId: 'v', volumePath: `/${'p/'.repeat(1_000_000)}` }
    const answers = await Promise.all([
      ...[1, 2, 3].map(() =>
        client.call('Node', 'NodeGetVolumeStats', big, { deadlineMs }).catch((error: unknown) =>
          (error as CallError).code
        )
      ),
      client.call('Node', 'NodeGetInfo', {}, { deadlineMs }).then(({ nodeId }) => nodeId)
    ])
    t.deepEqual(answers, [status.NOT_FOUND, status.NOT_FOUND, status.NOT_FOUND, 'node-a'])
    client.close()
  })
})

for (const [what, bytes] of [
  ['HTTP/1.1', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
  ['headers that HPACK does not know', Buffer.concat([preface, settings, frame(1, 5, 1, Buffer.of(0xff, 0x00))])],
  [
    'a ping in the middle of a header block',
    Buffer.concat([preface, settings, frame(1, 1, 1, Buffer.of(0x82)), frame(6, 0, 0, Buffer.alloc(8))])
  ],
  ['settings of a wrong length', Buffer.concat([preface, frame(4, 0, 0, Buffer.alloc(5))])],
  ['data of a stream that is not open', Buffer.concat([preface, settings, frame(0, 1, 99, Buffer.alloc(9))])],
  ['noise', Buffer.alloc(10_000, 0xa7)]
] as const) {
  test(`a connection with ${what} is closed, and no other`, async (t) => {
    await withServer(async ({ connect, socketPath }) => {
      const client = connect()
      client.send(bytes)
      for (const end = Date.now() + 30_000; !client.isClosed && Date.now() < end;) await sleep(10)
      t.true(client.isClosed)
      await stillServes(t, socketPath)
    })
  })
}

test('connections that are opened and dropped at any moment leave nothing open', async (t) => {
  await withServer(async ({ connect, socketPath }) => {
    const whole = Buffer.concat([preface, settings, call(1, literals(requestFields(method, '/x')))])
    const before = process.getActiveResourcesInfo().length
    for (let length = 0; length <= whole.length; length += 3) {
      const client = connect()
      client.socket.write(whole.subarray(0, length))
      if (length % 2 === 0) await sleep(1)
      await client.close()
    }
    await stillServes(t, socketPath)
    for (const end = Date.now() + 20_000; process.getActiveResourcesInfo().length > before + 5 && Date.now() < end;) {
      await sleep(20)
    }
    t.true(
      process.getActiveResourcesInfo().length <= before + 5,
      `${before} → ${process.getActiveResourcesInfo().length}`
    )
  })
})

test('kubelet\'s registration, which dials by the raw path, is served as well', async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'vb-front-'))
  const registration = new Registration({
    services, observer: () => () => undefined, kubeletDir: folder, driverName: 'd', endpoint: '/x/csi.sock',
    onChange: () => undefined
  })
  registration.start()
  for (const end = Date.now() + 20_000; !existsSync(registration.socketPath) && Date.now() < end;) await sleep(10)
  const client = new RawClient(registration.socketPath)
  client.send(
    preface,
    settings,
    call(1, literals(requestFields('/pluginregistration.Registration/GetInfo', registration.socketPath)))
  )
  t.deepEqual(await client.answer(1), { status: '0', reset: undefined })
  await client.close()
  await registration.stop()
  rmSync(folder, { recursive: true })
})
