import test from 'ava'
import { WireError } from '../../../../agent/base/errors.ts'
import { XdrReader } from '../../../../proto/xdr/reader.ts'
import { XdrWriter } from '../../../../proto/xdr/writer.ts'

const hex = (text: string): XdrReader => new XdrReader(Buffer.from(text.replaceAll(' ', ''), 'hex'))
const written = (write: (out: XdrWriter) => void, capacityBytes?: number): string => {
  const out = new XdrWriter(capacityBytes)
  write(out)
  const bytes = Buffer.concat(out.finish())
  return bytes.toString('hex')
}

test('the example of RFC 4506 section 7 is read as it says', (t) => {
  // "sillyprog", an executable of 6 bytes read by "lisp", owned by "john".
  const input = hex(
    '00000009 73696c6c 7970726f 67000000 00000002 00000004 6c697370 00000004 6a6f686e 00000006 28717569 74290000'
  )
  t.is(input.latin1(255), 'sillyprog')
  t.is(input.uint32(), 2)
  t.is(input.latin1(255), 'lisp')
  t.is(input.latin1(255), 'john')
  t.is(input.opaque(255).toString(), '(quit)')
  t.is(input.remaining, 0)
})

test('the same example is written byte for byte, whatever the first capacity', (t) => {
  for (const capacity of [4, 8, 20, 256]) {
    t.is(
      written((out) => {
        out.latin1('sillyprog', 255)
        out.uint32(2)
        out.latin1('lisp', 255)
        out.latin1('john', 255)
        out.payload([Buffer.from('(qu'), Buffer.from('it)')], 255)
      }, capacity),
      '0000000973696c6c7970726f670000000000000200000004' + '6c697370000000046a6f686e00000006' + '2871756974290000'
    )
  }
})

test('64-bit values keep every bit, sizes are refused above 2^53', (t) => {
  t.is(hex('ffffffff fffffffe').uint64(), 0xffff_ffff_ffff_fffen)
  t.is(hex('001fffff ffffffff').size64(), Number.MAX_SAFE_INTEGER)
  t.throws(() => hex('00200000 00000000').size64(), { instanceOf: WireError })
  t.is(hex('ffffffff ffffffff').clamped64(), Number.MAX_SAFE_INTEGER)
  t.is(hex('00000001 00000002').clamped64(), 2 ** 32 + 2)
  t.is(
    written((out) => { out.size64(2 ** 40 + 5) }),
    '0000010000000005'
  )
  t.throws(() =>
    written((out) => { out.size64(2 ** 53) }), { instanceOf: WireError })
  t.throws(() =>
    written((out) => { out.size64(-1) }), { instanceOf: WireError })
})

test('lengths above the caller\'s maximum and beyond the message are refused', (t) => {
  t.throws(() => hex('00000005 61626364 65000000').opaque(4), { instanceOf: WireError, code: 'OVERLONG' })
  t.throws(() => hex('ffffffff').opaque(2 ** 32), { instanceOf: WireError })
  t.throws(() => hex('00000005 61626364').opaque(8), { instanceOf: WireError, code: 'TRUNCATED' })
  t.throws(() => hex('00000003 616263').latin1(8), { instanceOf: WireError, code: 'TRUNCATED' })
  t.throws(() => { hex('00000005 61626364').skipOpaque(8) }, { instanceOf: WireError, code: 'TRUNCATED' })
  t.throws(() =>
    written((out) => { out.latin1('abc', 2) }), { instanceOf: WireError })
})

test('booleans are 0 or 1, and what is left of a message is told', (t) => {
  t.true(hex('00000001').bool())
  t.throws(() => hex('00000002').bool(), { instanceOf: WireError })
  t.is(hex('00000000').remaining, 4)
  t.is(hex('00000000').optional((input) => input.uint32()), undefined)
  t.is(hex('00000001 00000007').optional((input) => input.uint32()), 7)
})

test('a reader never leaves its part of a buffer', (t) => {
  const buffer = Buffer.alloc(64, 1)
  const input = new XdrReader(buffer, 8, 16)
  t.is(input.remaining, 8)
  input.uint64()
  t.throws(() => input.uint32(), { instanceOf: WireError, code: 'TRUNCATED' })
})

test('latin1 keeps every byte', (t) => {
  const all = Buffer.from(Array.from({ length: 256 }, (_, index) => index))
  const out = new XdrWriter()
  out.opaque(all, 256)
  const text = new XdrReader(Buffer.concat(out.finish())).latin1(256)
  t.deepEqual(Buffer.from(text, 'latin1'), all)
})
