/**
 * XDR, RFC 4506: bytes of one message → values.
 *
 * Owns the bounded reader. What it complains of never quotes the message: a complaint may reach somebody who must not
 * learn what a server answers. Every read is checked against the end of its own message, every length against a maximum
 * given by the caller. Knows no message and no socket; what it returns from `bytes` shares memory with the message.
 */
import { WireError } from '../../agent/base/errors.ts'

export class XdrReader {
  readonly #buffer: Buffer
  /** Numbers are read through it: one call each, where Buffer's methods are functions of their own that check once
   * more. */
  readonly #view: DataView
  readonly #end: number
  #offset: number

  constructor (buffer: Buffer, start = 0, end = buffer.length) {
    this.#buffer = buffer
    this.#view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length)
    this.#offset = start
    this.#end = end
  }

  get remaining (): number { return this.#end - this.#offset }
  get offset (): number { return this.#offset }

  #advance (bytes: number): number {
    const at = this.#offset
    if (bytes > this.#end - at) {
      throw new WireError('TRUNCATED', 'a message ends before all that belongs in it')
    }
    this.#offset = at + bytes
    return at
  }

  /** unsigned int, section 4.2. */
  uint32 (): number { return this.#view.getUint32(this.#advance(4)) }
  /** int, section 4.1. */
  int32 (): number { return this.#view.getInt32(this.#advance(4)) }
  /** unsigned hyper, section 4.5: ids and cookies. */
  uint64 (): bigint { return this.#view.getBigUint64(this.#advance(8)) }

  /** unsigned hyper that is a size or an offset: refused above 2^53. */
  size64 (): number {
    const at = this.#advance(8)
    const high = this.#view.getUint32(at)
    if (high > 0x1f_ffff) throw new WireError('INVALID', 'a size is above 2^53')
    return high * 0x1_0000_0000 + this.#view.getUint32(at + 4)
  }

  /** unsigned hyper that is a quantity nobody seeks to: values above 2^53-1 are cut to it. */
  clamped64 (): number {
    const at = this.#advance(8)
    return Math.min(this.#view.getUint32(at) * 0x1_0000_0000 + this.#view.getUint32(at + 4), Number.MAX_SAFE_INTEGER)
  }

  /** bool, section 4.4: anything but 0 and 1 is refused. */
  bool (): boolean {
    const value = this.uint32()
    if (value > 1) throw new WireError('INVALID', 'a boolean is neither true nor false')
    return value === 1
  }

  /** fixed-length opaque, section 4.9; padding is skipped. Shares memory with the message. */
  fixed (bytes: number): Buffer {
    const at = this.#advance(bytes + (-bytes & 3))
    return this.#buffer.subarray(at, at + bytes)
  }

  /** variable-length opaque or string, section 4.10 and 4.11. Shares memory with the message. */
  opaque (bytesMax: number): Buffer {
    const length = this.uint32()
    if (length > bytesMax) {
      throw new WireError('OVERLONG', `an opaque is longer than the ${bytesMax} bytes that are allowed`)
    }
    return this.fixed(length)
  }

  /** The same as `opaque`, as a latin1 string: lossless, and free of the message's memory. */
  latin1 (bytesMax: number): string {
    const length = this.uint32()
    if (length > bytesMax) {
      throw new WireError('OVERLONG', `a string is longer than the ${bytesMax} bytes that are allowed`)
    }
    const at = this.#advance(length + (-length & 3))
    return this.#buffer.toString('latin1', at, at + length)
  }

  /** fixed-length opaque as latin1. */
  fixedLatin1 (bytes: number): string {
    const at = this.#advance(bytes + (-bytes & 3))
    return this.#buffer.toString('latin1', at, at + bytes)
  }

  /** Passes over a variable-length opaque. */
  skipOpaque (bytesMax: number): void {
    const length = this.uint32()
    if (length > bytesMax) {
      throw new WireError('OVERLONG', `an opaque is longer than the ${bytesMax} bytes that are allowed`)
    }
    this.#advance(length + (-length & 3))
  }

  /** optional-data, section 4.19. */
  optional<T> (decode: (input: XdrReader) => T): T | undefined {
    return this.bool() ? decode(this) : undefined
  }

  /** Everything not yet read, without moving. */
  rest (): Buffer { return this.#buffer.subarray(this.#offset, this.#end) }
}
