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
  /** Nobody's rights matter: those of whoever opened the handle were judged then. */
  readonly isByHandle?: boolean
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
  #credential: Credential | undefined
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
  /** The rights that the caller has when they are first asked for. */
  get credential (): Credential {
    return this.#credential ??= this.#credentials.of(this.header.uid, this.header.gid, this.header.pid)
  }
  /** Settles when the rights are known; undefined when they are, or are found out at once. */
  learnCredential (): Promise<void> | undefined {
    const { uid, gid, pid } = this.header
    return this.#credentials.ofSlow(uid, gid, pid)?.then((credential) => { this.#credential = credential })
  }
  /** Finds out which process goes on waiting when the thread has ended. */
  learnProcess (): void {
    const { uid, pid } = this.header
    const process = pid === 0 ? 0 : this.#credentials.processOf(uid, pid)
    if (typeof process === 'number') {
      this.process = process
      return
    }
    this.process = 0
    void process.then((found) => { this.process = found })
  }
  giveUp (errno: Errno = Errno.EINTR): void { this.#giveUp(this, errno) }
}
