import { randomBytes } from 'node:crypto'
import test from 'ava'
import { WireError } from '../../../../agent/base/errors.ts'
import { RecordFramer, type RecordMemory } from '../../../../proto/rpc/record.ts'
import { randomOf } from '../../../model/exercise.ts'
import { chooseSeed } from '../../../model/seed.ts'

const recordBytesMax = 1 << 20

function framerWithBooks (): {
  framer: RecordFramer
  records: Buffer[]
  push: (chunk: Buffer) => void
  leased: () => number
  acquiredBytes: () => number
} {
  let leased = 0
  let acquiredBytes = 0
  const acquire = (bytes: number): RecordMemory => {
    leased++
    acquiredBytes += bytes
    return { buffer: Buffer.alloc(bytes), release: () => { leased-- } }
  }
  const framer = new RecordFramer({ recordBytesMax, acquire, headBytes: 8192, bulkBytesMin: 2048 })
  const records: Buffer[] = []
  const push = (chunk: Buffer): void => {
    framer.push(chunk, (buffer, start, end, memory) => {
      records.push(Buffer.from(buffer.subarray(start, end)))
      memory?.release()
    })
  }
  return { framer, records, push, leased: () => leased, acquiredBytes: () => acquiredBytes }
}

function mark (bytes: number, isLast: boolean): Buffer {
  const word = Buffer.alloc(4)
  word.writeUInt32BE((isLast ? 0x8000_0000 : 0) + bytes)
  return word
}

/** A record in fragments of the given sizes, the last one taking the rest. */
function framed (record: Buffer, fragmentsBytes: readonly number[] = []): Buffer {
  const parts: Buffer[] = []
  let at = 0
  for (const bytes of fragmentsBytes) {
    parts.push(mark(bytes, false), record.subarray(at, at + bytes))
    at += bytes
  }
  return Buffer.concat([...parts, mark(record.length - at, true), record.subarray(at)])
}

const sizes = [0, 1, 4, 100, 2047, 2048, 2049, 8188, 8192, 8193, 50_000, 300_000]

for (const chunkBytes of [1, 3, 4, 5, 1000, 2048, 8191, 65_536, 1 << 22]) {
  test(`records of every size come out whole from chunks of ${chunkBytes} bytes`, (t) => {
    const { push, records, leased } = framerWithBooks()
    const sent = (chunkBytes < 4 ? sizes.slice(0, -2) : sizes).map((bytes) => randomBytes(bytes))
    const stream = Buffer.concat(sent.map((record) => framed(record)))
    for (let at = 0; at < stream.length; at += chunkBytes) push(stream.subarray(at, at + chunkBytes))
    t.is(records.length, sent.length)
    sent.forEach((record, index) => { t.true(record.equals(records[index] ?? Buffer.alloc(0)), `record ${index}`) })
    t.is(leased(), 0)
  })
}

test('records in any fragments and any chunks come out whole', (t) => {
  const random = randomOf(chooseSeed((line) => { t.log(line) }))
  const below = (end: number): number => Math.floor(random() * end)
  for (let round = 0; round < 200; round++) {
    const { push, records, leased } = framerWithBooks()
    const sent = Array.from({ length: 10 }, () => randomBytes(below(round % 10 === 0 ? 200_000 : 5000)))
    const stream = Buffer.concat(sent.map((record) => {
      const fragments: number[] = []
      for (let left = record.length; left > 0 && below(4) > 0 && fragments.length < 20;) {
        const bytes = below(left + 1)
        fragments.push(bytes)
        left -= bytes
      }
      return framed(record, fragments)
    }))
    for (let at = 0; at < stream.length;) {
      const end = at + 1 + below(20_000)
      push(stream.subarray(at, end))
      at = end
    }
    t.deepEqual(records.map((record) => record.toString('hex')), sent.map((record) => record.toString('hex')))
    t.is(leased(), 0)
  }
})

test('a record above the maximum is refused by its mark, before memory is taken', (t) => {
  const { push, acquiredBytes } = framerWithBooks()
  t.throws(() => { push(mark(recordBytesMax + 1, true)) }, { instanceOf: WireError, code: 'OVERLONG' })
  t.is(acquiredBytes(), 0)
})

test('fragments that together exceed the maximum are refused', (t) => {
  const { push, framer, leased } = framerWithBooks()
  push(Buffer.concat([mark(recordBytesMax - 10, false), Buffer.alloc(recordBytesMax - 10)]))
  t.throws(() => { push(mark(11, true)) }, { instanceOf: WireError, code: 'OVERLONG' })
  framer.close()
  t.is(leased(), 0)
})

test('a thousand small fragments cost no more than twice their bytes in memory taken', (t) => {
  const { push, records, acquiredBytes } = framerWithBooks()
  const record = randomBytes(200_000)
  push(framed(record, Array.from({ length: 999 }, () => 200)))
  t.true(records[0]?.equals(record))
  t.true(acquiredBytes() < 4 * record.length)
})

test('a large record is received into memory of its own but for its first bytes', (t) => {
  const { framer } = framerWithBooks()
  const record = randomBytes(100_000)
  const stream = framed(record)
  const taken: { buffer: Buffer, memory: RecordMemory | undefined }[] = []
  const sink = (buffer: Buffer, _start: number, _end: number, memory: RecordMemory | undefined): void => {
    taken.push({ buffer, memory })
  }
  const first = framer.window()
  stream.copy(first, 0, 0, 1000)
  framer.received(1000, sink)
  const rest = framer.window()
  t.is(rest.length, stream.length - 1000)
  stream.copy(rest, 0, 1000)
  framer.received(rest.length, sink)
  t.not(taken[0]?.memory, undefined)
  t.is(taken[0]?.buffer.buffer, rest.buffer)
})
