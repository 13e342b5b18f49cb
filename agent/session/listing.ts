/**
 * One READDIR or READDIRPLUS answer while it is being filled.
 *
 * Owns the buffer (listings may be filled over several turns of the loop, so they cannot share the reply buffer) and
 * the entries whose lookup the kernel will count when it takes the answer. Knows the wire format only through
 * `proto/fuse/directories.ts`.
 */
import type { Errno } from '../base/errno.ts'
import type { Entry, ListedEntry, ListingSink } from '../fs/operations.ts'
import { appendListed } from '../../proto/fuse/directories.ts'
import type { BulkOut } from '../../proto/fuse/operations.ts'
import { FuseWriter } from '../../proto/fuse/writer.ts'

/** Kernels ask for a page up to 1 MiB at once; more than this only costs latency. */
const listingBytesMax = 128 * 1024

/** `.` and `..` come before the server is asked; who waits for it with nothing but these holds no more than that. */
const firstBytes = 1024
/** fuse_direntplus with the longest name. */
const entryBytesMax = 512

export class ListingReply implements BulkOut {
  readonly entries: Entry[] = []
  readonly sink: ListingSink
  #out: FuseWriter

  constructor (sizeBytes: number, plus: boolean) {
    const limit = Math.min(sizeBytes, listingBytesMax) & ~7
    this.#out = new FuseWriter(Buffer.allocUnsafeSlow(Math.min(limit, firstBytes)))
    this.sink = (listed: ListedEntry): boolean => {
      if (this.#out.room < entryBytesMax && this.#out.buffer.length < limit) this.#grow(limit)
      if (!appendListed(this.#out, limit, plus, listed)) return false
      // The kernel counts no lookup for these two (fs/fuse/readdir.c, fuse_direntplus_link).
      if (plus && listed.entry !== undefined && listed.name !== '.' && listed.name !== '..') {
        this.entries.push(listed.entry)
      }
      return true
    }
  }

  #grow (bytes: number): void {
    const out = new FuseWriter(Buffer.allocUnsafeSlow(bytes))
    this.#out.buffer.copy(out.buffer, 0, 0, this.#out.offset)
    out.seek(this.#out.offset)
    this.#out = out
  }

  get bytes (): number { return this.#out.offset }
  get parts (): readonly Buffer[] { return [this.#out.buffer.subarray(0, this.#out.offset)] }

  /** A failure after some entries is said at the next call, which will meet it again: those listed are not lost. */
  finish (answer: undefined | Errno): this | Errno {
    return answer === undefined || this.bytes > 0 ? this : answer
  }
}
