/**
 * What the server lets whom do. Owns the answers of ACCESS per object and user, believed as long as attributes are.
 * Does not know what is done with a verdict, nor mode bits: the server judges (SEMANTICS.md, "The server judges").
 */
import { Errno, isErrno } from '../../base/errno.ts'
import type { MaybePromise } from '../../base/maybe-promise.ts'
import type { AttributeCache } from './attributes.ts'
import { Access, type Credential } from '../backend.ts'
import type { Clock } from '../../base/clock.ts'
import type { BackendGate } from '../gate.ts'
import { isSameObject, type CachedAccess, type Inode } from '../objects/inode.ts'
import { UseOrder } from '../objects/use-order.ts'

/** Different users of one object that are remembered. */
const usersMax = 64

export class AccessCache {
  readonly #clock: Clock
  readonly #backend: BackendGate
  readonly #attributes: AttributeCache
  readonly #answersMax: number
  /** Objects with answers, those first that were judged longest ago. */
  readonly #objects = new UseOrder<Inode, ReadonlyMap<string, CachedAccess>>()
  #answers = 0

  constructor (parts: { clock: Clock, backend: BackendGate, attributes: AttributeCache, answersMax: number }) {
    this.#answersMax = parts.answersMax
    this.#clock = parts.clock
    this.#backend = parts.backend
    this.#attributes = parts.attributes
  }

  /** How many are remembered. */
  get answers (): number { return this.#answers }

  /** The known answer, EACCES or undefined for "granted"; `'unknown'` when the server has to be asked. */
  known (inode: Inode, wanted: number, credential: Credential): Errno | undefined | 'unknown' {
    const cached = inode.access?.get(credential.key)
    if (cached === undefined || cached.untilMs <= this.#clock.nowMs() || (cached.asked & wanted) !== wanted) {
      return 'unknown'
    }
    return verdict(cached.granted, wanted)
  }

  /**
   * The verdict as it was last known, however long ago: for a silent server. `'unknown'` when this user never asked.
   */
  lastKnown (inode: Inode, wanted: number, credential: Credential): Errno | undefined | 'unknown' {
    const cached = inode.access?.get(credential.key)
    return cached === undefined || (cached.asked & wanted) !== wanted ? 'unknown' : verdict(cached.granted, wanted)
  }

  /** The known verdict, else the server's. */
  judge (inode: Inode, wanted: number, credential: Credential): MaybePromise<Errno | undefined> {
    const known = this.known(inode, wanted, credential)
    return known === 'unknown' ? this.ask(inode, wanted, credential) : known
  }

  /** Asks the server now. The answer brings fresh attributes too; a server that leaves them out is asked once more. */
  async ask (inode: Inode, wanted: number, credential: Credential): Promise<Errno | undefined> {
    const sent = this.#attributes.stamp()
    const answer = await this.#backend.access(inode.handle, wanted, credential)
    if (isErrno(answer)) {
      this.#attributes.noteFailure(inode, answer)
      return answer
    }
    if (answer.attributes === undefined) {
      const asked = await this.#attributes.ask(inode, credential)
      if (isErrno(asked)) return asked
    } else if (!isSameObject(inode, answer.attributes)) {
      this.#attributes.markStale(inode)
      return Errno.ESTALE
    } else {
      this.#attributes.apply(inode, answer.attributes, sent)
    }
    this.#keep(inode, credential, wanted, answer.granted)
    return verdict(answer.granted, wanted)
  }

  /** The server has shown in another way that it lets the user do this. */
  grant (inode: Inode, wanted: number, credential: Credential): void { this.#keep(inode, credential, wanted, wanted) }

  /** The server has refused it in another way. */
  deny (inode: Inode, wanted: number, credential: Credential): void { this.#keep(inode, credential, wanted, 0) }

  #keep (inode: Inode, credential: Credential, asked: number, granted: number): void {
    const nowMs = this.#clock.nowMs()
    const users = inode.access ??= new Map<string, CachedAccess>()
    this.#uncount(inode)
    const before = users.get(credential.key)
    const answer = { asked, granted, untilMs: nowMs + this.#attributes.remainingMs(inode) }
    users.delete(credential.key)
    users.set(credential.key, before === undefined || before.untilMs <= nowMs ? answer : joined(before, answer))
    if (users.size > usersMax) users.delete(oldestOf(users))
    this.#objects.put(inode, users)
    this.#answers += users.size
    while (this.#answers > this.#answersMax && this.#objects.oldest !== undefined) this.forget(this.#objects.oldest)
  }

  /** Nothing is known of it any more. */
  forget (inode: Inode): void {
    this.#uncount(inode)
    this.#objects.delete(inode)
    inode.access = undefined
  }

  /** Its answers may be others by now than those that were counted. */
  #uncount (inode: Inode): void { this.#answers -= this.#objects.get(inode)?.size ?? 0 }
}

const oldestOf = (users: ReadonlyMap<string, CachedAccess>): string => users.keys().next().value ?? ''

/** Bits judged earlier stay judged until then; both end with the earlier of the two. */
function joined (before: CachedAccess, answer: CachedAccess): CachedAccess {
  if ((before.asked & ~answer.asked) === 0) return answer
  return {
    asked: before.asked | answer.asked,
    granted: (before.granted & ~answer.asked) | answer.granted,
    untilMs: Math.min(before.untilMs, answer.untilMs)
  }
}

function verdict (granted: number, wanted: number): Errno | undefined {
  return (granted & wanted) === wanted ? undefined : Errno.EACCES
}

/** The ACCESS bits of R_OK 4, W_OK 2 and X_OK 1. */
export function accessBitsOf (mask: number, isDirectory: boolean): number {
  const writeBits = isDirectory ? Access.modify | Access.extend | Access.delete : Access.modify | Access.extend
  return ((mask & 4) === 0 ? 0 : Access.read) |
    ((mask & 2) === 0 ? 0 : writeBits) |
    ((mask & 1) === 0 ? 0 : isDirectory ? Access.lookup : Access.execute)
}
