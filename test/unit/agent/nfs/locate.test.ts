import test from 'ava'
import { VolumeError } from '../../../../agent/base/errors.ts'
import { addressesOf, portOf, registeredPort } from '../../../../agent/nfs/locate.ts'
import { replyRecord, ScriptedServer, wordResult } from '../rpc/scripted-server.ts'

const query = { program: 100003, version: 3, name: 'the NFS service' }
const answering = (resolve: () => Promise<readonly string[]>): Parameters<typeof addressesOf>[1] => ({
  resolve, deadlineMs: 100
})

test('addresses are not resolved, names are, each address once', async (t) => {
  const unused = answering(() => { throw new Error('asked') })
  t.deepEqual(await addressesOf('192.0.2.1', unused), ['192.0.2.1'])
  t.deepEqual(await addressesOf('2001:db8::1', unused), ['2001:db8::1'])
  t.deepEqual(
    await addressesOf('nfs', answering(async () => await Promise.resolve(['192.0.2.1', '192.0.2.2', '192.0.2.1']))),
    ['192.0.2.1', '192.0.2.2']
  )
})

test('a name that is unknown, empty or never answered is an error about the server', async (t) => {
  for (const resolve of [
    async () => await Promise.reject(new Error('getaddrinfo ENOTFOUND nfs')),
    async () => await Promise.resolve([]),
    async () => await new Promise<readonly string[]>(() => undefined)
  ]) {
    const error = await t.throwsAsync(addressesOf('nfs', answering(resolve)), { instanceOf: VolumeError })
    t.like(error, { code: 'UNAVAILABLE', field: 'server' })
    t.regex(error?.message ?? '', /"nfs".*; check the name/)
  }
})

test('the port mapper tells the port, or that nothing is registered, and is named when it is away', async (t) => {
  let port = 2049
  const server = await ScriptedServer.start((call) => { call.socket.write(replyRecord(call.xid, wordResult(port))) })
  const locator = { resolve: async () => await Promise.resolve([]), deadlineMs: 1000, portmapPort: server.port }
  t.is(await portOf(server.address, query, locator), 2049)
  t.is(await registeredPort(server.address, query, 'port', locator), 2049)
  t.is(server.calls[0]?.body.toString('hex'), '000186a3000000030000000600000000')
  port = 0
  t.is(await portOf(server.address, query, locator), undefined)
  t.like(await t.throwsAsync(registeredPort(server.address, query, 'port', locator)), {
    code: 'UNAVAILABLE', field: 'server'
  })
  await server.stop()
  const error = await t.throwsAsync(registeredPort(server.address, query, 'port', locator))
  t.regex(error?.message ?? '', /port mapper.*give the mount option port=/)
})
