import test from 'ava'
import { carriedGroups, encodeAuthNone, encodeAuthSys } from '../../../../proto/rpc/auth.ts'

test('AUTH_SYS has the bytes of RFC 5531 appendix A', (t) => {
  const bytes = encodeAuthSys({ machineName: 'node1', uid: 1000, gid: 100, groups: [4, 27], stamp: 0x01020304 })
  t.is(
    bytes.toString('hex'),
    [
      '00000001', '00000024', '01020304', '00000005', '6e6f6465', '31000000', '000003e8', '00000064', '00000002',
      '00000004', '0000001b'
    ].join('')
  )
})

test('AUTH_NONE is two zero words', (t) => { t.deepEqual(encodeAuthNone(), Buffer.alloc(8)) })

test('sixteen groups are carried as they are', (t) => {
  const groups = Array.from({ length: 16 }, (_, index) => index)
  t.deepEqual(carriedGroups(3, groups), groups)
})

test('of more than sixteen groups the effective one is not repeated and the first are kept', (t) => {
  const groups = Array.from({ length: 20 }, (_, index) => 100 + index)
  t.deepEqual(carriedGroups(103, groups), [100, 101, 102, ...Array.from({ length: 13 }, (_, index) => 104 + index)])
})

test('a long machine name is cut to 255 bytes', (t) => {
  t.is(encodeAuthSys({ machineName: 'x'.repeat(300), uid: 0, gid: 0, groups: [], stamp: 0 }).readUInt32BE(12), 255)
})
