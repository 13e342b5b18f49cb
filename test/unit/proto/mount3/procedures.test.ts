import test from 'ava'
import { WireError } from '../../../../agent/base/errors.ts'
import { mountFailures, mountProcedures } from '../../../../proto/mount3/procedures.ts'
import { XdrReader } from '../../../../proto/xdr/reader.ts'
import { decodeReply, procedureOf, record } from '../nfs3/captured.ts'

const hex = (text: string): XdrReader => new XdrReader(Buffer.from(text.replaceAll(' ', ''), 'hex'))
const args = { path: '/' }

test('MNT of ganesha answers a handle and AUTH_SYS', (t) => {
  const mounted = decodeReply(procedureOf('mount-mnt-0.ganesha.bin'), record('mount-mnt-0.ganesha.bin')) as {
    handle: string
    flavors: number[]
  }
  t.true(mounted.handle.length > 0 && mounted.handle.length <= 64)
  t.true(mounted.flavors.includes(1))
})

test('EXPORT of ganesha lists its one export', (t) => {
  const exports = decodeReply(procedureOf('mount-export-1.ganesha.bin'), record('mount-export-1.ganesha.bin')) as {
    path: string
  }[]
  t.is(exports.length, 1)
  t.regex(exports[0]?.path ?? '', /\/export$/)
})

for (const [status, number] of Object.entries(mountFailures)) {
  test(`mountstat3 ${number} is ${status}`, (t) => {
    t.deepEqual(mountProcedures.MNT.decode(hex(number.toString(16).padStart(8, '0')), args), {
      ok: false, status: status as keyof typeof mountFailures
    })
  })
}

test('EXPORT and DUMP are linked lists of linked lists, as RFC 1813 appendix I has them', (t) => {
  t.deepEqual(
    mountProcedures.EXPORT.decode(
      hex('00000001 00000002 2f610000 00000001 00000001 2a000000 00000000 00000000'),
      undefined
    ),
    [
      { path: '/a', groups: ['*'] }
    ]
  )
  t.deepEqual(mountProcedures.DUMP.decode(hex('00000001 00000001 68000000 00000002 2f610000 00000000'), undefined), [{
    host: 'h', path: '/a'
  }])
})

test('a handle above 64 bytes and a thousand flavours are refused', (t) => {
  t.throws(() => mountProcedures.MNT.decode(hex(`00000000 00000044 ${'00'.repeat(68)} 00000000`), args), {
    instanceOf: WireError
  })
  t.throws(() => mountProcedures.MNT.decode(hex(`00000000 00000000 000003e8 ${'00'.repeat(4000)}`), args), {
    instanceOf: WireError
  })
})
