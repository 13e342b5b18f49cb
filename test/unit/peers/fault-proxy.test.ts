import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { FaultProxy, type FaultProxyOptions } from '../../peers/fault-proxy.ts'
import { NfsServer } from '../../peers/nfs-server/server.ts'
import { RpcClient } from './rpc-client.ts'

const [PORTMAP, GETPORT, NULL] = [100000, 3, 0]

/** A client of a server through a proxy; GETPORT answers with a number, so that replies can be told apart. */
async function through (
  t: ExecutionContext,
  options: Omit<FaultProxyOptions, 'port'>
): Promise<{ client: RpcClient, proxy: FaultProxy, server: NfsServer }> {
  const folder = mkdtempSync(path.join(tmpdir(), 'volbridge-proxy-'))
  const server = await NfsServer.start({ folder })
  const proxy = await FaultProxy.start({ ...options, port: server.port })
  const client = await RpcClient.connect(proxy.port)
  t.teardown(async () => {
    client.close()
    await proxy.close()
    await server.close()
    rmSync(folder, { recursive: true })
  })
  return { client, proxy, server }
}

const ask = (client: RpcClient, ...xids: number[]): void => {
  for (const xid of xids) client.send(xid, PORTMAP, 2, NULL)
}

test('records pass unchanged in both directions', async (t) => {
  const { client, server } = await through(t, {})
  client.send(7, PORTMAP, 2, GETPORT, (out) => { for (const word of [100003, 3, 6, 0]) out.uint32(word) })
  t.deepEqual((await client.next())?.words, [0, server.port])
})

test('a reply is dropped by procedure, a call before it reaches the server', async (t) => {
  const { client, server } = await through(t, {
    decide: ({ direction, xid }) => ({ drop: direction === 'reply' ? xid === 1 : xid === 2 })
  })
  ask(client, 1, 2, 3)
  t.is((await client.next())?.xid, 3)
  t.is(server.calls['NULL'], 2)
})

test('a reply is duplicated, delayed, kept behind others, cut into fragments', async (t) => {
  const verdicts = [{ copies: 2 }, { delayMs: 30 }, { behind: 2 }, { fragmentBytes: 3 }, {}]
  const { client } = await through(t, {
    decide: ({ direction, xid }) => direction === 'reply' ? verdicts[xid - 1] : undefined
  })
  const order: (number | undefined)[] = []
  for (const xid of [1, 2, 3, 4, 5]) ask(client, xid)
  while (order.length < 6) order.push((await client.next())?.xid)
  t.deepEqual(order.filter((xid) => xid === 1), [1, 1])
  t.true(order.indexOf(3) > order.indexOf(4) && order.indexOf(3) > order.indexOf(5))
  t.is(order.at(-1), 2)
})

test('a connection is reset in the middle of a record, the next one works', async (t) => {
  const { client, proxy } = await through(t, {
    decide: ({ direction, nth }) => direction === 'reply' && nth === 0 ? { resetAfterBytes: 10 } : undefined
  })
  ask(client, 1)
  t.is(await client.next(), undefined)
  const second = await RpcClient.connect(proxy.port)
  ask(second, 2)
  t.is((await second.next())?.xid, 2)
  second.close()
  t.is(proxy.connections, 2)
})

test('a truncated reply keeps a correct marker', async (t) => {
  const { client } = await through(t, {
    decide: ({ direction, xid }) => direction === 'reply' && xid === 1 ? { truncateBytes: 20 } : undefined
  })
  ask(client, 1, 2)
  t.deepEqual(await client.next().then((reply) => reply?.bytes.length), 0)
  t.is((await client.next())?.xid, 2)
})

test('in a black hole nothing is lost and nothing closes; healed, everything arrives', async (t) => {
  const { client, proxy, server } = await through(t, {})
  proxy.blackHole()
  ask(client, 1, 2)
  const late = await RpcClient.connect(proxy.port)
  ask(late, 3)
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.is(server.calls['NULL'], undefined)
  proxy.heal()
  t.deepEqual([(await client.next())?.xid, (await client.next())?.xid, (await late.next())?.xid], [1, 2, 3])
  late.close()
})

test('latency keeps the order of records', async (t) => {
  const { client } = await through(t, { latencyMs: 10 })
  ask(client, 1, 2, 3)
  t.deepEqual([(await client.next())?.xid, (await client.next())?.xid, (await client.next())?.xid], [1, 2, 3])
})
