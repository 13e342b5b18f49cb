/**
 * The life of one call: encoded once, sent once or more with the same xid, settled once.
 *
 * Owns the record of a pending call and its schedule of timeouts (nfs(5), TCP). Does not know connections.
 */
import type { Procedure } from '../../proto/rpc/procedure.ts'
import type { RecordMemory } from '../../proto/rpc/record.ts'
import type { Rejection } from '../../proto/rpc/reply.ts'
import type { XdrReader } from '../../proto/xdr/reader.ts'
import { TransportError } from '../base/errors.ts'
import type { Recovery } from '../base/volume-spec.ts'

/** nfs(5) `hard soft softerr`, `timeo` and `retrans`. */
export interface RecoveryOptions {
  readonly recovery: Recovery
  readonly timeoMs: number
  readonly retrans: number
}

/** nfs(5): the linear back-off over TCP stops growing at 600 seconds. */
export const timeoutMsMax = 600_000

/** Told to callers that must know whether the server may have seen the call twice. */
export interface CallTrace { retransmitted: boolean }

/** A result that lies in memory of its own. Whoever takes it calls `memory.release` exactly once. */
export interface BulkResult<R> { readonly value: R, readonly memory: RecordMemory }

/** The highest of any program spoken here: NFS version 4, rpcbind version 4. */
const versionMax = 4

/** The server understood the call's envelope and refused to run it. */
export class RejectedError extends TransportError {
  readonly rejection: Rejection
  constructor (procedure: string, rejection: Rejection) {
    const { kind, versions } = rejection
    // Numbers that are no versions are not repeated: a message may reach somebody who must not learn what a peer says.
    const range = versions === undefined || Math.max(versions.low, versions.high) > versionMax
      ? ''
      : ` (it speaks versions ${versions.low} to ${versions.high})`
    super('REJECTED', `the server refused ${procedure}: ${kind}${range}`, { sent: true })
    this.rejection = rejection
  }
}

export class PendingCall {
  readonly xid: number
  readonly procedure: string
  readonly takesMemory: boolean
  readonly issuedAtMs: number
  /** Kept until the answer: a lost connection sends the same bytes again. */
  readonly parts: readonly Buffer[]
  readonly #decode: (input: XdrReader) => unknown
  readonly #resolve: (value: unknown) => void
  readonly #reject: (error: Error) => void
  readonly #trace: CallTrace | undefined
  /** How often it was handed to a connection. */
  sends = 0
  /** And how often to the connection that there is now. */
  copies = 0
  undecodable = 0
  isSettled = false
  #intervalMs: number
  #retransmitAtMs: number
  #majorAtMs: number

  constructor (facts: {
    xid: number
    procedure: string
    takesMemory: boolean
    nowMs: number
    recovery: RecoveryOptions
    parts: readonly Buffer[]
    decode: (input: XdrReader) => unknown
    resolve: (value: unknown) => void
    reject: (error: Error) => void
    trace: CallTrace | undefined
  }) {
    this.xid = facts.xid
    this.procedure = facts.procedure
    this.takesMemory = facts.takesMemory
    this.issuedAtMs = facts.nowMs
    this.parts = facts.parts
    this.#decode = facts.decode
    this.#resolve = facts.resolve
    this.#reject = facts.reject
    this.#trace = facts.trace
    this.#intervalMs = facts.recovery.timeoMs
    this.#retransmitAtMs = facts.nowMs + facts.recovery.timeoMs
    this.#majorAtMs = facts.nowMs + majorMs(facts.recovery)
  }

  /**
   * What is due now: `major` when `retrans` retransmissions' worth of time has passed, `minor` when the call should be
   * sent again. Each minor timeout is longer than the last by `timeo`.
   */
  due (nowMs: number, recovery: RecoveryOptions): 'major' | 'minor' | undefined {
    if (nowMs >= this.#majorAtMs) {
      this.#majorAtMs = nowMs + majorMs(recovery)
      this.#intervalMs = recovery.timeoMs
      this.#retransmitAtMs = nowMs + recovery.timeoMs
      return 'major'
    }
    if (nowMs < this.#retransmitAtMs) return undefined
    this.#intervalMs = Math.min(timeoutMsMax, this.#intervalMs + recovery.timeoMs)
    this.#retransmitAtMs = nowMs + this.#intervalMs
    return 'minor'
  }

  /** @throws WireError */
  decode (input: XdrReader): unknown { return this.#decode(input) }

  resolve (value: unknown): void {
    this.isSettled = true
    if (this.#trace !== undefined) this.#trace.retransmitted = this.sends > 1
    this.#resolve(value)
  }

  reject (error: Error): void {
    this.isSettled = true
    if (this.#trace !== undefined) this.#trace.retransmitted = this.sends > 1
    this.#reject(error)
  }
}

/** The kernel's rule for a linear back-off: initial value plus one increment per retransmission
 * (xprt_calc_majortimeo). */
function majorMs ({ timeoMs, retrans }: RecoveryOptions): number {
  return timeoMs * (1 + retrans)
}

/** What a channel offers; `procedure.bulk` decides between `call` and `callBulk`. */
export interface Caller {
  call<A, R> (procedure: Procedure<A, R>, args: A, credential: Buffer, trace?: CallTrace): Promise<R>
  callBulk<A, R> (procedure: Procedure<A, R>, args: A, credential: Buffer): Promise<BulkResult<R>>
}
