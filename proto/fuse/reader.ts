/**
 * FUSE messages: bytes of one request → values.
 *
 * Owns the bounded reader. The protocol is in the byte order of the machine and 8-aligned, so numbers are read through
 * word views; every read is checked against the end of its own message, never of the receive buffer that several
 * messages share.
 */
import { WireError } from '../../agent/base/errors.ts'

const WORD = 0x1_0000_0000

export class FuseReader {
  readonly #buffer: Buffer
  readonly #words: Uint32Array
  #offset = 0
  #end = 0

  /** Over a receive buffer, 4-aligned in memory. `select` chooses the message. */
  constructor (buffer: Buffer) {
    this.#buffer = buffer
    this.#words = new Uint32Array(buffer.buffer, buffer.byteOffset, buffer.length >> 2)
  }

  /** The message is `[start, end)`. */
  select (start: number, end: number): void {
    if ((start & 3) !== 0 || start < 0 || end < start || end > this.#buffer.length) {
      throw new WireError('INVALID', `no message can lie at [${start}, ${end})`)
    }
    this.#offset = start
    this.#end = end
  }

  get remaining (): number { return this.#end - this.#offset }
  get offset (): number { return this.#offset }

  #advance (bytes: number): number {
    const at = this.#offset
    if (bytes > this.#end - at) {
      throw new WireError('TRUNCATED', `request ends ${bytes - (this.#end - at)} bytes too early`)
    }
    this.#offset = at + bytes
    return at
  }

  /** Only for positions that are multiples of 4, which the kernel's structs guarantee. */
  uint32 (): number { return this.#words[this.#advance(4) >> 2] ?? 0 }

  uint16 (): number { return this.#buffer.readUInt16LE(this.#advance(2)) }

  /** u64 that counts or numbers something of ours: refused above 2^53 with OVERLONG. */
  number64 (): number {
    const at = this.#advance(8) >> 2
    const high = this.#words[at + 1] ?? 0
    if (high > 0x1f_ffff) throw new WireError('OVERLONG', 'a 64-bit value is above 2^53')
    return high * WORD + (this.#words[at] ?? 0)
  }

  /** s64 seconds since 1970; far beyond what any file system stores, so precision is no matter. */
  seconds (): number {
    const at = this.#advance(8) >> 2
    return ((this.#words[at + 1] ?? 0) | 0) * WORD + (this.#words[at] ?? 0)
  }

  skip (bytes: number): void { this.#advance(bytes) }

  /** NUL-terminated bytes as latin1: lossless, and free of the message's memory. */
  name (bytesMax: number): string {
    const start = this.#offset
    let at = start
    while (at < this.#end && this.#buffer[at] !== 0) at++
    if (at === this.#end) throw new WireError('TRUNCATED', 'a name has no end')
    if (at - start > bytesMax) {
      throw new WireError('OVERLONG', `name of ${at - start} bytes, at most ${bytesMax} are allowed`)
    }
    this.#offset = at + 1
    return this.#buffer.toString('latin1', start, at)
  }

  /** Shares memory with the receive buffer: gone when the next requests are read. */
  bytes (count: number): Buffer {
    const at = this.#advance(count)
    return this.#buffer.subarray(at, at + count)
  }

  /** The last `bytes` of the message do not belong to its body. */
  shorten (bytes: number): void {
    if (bytes > this.#end - this.#offset) throw new WireError('TRUNCATED', 'extensions are longer than the request')
    this.#end -= bytes
  }

  /** The message must be used up: left-over bytes mean that we and the kernel disagree about its shape. */
  end (): void {
    if (this.#offset !== this.#end) throw new WireError('TRAILING', `${this.#end - this.#offset} bytes too many`)
  }
}
