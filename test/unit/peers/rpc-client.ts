/**
 * The smallest RPC client: sends calls as bytes and collects records. It checks the peers without the product's own
 * client.
 */
import net from 'node:net'
import { XdrWriter } from '../../../proto/xdr/writer.ts'

export interface RpcReply {
  readonly xid: number
  /** After the accept_stat of a reply: accept_stat itself first. */
  readonly words: number[]
  readonly bytes: Buffer
}

export class RpcClient {
  readonly #socket: net.Socket
  readonly #replies: RpcReply[] = []
  readonly #waiting: ((reply: RpcReply | undefined) => void)[] = []
  #pending = Buffer.alloc(0)
  #isClosed = false

  private constructor (socket: net.Socket) {
    this.#socket = socket
    socket.on('error', () => {})
    socket.on('close', () => {
      this.#isClosed = true
      for (const resolve of this.#waiting.splice(0)) resolve(undefined)
    })
    socket.on('data', (chunk: Buffer) => { this.#receive(chunk) })
  }

  static async connect (port: number): Promise<RpcClient> {
    const socket = net.connect({ port, host: '127.0.0.1' })
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    return new RpcClient(socket)
  }

  #receive (chunk: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, chunk])
    for (;;) {
      const fragments: Buffer[] = []
      let at = 0
      let isWhole = false
      while (!isWhole && at + 4 <= this.#pending.length) {
        const marker = this.#pending.readUInt32BE(at)
        const end = at + 4 + (marker & 0x7fff_ffff)
        if (end > this.#pending.length) return
        fragments.push(this.#pending.subarray(at + 4, end))
        at = end
        isWhole = (marker & 0x8000_0000) !== 0
      }
      if (!isWhole) return
      this.#pending = this.#pending.subarray(at)
      const record = Buffer.concat(fragments)
      const bytes = record.subarray(20)
      const words = Array.from({ length: bytes.length >> 2 }, (_, index) => bytes.readUInt32BE(index * 4))
      const reply = { xid: record.readUInt32BE(0), words, bytes: bytes.subarray(4) }
      const waiter = this.#waiting.shift()
      if (waiter === undefined) this.#replies.push(reply)
      else waiter(reply)
    }
  }

  send (
    xid: number,
    program: number,
    version: number,
    procedure: number,
    encode: (out: XdrWriter) => void = () => {}
  ): void {
    const out = new XdrWriter()
    for (const value of [xid, 0, 2, program, version, procedure]) out.uint32(value)
    const credential = new XdrWriter()
    for (const value of [0, 0, 1000, 1000, 0]) credential.uint32(value)
    out.uint32(1)
    out.opaque(Buffer.concat(credential.finish()), 400)
    out.uint32(0)
    out.uint32(0)
    encode(out)
    const body = Buffer.concat(out.finish())
    const marker = Buffer.alloc(4)
    marker.writeUInt32BE((body.length | 0x8000_0000) >>> 0)
    this.#socket.write(Buffer.concat([marker, body]))
  }

  /** The next record in the order of arrival, or undefined when the connection is gone. */
  async next (): Promise<RpcReply | undefined> {
    const ready = this.#replies.shift()
    if (ready !== undefined || this.#isClosed) return ready
    return await new Promise((resolve) => { this.#waiting.push(resolve) })
  }

  close (): void { this.#socket.destroy() }
}
