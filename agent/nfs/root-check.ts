/**
 * Does the path of a volume still lead to what is mounted? A folder or an export may be made anew on the server.
 *
 * Owns the comparison and what is said of it. Open files and programs at work go on by their handles either way, as
 * with the kernel's client; who mounts the volume now gets what a mount would give now. Does not know who asks.
 */
import { Errno, isErrno } from '../base/errno.ts'
import { VolumeError } from '../base/errors.ts'
import type { Attributes, Found } from '../fs/backend.ts'

export interface RootVerdict {
  /** A mount that is made now would show the same. True as well when the server cannot be asked. */
  readonly isCurrent: boolean
  /** What is wrong with the root, with a remedy; empty when nothing is. */
  readonly reason: string
}

export interface RootCheckParts {
  readonly root: Found
  /** Asks the server for the attributes of the root that is mounted. */
  readonly askRoot: () => Promise<Attributes | Errno>
  /** From the share's handle to the volume's root: costs one call for each component of `subDir`. */
  readonly walkAgain: () => Promise<Found>
  /** The whole way, as for a new mount: the export's path is looked up again too. */
  readonly mountAgain: () => Promise<Found>
}

export const staleRoot =
  'the server no longer knows the volume\'s root; restore the export, or delete the pods that use the volume and start them again'
const elsewhere =
  'the path of the volume now leads to another folder; pods that start now see that one, start the others again'

export class RootCheck {
  readonly #parts: RootCheckParts
  #trouble = ''
  #looking: Promise<RootVerdict> | undefined

  constructor (parts: RootCheckParts) {
    this.#parts = parts
  }

  /** What was found last; empty when nothing is wrong. */
  get trouble (): string { return this.#trouble }

  /** After a reconnect, when thousands of clients may come at once: only the NFS service is asked. Rejects never. */
  async recheck (): Promise<void> {
    await this.#judge(this.#parts.walkAgain)
  }

  /** As for a new mount. Who asks meanwhile gets the same answer: a hundred pods that start are one question. */
  async look (): Promise<RootVerdict> {
    this.#looking ??= this.#judge(this.#parts.mountAgain).finally(() => { this.#looking = undefined })
    return await this.#looking
  }

  async #judge (find: () => Promise<Found>): Promise<RootVerdict> {
    const { root, askRoot } = this.#parts
    let found: Found
    try {
      found = await find()
    } catch (error) {
      if (await askRoot() === Errno.ESTALE) return this.#verdict(false, staleRoot)
      // Silence is the transport's trouble, not the folder's.
      const isRefused = error instanceof VolumeError && error.code !== 'UNAVAILABLE'
      return this.#verdict(true, isRefused ? error.message : this.#trouble)
    }
    const own = await askRoot()
    if (own === Errno.ESTALE) return this.#verdict(false, found.handle === root.handle ? staleRoot : elsewhere)
    const isSame = found.handle === root.handle || isErrno(own) || isSameObject(found.attributes, own)
    return isSame ? this.#verdict(true, '') : this.#verdict(false, elsewhere)
  }

  #verdict (isCurrent: boolean, reason: string): RootVerdict {
    this.#trouble = reason
    return { isCurrent, reason }
  }
}

/** One object may have two handles. */
function isSameObject (one: Attributes | undefined, other: Attributes): boolean {
  return one?.fsid === other.fsid && one.fileid === other.fileid
}
