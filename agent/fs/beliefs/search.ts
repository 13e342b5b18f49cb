/**
 * Who may search a folder. Without `default_permissions` the kernel lets every walk pass through the names it holds
 * (kernel fs/fuse/dir.c, fuse_permission), so a name is given to it for a time only where everybody may search; through
 * all other folders each step of a walk is a LOOKUP, and is judged here for its caller.
 *
 * Owns which folders are open to all, the verdict for one user, what happens when a folder is closed under the kernel's
 * names, and when a server refuses to search where the mode bits allow it to everybody. Does not know names, nor how
 * the server's answers are kept (access.ts).
 *
 * A folder is closed by chmod(2) in two steps. The kernel's names in it can be called back only afterwards: that takes
 * the folder's lock, which chmod(2) holds until it is answered. So before it is sent the folder's own name is called
 * back, whose lock is its parent's; who then walks there comes by here, and waits until the names inside are gone.
 */
import type { Errno } from '../../base/errno.ts'
import { Access, type Credential } from '../backend.ts'
import type { Inode } from '../objects/inode.ts'
import { canAllSearch } from '../objects/mode-bits.ts'
import type { Clock } from '../../base/clock.ts'
import type { Invalidator } from '../operations.ts'
import type { AccessCache } from './access.ts'
import type { NameCache } from './entries.ts'

export interface SearchParts {
  readonly access: AccessCache
  readonly names: NameCache
  readonly invalidator: Invalidator
  readonly clock: Clock
  /** The kernel checks mode bits at each step itself (`default_permissions`): nothing is to be judged here. */
  readonly kernelChecks: boolean
}

/** The kernel hears a notice within microseconds, unless somebody who holds the folder's lock waits for the server. */
const heardMs = 1_000

export class SearchRights {
  readonly #parts: SearchParts
  #isStrict = false
  /** Folders that a chmod on its way to the server is to close. */
  readonly #toBeClosed = new Set<Inode>()
  /** Folders closed a moment ago, until the kernel has heard that it must ask for their names. */
  readonly #closing = new Map<Inode, Promise<void>>()

  constructor (parts: SearchParts) { this.#parts = parts }

  /** The server has refused somebody a search that mode bits allow to everybody: no folder is open to all any more. */
  get isStrict (): boolean { return this.#isStrict }

  /** Names in it may be believed whoever walks. */
  isOpenToAll (directory: Inode): boolean {
    return this.#parts.kernelChecks || (!this.#isStrict && hasSearchBits(directory))
  }

  /** The known verdict for a walk through this folder; `'unknown'` when the server has to be asked. */
  known (directory: Inode, caller: { readonly credential: Credential }): Errno | undefined | 'unknown' {
    if (this.isOpenToAll(directory)) return undefined
    return this.#parts.access.known(directory, Access.lookup, caller.credential)
  }

  /** The same for a silent server: a verdict that is too old counts too. */
  lastKnown (directory: Inode, caller: { readonly credential: Credential }): Errno | undefined | 'unknown' {
    if (this.isOpenToAll(directory)) return undefined
    return this.#parts.access.lastKnown(directory, Access.lookup, caller.credential)
  }

  /** The server has answered a LOOKUP in this folder, or said that there is no such name: the caller may search. */
  granted (directory: Inode, credential: Credential): void {
    if (!this.isOpenToAll(directory)) this.#parts.access.grant(directory, Access.lookup, credential)
  }

  /**
   * The server has refused a LOOKUP in this folder, or its ACCESS has said that it would. Where mode bits let everybody
   * search that is an ACL which shuts out single users: the names that the kernel has of this folder are called back;
   * of other such folders it has some for the rest of their time.
   */
  refused (directory: Inode, credential: Credential): void {
    if (this.#parts.kernelChecks) return
    this.#parts.access.deny(directory, Access.lookup, credential)
    if (this.#isStrict || !hasSearchBits(directory)) return
    this.#isStrict = true
    this.closed(directory)
  }

  /**
   * A chmod(2) to `mode` is about to be sent. Settles when that is allowed; `done` is to be called when it is answered.
   */
  async beforeChmod (directory: Inode, mode: number): Promise<{ done (): void } | undefined> {
    const { where } = directory
    if (where === undefined || !this.isOpenToAll(directory) || this.#parts.kernelChecks || canAllSearch({ mode })) {
      return undefined
    }
    this.#toBeClosed.add(directory)
    this.#parts.names.expire(where.parent, where.name)
    await this.#whenHeard()
    return { done: () => { this.#toBeClosed.delete(directory) } }
  }

  /** The kernel must come here at the next walk through the name of this folder. */
  isAboutToClose (directory: Inode): boolean { return this.#toBeClosed.has(directory) || this.#closing.has(directory) }

  /** Everybody could walk through this folder, and not everybody can any more. */
  closed (directory: Inode): void {
    if (this.#parts.kernelChecks) return
    this.#parts.names.expireAll(directory)
    const heard = this.#whenHeard().then(() => {
      if (this.#closing.get(directory) === heard) this.#closing.delete(directory)
    })
    this.#closing.set(directory, heard)
  }

  async #whenHeard (): Promise<void> {
    const { clock, invalidator } = this.#parts
    let cancel = (): void => undefined
    const late = new Promise<void>((resolve) => { cancel = clock.after(heardMs, resolve) })
    await Promise.race([invalidator.whenHeard(), late])
    cancel()
  }

  /** Settles when the kernel has no name inside any more that it would not ask for; undefined when that is so. */
  closing (directory: Inode): Promise<void> | undefined { return this.#closing.get(directory) }
}

/** Without attributes nothing is known, and so not everybody may. */
function hasSearchBits ({ cached }: Inode): boolean {
  return cached.attributes !== undefined && canAllSearch(cached.attributes)
}
