/** Faults that one call meets on its way, one after the other: these measure time or move the clock, and stand in
 * nobody's way. */
import test from 'ava'
import { TransportError } from '../../../../agent/base/errors.ts'
import { xidMax } from '../../../../agent/rpc/client.ts'
import { clientOf, nobody, WORD } from './procedures.ts'
import { replyRecord, ScriptedServer, type SeenCall, wordResult } from './scripted-server.ts'

const echo = (call: SeenCall): void => {
  call.socket.write(replyRecord(call.xid, wordResult(call.body.readUInt32BE(0))))
}

test.serial('F9: xids go on at 1 after the largest, and every answer finds its call', async (t) => {
  const server = await ScriptedServer.start(echo)
  const { client } = clientOf(server, { firstXid: xidMax - 3 })
  t.deepEqual(
    await Promise.all(Array.from({ length: 8 }, async (_, index) => await client.call(WORD, index, nobody))),
    [0, 1, 2, 3, 4, 5, 6, 7]
  )
  t.deepEqual(server.calls.map(({ xid }) => xid), [xidMax - 2, xidMax - 1, xidMax, 1, 2, 3, 4, 5])
  client.close()
  await server.stop()
})

test.serial('F18: an answer that trickles for many times timeo is read to its end, on the connection it came on', async (t) => {
  const begun = new Set<number>()
  const server = await ScriptedServer.start((call) => {
    // A call that comes again on its connection is being answered already.
    if (begun.has(call.connection)) return
    begun.add(call.connection)
    const reply = replyRecord(call.xid, wordResult(7))
    const trickle = (at: number): void => {
      if (at >= reply.length || call.socket.destroyed) return
      call.socket.write(reply.subarray(at, at + 1))
      setTimeout(trickle, 60, at + 1)
    }
    trickle(0)
  })
  // Three times the pause between two bytes, and more: a busy machine is no silent server.
  const { client } = clientOf(server, { recovery: { recovery: 'hard', timeoMs: 300, retrans: 2 } })
  t.is(await client.call(WORD, 7, nobody), 7)
  t.is(server.connections, 1, 'a slow answer is no silence')
  client.close()
  await server.stop()
})

test.serial('F20: a clock that is set back or forward changes no timeout', async (t) => {
  const server = await ScriptedServer.start((call) => { if (call.body.readUInt32BE(0) !== 1) echo(call) })
  const { client } = clientOf(server, { recovery: { recovery: 'soft', timeoMs: 600, retrans: 1 } })
  const real = Date.now
  const realTime = Date.prototype.getTime
  for (const jumpMs of [-86_400_000, 86_400_000]) {
    // What a process sees when somebody sets the clock while a call waits.
    Date.now = () => real() + jumpMs
    Date.prototype.getTime = function () { return realTime.call(this) + jumpMs }
    try {
      const silent = client.call(WORD, 1, nobody)
      t.is(await client.call(WORD, 2, nobody), 2)
      await t.throwsAsync(silent, { instanceOf: TransportError, code: 'TIMED_OUT' })
      t.is(await client.call(WORD, 3, nobody), 3)
    } finally {
      Date.now = real
      Date.prototype.getTime = realTime
    }
  }
  client.close()
  await server.stop()
})
