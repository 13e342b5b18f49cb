/** HTTP/2 frames by hand, as no library would send them. Owns their bytes; knows no stream states. */
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { HpackDecoder } from '../../../../../agent/csi/authority/hpack.ts'

export const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')

export interface Frame {
  readonly type: number
  readonly flags: number
  readonly stream: number
  readonly payload: Buffer
}

export function frame (type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

export const settings = frame(4, 0, 0)

/** Takes whole frames off the front of `bytes`. */
export function framesOf (bytes: Buffer): { frames: Frame[], rest: Buffer } {
  const frames: Frame[] = []
  let at = 0
  while (bytes.length - at >= 9 && bytes.length - at - 9 >= bytes.readUIntBE(at, 3)) {
    const length = bytes.readUIntBE(at, 3)
    frames.push({
      type: bytes.readUInt8(at + 3), flags: bytes.readUInt8(at + 4), stream: bytes.readUInt32BE(at + 5),
      payload: bytes.subarray(at + 9, at + 9 + length)
    })
    at += 9 + length
  }
  return { frames, rest: bytes.subarray(at) }
}

function integer (value: number, bits: number, flags: number): Buffer {
  const mask = 2 ** bits - 1
  if (value < mask) return Buffer.of(flags | value)
  const bytes = [flags | mask]
  let rest = value - mask
  for (; rest > 127; rest >>= 7) bytes.push(rest & 127 | 128)
  return Buffer.of(...bytes, rest)
}
const text = (value: string): Buffer => Buffer.concat([integer(value.length, 7, 0), Buffer.from(value, 'latin1')])

/** Literals; indexed ones (0x40) go into the receiver's table. */
export const literals = (fields: readonly (readonly [string, string])[], representation = 0): Buffer =>
  Buffer.concat(fields.flatMap(([name, value]) => [Buffer.of(representation), text(name), text(value)]))

export const requestFields = (path: string, authority: string | undefined): [string, string][] => [
  [':method', 'POST'], [':scheme', 'http'], [':path', path],
  ...(authority === undefined ? [] : [[':authority', authority] as [string, string]]),
  ['te', 'trailers'], ['content-type', 'application/grpc']
]

/** An empty gRPC message. */
export const emptyMessage = Buffer.alloc(5)

export interface Answer { readonly status: string, readonly reset: number | undefined }

export class RawClient {
  readonly socket: Socket
  readonly #decoder = new HpackDecoder()
  readonly #answers = new Map<number, Answer>()
  /** What the server announced, by identifier (RFC 9113 section 6.5.2). */
  readonly announced = new Map<number, number>()
  #rest = Buffer.alloc(0)
  #block = Buffer.alloc(0)
  #isClosed = false

  constructor (path: string) {
    this.socket = connect(path)
    this.socket.on('error', () => undefined)
    this.socket.on('data', (chunk: Buffer) => { this.#received(chunk) })
    this.socket.on('close', () => { this.#isClosed = true })
  }

  get isClosed (): boolean { return this.#isClosed }
  send (...parts: readonly Buffer[]): void { this.socket.write(Buffer.concat(parts)) }

  #received (chunk: Buffer): void {
    const { frames, rest } = framesOf(Buffer.concat([this.#rest, chunk]))
    this.#rest = Buffer.from(rest)
    for (const { type, flags, stream, payload } of frames) {
      if (type === 3) this.#answers.set(stream, { status: '', reset: payload.readUInt32BE(0) })
      if (type === 4 && (flags & 1) === 0) {
        for (let at = 0; at < payload.length; at += 6) {
          this.announced.set(payload.readUInt16BE(at), payload.readUInt32BE(at + 2))
        }
        this.send(frame(4, 1, 0))
      }
      if (type !== 1 && type !== 9) continue
      this.#block = Buffer.concat([this.#block, payload])
      if ((flags & 4) === 0) continue
      const status = this.#decoder.decode(this.#block).fields.find(({ name }) => name === 'grpc-status')
      this.#block = Buffer.alloc(0)
      if (status !== undefined) this.#answers.set(stream, { status: status.value, reset: undefined })
    }
    this.socket.emit('answers')
  }

  /** Waits until the stream is answered or the connection is gone. */
  async answer (stream: number): Promise<Answer | undefined> {
    while (!this.#answers.has(stream) && !this.#isClosed) {
      const waiting = new AbortController()
      await Promise.race([
        once(this.socket, 'answers', { signal: waiting.signal }),
        once(this.socket, 'close', { signal: waiting.signal })
      ])
      waiting.abort()
    }
    return this.#answers.get(stream)
  }

  async close (): Promise<void> {
    this.socket.destroy()
    if (!this.#isClosed) await once(this.socket, 'close')
  }
}
