/**
 * A loopback server that does with each call what a test tells it, byte for byte.
 * Owns listening, cutting calls out of the stream and building replies; uses none of the code under test.
 */
import net from 'node:net'

export interface SeenCall {
  readonly xid: number
  readonly procedure: number
  readonly body: Buffer
  readonly socket: net.Socket
  /** Counts connections from 0. */
  readonly connection: number
}

const word = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value >>> 0)
  return bytes
}

/** A whole record: mark, xid, REPLY, accepted, AUTH_NONE, SUCCESS, then the results. */
export function replyRecord (xid: number, results: Buffer, accepted: readonly number[] = [0, 0, 0, 0]): Buffer {
  const body = Buffer.concat([word(xid), word(1), ...accepted.map(word), results])
  return Buffer.concat([word(0x8000_0000 + body.length), body])
}

/** Results of a WORD call of `procedures.ts` beside this file. */
export const wordResult = (value: number): Buffer => word(value)
export const dataResult = (data: Buffer): Buffer =>
  Buffer.concat([word(data.length), data, Buffer.alloc((4 - data.length % 4) % 4)])

export class ScriptedServer {
  readonly address = '127.0.0.1'
  readonly calls: SeenCall[] = []
  readonly sourcePorts: number[] = []
  connections = 0
  #port = 0
  #server: net.Server | undefined
  readonly #sockets = new Set<net.Socket>()
  readonly #onCall: (call: SeenCall, server: ScriptedServer) => void
  onConnection: (socket: net.Socket, connection: number) => void = () => undefined

  private constructor (onCall: (call: SeenCall, server: ScriptedServer) => void) { this.#onCall = onCall }

  static async start (onCall: (call: SeenCall, server: ScriptedServer) => void): Promise<ScriptedServer> {
    const scripted = new ScriptedServer(onCall)
    await scripted.listen()
    return scripted
  }

  get port (): number { return this.#port }

  async listen (): Promise<void> {
    const server = net.createServer((socket) => { this.#accept(socket) })
    await new Promise<void>((resolve) => { server.listen(this.#port, this.address, resolve) })
    this.#server = server
    this.#port = (server.address() as net.AddressInfo).port
  }

  /** Stops listening and resets every connection. */
  async stop (): Promise<void> {
    const server = this.#server
    this.#server = undefined
    this.dropConnections()
    if (server !== undefined) await new Promise<void>((resolve) => { server.close(() => { resolve() }) })
  }

  dropConnections (): void {
    for (const socket of this.#sockets) socket.resetAndDestroy()
    this.#sockets.clear()
  }

  #accept (socket: net.Socket): void {
    const connection = this.connections++
    this.#sockets.add(socket)
    this.sourcePorts.push(socket.remotePort ?? 0)
    let pending = Buffer.alloc(0)
    socket.on('error', () => undefined)
    socket.on('close', () => { this.#sockets.delete(socket) })
    socket.on('data', (chunk: Buffer) => {
      pending = Buffer.concat([pending, chunk])
      while (pending.length >= 4 && pending.length >= 4 + (pending.readUInt32BE(0) & 0x7fff_ffff)) {
        const end = 4 + (pending.readUInt32BE(0) & 0x7fff_ffff)
        const record = Buffer.from(pending.subarray(4, end))
        pending = pending.subarray(end)
        const call = {
          xid: record.readUInt32BE(0), procedure: record.readUInt32BE(20), body: record.subarray(40), socket,
          connection
        }
        this.calls.push(call)
        this.#onCall(call, this)
      }
    })
    this.onConnection(socket, connection)
  }
}
