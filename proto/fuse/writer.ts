/**
 * FUSE messages: values → bytes, packed into one reply buffer.
 *
 * Owns the position and the word views. The caller makes sure of the room (`room`), as it knows the largest body of
 * each reply; a write beyond the end is our own bug and throws.
 */

const WORD = 0x1_0000_0000

export class FuseWriter {
  readonly buffer: Buffer
  readonly #words: Uint32Array
  readonly #longs: BigUint64Array
  readonly #halves: Uint16Array
  #offset = 0

  /** Over a buffer that is 8-aligned in memory. */
  constructor (buffer: Buffer) {
    this.buffer = buffer
    this.#words = new Uint32Array(buffer.buffer, buffer.byteOffset, buffer.length >> 2)
    this.#longs = new BigUint64Array(buffer.buffer, buffer.byteOffset, buffer.length >> 3)
    this.#halves = new Uint16Array(buffer.buffer, buffer.byteOffset, buffer.length >> 1)
  }

  get offset (): number { return this.#offset }
  get room (): number { return this.buffer.length - this.#offset }

  /** Goes on at `offset`, a multiple of 8: the start of a message. */
  seek (offset: number): void { this.#offset = offset }

  #advance (bytes: number): number {
    const at = this.#offset
    if (at + bytes > this.buffer.length) {
      // A fault of the one reply: nothing else is wrong.
      throw new RangeError(`reply buffer is full: ${bytes} bytes at ${at} of ${this.buffer.length}`)
    }
    this.#offset = at + bytes
    return at
  }

  uint32 (value: number): void { this.#words[this.#advance(4) >> 2] = value }

  uint16 (value: number): void { this.#halves[this.#advance(2) >> 1] = value }

  /** u64 from a number below 2^53, or s64 from a negative one. */
  number64 (value: number): void {
    const at = this.#advance(8) >> 2
    this.#words[at] = value >>> 0
    this.#words[at + 1] = Math.floor(value / WORD)
  }

  uint64 (value: bigint): void { this.#longs[this.#advance(8) >> 3] = value }

  zeros (bytes: number): void {
    const at = this.#advance(bytes)
    this.buffer.fill(0, at, at + bytes)
  }

  latin1 (text: string): void { this.buffer.write(text, this.#advance(text.length), text.length, 'latin1') }

  bytes (data: Buffer): void { data.copy(this.buffer, this.#advance(data.length)) }

  /** Overwrites four bytes already written. */
  patchUint32 (at: number, value: number): void { this.#words[at >> 2] = value }
}
