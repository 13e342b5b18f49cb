/**
 * What the server lets whom do. Owns the answers of ACCESS per object and user, believed as long as attributes are.
 * Does not know the kernel's own check of mode bits: both must agree (SEMANTICS.md, "two judges").
 */
import { Errno, isErrno } from '../../base/errno.ts'
import type { AttributeCache } from './attributes.ts'
import { Access, type Credential } from '../backend.ts'
import type { Clock } from '../clock.ts'
import type { BackendGate } from '../gate.ts'
import { isSameObject, type CachedAccess, type Inode } from '../objects/inode.ts'

/** Different users of one object that are remembered. */
const usersMax = 64

export class AccessCache {
  readonly #clock: Clock
  readonly #backend: BackendGate
  readonly #attributes: AttributeCache

  constructor (parts: { clock: Clock, backend: BackendGate, attributes: AttributeCache }) {
    this.#clock = parts.clock
    this.#backend = parts.backend
    this.#attributes = parts.attributes
  }

  /** The known answer, EACCES or undefined for "granted"; `'unknown'` when the server has to be asked. */
  known (inode: Inode, wanted: number, credential: Credential): Errno | undefined | 'unknown' {
    const cached = inode.access?.get(credential.key)
    if (cached === undefined || cached.untilMs <= this.#clock.nowMs() || (cached.asked & wanted) !== wanted) {
      return 'unknown'
    }
    return verdict(cached.granted, wanted)
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

  #keep (inode: Inode, credential: Credential, asked: number, granted: number): void {
    const answer: CachedAccess = { asked, granted, untilMs: this.#clock.nowMs() + this.#attributes.remainingMs(inode) }
    const users = inode.access ??= new Map<string, CachedAccess>()
    users.delete(credential.key)
    users.set(credential.key, answer)
    if (users.size <= usersMax) return
    for (const oldest of users.keys()) {
      users.delete(oldest)
      return
    }
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
