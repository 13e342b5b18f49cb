/**
 * From requests to replies: the life of every FUSE request between read(2) and write(2).
 *
 * Owns requests in flight, gathered replies, lookup accounting at the moment a reply is accepted, and INTERRUPT. Knows the table
 * of `proto/fuse` and a table of services; what an operation means is the services' matter (`adapter.ts`).
 *
 * Replies made in one turn of the loop are packed into one buffer and written by one call into the addon. An answer that carries a
 * reference (an entry, a handle) counts once the kernel has taken it: write(2) says ENOENT when nobody waits any more, and the
 * reference is given back.
 */
import { Errno, errnoName, isErrno } from '../base/errno.ts'
import { messageOf, WireError } from '../base/errors.ts'
import { isPromise } from '../base/maybe-promise.ts'
import type { MaybePromise } from '../base/maybe-promise.ts'
import type { Credential } from '../fs/backend.ts'
import type { Caller, FilesystemOperations } from '../fs/operations.ts'
import type { FuseDevice } from '../host/fuse-device.ts'
import { beginReply, decodeHeader, finishReply, REPLY_HEADER_BYTES } from '../../proto/fuse/header.ts'
import type { RequestHeader } from '../../proto/fuse/header.ts'
import { negotiate } from '../../proto/fuse/init.ts'
import type { InitWishes, Negotiated } from '../../proto/fuse/init.ts'
import { nameOfOpcode, operations as rows } from '../../proto/fuse/operations.ts'
import type { AnswerOf, BulkOut, Operation, OperationName, RequestOf } from '../../proto/fuse/operations.ts'
import { FuseReader } from '../../proto/fuse/reader.ts'
import { FuseWriter } from '../../proto/fuse/writer.ts'
import type { Credentials } from './credentials.ts'
import { lookEveryMs } from './interrupts.ts'
import type { Interruptible, Interrupts } from './interrupts.ts'
import { refusals } from './refusals.ts'
import type { RefusedName } from './refusals.ts'
import type { OperationStatistics } from './statistics.ts'

/** As `agent/observe` has it; injected, because a session must not load a logger it may not need. */
export type Log = (level: 'debug' | 'info' | 'warn' | 'error', fields: { readonly op: string, readonly [extra: string]: unknown }, message?: string) => void

/** Answered by the dispatcher itself. */
type OwnName = 'INIT' | 'FORGET' | 'BATCH_FORGET' | 'INTERRUPT' | 'DESTROY' | 'NOTIFY_REPLY'
export type ServedName = Exclude<OperationName, OwnName | RefusedName>

export interface Service<Q, A> {
  serve (request: Q, call: Call): MaybePromise<A | Errno>
  /** The kernel took the answer: references in it count from now on. */
  accepted? (answer: A): void
  /** Nobody waits for the answer any more: what it carries is given back. */
  vanished? (answer: A): void
}
export type Services = { readonly [N in ServedName]: Service<RequestOf<N>, AnswerOf<N>> }

export interface DispatcherParts {
  readonly device: FuseDevice
  readonly services: Services
  readonly operations: Pick<FilesystemOperations, 'forget'>
  readonly credentials: Credentials
  readonly interrupts: Interrupts
  readonly statistics: OperationStatistics
  readonly wishes: InitWishes
  readonly log: Log
  readonly now: () => number
  /** INIT was answered: the kernel sends requests from now on. */
  readonly onReady: (negotiated: Negotiated) => void
}

/** Room that any reply but bulk data fits into: a symlink's target and a header. */
const replyRoomBytes = 4096 + 512
/** Replies written by one call into the addon; more would let the first caller wait for the last. */
const gatheredMax = 16
/** "Ask again" answers for an INTERRUPT whose request is unknown, so that it cannot spin. */
const unknownInterruptsMax = 3
const unknownInterruptsKept = 1024
/** UIO_MAXIOV less the header. */
const bulkPartsMax = 1000

/** One request that is being served. */
export class Call implements Caller, Interruptible {
  /** Replaced when the kernel repeats a request that is still in flight: the reply must match the last one. */
  header: RequestHeader
  readonly startedMs: number
  isGivenUp = false
  isInterrupted = false
  readonly #credentials: Credentials
  readonly #giveUp: (call: Call) => void

  constructor (header: RequestHeader, startedMs: number, credentials: Credentials, giveUp: (call: Call) => void) {
    this.header = header
    this.startedMs = startedMs
    this.#credentials = credentials
    this.#giveUp = giveUp
  }

  get uid (): number { return this.header.uid }
  get gid (): number { return this.header.gid }
  get pid (): number { return this.header.pid }
  get nodeid (): number { return this.header.nodeid }
  get credential (): Credential { return this.#credentials.of(this.header.uid, this.header.gid, this.header.pid) }
  giveUp (): void { this.#giveUp(this) }
}

type AnyService = Service<unknown, unknown>
type AnyRow = Operation<unknown, unknown>
interface Plan { readonly row: AnyRow, readonly service: AnyService }
interface Gathered { readonly call: Call, readonly service: AnyService | undefined, readonly answer: unknown }

export class Dispatcher {
  readonly #parts: DispatcherParts
  readonly #reader: FuseReader
  readonly #out: FuseWriter
  readonly #plans: readonly (Plan | undefined)[]
  readonly #own: Readonly<Record<OwnName, (header: RequestHeader) => void>>
  readonly #inFlight = new Map<number, Call>()
  readonly #unknownInterrupts = new Map<number, number>()
  readonly #giveUp = (call: Call): void => { this.#answerEarly(call) }
  readonly #flushLater = (): void => {
    this.#isFlushDue = false
    this.flush()
  }

  #gathered: Gathered[] = []
  #isFlushDue = false
  #isInBatch = false
  #malformed = 0

  constructor (parts: DispatcherParts) {
    this.#parts = parts
    this.#reader = new FuseReader(parts.device.requests)
    this.#out = new FuseWriter(parts.device.replies)
    // One cast: row and service of one name belong together, which `Services` has checked.
    this.#plans = nameOfOpcode.map((name) => name !== undefined && name in parts.services
      ? { row: rows[name] as AnyRow, service: parts.services[name as ServedName] as AnyService }
      : undefined)
    this.#own = {
      INIT: (header) => { this.#init(header) },
      FORGET: (header) => {
        this.flush()
        parts.operations.forget(header.nodeid, rows.FORGET.decode(this.#reader).nlookup)
      },
      BATCH_FORGET: () => { this.#forgetMany(rows.BATCH_FORGET.decode(this.#reader).pairs) },
      INTERRUPT: (header) => { this.#interrupt(header, rows.INTERRUPT.decode(this.#reader).unique) },
      DESTROY: (header) => { this.#answerError(header, 0) },
      NOTIFY_REPLY: () => {}
    }
    parts.interrupts.start(() => this.#overdue())
  }

  get inFlight (): number { return this.#inFlight.size }
  /** Requests whose caller got a signal and that go on. */
  get interrupted (): number { return [...this.#inFlight.values()].filter((call) => call.isInterrupted && !call.isGivenUp).length }
  get malformed (): number { return this.#malformed }

  /** The device read `count` requests. */
  requests (count: number): void {
    const { table } = this.#parts.device
    this.#isInBatch = true
    for (let index = 0; index < count; index++) {
      const start = table[2 * index] ?? 0
      this.#dispatch(start, start + (table[2 * index + 1] ?? 0))
    }
    this.#isInBatch = false
    this.flush()
  }

  #dispatch (start: number, end: number): void {
    let header: RequestHeader
    try {
      header = decodeHeader(this.#reader, start, end)
    } catch (error) {
      this.#malformed++
      this.#parts.log('error', { op: 'request', error: messageOf(error) }, 'a request without a readable header was dropped')
      return
    }
    const plan = this.#plans[header.opcode]
    if (plan === undefined) this.#dispatchOther(header)
    else this.#serve(header, plan)
  }

  #serve (header: RequestHeader, plan: Plan): void {
    const { now, credentials } = this.#parts
    if (header.isResent && this.#repeats(header)) return
    const call = new Call(header, now(), credentials, this.#giveUp)
    let result: unknown
    try {
      result = plan.service.serve(plan.row.decode(this.#reader), call)
    } catch (error) {
      this.#fault(call, plan, error)
      return
    }
    if (!isPromise(result)) {
      this.#answer(call, plan, result)
      return
    }
    this.#inFlight.set(header.unique, call)
    result.then((answer) => { this.#settle(call, plan, answer) }, (error: unknown) => {
      this.#inFlight.delete(call.header.unique)
      this.#fault(call, plan, error)
    })
  }

  /** Is this a repetition of a request we are still working on? Then its answer goes to the repetition. */
  #repeats (header: RequestHeader): boolean {
    const call = this.#inFlight.get(header.unique)
    if (call === undefined || call.isGivenUp) return false
    call.header = header
    return true
  }

  /** In flight for longer than a period, oldest first: the map is in order of arrival. */
  * #overdue (): Generator<Call> {
    const sinceMs = this.#parts.now() - lookEveryMs
    for (const call of [...this.#inFlight.values()]) {
      if (call.startedMs > sinceMs) return
      if (!call.isGivenUp) yield call
    }
  }

  #settle (call: Call, plan: Plan, answer: unknown): void {
    this.#inFlight.delete(call.header.unique)
    if (call.isGivenUp) this.#drop(plan.service, answer)
    else this.#answer(call, plan, answer)
  }

  #dispatchOther (header: RequestHeader): void {
    const name = nameOfOpcode[header.opcode]
    if (name === undefined || name in refusals) {
      const refusal = name === undefined ? Errno.ENOSYS : refusals[name as RefusedName]
      this.#parts.statistics.count(header.opcode, true, 0)
      this.#answerError(header, refusal)
      return
    }
    try {
      this.#own[name as OwnName](header)
    } catch (error) {
      this.#malformed++
      this.#parts.log('error', { op: name, error: messageOf(error) }, 'a request could not be read')
      if (rows[name].replies) this.#answerError(header, Errno.EPROTO)
    }
  }

  /* ---- answers ---- */

  #answer (call: Call, plan: Plan, answer: unknown): void {
    const isFailure = isErrno(answer)
    this.#parts.statistics.count(call.header.opcode, isFailure, this.#parts.now() - call.startedMs)
    if (isFailure) {
      this.#answerError(call.header, answer)
    } else if (plan.row.bulk) {
      this.#answerBulk(call, plan.service, answer as BulkOut)
    } else {
      this.#makeRoom()
      const start = beginReply(this.#out, call.header, 0)
      plan.row.encode(this.#out, answer)
      finishReply(this.#out, start)
      this.#gather({ call, service: plan.service, answer })
    }
  }

  #answerError (header: RequestHeader, errno: number): void {
    this.#makeRoom()
    const start = beginReply(this.#out, header, errno)
    finishReply(this.#out, start)
    this.#gather(undefined)
  }

  /** Data goes from where it lies to the kernel, uncopied, in a write of its own. */
  #answerBulk (call: Call, service: AnyService, answer: BulkOut): void {
    this.#makeRoom()
    const start = beginReply(this.#out, call.header, 0)
    finishReply(this.#out, start, answer.bytes)
    const parts = answer.parts.length > bulkPartsMax ? [Buffer.concat(answer.parts)] : answer.parts
    this.#out.seek(start)
    const errno = this.#parts.device.send(start, REPLY_HEADER_BYTES, parts)
    this.#conclude(call, service, answer, errno)
  }

  #makeRoom (): void {
    if (this.#out.room < replyRoomBytes) this.flush()
  }

  #gather (gathered: Gathered | undefined): void {
    this.#gathered.push(gathered ?? nobody)
    if (this.#gathered.length >= gatheredMax) {
      this.flush()
    } else if (!this.#isInBatch && !this.#isFlushDue) {
      this.#isFlushDue = true
      process.nextTick(this.#flushLater)
    }
  }

  /** Writes all gathered replies now, and counts what they carry. */
  flush (): void {
    if (this.#gathered.length === 0) return
    const gathered = this.#gathered
    const { device } = this.#parts
    const refused = device.flush(this.#out.offset)
    // What follows may answer again, and so gather anew: the results are looked at first.
    const results = refused === 0 ? undefined : device.results.slice(0, gathered.length)
    this.#gathered = []
    this.#out.seek(0)
    for (let index = 0; index < gathered.length; index++) {
      const one = gathered[index] ?? nobody
      if (one !== nobody) this.#conclude(one.call, one.service, one.answer, results?.[index] ?? 0)
    }
  }

  #conclude (call: Call, service: AnyService | undefined, answer: unknown, errno: number): void {
    if (errno === 0) {
      service?.accepted?.(answer)
      return
    }
    if (service !== undefined) this.#drop(service, answer)
    if (errno === Errno.ENOENT || errno === Errno.ENODEV) return
    // The kernel did not like the reply itself; somebody still waits for one.
    this.#parts.log('error', { op: nameOfOpcode[call.header.opcode] ?? 'reply', outcome: errnoName(errno) }, 'the kernel refused a reply')
    this.#answerError(call.header, Errno.EIO)
  }

  #drop (service: AnyService, answer: unknown): void {
    if (!isErrno(answer)) service.vanished?.(answer)
  }

  #fault (call: Call, plan: Plan, error: unknown): void {
    const name = nameOfOpcode[call.header.opcode]
    const isWire = error instanceof WireError
    if (isWire) this.#malformed++
    // A size or offset above 2^53 is a caller's wish that no server can fulfil, not a broken message.
    const errno = isWire && error.code === 'OVERLONG' ? Errno.EFBIG : Errno.EIO
    if (errno === Errno.EIO) {
      this.#parts.log('error', { op: name ?? 'request', outcome: 'EIO', error: messageOf(error), stack: error instanceof Error ? error.stack : undefined }, 'a request failed inside')
    }
    if (!call.isGivenUp) this.#answer(call, plan, errno)
  }

  /* ---- what the dispatcher serves itself ---- */

  #init (header: RequestHeader): void {
    const { wishes, log, onReady } = this.#parts
    const request = rows.INIT.decode(this.#reader)
    let negotiated: Negotiated
    try {
      negotiated = negotiate(request, wishes)
    } catch (error) {
      log('error', { op: 'INIT', outcome: 'EPROTO', error: messageOf(error) })
      this.#answerError(header, Errno.EPROTO)
      return
    }
    const start = beginReply(this.#out, header, 0)
    rows.INIT.encode(this.#out, negotiated.reply)
    finishReply(this.#out, start)
    this.#gather(undefined)
    this.flush()
    onReady(negotiated)
  }

  /** Gathered replies go first: one of them may carry a reference to what is forgotten here. */
  #forgetMany (pairs: readonly number[]): void {
    this.flush()
    for (let index = 0; index < pairs.length; index += 2) this.#parts.operations.forget(pairs[index] ?? 0, pairs[index + 1] ?? 0)
  }

  #interrupt (header: RequestHeader, unique: number): void {
    const call = this.#inFlight.get(unique)
    if (call !== undefined) {
      call.isInterrupted = true
      if (!call.isGivenUp) this.#parts.interrupts.consider(call)
      return
    }
    // Answered a moment ago, or on its way to another reader of the connection: the kernel knows. It requeues on EAGAIN, and says
    // ENOENT when the request is finished.
    this.flush()
    const asked = this.#unknownInterrupts.get(unique) ?? 0
    if (this.#unknownInterrupts.size >= unknownInterruptsKept) this.#unknownInterrupts.clear()
    this.#unknownInterrupts.set(unique, asked + 1)
    if (asked < unknownInterruptsMax) this.#answerError(header, Errno.EAGAIN)
  }

  #answerEarly (call: Call): void {
    if (call.isGivenUp) return
    call.isGivenUp = true
    this.#parts.statistics.count(call.header.opcode, true, this.#parts.now() - call.startedMs)
    this.#answerError(call.header, Errno.EINTR)
  }
}

/** Stands for a reply that carries nothing to be accounted for. */
const nobody = Object.freeze({}) as Gathered
