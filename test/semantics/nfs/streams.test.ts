/**
 * Several requests at once: read-ahead of one reader and of several, and connections of which one carries no file data.
 * What is under way is counted by the proxy between mount and server; a long way makes it visible.
 */
import { open, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { Ganesha } from '../../peers/ganesha.ts'
import { FaultProxy, type ProxiedRecord, type ProxyVerdict } from '../../peers/fault-proxy.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { procedures } from '../../../proto/nfs3/procedures.ts'
import { shell, TestNode } from '../endtoend/node.ts'

const check = testNeeding('root', 'fuse', 'ganesha')
const megabytes = 32

let server: Ganesha
let node: TestNode

test.before(async () => {
  if (missing('root', 'fuse', 'ganesha') !== undefined) return
  node = new TestNode()
  server = await Ganesha.start({ folder: node.makeFolder('export') })
  await node.startAgent()
  for (const name of ['a', 'b', 'c']) {
    const block = Buffer.alloc(megabytes * 1024 * 1024)
    for (let at = 0; at < block.length; at += 4096) block.write(`${name}${at}`, at)
    await writeFile(path.join(server.folder, name), block)
  }
})

test.after.always(async () => {
  await node?.close()
  await server?.close()
})

/** READs that the proxy has seen called and not answered. */
class UnderWay {
  most = 0
  readonly connections = new Set<number>()
  readonly #xids = new Set<number>()

  see ({ direction, xid, procedure, connection }: ProxiedRecord): undefined {
    if (procedure !== procedures.READ.number) return undefined
    if (direction === 'reply') this.#xids.delete(xid)
    else {
      this.#xids.add(xid)
      this.connections.add(connection)
    }
    this.most = Math.max(this.most, this.#xids.size)
    return undefined
  }
}

async function mountThrough (proxy: FaultProxy, name: string, options: string): Promise<string> {
  const point = node.makeFolder(name)
  await node.mount(
    `127.0.0.1:${server.folder}`,
    point,
    `vers=3,port=${proxy.port},mountport=${server.mountPort},${options}`
  )
  return point
}

async function readAheadKibibytes (point: string): Promise<number> {
  return Number(await shell(`cat /sys/class/bdi/$(stat -c %Hd:%Ld ${point})/read_ahead_kb`))
}

check('a far server is read further ahead of', async (t) => {
  await using near = await FaultProxy.start({ port: server.nfsPort, host: server.host })
  await using far = await FaultProxy.start({ port: server.nfsPort, host: server.host, latencyMs: 20 })
  const [here, there] = [await mountThrough(near, 'near', 'acregmin=3'), await mountThrough(far, 'far', 'acregmin=4')]
  t.true(await readAheadKibibytes(here) >= 8 * 1024)
  t.is(await readAheadKibibytes(there), 32 * 1024)
  await node.unmount(here)
  await node.unmount(there)
})

check('one sequential reader has sixteen requests of 1 MiB under way on a long way, several readers more, and all read the right bytes', async (t) => {
  const one = new UnderWay()
  await using proxy = await FaultProxy.start({
    port: server.nfsPort, host: server.host, latencyMs: 60, decide: (record) => one.see(record)
  })
  const point = await mountThrough(proxy, 'ahead', 'rsize=1048576')
  await shell(`cmp ${point}/a ${server.folder}/a`)
  t.true(one.most >= 16, `${one.most} at most`)
  const two = new UnderWay()
  proxy.decide = (record) => two.see(record)
  await shell(`cmp ${point}/b ${server.folder}/b & one=$!; cmp ${point}/c ${server.folder}/c; wait $one`)
  t.true(two.most > one.most, `${two.most} of two readers, ${one.most} of one`)
  await node.unmount(point)
})

check('with nconnect=4 file data goes over three connections, and names over the other', async (t) => {
  const reads = new UnderWay()
  const names = new Set<number>()
  await using proxy = await FaultProxy.start({
    port: server.nfsPort,
    host: server.host,
    decide: (record) => {
      if (record.direction === 'call' && record.procedure === procedures.LOOKUP.number) names.add(record.connection)
      return reads.see(record)
    }
  })
  const point = await mountThrough(proxy, 'several', 'nconnect=4')
  await shell(`cmp ${point}/a ${server.folder}/a; stat ${point}/b ${point}/c > /dev/null`)
  t.is(reads.connections.size, 3)
  t.is(names.size, 1)
  t.true([...names].every((connection) => !reads.connections.has(connection)))
  await node.unmount(point)
})

check('with nconnect=2 a name is looked up while the connection for data is blocked', async (t) => {
  let isBlocked = true
  const arrived = Promise.withResolvers<undefined>()
  const blocking = (record: ProxiedRecord): ProxyVerdict | undefined => {
    if (record.direction !== 'reply' || record.procedure !== procedures.READ.number) return undefined
    arrived.resolve(undefined)
    // Everything behind the first answer waits with it, as in a full socket.
    return isBlocked ? { stallMs: 2000 } : undefined
  }
  await using proxy = await FaultProxy.start({ port: server.nfsPort, host: server.host, decide: blocking })
  const point = await mountThrough(proxy, 'blocked', 'nconnect=2')
  const order: string[] = []
  const reading = (async () => {
    await using file = await open(path.join(point, 'a'))
    await file.read(Buffer.alloc(4096), 0, 4096, 0)
    order.push('data')
  })()
  await arrived.promise
  await shell(`stat ${point}/b > /dev/null`)
  order.push('name')
  await reading
  isBlocked = false
  t.deepEqual(order, ['name', 'data'])
  await node.unmount(point)
})
