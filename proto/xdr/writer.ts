/**
 * XDR, RFC 4506: values → bytes.
 *
 * Owns the writer. Small values are packed into one growing buffer; bulk data (`payload`) is kept by reference, so that
 * a WRITE's megabyte is not copied here. Knows no message and no socket.
 */
import { WireError } from '../../agent/base/errors.ts'

const padding = Buffer.alloc(3)

/** Messages lie one behind the other in blocks: a buffer and a view for each would cost more than what is written into
 * them. */
const blockBytes = 64 * 1024
/** A message that needs more gets memory of its own. */
const sharedBytesMax = 1024

interface Block { readonly buffer: Buffer, readonly view: DataView, usedBytes: number }

const newBlock = (): Block => {
  const buffer = Buffer.allocUnsafeSlow(blockBytes)
  return { buffer, view: viewOf(buffer), usedBytes: 0 }
}

let block = newBlock()

function blockWith (bytes: number): Block {
  if (block.usedBytes + bytes > blockBytes) block = newBlock()
  return block
}

export class XdrWriter {
  #buffer: Buffer
  #view: DataView
  /** Where room for this message ends. */
  #limit: number
  /** The block it lies in; undefined when it has memory of its own, or has outgrown its room. */
  #block: Block | undefined
  #offset = 0
  /** Start of the bytes not yet in #parts. */
  #start = 0
  #parts: Buffer[] | undefined
  #partsBytes = 0

  constructor (capacityBytes = 256) {
    if (capacityBytes > sharedBytesMax) {
      this.#buffer = Buffer.allocUnsafe(capacityBytes)
      this.#view = viewOf(this.#buffer)
      this.#limit = capacityBytes
      return
    }
    const shared = blockWith(capacityBytes)
    this.#block = shared
    this.#buffer = shared.buffer
    this.#view = shared.view
    this.#start = this.#offset = shared.usedBytes
    this.#limit = shared.usedBytes += capacityBytes
  }

  /** Bytes written so far, payloads included. */
  get bytes (): number { return this.#partsBytes + this.#offset - this.#start }

  #advance (bytes: number): number {
    const at = this.#offset
    if (at + bytes > this.#limit) {
      this.#seal()
      this.#block = undefined
      this.#buffer = Buffer.allocUnsafe(Math.max(Math.min(this.#partsBytes * 2, blockBytes), bytes + 256))
      this.#view = viewOf(this.#buffer)
      this.#limit = this.#buffer.length
      this.#start = 0
      this.#offset = bytes
      return 0
    }
    this.#offset = at + bytes
    return at
  }

  #seal (): void {
    this.#parts ??= []
    if (this.#offset > this.#start) this.#parts.push(this.#take())
  }

  /** What was written since the last part; the caller makes it the next one. */
  #take (): Buffer {
    const part = this.#buffer.subarray(this.#start, this.#offset)
    this.#partsBytes += part.length
    this.#start = this.#offset
    return part
  }

  uint32 (value: number): void {
    const at = this.#advance(4)
    this.#view.setUint32(at, value)
  }

  int32 (value: number): void {
    const at = this.#advance(4)
    this.#view.setInt32(at, value)
  }

  uint64 (value: bigint): void {
    const at = this.#advance(8)
    this.#view.setBigUint64(at, value)
  }

  /** unsigned hyper from a size or offset. */
  size64 (value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) throw new WireError('INVALID', `${value} is not a size below 2^53`)
    const at = this.#advance(8)
    this.#view.setUint32(at, Math.floor(value / 0x1_0000_0000))
    this.#view.setUint32(at + 4, value % 0x1_0000_0000)
  }

  bool (value: boolean): void { this.uint32(value ? 1 : 0) }

  fixed (bytes: Buffer): void {
    const padded = (bytes.length + 3) & ~3
    const at = this.#advance(padded)
    bytes.copy(this.#buffer, at)
    this.#pad(at + bytes.length, at + padded)
  }

  opaque (bytes: Buffer, bytesMax: number): void {
    if (bytes.length > bytesMax) {
      throw new WireError('OVERLONG', `opaque of ${bytes.length} bytes, at most ${bytesMax} are allowed`)
    }
    this.uint32(bytes.length)
    this.fixed(bytes)
  }

  fixedLatin1 (text: string): void {
    const padded = (text.length + 3) & ~3
    const at = this.#advance(padded)
    this.#buffer.write(text, at, text.length, 'latin1')
    this.#pad(at + text.length, at + padded)
  }

  /** At most three bytes: a loop is cheaper than a call of `fill`. */
  #pad (from: number, to: number): void {
    for (let at = from; at < to; at++) this.#buffer[at] = 0
  }

  /** variable-length opaque or string from latin1 text. */
  latin1 (text: string, bytesMax: number): void {
    if (text.length > bytesMax) {
      throw new WireError('OVERLONG', `string of ${text.length} bytes, at most ${bytesMax} are allowed`)
    }
    this.uint32(text.length)
    this.fixedLatin1(text)
  }

  optional<T> (value: T | undefined, encode: (out: XdrWriter, value: T) => void): void {
    this.bool(value !== undefined)
    if (value !== undefined) encode(this, value)
  }

  /** variable-length opaque by reference: the buffers must not change until the message was sent. */
  payload (data: readonly Buffer[], bytesMax: number): void {
    let length = 0
    for (const part of data) length += part.length
    if (length > bytesMax) {
      throw new WireError('OVERLONG', `payload of ${length} bytes, at most ${bytesMax} are allowed`)
    }
    this.uint32(length)
    const head = this.#take()
    const pad = (4 - (length & 3)) & 3
    this.#parts = pad === 0
      ? [...this.#parts ?? [], head, ...data]
      : [...this.#parts ?? [], head, ...data, padding.subarray(0, pad)]
    this.#partsBytes += length + pad
  }

  /** The message as buffers to be written in order. The writer must not be used afterwards. */
  finish (): readonly Buffer[] {
    // What this message did not need is the next one's, unless that has begun.
    if (this.#block?.usedBytes === this.#limit) this.#block.usedBytes = this.#offset
    if (this.#parts === undefined) return [this.#take()]
    this.#seal()
    return this.#parts
  }
}

function viewOf (buffer: Buffer): DataView {
  return new DataView(buffer.buffer, buffer.byteOffset, buffer.length)
}
