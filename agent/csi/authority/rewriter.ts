/**
 * What a client sends over HTTP/2 (RFC 9113), with `localhost` as `:authority` of every request.
 *
 * Owns the frames of one connection in one direction: header blocks are put together, rewritten and cut anew;
 * everything else goes through untouched. Does not know sockets or streams' states: what is wrong beyond frames and
 * header blocks is the server's to say.
 */
import { WireError } from '../../base/errors.ts'
import { HpackDecoder, encodeBlock, headerListBytesMax } from './hpack.ts'
import type { HeaderBlock, HeaderField } from './hpack.ts'

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')
const frameHeadBytes = 9
/** SETTINGS_MAX_FRAME_SIZE's default, and what our server announces. */
const frameBytesMax = 16_384
/** Continuations may be empty; nobody needs more than a few for the bytes that are allowed. */
const continuationsMax = 64

const frameTypes = { HEADERS: 1, PUSH_PROMISE: 5, CONTINUATION: 9 } as const
const flags = { END_STREAM: 0x1, END_HEADERS: 0x4, PADDED: 0x8, PRIORITY: 0x20 } as const
const priorityBytes = 5

interface FrameHead { readonly length: number, readonly type: number, readonly flags: number, readonly stream: number }

/** A header block on its way: nothing else may come in between (section 6.10). */
interface OpenBlock {
  readonly stream: number
  readonly flags: number
  readonly priority: Buffer
  readonly fragments: Buffer[]
  bytes: number
  continuations: number
}

const authority = 'localhost'
const saysAuthority: ReadonlySet<string> = new Set([':authority', 'host'])

/** A request, unlike trailers, has a method. One without any authority gets it where pseudo-headers end. */
function withAuthority (fields: readonly HeaderField[]): readonly HeaderField[] {
  if (!fields.some(({ name }) => name === ':method')) return fields
  if (fields.some(({ name }) => saysAuthority.has(name))) {
    return fields.map((field) => saysAuthority.has(field.name) ? { ...field, value: authority } : field)
  }
  const end = fields.findLastIndex(({ name }) => name.startsWith(':')) + 1
  return fields.toSpliced(end, 0, { name: ':authority', value: authority, neverIndexed: false })
}

function encodeHead ({ length, type, flags, stream }: FrameHead): Buffer {
  const head = Buffer.alloc(frameHeadBytes)
  head.writeUIntBE(length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return head
}

const decodeHead = (head: Buffer): FrameHead => ({
  length: head.readUIntBE(0, 3), type: head.readUInt8(3), flags: head.readUInt8(4),
  stream: head.readUInt32BE(5) & 0x7fffffff
})

/** The whole block as HEADERS and as many CONTINUATIONs as it needs, without padding. */
function encodeFrames ({ stream, flags: given, priority }: OpenBlock, block: HeaderBlock): Buffer[] {
  const payload = Buffer.concat([priority, encodeBlock(block)])
  const frames: Buffer[] = []
  for (let at = 0; at === 0 || at < payload.length; at += frameBytesMax) {
    const part = payload.subarray(at, at + frameBytesMax)
    const kept = at === 0 ? given & (flags.END_STREAM | flags.PRIORITY) : 0
    const last = at + frameBytesMax >= payload.length ? flags.END_HEADERS : 0
    frames.push(
      encodeHead({
        length: part.length, type: at === 0 ? frameTypes.HEADERS : frameTypes.CONTINUATION, flags: kept | last, stream
      }),
      part
    )
  }
  return frames
}

/** Where in the stream of bytes the next one belongs. Each phase eats what it can and answers how much. */
type Phase = 'preface' | 'head' | 'through' | 'payload'

export class AuthorityRewriter {
  readonly #decoder = new HpackDecoder()
  #phase: Phase = 'preface'
  #prefaceBytes = 0
  readonly #head = Buffer.alloc(frameHeadBytes)
  #headBytes = 0
  #frame: FrameHead = { length: 0, type: 0, flags: 0, stream: 0 }
  /** Of the frame that is passed through or collected, what has not come yet. */
  #left = 0
  #payload = Buffer.alloc(0)
  #open: OpenBlock | undefined

  /** What to pass on for these bytes. @throws WireError when they are no HTTP/2; then the connection is to be
   * closed. */
  push (chunk: Buffer): Buffer {
    const out: Buffer[] = []
    for (let at = 0; at < chunk.length;) at += this.#eat[this.#phase](chunk.subarray(at), out)
    return out.length === 1 && out[0] !== undefined ? out[0] : Buffer.concat(out)
  }

  readonly #eat = {
    preface: (bytes, out) => {
      const part = bytes.subarray(0, preface.length - this.#prefaceBytes)
      if (preface.compare(part, 0, part.length, this.#prefaceBytes, this.#prefaceBytes + part.length) !== 0) {
        throw new WireError('INVALID', 'no HTTP/2 preface')
      }
      out.push(part)
      this.#prefaceBytes += part.length
      if (this.#prefaceBytes === preface.length) this.#phase = 'head'
      return part.length
    },
    head: (bytes, out) => {
      const count = bytes.copy(this.#head, this.#headBytes, 0, frameHeadBytes - this.#headBytes)
      this.#headBytes += count
      if (this.#headBytes === frameHeadBytes) this.#begin(decodeHead(this.#head), out)
      return count
    },
    through: (bytes, out) => {
      const part = bytes.subarray(0, this.#left)
      out.push(part)
      this.#left -= part.length
      if (this.#left === 0) this.#phase = 'head'
      return part.length
    },
    payload: (bytes, out) => {
      const count = bytes.copy(this.#payload, this.#frame.length - this.#left, 0, this.#left)
      this.#left -= count
      if (this.#left === 0) this.#take(out)
      return count
    }
  } as const satisfies Record<Phase, (bytes: Buffer, out: Buffer[]) => number>

  #begin (frame: FrameHead, out: Buffer[]): void {
    this.#headBytes = 0
    this.#frame = frame
    this.#left = frame.length
    if ((frame.type === frameTypes.CONTINUATION) !== (this.#open !== undefined)) {
      throw new WireError('INVALID', 'a header block is interrupted, or continued without a beginning')
    }
    if (frame.type === frameTypes.PUSH_PROMISE) throw new WireError('INVALID', 'a client that pushes')
    if (frame.type !== frameTypes.HEADERS && frame.type !== frameTypes.CONTINUATION) {
      out.push(Buffer.from(this.#head))
      this.#phase = frame.length === 0 ? 'head' : 'through'
      return
    }
    if (frame.length > frameBytesMax) throw new WireError('OVERLONG', `a frame of ${frame.length} bytes`)
    if (frame.stream === 0 || (this.#open !== undefined && this.#open.stream !== frame.stream)) {
      throw new WireError('INVALID', 'headers on a wrong stream')
    }
    this.#payload = Buffer.alloc(frame.length)
    this.#phase = 'payload'
    if (frame.length === 0) this.#take(out)
  }

  /** A HEADERS or CONTINUATION frame is complete. */
  #take (out: Buffer[]): void {
    this.#phase = 'head'
    const block = this.#open ?? this.#opened()
    if (this.#frame.type === frameTypes.CONTINUATION) this.#extend(block, this.#payload)
    this.#open = block
    if ((this.#frame.flags & flags.END_HEADERS) === 0) return
    this.#open = undefined
    const { tableSizes, fields } = this.#decoder.decode(Buffer.concat(block.fragments))
    out.push(...encodeFrames(block, { tableSizes, fields: withAuthority(fields) }))
  }

  /** Section 6.2: padding and priority around the first fragment. */
  #opened (): OpenBlock {
    const { flags: given, stream } = this.#frame
    const isPadded = (given & flags.PADDED) !== 0
    const start = isPadded ? 1 : 0
    const padding = isPadded ? this.#payload[0] : 0
    const fragmentAt = start + ((given & flags.PRIORITY) === 0 ? 0 : priorityBytes)
    const end = this.#payload.length - (padding ?? 0)
    if (padding === undefined || end < fragmentAt) {
      throw new WireError('INVALID', 'a HEADERS frame shorter than its padding')
    }
    const fragment = this.#payload.subarray(fragmentAt, end)
    return {
      stream, flags: given, priority: this.#payload.subarray(start, fragmentAt), fragments: [fragment],
      bytes: fragment.length, continuations: 0
    }
  }

  #extend (block: OpenBlock, fragment: Buffer): void {
    block.fragments.push(fragment)
    block.bytes += fragment.length
    block.continuations++
    if (block.bytes > headerListBytesMax || block.continuations > continuationsMax) {
      throw new WireError('OVERLONG', 'a header block without end')
    }
  }
}
