/**
 * Record marking, RFC 5531 section 11: a byte stream ↔ records.
 *
 * Owns the framer. Small records are handed out where they lie in one reused buffer; a large one is received straight
 * into memory of its own, so that the data of a READ is copied once, by the socket. Knows no socket: it says where the
 * next bytes should go (`window`) and is told how many came (`received`). Nothing is ever joined twice, so reassembly
 * is linear.
 */
import { WireError } from '../../agent/base/errors.ts'

/** Memory that belongs to one record until it is released. */
export interface RecordMemory {
  readonly buffer: Buffer
  release (): void
}

/**
 * Takes one record: the bytes `start` to `end` of `buffer`. With `memory` the taker owns them until it releases it;
 * without, they are only valid during the call.
 */
export type RecordSink = (buffer: Buffer, start: number, end: number, memory: RecordMemory | undefined) => void

export interface FramerOptions {
  readonly recordBytesMax: number
  /** Where large records go. */
  readonly acquire: (bytes: number) => RecordMemory
  readonly headBytes?: number
  /** Records from this size on get memory of their own. */
  readonly bulkBytesMin?: number
}

const LAST_FRAGMENT = 0x8000_0000
/** A record mark, RFC 5531 section 11. */
export const MARK_BYTES = 4

export class RecordFramer {
  readonly #recordBytesMax: number
  readonly #bulkBytesMin: number
  readonly #acquire: (bytes: number) => RecordMemory
  readonly #head: Buffer
  /**
   * What is offered after a large record: in a stream of large replies the next one begins here, and only as much of it
   * as this window holds is copied a second time.
   */
  readonly #peek: Buffer
  /** Unparsed bytes of the head. */
  #from = 0
  #filled = 0
  #afterBulk = false
  /** The record being assembled in memory of its own. */
  #bulk: RecordMemory | undefined
  #bulkBytes = 0
  #fragmentLeft = 0
  #fragmentIsLast = false
  #closed = false

  constructor ({ recordBytesMax, acquire, headBytes = 256 * 1024, bulkBytesMin = 32 * 1024 }: FramerOptions) {
    this.#recordBytesMax = recordBytesMax
    this.#bulkBytesMin = Math.min(bulkBytesMin, headBytes - MARK_BYTES)
    this.#acquire = acquire
    this.#head = Buffer.allocUnsafeSlow(headBytes)
    this.#peek = this.#head.subarray(0, Math.min(4096, headBytes))
  }

  /** Where the next bytes of the stream are to be put; never empty. */
  window (): Buffer {
    if (this.#bulk !== undefined && this.#fragmentLeft > 0) {
      return this.#bulk.buffer.subarray(this.#bulkBytes, this.#bulkBytes + this.#fragmentLeft)
    }
    if (this.#filled > 0) return this.#head.subarray(this.#filled)
    return this.#afterBulk ? this.#peek : this.#head
  }

  /** `bytes` were put into the last window. Complete records go to `sink`. @throws WireError when the stream breaks the
   * rules. */
  received (bytes: number, sink: RecordSink): void {
    if (this.#bulk !== undefined && this.#fragmentLeft > 0) {
      this.#bulkBytes += bytes
      this.#fragmentLeft -= bytes
      this.#finishFragment(sink)
      return
    }
    const offered = this.#filled === 0 && this.#afterBulk ? this.#peek.length : this.#head.length
    this.#filled += bytes
    if (this.#filled >= offered) this.#afterBulk = false
    this.#parse(sink)
  }

  /** Copies a chunk through the windows; for callers that do not receive into `window`. */
  push (chunk: Buffer, sink: RecordSink): void {
    for (let at = 0; at < chunk.length && !this.#closed;) {
      const copied = chunk.copy(this.window(), 0, at)
      at += copied
      this.received(copied, sink)
    }
  }

  /** Gives back what is held. Nothing is handed out afterwards. */
  close (): void {
    this.#closed = true
    const bulk = this.#bulk
    this.#bulk = undefined
    bulk?.release()
  }

  /** Takes whole records and starts of large ones out of the head, then moves what is left to its front. */
  #parse (sink: RecordSink): void {
    while (!this.#closed && this.#filled - this.#from >= MARK_BYTES) {
      const mark = this.#head.readUInt32BE(this.#from)
      const isLast = mark >= LAST_FRAGMENT
      const length = isLast ? mark - LAST_FRAGMENT : mark
      if (this.#bulkBytes + length > this.#recordBytesMax) {
        throw new WireError(
          'OVERLONG',
          `a record is longer than the ${this.#recordBytesMax} bytes that are allowed`
        )
      }
      if (isLast && this.#bulk === undefined && length < this.#bulkBytesMin) {
        const start = this.#from + MARK_BYTES
        if (this.#filled - start < length) break
        this.#from = start + length
        sink(this.#head, start, start + length, undefined)
        continue
      }
      this.#from += MARK_BYTES
      this.#beginFragment(length, isLast)
      this.#takeFromHead(sink)
    }
    this.#compact()
  }

  #beginFragment (length: number, isLast: boolean): void {
    const needed = this.#bulkBytes + length
    if (this.#bulk === undefined) {
      // More fragments follow: leave room, so that growing by copies stays linear over all.
      this.#bulk = this.#acquire(
        isLast ? length : Math.min(this.#recordBytesMax, Math.max(2 * length, this.#bulkBytesMin))
      )
    } else if (needed > this.#bulk.buffer.length) {
      const grown = this.#acquire(Math.min(this.#recordBytesMax, Math.max(needed, 2 * this.#bulk.buffer.length)))
      this.#bulk.buffer.copy(grown.buffer, 0, 0, this.#bulkBytes)
      this.#bulk.release()
      this.#bulk = grown
    }
    this.#fragmentLeft = length
    this.#fragmentIsLast = isLast
  }

  #takeFromHead (sink: RecordSink): void {
    const bulk = this.#bulk
    if (bulk === undefined) return
    const take = Math.min(this.#fragmentLeft, this.#filled - this.#from)
    this.#head.copy(bulk.buffer, this.#bulkBytes, this.#from, this.#from + take)
    this.#from += take
    this.#bulkBytes += take
    this.#fragmentLeft -= take
    this.#finishFragment(sink)
  }

  #finishFragment (sink: RecordSink): void {
    const bulk = this.#bulk
    if (bulk === undefined || this.#fragmentLeft > 0 || !this.#fragmentIsLast) return
    const bytes = this.#bulkBytes
    this.#bulk = undefined
    this.#bulkBytes = 0
    this.#afterBulk = bytes >= this.#bulkBytesMin
    sink(bulk.buffer, 0, bytes, bulk)
  }

  #compact (): void {
    if (this.#from === this.#filled) {
      this.#from = this.#filled = 0
    } else if (this.#head.length - this.#from < this.#bulkBytesMin + MARK_BYTES || this.#filled === this.#head.length) {
      // At most one small record is moved, and only when the end of the head is near.
      this.#head.copyWithin(0, this.#from, this.#filled)
      this.#filled -= this.#from
      this.#from = 0
    }
  }
}
