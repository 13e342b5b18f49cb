/**
 * Replies on their way to the kernel.
 *
 * Owns the reply buffer. Replies made in one turn of the loop are packed into it and written by one call into the
 * addon. An answer that carries a reference (an entry, a handle) counts once the kernel has taken it: write(2) says
 * ENOENT when nobody waits any more, and the reference is given back. Does not know what an answer means: that is its
 * service's matter.
 */
import { Errno, errnoName, isErrno } from '../base/errno.ts'
import { InvariantError, messageOf } from '../base/errors.ts'
import type { OnBroken } from './broken.ts'
import type { FuseDevice } from '../host/fuse-device.ts'
import { beginReply, finishReply, REPLY_HEADER_BYTES } from '../../proto/fuse/header.ts'
import type { RequestHeader } from '../../proto/fuse/header.ts'
import { nameOfOpcode } from '../../proto/fuse/operations.ts'
import type { BulkOut, Operation } from '../../proto/fuse/operations.ts'
import { FuseWriter } from '../../proto/fuse/writer.ts'
import type { Call, Service } from './call.ts'
import type { Log } from './log.ts'

/** Room that any reply but bulk data fits into: a symlink's target and a header. */
const replyRoomBytes = 4096 + 512
/** Replies written by one call into the addon; more would let the first caller wait for the last. */
const gatheredMax = 16
/** UIO_MAXIOV less the header. */
const bulkPartsMax = 1000

export type AnyService = Service<unknown, unknown>
/** How one operation is read, served and answered. */
export interface Plan { readonly row: Operation<unknown, unknown>, readonly service: AnyService }
interface Gathered { readonly call: Call, readonly service: AnyService, readonly answer: unknown }

export class Replies {
  readonly #device: FuseDevice
  readonly #log: Log
  readonly #onBroken: OnBroken
  readonly #out: FuseWriter
  readonly #flushLater = (): void => {
    this.#isFlushDue = false
    this.flush()
  }

  /** One per reply in the buffer; undefined for those that carry nothing. */
  #gathered: (Gathered | undefined)[] = []
  #isFlushDue = false
  #isHeld = false

  constructor (device: FuseDevice, log: Log, onBroken: OnBroken) {
    this.#device = device
    this.#log = log
    this.#onBroken = onBroken
    this.#out = new FuseWriter(device.replies)
  }

  /** Replies made from now on wait for `letGo`, or for enough of them. */
  hold (): void { this.#isHeld = true }

  letGo (): void {
    this.#isHeld = false
    this.flush()
  }

  /** The answer through the row's encoder. */
  encoded (call: Call, { row, service }: Plan, answer: unknown): void {
    this.#makeRoom()
    const start = beginReply(this.#out, call.header, 0)
    try {
      row.encode(this.#out, answer)
    } catch (error) {
      // A value that no reply can carry is our bug; the caller must not wait for ever because of it.
      this.#out.seek(start)
      this.logBug(call, error)
      this.drop(call, service, answer)
      this.error(call.header, Errno.EIO)
      return
    }
    finishReply(this.#out, start)
    this.#gather({ call, service, answer })
  }

  /** An error, or nothing but success (0). */
  error (header: RequestHeader, errno: number): void {
    this.plain(header, () => undefined, errno)
  }

  /** The failure that a service answers. */
  failure (call: Call, service: AnyService, errno: Errno): void {
    this.plain(call.header, () => undefined, errno, service.failed && { call, service, answer: errno })
  }

  /** A reply that carries no reference. */
  plain (header: RequestHeader, encode: (out: FuseWriter) => void, errno = 0, gathered?: Gathered): void {
    this.#makeRoom()
    const start = beginReply(this.#out, header, errno)
    encode(this.#out)
    finishReply(this.#out, start)
    this.#gather(gathered)
  }

  /** Data goes from where it lies to the kernel, uncopied, in a write of its own. */
  bulk (call: Call, service: AnyService, answer: BulkOut): void {
    this.#makeRoom()
    const start = beginReply(this.#out, call.header, 0)
    finishReply(this.#out, start, answer.bytes)
    const parts = answer.parts.length > bulkPartsMax ? [Buffer.concat(answer.parts)] : answer.parts
    this.#out.seek(start)
    const errno = this.#device.send(start, REPLY_HEADER_BYTES, parts)
    this.#conclude(call, service, answer, errno)
  }

  #makeRoom (): void {
    if (this.#out.room < replyRoomBytes) this.flush()
  }

  #gather (gathered: Gathered | undefined): void {
    this.#gathered.push(gathered)
    if (this.#gathered.length >= gatheredMax) {
      this.flush()
    } else if (!this.#isHeld && !this.#isFlushDue) {
      this.#isFlushDue = true
      process.nextTick(this.#flushLater)
    }
  }

  /** Writes all gathered replies now, and counts what they carry. */
  flush (): void {
    if (this.#gathered.length === 0) return
    const gathered = this.#gathered
    const refused = this.#device.flush(this.#out.offset)
    // What follows may answer again, and so gather anew: the results are looked at first.
    const results = refused === 0 ? undefined : this.#device.results.slice(0, gathered.length)
    this.#gathered = []
    this.#out.seek(0)
    for (let index = 0; index < gathered.length; index++) {
      const one = gathered[index]
      if (one !== undefined) this.#conclude(one.call, one.service, one.answer, results?.[index] ?? 0)
    }
  }

  #conclude (call: Call, service: AnyService, answer: unknown, errno: number): void {
    if (errno === 0) {
      try {
        if (isErrno(answer)) service.failed?.(call)
        else service.accepted?.(answer)
      } catch (error) {
        this.logBug(call, error)
      }
      return
    }
    this.drop(call, service, answer)
    if (errno === Errno.ENOENT || errno === Errno.ENODEV) return
    // The kernel did not like the reply itself; somebody still waits for one.
    this.#log(
      'error',
      { op: nameOfOpcode[call.header.opcode] ?? 'reply', outcome: errnoName(errno) },
      'the kernel refused a reply'
    )
    this.error(call.header, Errno.EIO)
  }

  /** Gives back what an answer carries that nobody waits for. */
  drop (call: Call, service: AnyService, answer: unknown): void {
    if (isErrno(answer)) return
    try {
      service.vanished?.(answer)
    } catch (error) {
      this.logBug(call, error)
    }
  }

  /** A fault of ours or of the core costs one request; a broken invariant costs the session, which says so itself. */
  logBug (call: Call, error: unknown): void {
    if (error instanceof InvariantError) {
      this.#onBroken(error)
      return
    }
    const op = nameOfOpcode[call.header.opcode] ?? 'request'
    this.#log('error', {
      op, outcome: 'EIO', error: messageOf(error), stack: error instanceof Error ? error.stack : undefined
    }, 'a request failed inside')
  }
}
