/**
 * One TCP connection that carries records.
 *
 * Owns a socket from connect to close: batching of writes, receiving into the framer's windows, and the one report of
 * its end. Does not know calls, and never comes back: the reconnector makes a new one.
 */
import { connect, type Socket } from 'node:net'
import { messageOf, TransportError, WireError } from '../base/errors.ts'
import { recordBytesMax } from '../base/limits.ts'
import { RecordFramer, type RecordSink } from '../../proto/rpc/record.ts'
import type { Clock } from '../base/clock.ts'
import type { DisconnectReason, RpcCounters } from './events.ts'
import type { RecordPool } from './record-pool.ts'

export interface Endpoint {
  /** An IP address, not a name. */
  readonly address: string
  readonly port: number
}

export const showEndpoint = ({ address, port }: Endpoint): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`

export interface ConnectionParts {
  readonly clock: Clock
  readonly pool: RecordPool
  readonly counters: RpcCounters
}

/** Up to this a part is copied together with its neighbours: an entry of a gathered write costs more than the copy. A
 * page of a WRITE is. */
const joinBytesMax = 8 * 1024
/** Memory for that, used again and again. What does not fit goes uncopied. */
const joinedBytesMax = 64 * 1024
/**
 * More waiting parts than this leave at once, not at the end of the turn: with 64 calls in flight the server works on
 * the first ones while we make the others (measured: 15 % more calls per second than one write per turn).
 */
const waitingPartsMax = 16
/** Half-open connections are noticed while idle; with calls pending their own timers are faster. */
const keepAliveMs = 30_000

type Closed = (reason: DisconnectReason, detail: string) => void

export class Connection {
  readonly endpoint: Endpoint
  readonly #socket: Socket
  readonly #framer: RecordFramer
  readonly #counters: RpcCounters
  #out: Buffer[] = []
  /** Not in use by the socket between two turns. */
  #joined: Buffer | undefined
  #isFlushScheduled = false
  #receivedBytes = 0
  #onRecord: RecordSink | undefined
  #onClosed: Closed | undefined
  #isClosed = false
  readonly #flush = (): void => { this.#writeOut() }

  private constructor (endpoint: Endpoint, sourcePort: number | undefined, { pool, counters }: ConnectionParts) {
    this.endpoint = endpoint
    this.#counters = counters
    this.#framer = new RecordFramer({ recordBytesMax, acquire: (bytes) => pool.acquire(bytes) })
    this.#socket = connect({
      host: endpoint.address,
      port: endpoint.port,
      ...(sourcePort === undefined ? {} : { localPort: sourcePort }),
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: keepAliveMs,
      autoSelectFamily: false,
      onread: { buffer: () => this.#framer.window(), callback: (bytes) => this.#receive(bytes) }
    })
  }

  /** Connects within `deadlineMs`. @throws TransportError REFUSED, UNREACHABLE or TIMED_OUT; its cause is the socket's
   * error. */
  static async open (
    endpoint: Endpoint,
    sourcePort: number | undefined,
    deadlineMs: number,
    parts: ConnectionParts
  ): Promise<Connection> {
    const connection = new Connection(endpoint, sourcePort, parts)
    const socket = connection.#socket
    await new Promise<void>((resolve, reject) => {
      const cancel = parts.clock.after(deadlineMs, () => {
        socket.destroy()
        reject(
          new TransportError('TIMED_OUT', `no connection to ${showEndpoint(endpoint)} within ${deadlineMs} ms`, {
            sent: false
          })
        )
      })
      socket.once('connect', () => { cancel(); resolve() })
      socket.once('error', (error: NodeJS.ErrnoException) => {
        cancel()
        const code = error.code === 'ECONNREFUSED' ? 'REFUSED' : 'UNREACHABLE'
        reject(
          new TransportError(code, `cannot connect to ${showEndpoint(endpoint)}: ${error.message}`, {
            sent: false, cause: error
          })
        )
      })
    })
    connection.#watch()
    return connection
  }

  get sourcePort (): number { return this.#socket.localPort ?? 0 }
  get receivedBytes (): number { return this.#receivedBytes }
  get isClosed (): boolean { return this.#isClosed }
  /** Bytes handed over that the kernel has not taken: memory of their owners is still being read. */
  get isSending (): boolean { return this.#out.length > 0 || this.#socket.writableLength > 0 }

  /** From here on records and the end are reported. `onClosed` is called at most once, and not after `close`. */
  attach (onRecord: RecordSink, onClosed: Closed): void {
    this.#onRecord = onRecord
    this.#onClosed = onClosed
    if (this.#isClosed) onClosed('lost', 'closed before it was used')
  }

  /** Sends a record after everything sent before. Calls of one turn of the event loop leave together, or in groups. */
  send (parts: readonly Buffer[]): void {
    if (this.#isClosed) return
    for (const part of parts) this.#out.push(part)
    if (this.#out.length >= waitingPartsMax) {
      this.#writeOut()
      return
    }
    if (this.#isFlushScheduled) return
    this.#isFlushScheduled = true
    // After the microtasks of this turn, so that every continuation of the replies just read adds its call first.
    process.nextTick(this.#flush)
  }

  /**
   * Ends it without a report. Nothing that was handed to `send` is read afterwards. `abrupt` sends RST, which leaves no
   * TIME_WAIT behind, so the same source port (by which servers recognise repeated calls) can be used again at once.
   */
  close ({ abrupt }: { abrupt: boolean }): void {
    this.#onClosed = undefined
    this.#end(abrupt)
  }

  #watch (): void {
    this.#socket.on('error', (error) => { this.#fail('lost', error.message) })
    this.#socket.on('end', () => { this.#fail('ended', 'the server closed the connection') })
    this.#socket.on('close', () => { this.#fail('lost', 'the connection was closed') })
    this.#socket.resume()
  }

  #receive (bytes: number): boolean {
    if (this.#isClosed) return false
    this.#counters.bytesReceived += bytes
    try {
      this.#receivedBytes += bytes
      this.#framer.received(bytes, this.#takeRecord)
    } catch (error) {
      if (!(error instanceof WireError)) throw error
      this.#counters.garbage++
      this.#fail('garbage', messageOf(error))
    }
    return !this.#isClosed
  }

  readonly #takeRecord: RecordSink = (buffer, start, end, memory) => {
    if (this.#onRecord === undefined) memory?.release()
    else this.#onRecord(buffer, start, end, memory)
  }

  #writeOut (): void {
    this.#isFlushScheduled = false
    if (this.#isClosed || this.#out.length === 0) return
    const chunks = this.#joinSmall(this.#out)
    this.#out = []
    const [only] = chunks
    if (chunks.length === 1 && only !== undefined) {
      this.#write(only)
    } else {
      this.#socket.cork()
      for (const chunk of chunks) this.#write(chunk)
      this.#socket.uncork()
    }
    // What the kernel did not take at once is still read: the next calls are joined elsewhere.
    if (this.#socket.writableLength > 0) this.#joined = undefined
  }

  #write (chunk: Buffer): void {
    this.#counters.bytesSent += chunk.length
    this.#socket.write(chunk)
  }

  /** Joins runs of small parts; large ones stay as they are. */
  #joinSmall (parts: readonly Buffer[]): readonly Buffer[] {
    if (parts.length === 1) return parts
    const joined = this.#joined ??= Buffer.allocUnsafeSlow(joinedBytesMax)
    const chunks: Buffer[] = []
    let start = 0
    let end = 0
    for (const part of parts) {
      if (part.length <= joinBytesMax && end + part.length <= joinedBytesMax) {
        part.copy(joined, end)
        end += part.length
        continue
      }
      if (end > start) chunks.push(joined.subarray(start, end))
      start = end
      chunks.push(part)
    }
    if (end > start) chunks.push(joined.subarray(start, end))
    return chunks
  }

  #fail (reason: DisconnectReason, detail: string): void {
    if (this.#isClosed) return
    const report = this.#onClosed
    this.#onClosed = undefined
    this.#end(true)
    report?.(reason, detail)
  }

  #end (abrupt: boolean): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#out = []
    this.#framer.close()
    if (abrupt) this.#socket.resetAndDestroy()
    else this.#socket.destroy()
  }
}
