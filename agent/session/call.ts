/**
 * One request on its way, and what serves it. Owns both types; does not know devices or replies.
 */
import { Errno } from '../base/errno.ts'
import type { MaybePromise } from '../base/maybe-promise.ts'
import type { Credential } from '../fs/backend.ts'
import type { Caller, HandleId } from '../fs/operations.ts'
import type { RequestHeader } from '../../proto/fuse/header.ts'
import type { Credentials } from './credentials.ts'
import type { Interruptible } from './interrupts.ts'

export interface Service<Q, A> {
  serve (request: Q, call: Call): MaybePromise<A | Errno>
  /** The thread that asks may end before the answer is there, and its process still wants it. */
  readonly mayOutliveThread?: boolean
  /** The kernel took the answer: references in it count from now on. */
  accepted? (answer: A): void
  /** The kernel took a failure. */
  failed? (call: Call): void
  /** Nobody waits for the answer any more: what it carries is given back. */
  vanished? (answer: A): void
}

/** One request that is being served. */
export class Call implements Caller, Interruptible {
  /** Replaced when the kernel repeats a request that is still in flight: the reply must match the last one. */
  header: RequestHeader
  readonly startedMs: number
  /** The open file that it is about, where a failure is news of that file. */
  handle: HandleId | undefined
  process: number | undefined
  isGivenUp = false
  isInterrupted = false
  readonly #credentials: Credentials
  readonly #giveUp: (call: Call, errno: Errno) => void

  constructor (
    header: RequestHeader,
    startedMs: number,
    credentials: Credentials,
    giveUp: (call: Call, errno: Errno) => void
  ) {
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
  giveUp (errno: Errno = Errno.EINTR): void { this.#giveUp(this, errno) }
}
