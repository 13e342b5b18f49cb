/** One answer of a listing while it is filled. */
import test from 'ava'
import { toFileName } from '../../../../agent/base/brands.ts'
import { ListingReply } from '../../../../agent/session/listing.ts'

const entry = (name: string, nextOffset: number) =>
  ({ name: toFileName(name), fileid: 5n, kind: 'file', nextOffset, entry: undefined }) as const

test('who waits for the server with . and .. alone holds a kilobyte, whatever size was asked for', (t) => {
  const reply = new ListingReply(128 * 1024, true)
  reply.sink(entry('.', 1))
  reply.sink(entry('..', 2))
  t.is(reply.parts[0]?.buffer.byteLength, 1024)
  const dots = Buffer.from(reply.parts[0] ?? '')
  let count = 0
  while (reply.sink(entry('x'.repeat(255), count + 3))) count += 1
  t.is(count, Math.floor((128 * 1024 - dots.length) / (128 + 24 + 256)))
  t.deepEqual(Buffer.from(reply.parts[0] ?? '').subarray(0, dots.length), dots)
})
