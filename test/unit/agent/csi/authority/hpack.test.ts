import test from 'ava'
import { WireError } from '../../../../../agent/base/errors.ts'
import {
  HpackDecoder,
  encodeBlock,
  headerListBytesMax,
  tableBytesMax
} from '../../../../../agent/csi/authority/hpack.ts'
import type { HeaderField } from '../../../../../agent/csi/authority/hpack.ts'

const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(' ', ''), 'hex')
const pairs = (fields: readonly HeaderField[]): string[] => fields.map(({ name, value }) => `${name}: ${value}`)
const decodeAll = (blocks: readonly string[]): string[][] => {
  const decoder = new HpackDecoder()
  return blocks.map((block) => pairs(decoder.decode(bytes(block)).fields))
}

const requests = [
  [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com'],
  [':method: GET', ':scheme: http', ':path: /', ':authority: www.example.com', 'cache-control: no-cache'],
  [':method: GET', ':scheme: https', ':path: /index.html', ':authority: www.example.com', 'custom-key: custom-value']
]
const response = (
  status: string,
  date: string,
  ...more: string[]
): string[] => [
  `:status: ${status}`, 'cache-control: private', `date: ${date}`, 'location: https://www.example.com', ...more
]

test('RFC 7541 C.2: each representation of one field', (t) => {
  t.deepEqual(decodeAll(['400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572']), [[
    'custom-key: custom-header'
  ]])
  t.deepEqual(decodeAll(['040c 2f73 616d 706c 652f 7061 7468']), [[':path: /sample/path']])
  t.deepEqual(decodeAll(['82']), [[':method: GET']])
  const { fields } = new HpackDecoder().decode(bytes('1008 7061 7373 776f 7264 0673 6563 7265 74'))
  t.deepEqual(fields, [{ name: 'password', value: 'secret', neverIndexed: true }])
})

test('RFC 7541 C.3: three requests of one connection, plain strings', (t) => {
  t.deepEqual(
    decodeAll([
      '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d', '8286 84be 5808 6e6f 2d63 6163 6865',
      '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65'
    ]),
    requests
  )
})

test('RFC 7541 C.4: the same with Huffman strings', (t) => {
  t.deepEqual(
    decodeAll([
      '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff', '8286 84be 5886 a8eb 1064 9cbf',
      '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf'
    ]),
    requests
  )
})

test('RFC 7541 C.6: a table of 256 bytes, from which entries fall out', (t) => {
  t.deepEqual(
    decodeAll([
      `3fe101 ${'4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3'}`,
      '4883 640e ffc1 c0bf',
      '88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07'
    ]),
    [
      response('302', 'Mon, 21 Oct 2013 20:13:21 GMT'),
      response('307', 'Mon, 21 Oct 2013 20:13:21 GMT'),
      [
        ':status: 200', 'cache-control: private', 'date: Mon, 21 Oct 2013 20:13:22 GMT',
        'location: https://www.example.com', 'content-encoding: gzip',
        'set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1'
      ]
    ]
  )
})

const literal = (name: string, value: string): string =>
  Buffer.concat([
    Buffer.of(0x40, name.length), Buffer.from(name), Buffer.of(0x7f, ...lengthRest(value.length)), Buffer.from(value)
  ]).toString('hex')
/** The bytes after a full 7-bit prefix. */
function lengthRest (length: number): number[] {
  const rest: number[] = []
  let left = length - 127
  for (; left >= 128; left >>= 7) rest.push(left & 127 | 128)
  return [...rest, left]
}

test('an entry larger than the table empties it and is itself in no table', (t) => {
  const decoder = new HpackDecoder()
  decoder.decode(bytes(literal('a', 'x'.repeat(200))))
  t.is(decoder.decode(bytes('be')).fields[0]?.value.length, 200)
  decoder.decode(bytes(literal('b', 'y'.repeat(tableBytesMax))))
  t.throws(() => decoder.decode(bytes('be')), { instanceOf: WireError, message: /index 62/ })
})

test('a name may come from an entry that its own field pushes out', (t) => {
  const decoder = new HpackDecoder()
  decoder.decode(bytes(literal('name', 'x'.repeat(4000))))
  const block = Buffer.concat([Buffer.of(0x7e, 0x7f, ...lengthRest(4000)), Buffer.alloc(4000, 'z')])
  t.is(decoder.decode(block).fields[0]?.name, 'name')
  t.is(decoder.decode(bytes('be')).fields[0]?.value[0], 'z')
})

for (const [what, hex] of [
  ['index 0', '80'], ['an index that nothing has', 'be'], ['the name of an index that nothing has', '7f00 0161'],
  ['a string beyond the block', '000a 61'], ['a block that ends inside an integer', 'ff80'],
  ['an integer without end', 'ff80 8080 8080 8080 8080 01'],
  ['a table larger than offered', '3fe2 1f'], ['a new table size after a field', '8220'],
  ['a literal without value', '0001 61'], ['a Huffman string of nonsense', '0081 0001 61']
] as const) {
  test(`${what} is refused`, (t) => {
    t.throws(() => new HpackDecoder().decode(bytes(hex)), { instanceOf: WireError })
  })
}

test('a few bytes that stand for megabytes are refused before they are unfolded', (t) => {
  const decoder = new HpackDecoder()
  decoder.decode(bytes(literal('a', 'x'.repeat(4000))))
  t.throws(() => decoder.decode(Buffer.alloc(headerListBytesMax, 0xbe)), {
    instanceOf: WireError, message: /bytes of headers/
  })
})

test('what is encoded refers to no table, keeps sizes and the wish not to be indexed', (t) => {
  const fields = [
    { name: ':path', value: '/x', neverIndexed: false }, { name: 'token', value: 's', neverIndexed: true },
    { name: 'bin', value: '\u00ff\u0000', neverIndexed: false },
    { name: 'long', value: 'y'.repeat(20_000), neverIndexed: false }
  ]
  const block = { tableSizes: [0, 4096], fields }
  t.deepEqual(new HpackDecoder().decode(encodeBlock(block)), block)
  // RFC 7541 C.2.3, byte for byte; C.1.2 for the integer.
  t.is(
    encodeBlock({ tableSizes: [], fields: [{ name: 'password', value: 'secret', neverIndexed: true }] }).toString(
      'hex'
    ),
    '100870617373776f726406736563726574'
  )
  t.is(encodeBlock({ tableSizes: [1337], fields: [] }).toString('hex'), '3f9a0a')
})
