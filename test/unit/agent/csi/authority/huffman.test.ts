import test from 'ava'
import { WireError } from '../../../../../agent/base/errors.ts'
import { decodeHuffman } from '../../../../../agent/csi/authority/huffman.ts'

/** Every byte from 0 to 255, as Go's implementation codes them: test/fixtures/http2/PROVENANCE.md. */
const allBytesByGo =
  'ffc7fffd8fffffe2fffffe3fffffe4fffffe5fffffe6fffffe7fffffe8ffffeafffffff3fffffa7fffffabffffffdfffffebfffffecfffffedfffffe' +
  'efffffefffffff0ffffff1ffffff2fffffffbfffffcffffffd3fffffd7fffffdbfffffdffffffe3fffffe7fffffebfffffed4fe3f9ffaffcabf1febf' +
  'afefe7fdfd2cbb00089969b71d79fb9f7fff20ffbff3ff50ddbd7f061c58f265cd9f469d5af66dddbf871e5f9cff7ff7fffc3ff9ffe45fff4719242c' +
  'b34e6e9d68a6a3d7dac426defe3cfaf7fffbfe7ffbffdffffffcfffe6ffff4bfff9ffffa3fffd3ffff53fffd5ffffb3fffeb7fffdaffffb7ffff73ff' +
  'feeffffdeffffebffffbfffffd9ffffdbfffebffffe0ffffeeffffc3ffff8bffff1ffffe4fffee7fffb1ffff97fffd9ffffcdffff9fffffbffffdaff' +
  'feeffff4ffffb7fffee7fffe8ffffd3fffdeffffd5fffeeffffbdffffe1fffdfffff7fffff5ffffecffff07fff87fffe0ffff17fffedffff87ffff77' +
  'fffeffffeaffff8bfffe3ffff93ffff87fffcbffff37ffff1fffff83ffffe1fffebfffe3ffff3fffff2ffffa3ffffd9fffff17ffffc7fffff27ffffd' +
  'efffffbffffff2fffff8fffffb7fff97fff8fffffe6fffffc1fffff87ffffe7fffffc5ffffe5fffe4ffff2fffffd1fffff4ffffffefffffe3fffffc9' +
  'fffff97fffb3ffffcffffb7fffcdffff4ffff9ffffd1ffffcffffeaffffafffffddffffeffffff4fffff5fffffabffffa7ffffd7fffff9bffffecfff' +
  'ffb7fffff3fffffe8fffffd3fffffabfffff5fffffff7ffffecfffffdbfffffbbfffff7ffffff0fffffbbf'

const decode = (hex: string): string => decodeHuffman(Buffer.from(hex.replaceAll(' ', ''), 'hex'))

test('every byte is decoded as another implementation coded it', (t) => {
  t.deepEqual(Buffer.from(decode(allBytesByGo), 'latin1'), Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)))
})

for (const [coded, text] of [
  ['f1e3 c2e5 f23a 6ba0 ab90 f4ff', 'www.example.com'],
  ['a8eb 1064 9cbf', 'no-cache'],
  ['25a8 49e9 5ba9 7d7f', 'custom-key'],
  ['25a8 49e9 5bb8 e8b4 bf', 'custom-value'],
  ['d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff', 'Mon, 21 Oct 2013 20:13:21 GMT'],
  ['', '']
] as const) {
  test(`RFC 7541 appendix C: ${JSON.stringify(text)}`, (t) => {
    t.is(decode(coded), text)
  })
}

for (const [what, coded] of [
  ['an end of string inside', 'ffff ffff'],
  ['a whole byte of padding', 'a8eb 1064 9cbf ff'],
  ['padding that is not of ones', 'a8eb 1064 9cb0'],
  ['a code that is cut off', 'fffe']
] as const) {
  test(`${what} is refused`, (t) => {
    t.throws(() => decode(coded), { instanceOf: WireError })
  })
}
