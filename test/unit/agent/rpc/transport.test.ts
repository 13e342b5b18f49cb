import { randomBytes } from 'node:crypto'
import test from 'ava'
import { pause } from '../../../../agent/base/deadline.ts'
import { TransportError, WireError } from '../../../../agent/base/errors.ts'
import { callsInFlightMax } from '../../../../agent/base/limits.ts'
import { type CallTrace, RejectedError } from '../../../../agent/rpc/call.ts'
import { callOnce } from '../../../../agent/rpc/one-shot.ts'
import { clientOf, FETCH, nobody, STORE, WORD } from './procedures.ts'
import { dataResult, replyRecord, ScriptedServer, type SeenCall, wordResult } from './scripted-server.ts'

const echo = (call: SeenCall): void => {
  call.socket.write(replyRecord(call.xid, wordResult(call.body.readUInt32BE(0))))
}

test('calls are answered in whatever order the server likes', async (t) => {
  const waiting: SeenCall[] = []
  const server = await ScriptedServer.start((call) => {
    waiting.push(call)
    if (waiting.length === 20) for (const one of waiting.reverse()) echo(one)
  })
  const { client } = clientOf(server)
  const answers = await Promise.all(Array.from({ length: 20 }, (_, index) => client.call(WORD, index, nobody)))
  t.deepEqual(answers, Array.from({ length: 20 }, (_, index) => index))
  client.close()
  await server.stop()
})

test('duplicate, late and invented replies are counted and change nothing', async (t) => {
  const server = await ScriptedServer.start((call) => {
    call.socket.write(replyRecord(call.xid ^ 0x5555, wordResult(666)))
    echo(call)
    echo(call)
  })
  const { client } = clientOf(server)
  for (let index = 0; index < 5; index++) t.is(await client.call(WORD, index, nobody), index)
  await pause(20)
  t.is(client.counters.unmatchedReplies, 10)
  t.is(server.connections, 1)
  client.close()
  await server.stop()
})

test('after a reset everything pending is sent again with the same xid, and the caller is told', async (t) => {
  const server = await ScriptedServer.start((call) => {
    if (call.connection === 0) {
      if (server.calls.length === 3) call.socket.resetAndDestroy()
    } else {
      echo(call)
    }
  })
  const { client, events } = clientOf(server)
  const traces: CallTrace[] = [{ retransmitted: false }, { retransmitted: false }, { retransmitted: false }]
  t.deepEqual(await Promise.all(traces.map((trace, index) => client.call(WORD, index, nobody, trace))), [0, 1, 2])
  t.true(traces.every((trace) => trace.retransmitted))
  t.deepEqual(server.calls.slice(0, 3).map((call) => call.xid), server.calls.slice(3).map((call) => call.xid))
  t.deepEqual(events.map((event) => event.kind), ['connected', 'disconnected', 'connected'])
  t.is(server.sourcePorts[0], server.sourcePorts[1], 'the source port is kept, by which servers know repeated calls')
  const calm: CallTrace = { retransmitted: false }
  t.is(await client.call(WORD, 9, nobody, calm), 9)
  t.false(calm.retransmitted)
  client.close()
  await server.stop()
})

test('a connection cut inside a record loses nothing', async (t) => {
  const data = randomBytes(500_000)
  const server = await ScriptedServer.start((call) => {
    const record = replyRecord(call.xid, dataResult(data))
    if (call.connection > 1) call.socket.write(record)
    else call.socket.write(record.subarray(0, call.connection === 0 ? 30 : 200_000), () => { call.socket.destroy() })
  })
  const { client } = clientOf(server)
  const { value, memory } = await client.callBulk(FETCH, data.length, nobody)
  t.true(value.equals(data))
  memory.release()
  t.is(client.pool.leased, 0)
  t.is(server.connections, 3)
  client.close()
  await server.stop()
})

test('data of every size is whole when it comes byte by byte, in bursts, and in fragments', async (t) => {
  const sizes = [0, 1, 4096, 40_000, 300_001]
  const data = new Map(sizes.map((bytes) => [bytes, randomBytes(bytes)]))
  const server = await ScriptedServer.start((call) => {
    const bytes = call.body.readUInt32BE(0)
    const record = replyRecord(call.xid, dataResult(data.get(bytes) ?? Buffer.alloc(0)))
    if (bytes < 5000) {
      for (let at = 0; at < Math.min(record.length, 60); at++) call.socket.write(record.subarray(at, at + 1))
    }
    call.socket.write(record.subarray(bytes < 5000 ? Math.min(record.length, 60) : 0))
  })
  const { client } = clientOf(server)
  const order = Array.from({ length: 40 }, (_, index) => sizes[index % sizes.length] ?? 0)
  await Promise.all(order.map(async (bytes) => {
    const { value, memory } = await client.callBulk(FETCH, bytes, nobody)
    t.true(value.equals(data.get(bytes) ?? Buffer.alloc(1)), `${bytes} bytes`)
    memory.release()
    memory.release()
  }))
  t.is(client.pool.leased, 0)
  client.close()
  await server.stop()
})

test('a stream that has lost its place is closed, and the calls go on on the next one', async (t) => {
  // A record of 2 GiB, one of 8 bytes that is no reply, one too short for an xid, and another protocol.
  const garbage = [
    Buffer.from('ffffffff', 'hex'), Buffer.from('80000008000000010000000f', 'hex'), Buffer.from('800000020000', 'hex'),
    Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')
  ]
  const server = await ScriptedServer.start((call) => {
    const bytes = garbage[call.connection]
    if (bytes === undefined) echo(call)
    else call.socket.write(bytes)
  })
  const { client, events } = clientOf(server)
  t.is(await client.call(WORD, 5, nobody), 5)
  t.is(client.counters.garbage, 4)
  t.is(events.filter((event) => event.kind === 'disconnected' && event.reason === 'garbage').length, 4)
  client.close()
  await server.stop()
})

test('more answers to calls that nobody made than calls could explain end the connection', async (t) => {
  const invented = Buffer.concat(Array.from({ length: 1100 }, () => replyRecord(0x7fff_fff0, wordResult(666))))
  const server = await ScriptedServer.start((call) => {
    if (call.connection === 0) call.socket.write(invented)
    else echo(call)
  })
  const { client, events } = clientOf(server, { firstXid: 7 })
  t.is(await client.call(WORD, 5, nobody), 5)
  t.is(client.counters.unmatchedReplies, 1026, 'one for the call, 1024 more, and the one that was too many')
  t.is(events.filter((event) => event.kind === 'disconnected' && event.reason === 'garbage').length, 1)
  client.close()
  await server.stop()
})

const brokenReplies: Readonly<Record<string, (xid: number) => Buffer>> = {
  'results cut off': (xid) => replyRecord(xid, Buffer.alloc(0)),
  'a reply_stat that there is not': (xid) => replyRecord(xid, wordResult(0), [7, 0, 0, 0]),
  'nothing but the xid': (xid) => Buffer.from(`80000004${xid.toString(16).padStart(8, '0')}`, 'hex'),
  'a call instead of a reply': (xid) => Buffer.from(`80000008${xid.toString(16).padStart(8, '0')}00000000`, 'hex')
}
for (const [what, broken] of Object.entries(brokenReplies)) {
  test(`F10: an answer that cannot be decoded costs its own call and nothing else: ${what}`, async (t) => {
    const held: SeenCall[] = []
    const server = await ScriptedServer.start((call) => {
      const value = call.body.readUInt32BE(0)
      if (value === 13) call.socket.write(broken(call.xid))
      else if (value === 14) held.push(call)
      else echo(call)
    })
    const { client, events } = clientOf(server)
    const waiting = client.call(WORD, 14, nobody)
    await t.throwsAsync(client.call(WORD, 13, nobody), { instanceOf: WireError })
    t.is(await client.call(WORD, 15, nobody), 15)
    for (const call of held) echo(call)
    t.is(await waiting, 14)
    t.is(server.connections, 1)
    t.is(server.calls.filter((call) => call.body.readUInt32BE(0) === 13).length, 3)
    t.is(new Set(server.calls.filter((call) => call.body.readUInt32BE(0) === 13).map(({ xid }) => xid)).size, 1)
    t.is(server.calls.filter((call) => call.body.readUInt32BE(0) === 14).length, 1)
    t.is(client.counters.undecodable, 3)
    t.deepEqual(events.filter((event) => event.kind === 'undecodable').map((event) => event.givenUp), [
      false, false, true
    ])
    client.close()
    await server.stop()
  })
}

test('F10: an answer damaged on its way is asked for again and found whole', async (t) => {
  const server = await ScriptedServer.start((call, { calls }) => {
    if (calls.length < 3) call.socket.write(replyRecord(call.xid, dataResult(Buffer.alloc(64)).subarray(0, 40)))
    else call.socket.write(replyRecord(call.xid, dataResult(Buffer.alloc(64, 7))))
  })
  const { client } = clientOf(server)
  const { value, memory } = await client.callBulk(FETCH, 64, nobody)
  t.true(value.equals(Buffer.alloc(64, 7)))
  memory.release()
  t.is(server.connections, 1)
  t.is(client.pool.leased, 0)
  client.close()
  await server.stop()
})

test('F10: bytes behind the end of an answer are ignored, counted, and told once for each procedure', async (t) => {
  const extra = Buffer.from('deadbeef', 'hex')
  const server = await ScriptedServer.start((call) => {
    const results = call.procedure === 2 ? dataResult(Buffer.alloc(100, 5)) : wordResult(call.body.readUInt32BE(0))
    call.socket.write(replyRecord(call.xid, Buffer.concat([results, extra])))
  })
  const { client, events } = clientOf(server, { nconnect: 3 })
  for (let round = 0; round < 4; round++) {
    t.is(await client.call(WORD, round, nobody), round)
    const { value, memory } = await client.callBulk(FETCH, 100, nobody)
    t.true(value.equals(Buffer.alloc(100, 5)))
    memory.release()
  }
  t.is(client.counters.trailing, 8)
  t.is(client.counters.disconnects, 0)
  t.deepEqual(events.filter((event) => event.kind === 'trailing'), [
    { kind: 'trailing', procedure: 'WORD', bytes: 4 }, { kind: 'trailing', procedure: 'FETCH', bytes: 4 }
  ])
  t.is(client.pool.leased, 0)
  client.close()
  await server.stop()
})

test('a call answered while it is being sent again: its memory is no longer read', async (t) => {
  const data = Buffer.alloc(15 * 1024 * 1024, 0x11)
  let isChanged = false
  let first: SeenCall | undefined
  const server = await ScriptedServer.start((call) => {
    // The first copy is here, and no more is read for now. A broken answer makes the client send a second one, and a
    // good one comes while most of that is still in its memory.
    first = call
    call.socket.removeAllListeners('data')
    call.socket.pause()
    call.socket.write(replyRecord(call.xid, Buffer.alloc(0)))
    call.socket.write(replyRecord(call.xid, wordResult(1)))
  })
  const { client } = clientOf(server)
  t.is(await client.call(STORE, [data], nobody), 1)
  t.is(client.counters.retransmissions, 1)
  data.fill(0xee)
  first?.socket.on('data', (chunk: Buffer) => { isChanged ||= chunk.includes(0xee) })
  first?.socket.resume()
  await pause(1500)
  t.false(isChanged)
  client.close()
  await server.stop()
})

test('a server that accepts and drops is not hammered', async (t) => {
  const server = await ScriptedServer.start(() => undefined)
  server.onConnection = (socket) => { socket.resetAndDestroy() }
  const { client } = clientOf(server, { random: () => 0 })
  const call = client.call(WORD, 1, nobody)
  await pause(600)
  t.true(server.connections <= 6, `${server.connections} connections`)
  client.close()
  await t.throwsAsync(call, { instanceOf: TransportError, code: 'CLOSED' })
  await server.stop()
})

test('soft gives up after retrans, and a later call works when the server is back', async (t) => {
  let isAwake = false
  const server = await ScriptedServer.start((call) => { if (isAwake) echo(call) })
  const { client, events } = clientOf(server, { recovery: { recovery: 'soft', timeoMs: 100, retrans: 1 } })
  await t.throwsAsync(client.call(WORD, 1, nobody), { instanceOf: TransportError, code: 'TIMED_OUT' })
  t.true(events.some((event) => event.kind === 'not-responding' && event.givenUp))
  t.true(client.counters.softFailures > 0)
  isAwake = true
  let answer: number | undefined
  while (answer === undefined) answer = await client.call(WORD, 2, nobody).catch(() => undefined)
  t.is(answer, 2)
  t.true(events.some((event) => event.kind === 'responding'))
  client.close()
  await server.stop()
})

test('hard goes on for ever: silence makes new connections with the same xid until there is an answer', async (t) => {
  const server = await ScriptedServer.start((call) => { if (server.calls.length > 6) echo(call) })
  const { client, events } = clientOf(server, { recovery: { recovery: 'hard', timeoMs: 100, retrans: 1 } })
  t.is(await client.call(WORD, 1, nobody), 1)
  t.is(new Set(server.calls.map((call) => call.xid)).size, 1)
  t.true(server.connections > 1)
  t.true(events.some((event) => event.kind === 'not-responding' && !event.givenUp))
  t.true(events.some((event) => event.kind === 'disconnected' && event.reason === 'silent'))
  client.close()
  await server.stop()
})

test('a slow call is sent again on the same connection while others are answered', async (t) => {
  const server = await ScriptedServer.start((call) => {
    const isSlow = call.body.readUInt32BE(0) === 99
    if (!isSlow || server.calls.filter((one) => one.xid === call.xid).length > 1) echo(call)
  })
  const { client } = clientOf(server, { recovery: { recovery: 'hard', timeoMs: 1000, retrans: 5 } })
  let isDone = false
  const slow = client.call(WORD, 99, nobody).finally(() => { isDone = true })
  while (!isDone) await client.call(WORD, 1, nobody).then(() => pause(10))
  t.is(await slow, 99)
  t.is(server.connections, 1)
  t.true(client.counters.retransmissions >= 1)
  client.close()
  await server.stop()
})

test('a server that is away is waited for, and found again on its port', async (t) => {
  const server = await ScriptedServer.start(echo)
  const { client, events } = clientOf(server)
  t.is(await client.call(WORD, 1, nobody), 1)
  await server.stop()
  const call = client.call(WORD, 2, nobody)
  while (!events.some((event) => event.kind === 'unreachable')) await pause(10)
  await server.listen()
  t.is(await call, 2)
  client.close()
  await server.stop()
})

test('no more calls are in flight than allowed, and the others follow in order', async (t) => {
  const held: SeenCall[] = []
  let isOpen = false
  const server = await ScriptedServer.start((call) => {
    if (isOpen) echo(call)
    else held.push(call)
  })
  const { client } = clientOf(server)
  const calls = Array.from({ length: 3 * callsInFlightMax }, (_, index) => client.call(WORD, index, nobody))
  while (held.length < callsInFlightMax) await pause(5)
  await pause(30)
  t.is(held.length, callsInFlightMax)
  isOpen = true
  for (const call of held) echo(call)
  t.deepEqual(await Promise.all(calls), calls.map((_, index) => index))
  t.deepEqual(server.calls.map((call) => call.body.readUInt32BE(0)), calls.map((_, index) => index))
  client.close()
  await server.stop()
})

test('closing rejects what is in flight, what is queued, and what comes later', async (t) => {
  const server = await ScriptedServer.start(() => undefined)
  const { client } = clientOf(server)
  const calls = Array.from({ length: callsInFlightMax + 10 }, (_, index) => client.call(WORD, index, nobody))
  while (server.calls.length < callsInFlightMax) await pause(5)
  client.close()
  const outcomes = await Promise.allSettled([...calls, client.call(WORD, 1, nobody)])
  t.true(
    outcomes.every((outcome) =>
      outcome.status === 'rejected' && outcome.reason instanceof TransportError && outcome.reason.code === 'CLOSED'
    )
  )
  await server.stop()
})

test('when a soft call fails, its memory is no longer read', async (t) => {
  let received = Buffer.alloc(0)
  const server = await ScriptedServer.start(() => undefined)
  server.onConnection = (socket, connection) => {
    socket.removeAllListeners('data')
    socket.pause()
    if (connection === 0) {
      setTimeout(() => { socket.on('data', (chunk: Buffer) => { received = Buffer.concat([received, chunk]) }) }, 600)
    }
  }
  const { client } = clientOf(server, { recovery: { recovery: 'soft', timeoMs: 100, retrans: 0 } })
  const data = Buffer.alloc(12 * 1024 * 1024, 0x11)
  await t.throwsAsync(client.call(STORE, [data], nobody), { code: 'TIMED_OUT' })
  data.fill(0xee)
  await pause(800)
  t.false(received.includes(0xee))
  client.close()
  await server.stop()
})

test('file data stays off the first connection when there are several', async (t) => {
  const server = await ScriptedServer.start((call) => {
    if (call.procedure === 2) {
      call.socket.write(replyRecord(call.xid, dataResult(Buffer.alloc(call.body.readUInt32BE(0)))))
    } else echo(call)
  })
  const { client } = clientOf(server, { nconnect: 3 })
  for (let index = 0; index < 8; index++) {
    ;(await client.callBulk(FETCH, 100, nobody)).memory.release()
    await client.call(WORD, index, nobody)
  }
  const connectionsOf = (procedure: number): Set<number> =>
    new Set(server.calls.filter((call) => call.procedure === procedure).map((call) => call.connection))
  t.is(connectionsOf(1).size, 1)
  t.is(connectionsOf(2).size, 2)
  t.false([...connectionsOf(1)].some((connection) => connectionsOf(2).has(connection)))
  client.close()
  await server.stop()
})

test('an outage of one of several connections that nobody waits on any more is over when the server is heard of', async (t) => {
  let isSilent = true
  const server = await ScriptedServer.start((call) => {
    if (call.procedure === 1 && !isSilent) echo(call)
  })
  const { client } = clientOf(server, { nconnect: 2, recovery: { recovery: 'soft', timeoMs: 100, retrans: 0 } })
  await t.throwsAsync(client.callBulk(FETCH, 100, nobody), { code: 'TIMED_OUT' })
  t.true(client.isNotResponding)
  await t.throwsAsync(client.call(WORD, 1, nobody), { code: 'TIMED_OUT' })
  t.true(client.isNotResponding)
  isSilent = false
  let answer: number | undefined
  while (answer === undefined) answer = await client.call(WORD, 2, nobody).catch(() => undefined)
  t.false(client.isNotResponding)
  client.close()
  await server.stop()
})

test('a refusal by the server is an answer, not a reason to repeat', async (t) => {
  const server = await ScriptedServer.start((call) => {
    call.socket.write(replyRecord(call.xid, Buffer.alloc(0), [1, 1, 5]))
  })
  const { client } = clientOf(server)
  const error = await t.throwsAsync(client.call(WORD, 1, nobody), { instanceOf: RejectedError })
  t.is((error as RejectedError).rejection.kind, 'AUTH_TOOWEAK')
  t.is(server.calls.length, 1)
  client.close()
  await server.stop()
})

test('the next address is taken when one is away, unless it is another server', async (t) => {
  const server = await ScriptedServer.start(echo)
  const away = await ScriptedServer.start(echo)
  await away.stop()
  const endpoints = [{ address: '127.0.0.1', port: away.port }, { address: '127.0.0.2', port: server.port }, {
    address: '127.0.0.1', port: server.port
  }]
  const { client, events } = clientOf(server, {
    route: {
      endpoints: async () => await Promise.resolve(endpoints),
      admit: async ({ address }) => await Promise.resolve(address === '127.0.0.2' ? 'another root handle' : undefined)
    }
  })
  t.is(await client.call(WORD, 1, nobody), 1)
  t.is(client.address, `127.0.0.1:${server.port}`)
  t.true(events.some((event) => event.kind === 'address-refused' && event.detail === 'another root handle'))
  client.close()
  await server.stop()
})

test('idle connections that end are made again by the next call only', async (t) => {
  const server = await ScriptedServer.start(echo)
  const { client } = clientOf(server)
  t.is(await client.call(WORD, 1, nobody), 1)
  server.dropConnections()
  await pause(50)
  t.is(server.connections, 1)
  t.is(await client.call(WORD, 2, nobody), 2)
  t.is(server.connections, 2)
  client.close()
  await server.stop()
})

test('a single call on its own connection ends with an answer or in time', async (t) => {
  const server = await ScriptedServer.start((call) => { if (call.body.readUInt32BE(0) === 1) echo(call) })
  const options = {
    endpoint: { address: server.address, port: server.port }, credential: nobody, deadlineMs: 20_000, resvport: true
  }
  t.is(await callOnce(WORD, 1, options), 1)
  await t.throwsAsync(callOnce(WORD, 2, { ...options, deadlineMs: 200 }), {
    instanceOf: TransportError, code: 'TIMED_OUT'
  })
  await server.stop()
  await t.throwsAsync(callOnce(WORD, 1, options), { instanceOf: TransportError, code: 'REFUSED' })
})
