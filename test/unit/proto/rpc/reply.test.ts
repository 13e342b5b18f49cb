import test from 'ava'
import { WireError } from '../../../../agent/base/errors.ts'
import { acceptFailures, authFailures, decodeReplyHead, requireReply } from '../../../../proto/rpc/reply.ts'
import { XdrReader } from '../../../../proto/xdr/reader.ts'

/** Words as RFC 5531 section 9 lays them out. */
const words = (...values: number[]): XdrReader => {
  const bytes = Buffer.alloc(values.length * 4)
  values.forEach((value, index) => bytes.writeUInt32BE(value, index * 4))
  return new XdrReader(bytes)
}

test('a message is a reply, never a call', (t) => {
  t.notThrows(() => { requireReply(words(1)) })
  t.throws(() => { requireReply(words(0)) }, { instanceOf: WireError })
  t.throws(() => { requireReply(words(2)) }, { instanceOf: WireError })
})

test('an accepted call leaves the reader at its results', (t) => {
  const input = words(0, 0, 0, 0, 77)
  t.is(decodeReplyHead(input), undefined)
  t.is(input.uint32(), 77)
})

test('a verifier of any flavour is passed over', (t) => {
  const input = words(0, 6, 8, 1, 2, 0, 99)
  t.is(decodeReplyHead(input), undefined)
  t.is(input.uint32(), 99)
})

for (const [number, kind] of Object.entries(acceptFailures)) {
  test(`accept_stat ${number} is ${kind}`, (t) => {
    const versions = kind === 'PROG_MISMATCH' ? [3, 4] : []
    t.deepEqual(decodeReplyHead(words(0, 0, 0, Number(number), ...versions)), {
      kind, versions: kind === 'PROG_MISMATCH' ? { low: 3, high: 4 } : undefined
    })
  })
}

for (const [number, kind] of Object.entries(authFailures)) {
  test(`auth_stat ${number} is ${kind}`, (t) => {
    t.deepEqual(decodeReplyHead(words(1, 1, Number(number))), { kind, versions: undefined })
  })
}

test('a server of another RPC version says which it speaks', (t) => {
  t.deepEqual(decodeReplyHead(words(1, 0, 2, 3)), { kind: 'RPC_MISMATCH', versions: { low: 2, high: 3 } })
})

test('values outside the unions are refused', (t) => {
  for (const input of [words(2), words(0, 0, 0, 6), words(1, 2), words(0, 0, 401)]) {
    t.throws(() => decodeReplyHead(input), { instanceOf: WireError })
  }
})
