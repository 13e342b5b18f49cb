/**
 * From requests to answers: the life of every FUSE request between read(2) and its reply.
 *
 * Owns requests in flight, INIT, FORGET and INTERRUPT. Knows the table of `proto/fuse` and a table of services; what an
 * operation means is the services' matter (`adapter.ts`), and how a reply reaches the kernel is that of `replies.ts`.
 */
import { Errno, isErrno } from '../base/errno.ts'
import { InvariantError, messageOf, WireError } from '../base/errors.ts'
import { isPromise } from '../base/maybe-promise.ts'
import type { FilesystemOperations } from '../fs/operations.ts'
import type { FuseDevice } from '../host/fuse-device.ts'
import { decodeHeader } from '../../proto/fuse/header.ts'
import type { RequestHeader } from '../../proto/fuse/header.ts'
import { negotiate } from '../../proto/fuse/init.ts'
import type { InitWishes, Negotiated } from '../../proto/fuse/init.ts'
import { nameOfOpcode, operations as rows } from '../../proto/fuse/operations.ts'
import type { AnswerOf, BulkOut, OperationName, RequestOf } from '../../proto/fuse/operations.ts'
import { FuseReader } from '../../proto/fuse/reader.ts'
import type { OnBroken } from './broken.ts'
import { Call } from './call.ts'
import type { Service } from './call.ts'
import type { Credentials } from './credentials.ts'
import { lookEveryMs } from './interrupts.ts'
import type { Interrupts } from './interrupts.ts'
import type { Log } from './log.ts'
import { refusals } from './refusals.ts'
import type { RefusedName } from './refusals.ts'
import type { RequestLimit } from './request-limit.ts'
import { Replies } from './replies.ts'
import type { AnyService, Plan } from './replies.ts'
import type { OperationStatistics } from './statistics.ts'

export type { Call, Service } from './call.ts'
export type { Log } from './log.ts'

/** Answered by the dispatcher itself. */
type OwnName = 'INIT' | 'FORGET' | 'BATCH_FORGET' | 'INTERRUPT' | 'DESTROY' | 'NOTIFY_REPLY'
export type ServedName = Exclude<OperationName, OwnName | RefusedName>

export type Services = { readonly [N in ServedName]: Service<RequestOf<N>, AnswerOf<N>> }

export interface DispatcherParts {
  readonly device: FuseDevice
  readonly services: Services
  readonly operations: Pick<FilesystemOperations, 'forget'>
  readonly credentials: Credentials
  readonly interrupts: Interrupts
  /** Undefined where a request may wait as long as it takes. */
  readonly requestLimit: RequestLimit | undefined
  readonly statistics: OperationStatistics
  readonly wishes: InitWishes
  readonly log: Log
  readonly now: () => number
  readonly underWay: Int32Array
  readonly onBroken: OnBroken
  /** INIT was answered: the kernel sends requests from now on. */
  readonly onReady: (negotiated: Negotiated) => void
}

/** "Ask again" answers for an INTERRUPT whose request is unknown, so that it cannot spin. */
const unknownInterruptsMax = 3
const unknownInterruptsKept = 1024

export class Dispatcher {
  readonly #parts: DispatcherParts
  readonly #reader: FuseReader
  readonly #replies: Replies
  readonly #plans: readonly (Plan | undefined)[]
  readonly #own: Readonly<Record<OwnName, (header: RequestHeader) => void>>
  readonly #inFlight = new Map<number, Call>()
  readonly #unknownInterrupts = new Map<number, number>()
  readonly #giveUp = (call: Call, errno: Errno): void => { this.#answerEarly(call, errno) }
  #malformed = 0
  #isStopped = false

  constructor (parts: DispatcherParts) {
    this.#parts = parts
    this.#reader = new FuseReader(parts.device.requests)
    this.#replies = new Replies(parts.device, parts.log, parts.onBroken)
    // One cast: row and service of one name belong together, which `Services` has checked.
    this.#plans = nameOfOpcode.map((name) =>
      name !== undefined && name in parts.services
        ? { row: rows[name] as Plan['row'], service: parts.services[name as ServedName] as AnyService }
        : undefined
    )
    this.#own = {
      INIT: (header) => { this.#init(header) },
      FORGET: (header) => {
        this.#replies.flush()
        parts.operations.forget(header.nodeid, rows.FORGET.decode(this.#reader).nlookup)
      },
      BATCH_FORGET: () => { this.#forgetMany(rows.BATCH_FORGET.decode(this.#reader).pairs) },
      INTERRUPT: (header) => { this.#interrupt(header, rows.INTERRUPT.decode(this.#reader).unique) },
      DESTROY: (header) => { this.#replies.error(header, 0) },
      NOTIFY_REPLY: () => {}
    }
    parts.interrupts.start(() => this.#overdue())
    parts.requestLimit?.start(() => [...this.#inFlight.values()])
  }

  get inFlight (): number { return this.#inFlight.size }
  /** Requests whose caller got a signal and that go on. */
  get interrupted (): number {
    return [...this.#inFlight.values()].filter((call) => call.isInterrupted && !call.isGivenUp).length
  }
  get malformed (): number { return this.#malformed }

  /** Nothing is served any more: whoever waits is answered by the end of the connection. */
  stop (): void { this.#isStopped = true }

  /** The device read `count` requests. */
  requests (count: number): void {
    const { table } = this.#parts.device
    this.#replies.hold()
    try {
      for (let index = 0; index < count; index++) {
        const start = table[2 * index] ?? 0
        this.#dispatch(start, start + (table[2 * index + 1] ?? 0))
      }
    } finally {
      this.#replies.letGo()
    }
  }

  #dispatch (start: number, end: number): void {
    if (this.#isStopped) return
    let header: RequestHeader
    try {
      header = decodeHeader(this.#reader, start, end)
    } catch (error) {
      this.#malformed++
      this.#parts.log(
        'error',
        { op: 'request', error: messageOf(error) },
        'a request without a readable header was dropped'
      )
      return
    }
    const plan = this.#plans[header.opcode]
    if (plan === undefined) this.#dispatchOther(header)
    else this.#serve(header, plan)
  }

  #serve (header: RequestHeader, plan: Plan): void {
    const { now, credentials, requestLimit } = this.#parts
    if (header.isResent && this.#repeats(header)) return
    if (requestLimit?.admits === false) {
      this.#parts.statistics.count(header.opcode, Errno.EIO, 0)
      this.#replies.error(header, Errno.EIO)
      return
    }
    const call = new Call(header, now(), credentials, this.#giveUp)
    let result: unknown
    try {
      const request = plan.row.decode(this.#reader)
      const wait = plan.service.isByHandle === true ? undefined : call.learnCredential()
      result = wait === undefined
        ? plan.service.serve(request, call)
        : wait.then(() => call.isGivenUp ? Errno.EINTR : plan.service.serve(request, call))
    } catch (error) {
      this.#fault(call, plan, error)
      return
    }
    if (!isPromise(result)) {
      this.#answer(call, plan, result, true)
      return
    }
    if (plan.service.mayOutliveThread === true) call.learnProcess()
    this.#inFlight.set(header.unique, call)
    this.#parts.underWay[0] = this.#inFlight.size
    result.then((answer) => { this.#settle(call, plan, answer) }, (error: unknown) => {
      this.#leave(call)
      requestLimit?.answered(call.isGivenUp)
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

  #leave (call: Call): void {
    this.#inFlight.delete(call.header.unique)
    this.#parts.underWay[0] = this.#inFlight.size
  }

  #settle (call: Call, plan: Plan, answer: unknown): void {
    this.#leave(call)
    this.#parts.requestLimit?.answered(call.isGivenUp)
    if (call.isGivenUp) this.#replies.drop(call, plan.service, answer)
    else this.#answer(call, plan, answer)
  }

  #dispatchOther (header: RequestHeader): void {
    const name = nameOfOpcode[header.opcode]
    if (name === undefined || name in refusals) {
      const refusal = name === undefined ? Errno.ENOSYS : refusals[name as RefusedName]
      // Not a failure: it is how the kernel learns, once, what this file system does not have.
      this.#parts.statistics.count(header.opcode, 0, 0)
      this.#replies.error(header, refusal)
      return
    }
    try {
      this.#own[name as OwnName](header)
    } catch (error) {
      if (error instanceof InvariantError) {
        this.#parts.onBroken(error)
        return
      }
      this.#malformed++
      this.#parts.log('error', { op: name, error: messageOf(error) }, 'a request could not be read')
      if (rows[name].replies) this.#replies.error(header, Errno.EPROTO)
    }
  }

  /* ---- answers ---- */

  #answer (call: Call, plan: Plan, answer: unknown, isAtOnce = false): void {
    const isFailure = isErrno(answer)
    this.#parts.statistics.count(
      call.header.opcode,
      isFailure ? answer : 0,
      this.#parts.now() - call.startedMs,
      isAtOnce
    )
    if (isFailure) {
      this.#replies.failure(call, plan.service, answer)
    } else if (plan.row.bulk) {
      this.#replies.bulk(call, plan.service, answer as BulkOut)
    } else {
      this.#replies.encoded(call, plan, answer)
    }
  }

  #fault (call: Call, plan: Plan, error: unknown): void {
    const isWire = error instanceof WireError
    if (isWire) this.#malformed++
    // A size or offset above 2^53 is a caller's wish that no server can fulfil, not a broken message.
    const errno = isWire && error.code === 'OVERLONG' ? Errno.EFBIG : Errno.EIO
    if (errno === Errno.EIO) this.#replies.logBug(call, error)
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
      this.#replies.error(header, Errno.EPROTO)
      return
    }
    this.#replies.plain(header, (out) => { rows.INIT.encode(out, negotiated.reply) })
    this.#replies.flush()
    onReady(negotiated)
  }

  /** Gathered replies go first: one of them may carry a reference to what is forgotten here. */
  #forgetMany (pairs: readonly number[]): void {
    this.#replies.flush()
    for (let index = 0; index < pairs.length; index += 2) {
      this.#parts.operations.forget(pairs[index] ?? 0, pairs[index + 1] ?? 0)
    }
  }

  #interrupt (header: RequestHeader, unique: number): void {
    const call = this.#inFlight.get(unique)
    if (call !== undefined) {
      call.isInterrupted = true
      if (!call.isGivenUp) this.#parts.interrupts.consider(call)
      return
    }
    // Answered a moment ago, or on its way to another reader of the connection: the kernel knows. It requeues on
    // EAGAIN, and says ENOENT when the request is finished.
    this.#replies.flush()
    const asked = this.#unknownInterrupts.get(unique) ?? 0
    if (this.#unknownInterrupts.size >= unknownInterruptsKept) this.#unknownInterrupts.clear()
    this.#unknownInterrupts.set(unique, asked + 1)
    if (asked < unknownInterruptsMax) this.#replies.error(header, Errno.EAGAIN)
  }

  #answerEarly (call: Call, errno: Errno): void {
    // Its caller was looked at for a while, in which it may have been answered.
    if (call.isGivenUp || this.#inFlight.get(call.header.unique) !== call) return
    call.isGivenUp = true
    this.#parts.statistics.count(call.header.opcode, errno, this.#parts.now() - call.startedMs)
    this.#replies.error(call.header, errno)
  }
}
