import { readFileSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { WireError } from '../../../../agent/base/errors.ts'
import { portmapProcedures, portOfUniversalAddress } from '../../../../proto/portmap/procedures.ts'
import { decodeReplyHead, requireReply } from '../../../../proto/rpc/reply.ts'
import { XdrReader } from '../../../../proto/xdr/reader.ts'
import { XdrWriter } from '../../../../proto/xdr/writer.ts'

const hex = (text: string): XdrReader => new XdrReader(Buffer.from(text, 'hex'))

test('GETPORT asks with a mapping and answers a port', (t) => {
  const out = new XdrWriter()
  portmapProcedures.GETPORT.encode(out, { program: 100003, version: 3, protocol: 6 })
  t.is(Buffer.concat(out.finish()).toString('hex'), '000186a3000000030000000600000000')
  const args = { program: 100003, version: 3, protocol: 6 }
  t.is(portmapProcedures.GETPORT.decode(hex('00000801'), args), 2049)
  t.is(portmapProcedures.GETPORT.decode(hex('00000000'), args), 0)
  t.throws(() => portmapProcedures.GETPORT.decode(hex('00010000'), args), { instanceOf: WireError })
})

test('DUMP lists what is registered', (t) => {
  t.deepEqual(portmapProcedures.DUMP.decode(hex('00000001000186a5000000030000000600004e5000000000'), undefined), [
    { program: 100005, version: 3, protocol: 6, port: 20048 }
  ])
})

test('universal addresses end in the port\'s two bytes', (t) => {
  t.is(portOfUniversalAddress('192.0.2.1.8.1'), 2049)
  t.is(portOfUniversalAddress('2001:db8::1.78.80'), 20048)
  t.is(portOfUniversalAddress('::.0.111'), 111)
  for (const text of ['', '1.2', 'x.256.1', '192.0.2.1:2049', 'a.1.2.x']) {
    t.is(portOfUniversalAddress(text.replace('1.2', '1,2')), undefined)
  }
})

const captured = (file: string): XdrReader => {
  const input = new XdrReader(readFileSync(path.join(import.meta.dirname, '../../../fixtures/rpc', file)))
  input.uint32()
  requireReply(input)
  if (decodeReplyHead(input) !== undefined) throw new Error('rejected')
  return input
}

test('answers of a real rpcbind: its own port, and nothing for what is not registered', (t) => {
  const args = { program: 100000, version: 2, protocol: 6 }
  t.is(portmapProcedures.GETPORT.decode(captured('portmap-getport.rpcbind.bin'), args), 111)
  t.is(portmapProcedures.GETPORT.decode(captured('portmap-getport-none.rpcbind.bin'), args), 0)
  const rpcb = { program: 100000, version: 4, netid: 'tcp6', address: '' }
  t.is(
    portOfUniversalAddress(portmapProcedures.GETADDR_V4.decode(captured('rpcbind-getaddr-v4.rpcbind.bin'), rpcb)),
    111
  )
  t.is(portmapProcedures.GETADDR_V3.decode(captured('rpcbind-getaddr-v3-none.rpcbind.bin'), rpcb), '')
  const listed = portmapProcedures.DUMP.decode(captured('portmap-dump.rpcbind.bin'), undefined)
  t.deepEqual(listed.map(({ version, protocol, port }) => `${version}/${protocol}/${port}`), [
    '4/6/111', '3/6/111', '2/6/111', '4/17/111', '3/17/111', '2/17/111'
  ])
})
