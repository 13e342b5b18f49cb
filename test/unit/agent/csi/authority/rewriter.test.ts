import { readFileSync } from 'node:fs'
import test from 'ava'
import { WireError } from '../../../../../agent/base/errors.ts'
import { HpackDecoder } from '../../../../../agent/csi/authority/hpack.ts'
import { AuthorityRewriter } from '../../../../../agent/csi/authority/rewriter.ts'
import { frame, framesOf, literals, preface, requestFields, settings } from './raw-client.ts'
import type { Frame } from './raw-client.ts'
import { chooseSeed } from '../../../../model/seed.ts'

const socketPath = '/var/lib/kubelet/plugins/x/csi.sock'
const captured = readFileSync('test/fixtures/http2/grpc-go-socket-path-authority.bin')

function rewrite (bytes: Buffer, size = bytes.length): Buffer {
  const rewriter = new AuthorityRewriter()
  const out: Buffer[] = []
  for (let at = 0; at < bytes.length; at += size) out.push(rewriter.push(bytes.subarray(at, at + size)))
  return Buffer.concat(out)
}
const after = (bytes: Buffer): Frame[] => framesOf(bytes.subarray(preface.length)).frames
/** The requests' fields, block by block, out of frames without padding. */
function blocksOf (frames: readonly Frame[]): string[][] {
  const decoder = new HpackDecoder()
  const blocks: string[][] = []
  let open = Buffer.alloc(0)
  for (const { type, flags, payload } of frames) {
    if (type !== 1 && type !== 9) continue
    open = Buffer.concat([open, (flags & 0x20) === 0 ? payload : payload.subarray(5)])
    if ((flags & 4) === 0) continue
    blocks.push(decoder.decode(open).fields.map(({ name, value }) => `${name}: ${value}`))
    open = Buffer.alloc(0)
  }
  return blocks
}
const start = Buffer.concat([preface, settings])
const ask = (fields: [string, string][] = requestFields('/p', socketPath)): Buffer => literals(fields)

test('a captured connection of grpc-go keeps everything but the authority', (t) => {
  const before = blocksOf(after(captured))
  const [frames, rewritten] = [after(rewrite(captured)), rewrite(captured)]
  t.is(before.length, 3)
  t.true(before.every((fields) => fields.includes(`:authority: ${socketPath}`)))
  t.deepEqual(
    blocksOf(frames),
    before.map((fields) =>
      fields.map((field) => field === `:authority: ${socketPath}` ? ':authority: localhost' : field)
    )
  )
  const others = (all: readonly Frame[]): Frame[] => all.filter(({ type }) => type !== 1 && type !== 9)
  t.deepEqual(others(frames), others(after(captured)))
  t.deepEqual(rewritten.subarray(0, preface.length), preface)
  t.true(frames.every(({ payload }) => payload.length <= 16_384))
})

for (const size of [1, 2, 7, 9, 10, 24, 1000]) {
  test(`in pieces of ${size} bytes the result is the same`, (t) => {
    t.true(rewrite(captured, size).equals(rewrite(captured)))
  })
}

test('an authority out of the dynamic table is rewritten, and what else is there stays right', (t) => {
  const first = literals(requestFields('/a', socketPath), 0x40)
  // The newest entry is index 62: content-type, te, :authority, :path, :scheme, :method.
  const second = Buffer.of(0x80 | 67, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 62)
  const blocks = blocksOf(after(rewrite(Buffer.concat([start, frame(1, 5, 1, first), frame(1, 5, 3, second)]))))
  t.deepEqual(blocks[1], [
    ':method: POST', ':scheme: http', ':path: /a', ':authority: localhost', 'content-type: application/grpc'
  ])
})

for (const [what, fields, expected] of [
  ['absent', requestFields('/p', undefined), [
    ':method: POST', ':scheme: http', ':path: /p', ':authority: localhost', 'te: trailers',
    'content-type: application/grpc'
  ]],
  ['empty', requestFields('/p', ''), [
    ':method: POST', ':scheme: http', ':path: /p', ':authority: localhost', 'te: trailers',
    'content-type: application/grpc'
  ]],
  ['said by a host header', [...requestFields('/p', undefined), ['host', socketPath]], [
    ':method: POST', ':scheme: http', ':path: /p', 'te: trailers', 'content-type: application/grpc', 'host: localhost'
  ]],
  ['twice, for the server to refuse', [[':authority', 'a'], ...requestFields('/p', 'b')], [
    ':authority: localhost', ':method: POST', ':scheme: http', ':path: /p', ':authority: localhost', 'te: trailers',
    'content-type: application/grpc'
  ]],
  ['in trailers, which get none', [['grpc-x', '1']], ['grpc-x: 1']]
] as [string, [string, string][], string[]][]) {
  test(`authority ${what}`, (t) => {
    t.deepEqual(blocksOf(after(rewrite(Buffer.concat([start, frame(1, 5, 1, ask(fields))])))), [expected])
  })
}

test('padding goes, priority and the end of the stream stay', (t) => {
  const priority = Buffer.of(0, 0, 0, 0, 99)
  const padded = Buffer.concat([Buffer.of(7), priority, ask(), Buffer.alloc(7)])
  const [, headers] = after(rewrite(Buffer.concat([start, frame(1, 0x2d, 5, padded)])))
  t.like(headers, { type: 1, flags: 0x25, stream: 5 })
  t.deepEqual(headers?.payload.subarray(0, 5), priority)
  t.true(blocksOf([headers!])[0]?.includes(':authority: localhost'))
})

test('a block in many continuations, some of them empty, comes out whole', (t) => {
  const block = ask([...requestFields('/p', socketPath), ['trace', 'y'.repeat(40_000)]])
  const pieces = Array.from({ length: 40 }, (_, index) => block.subarray(index * 1100, (index + 1) * 1100))
  const frames = pieces.map((piece, index) =>
    frame(index === 0 ? 1 : 9, (index === 0 ? 1 : 0) | (index === 39 ? 4 : 0), 7, piece)
  )
  const out = after(rewrite(Buffer.concat([start, ...frames, frame(0, 1, 7)])))
  t.deepEqual(out.map(({ type, flags, stream }) => [type, flags, stream]), [
    [4, 0, 0], [1, 1, 7], [9, 0, 7], [9, 4, 7], [0, 1, 7]
  ])
  t.is(blocksOf(out)[0]?.at(-1), `trace: ${'y'.repeat(40_000)}`)
})

test('frames of other types, known or not, go through untouched however large', (t) => {
  const others = Buffer.concat([
    frame(0, 9, 1, Buffer.alloc(100_000, 1)), frame(0x77, 0xff, 0x7fffffff, Buffer.from('?')),
    frame(6, 0, 0, Buffer.alloc(8)), frame(8, 0, 0, Buffer.alloc(4)), frame(0, 0, 1)
  ])
  t.true(rewrite(Buffer.concat([start, others])).subarray(start.length).equals(others))
})

test('a new table size is passed on before the fields', (t) => {
  const [, headers] = after(
    rewrite(Buffer.concat([start, frame(1, 5, 1, Buffer.concat([Buffer.from('203fe11f', 'hex'), ask()]))]))
  )
  t.is(headers?.payload.subarray(0, 4).toString('hex'), '203fe11f')
})

for (const [what, bytes] of [
  ['HTTP/1.1', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
  ['a continuation without a beginning', Buffer.concat([start, frame(9, 4, 1, ask())])],
  ['a block interrupted by a ping', Buffer.concat([start, frame(1, 1, 1, ask()), frame(6, 0, 0, Buffer.alloc(8))])],
  ['a block interrupted by another', Buffer.concat([start, frame(1, 1, 1, ask()), frame(1, 5, 3, ask())])],
  ['a continuation on another stream', Buffer.concat([start, frame(1, 1, 1, ask()), frame(9, 4, 3)])],
  ['headers on stream 0', Buffer.concat([start, frame(1, 5, 0, ask())])],
  ['a push promise', Buffer.concat([start, frame(5, 4, 1, Buffer.alloc(4))])],
  ['more padding than payload', Buffer.concat([start, frame(1, 0xd, 1, Buffer.of(9, 0, 0))])],
  ['a padded frame without its length', Buffer.concat([start, frame(1, 0xd, 1)])],
  ['a frame with priority that is too short', Buffer.concat([start, frame(1, 0x25, 1, Buffer.alloc(4))])],
  ['a HEADERS frame larger than announced', Buffer.concat([start, frame(1, 5, 1, Buffer.alloc(16_385))])],
  ['nonsense for HPACK', Buffer.concat([start, frame(1, 5, 1, Buffer.of(0xbe))])],
  [
    'empty continuations without end',
    Buffer.concat([start, frame(1, 1, 1), ...Array.from({ length: 65 }, () => frame(9, 0, 1))])
  ],
  [
    'full continuations without end',
    Buffer.concat([start, frame(1, 1, 1), ...Array.from({ length: 6 }, () => frame(9, 0, 1, Buffer.alloc(16_000)))])
  ]
] as const) {
  test(`${what} is refused`, (t) => {
    t.throws(() => rewrite(bytes), { instanceOf: WireError })
    t.throws(() => rewrite(bytes, 1), { instanceOf: WireError })
  })
}

test('captured bytes that were changed are rewritten or refused, and nothing else happens', (t) => {
  const seed = chooseSeed((line) => { t.log(line) })
  let state = seed
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor(state / 2 ** 32 * below)
  }
  let refused = 0
  for (let round = 0; round < 3000; round++) {
    const bytes = Buffer.from(captured.subarray(0, 900))
    for (let change = 0; change <= random(4); change++) {
      bytes[preface.length + random(bytes.length - preface.length)] = random(256)
    }
    try {
      rewrite(bytes, 1 + random(300))
    } catch (error) {
      if (!(error instanceof WireError)) throw error
      refused++
    }
  }
  t.true(refused > 100 && refused < 3000, `${refused}`)
})
