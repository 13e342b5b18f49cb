/**
 * Calls over one connection at a time.
 *
 * Owns what is pending: the calls in flight (at most `callsInFlightMax`, sent again with the same xid on every new
 * connection), the queue behind them, their timeouts, and the rule that a call whose bytes are still being sent is not
 * settled before its connection was closed. Does not know how connections are made.
 */
import { encodeCallHead, finishCall } from '../../proto/rpc/call.ts'
import type { Procedure } from '../../proto/rpc/procedure.ts'
import type { RecordMemory, RecordSink } from '../../proto/rpc/record.ts'
import { decodeReplyHead, requireReply } from '../../proto/rpc/reply.ts'
import { XdrReader } from '../../proto/xdr/reader.ts'
import { XdrWriter } from '../../proto/xdr/writer.ts'
import { messageOf, TransportError, WireError } from '../base/errors.ts'
import { callsInFlightMax, unmatchedRepliesMax } from '../base/limits.ts'
import {
  type BulkResult,
  type Caller,
  type CallTrace,
  PendingCall,
  type RecoveryOptions,
  RejectedError,
  timeoutMsMax
} from './call.ts'
import { CallQueue } from './call-queue.ts'
import { type Connection, type ConnectionParts, showEndpoint } from './connection.ts'
import type { DisconnectReason, RpcObserver } from './events.ts'
import { Reconnector, type ReconnectorOptions } from './reconnector.ts'

export interface ChannelOptions extends ReconnectorOptions {
  readonly recovery: RecoveryOptions
  readonly nextXid: () => number
  /** A call became pending: the owner's timer should run. */
  readonly onPending: () => void
  /** An answer had bytes behind its end. */
  readonly onTrailing: (procedure: string, bytes: number) => void
}

/** A reply that cannot be understood may be damage on the way; three of them are the server's way of speaking. */
const undecodableMax = 3

export class Channel implements Caller {
  readonly #options: ChannelOptions
  readonly #parts: ConnectionParts
  readonly #observe: RpcObserver
  readonly #reconnector: Reconnector
  readonly #inFlight = new Map<number, PendingCall>()
  readonly #queue = new CallQueue()
  #connection: Connection | undefined
  #connectedAtMs = 0
  /** On this connection: calls sent, answers of pending calls, and answers that nobody waits for. */
  #sendsHere = 0
  #repliesHere = 0
  #unmatchedHere = 0
  #isConnecting = false
  #closed: Error | undefined
  /** Since when calls are waiting on this connection without any answer. */
  #silentSinceMs = 0
  #silentRounds = 0
  /** What had come on this connection when it was looked at last, and when more had come: a slow answer is no
   * silence. */
  #receivedBytes = 0
  #receivedMs: number | undefined
  /** A call waits, or waited, for longer than it should, and nothing was answered here since. */
  #outage: { readonly sinceMs: number, readonly noticedMs: number } | undefined
  #lastReplyMs: number | undefined
  #address = ''

  constructor (options: ChannelOptions, parts: ConnectionParts) {
    this.#options = options
    this.#parts = parts
    this.#observe = options.observe
    this.#reconnector = new Reconnector(options, parts)
  }

  get address (): string { return this.#address }
  get isConnected (): boolean { return this.#connection !== undefined }
  get pending (): number { return this.#inFlight.size + this.#queue.size }
  get lastReplyMs (): number | undefined { return this.#lastReplyMs }
  /**
   * Whether the server does not respond, when it was last heard of at `heardMs` on any channel. While calls wait here
   * only an answer here says otherwise; when none do (`soft` gives them up), nothing would come that could.
   */
  isNotResponding (heardMs: number): boolean {
    return this.#outage !== undefined && (this.pending > 0 || this.#outage.noticedMs >= heardMs)
  }

  /** Why there is no connection, if there is none. */
  get trouble (): string { return this.#reconnector.trouble }

  call<A, R> (procedure: Procedure<A, R>, args: A, credential: Buffer, trace?: CallTrace): Promise<R> {
    return this.#issue<A, R>(procedure, args, credential, false, trace)
  }

  callBulk<A, R> (procedure: Procedure<A, R>, args: A, credential: Buffer): Promise<BulkResult<R>> {
    return this.#issue<A, BulkResult<R>>(procedure, args, credential, true, undefined)
  }

  /** Ends everything: what is pending, and every later call, is rejected. */
  close (): void {
    if (this.#closed !== undefined) return
    this.#closed = new TransportError('CLOSED', 'the connection to the server was shut down', { sent: false })
    this.#reconnector.stop()
    // What nobody has answered may still lie in the kernel's buffer: a reset takes it back.
    this.#connection?.close({ abrupt: this.pending > 0 })
    this.#connection = undefined
    for (const call of [...this.#inFlight.values(), ...this.#queue.drain()]) {
      call.reject(new TransportError('CLOSED', 'the connection to the server was shut down', { sent: call.sends > 0 }))
    }
    this.#inFlight.clear()
  }

  /** Looks at every clock of this channel. */
  tick (nowMs: number): void {
    if (this.pending === 0) return
    this.#noteProgress(nowMs)
    const limitMs = Math.min(
      Math.max(timeoutMsMax, this.#options.recovery.timeoMs),
      this.#options.recovery.timeoMs * (1 + this.#silentRounds)
    )
    if (this.#connection !== undefined && this.#inFlight.size > 0 && nowMs - this.#silentSinceMs >= limitMs) {
      // Each time longer: a server that needs more than `timeo` for one call must be allowed to finish it.
      this.#silentRounds++
      this.#lose('silent', `nothing came for ${Math.round(nowMs - this.#silentSinceMs)} ms while calls were pending`)
    }
    for (const call of this.#inFlight.values()) this.#checkTimeout(call, nowMs)
    for (const call of this.#queue) this.#checkTimeout(call, nowMs)
  }

  #noteProgress (nowMs: number): void {
    const receivedBytes = this.#connection?.receivedBytes ?? 0
    if (receivedBytes > this.#receivedBytes) this.#silentSinceMs = this.#receivedMs = nowMs
    this.#receivedBytes = receivedBytes
  }

  #issue<A, R> (
    procedure: Procedure<A, unknown>,
    args: A,
    credential: Buffer,
    takesMemory: boolean,
    trace: CallTrace | undefined
  ): Promise<R> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed)
    return new Promise<R>((resolve, reject) => {
      const xid = this.#options.nextXid()
      const out = new XdrWriter()
      encodeCallHead(out, procedure, xid, credential)
      procedure.encode(out, args)
      const call = new PendingCall({
        xid,
        procedure: procedure.name,
        takesMemory,
        nowMs: this.#parts.clock.nowMs(),
        recovery: this.#options.recovery,
        parts: finishCall(out),
        decode: (input) => procedure.decode(input, args),
        resolve: resolve as (value: unknown) => void,
        reject,
        trace
      })
      this.#parts.counters.calls++
      if (this.pending === 0) this.#options.onPending()
      if (this.#inFlight.size < callsInFlightMax) this.#launch(call)
      else this.#queue.push(call)
    })
  }

  #launch (call: PendingCall): void {
    if (this.#inFlight.size === 0) this.#silentSinceMs = Math.max(this.#silentSinceMs, call.issuedAtMs)
    this.#inFlight.set(call.xid, call)
    if (this.#connection !== undefined) this.#send(call, this.#connection)
    else this.#connect()
  }

  #send (call: PendingCall, connection: Connection): void {
    if (call.sends > 0) this.#parts.counters.retransmissions++
    call.sends++
    call.copies++
    this.#sendsHere++
    connection.send(call.parts)
  }

  /** Moves queued calls up into free places. */
  #advanceQueue (): void {
    while (this.#inFlight.size < callsInFlightMax) {
      const call = this.#queue.shift()
      if (call === undefined) return
      this.#launch(call)
    }
  }

  #connect (): void {
    if (this.#isConnecting || this.#closed !== undefined) return
    this.#isConnecting = true
    this.#reconnector.connect().then((connection) => {
      this.#isConnecting = false
      if (connection !== undefined) this.#adopt(connection)
    }, (error: unknown) => {
      // The reconnector turns every failure into another attempt; what arrives here is a bug, and nobody may wait for
      // ever because of it.
      this.#isConnecting = false
      this.#rejectAll(error instanceof Error ? error : new Error(messageOf(error)))
    })
  }

  #rejectAll (error: Error): void {
    const calls = [...this.#inFlight.values(), ...this.#queue.drain()]
    this.#inFlight.clear()
    for (const call of calls) call.reject(error)
  }

  #adopt (connection: Connection): void {
    if (this.#closed !== undefined) {
      connection.close({ abrupt: false })
      return
    }
    this.#connection = connection
    this.#connectedAtMs = this.#silentSinceMs = this.#parts.clock.nowMs()
    this.#sendsHere = this.#repliesHere = this.#unmatchedHere = 0
    this.#address = showEndpoint(connection.endpoint)
    this.#parts.counters.connects++
    this.#observe({
      kind: 'connected', address: this.#address, sourcePort: connection.sourcePort, pending: this.pending
    })
    for (const call of this.#inFlight.values()) {
      call.copies = 0
      this.#send(call, connection)
    }
    connection.attach(this.#takeRecord, (reason, detail) => { this.#lost(connection, reason, detail) })
  }

  /** Closes the connection for a reason of ours. */
  #lose (reason: DisconnectReason, detail: string): void {
    const connection = this.#connection
    if (connection === undefined) return
    connection.close({ abrupt: true })
    this.#lost(connection, reason, detail)
  }

  #lost (connection: Connection, reason: DisconnectReason, detail: string): void {
    if (this.#connection !== connection) return
    this.#connection = undefined
    this.#parts.counters.disconnects++
    this.#observe({ kind: 'disconnected', address: this.#address, reason, detail, pending: this.pending })
    this.#reconnector.lost(reason, {
      livedMs: this.#parts.clock.nowMs() - this.#connectedAtMs, replies: this.#repliesHere,
      pending: this.#inFlight.size
    })
    this.#advanceQueue()
    // An idle connection that servers close after some minutes is not missed until somebody calls.
    if (this.#inFlight.size > 0) this.#connect()
  }

  readonly #takeRecord: RecordSink = (buffer, start, end, memory) => {
    const input = new XdrReader(buffer, start, end)
    let call: PendingCall | undefined
    try {
      call = this.#inFlight.get(input.uint32())
      if (call === undefined || call.sends === 0) this.#noteUnmatched(input)
    } catch (error) {
      memory?.release()
      throw error
    }
    if (call === undefined || call.sends === 0) memory?.release()
    else this.#settle(call, input, memory)
  }

  /**
   * Late and repeated answers are lawful: at most one for each time that a call was sent. What is no reply at all, or
   * more than that, says that stream or server have lost their place. @throws WireError, which ends the connection.
   */
  #noteUnmatched (input: XdrReader): void {
    requireReply(input)
    this.#parts.counters.unmatchedReplies++
    if (++this.#unmatchedHere > this.#sendsHere + unmatchedRepliesMax) {
      throw new WireError('INVALID', `${this.#unmatchedHere} answers to calls that nobody made`)
    }
  }

  /** The xid was that of a pending call: the stream is in step, and whatever else is wrong costs this call alone. */
  #settle (call: PendingCall, input: XdrReader, memory: RecordMemory | undefined): void {
    const owned = call.takesMemory && memory === undefined ? this.#copyOut(input) : memory
    const source = owned === memory || owned === undefined ? input : new XdrReader(owned.buffer, 0, input.remaining)
    let outcome: unknown
    this.#noteHeard()
    try {
      requireReply(source)
      const rejection = decodeReplyHead(source)
      outcome = rejection === undefined ? call.decode(source) : new RejectedError(call.procedure, rejection)
    } catch (error) {
      owned?.release()
      this.#undecodable(call, error)
      return
    }
    if (source.remaining > 0) this.#options.onTrailing(call.procedure, source.remaining)
    this.#parts.counters.replies++
    this.#end(call)
    if (outcome instanceof RejectedError) {
      owned?.release()
      this.#parts.counters.rejections++
      call.reject(outcome)
    } else if (call.takesMemory) {
      call.resolve({ value: outcome, memory: owned })
    } else {
      owned?.release()
      call.resolve(outcome)
    }
    this.#advanceQueue()
  }

  /**
   * Before a call is settled: nothing of it may be read any more. An answer says that the server has all of one copy of
   * it; another one may still be on its way out of the caller's memory.
   */
  #end (call: PendingCall): void {
    this.#inFlight.delete(call.xid)
    if (call.copies > 1 && this.#connection?.isSending === true) {
      this.#lose('lost', `${call.procedure} was answered while it was being sent again`)
    }
  }

  /** A small reply lies in the connection's reused buffer; its data must outlive that. */
  #copyOut (input: XdrReader): RecordMemory {
    const rest = input.rest()
    const memory = this.#parts.pool.acquire(rest.length)
    rest.copy(memory.buffer)
    return memory
  }

  /** The server has answered something, whether or not it can be understood. */
  #noteHeard (): void {
    this.#repliesHere++
    const nowMs = this.#parts.clock.nowMs()
    this.#silentSinceMs = this.#lastReplyMs = nowMs
    this.#silentRounds = 0
    if (this.#outage === undefined) return
    this.#observe({ kind: 'responding', address: this.#address, outageMs: Math.round(nowMs - this.#outage.sinceMs) })
    this.#outage = undefined
  }

  /** Asked again at once, with the same xid: damage on the way is repaired by that. A server that speaks so is not. */
  #undecodable (call: PendingCall, error: unknown): void {
    if (!(error instanceof WireError)) throw error
    call.undecodable++
    this.#parts.counters.undecodable++
    const givenUp = call.undecodable >= undecodableMax
    this.#observe({ kind: 'undecodable', procedure: call.procedure, detail: error.message, givenUp })
    if (givenUp) {
      this.#end(call)
      call.reject(error)
      this.#advanceQueue()
    } else if (this.#connection !== undefined) {
      this.#send(call, this.#connection)
    }
  }

  #checkTimeout (call: PendingCall, nowMs: number): void {
    if (call.isSettled) return
    const due = call.due(nowMs, this.#options.recovery)
    if (due === undefined) return
    if (due === 'minor') {
      const connection = this.#connection
      // Behind bytes that cannot leave, a second copy helps nobody.
      if (connection !== undefined && call.sends > 0 && !connection.isSending) this.#send(call, connection)
      return
    }
    this.#majorTimeout(call, nowMs)
  }

  #majorTimeout (call: PendingCall, nowMs: number): void {
    const givenUp = this.#options.recovery.recovery !== 'hard'
    this.#parts.counters.majorTimeouts++
    if (this.#outage === undefined) {
      this.#outage = { sinceMs: call.issuedAtMs, noticedMs: nowMs }
      const waitedMs = Math.round(nowMs - call.issuedAtMs)
      this.#observe({ kind: 'not-responding', address: this.#address, procedure: call.procedure, waitedMs, givenUp })
    }
    // Not one answer, nor a part of one, since this call was made: whatever this connection is, it is no use.
    const isSilent = Math.max(this.#lastReplyMs ?? 0, this.#receivedMs ?? 0) < call.issuedAtMs
    if (isSilent || (givenUp && this.#connection?.isSending === true)) {
      this.#lose('silent', `${call.procedure} was not answered for ${Math.round(nowMs - call.issuedAtMs)} ms`)
    }
    if (!givenUp) return
    this.#parts.counters.softFailures++
    this.#inFlight.delete(call.xid)
    call.reject(
      new TransportError(
        'TIMED_OUT',
        `${call.procedure} was not answered within ${Math.round(nowMs - call.issuedAtMs)} ms`,
        { sent: call.sends > 0 }
      )
    )
    this.#advanceQueue()
  }
}
