/**
 * What is known of one object's attributes, as data. Owns nothing but the fields: what they prove and when they are
 * believed is beliefs/attributes.ts.
 */
import type { Errno } from '../../base/errno.ts'
import type { Attributes, ChangeToken } from '../backend.ts'

/** Changes of our own that are in flight. */
export interface OwnChanges {
  inFlight: number
  /** Tokens that are known or made by us. */
  readonly made: Set<ChangeToken>
  /** Tokens seen; each must be among `made` in the end. */
  seen: ChangeToken[]
  /** What other answers showed meanwhile with another size than was known. */
  resized: Attributes[]
  /** The server left out what would have told. */
  isUnknown: boolean
}

export class CachedAttributes {
  attributes: Attributes | undefined
  /** When they were received. */
  atMs = 0
  ttlMs = 0
  /** When `ttlMs` was chosen. */
  ttlSinceMs = 0
  /** The order number at which they were accepted. */
  order = 0
  isExpired = true
  own: OwnChanges | undefined
  /** Grows with everything that makes answers already on their way unfit for the name cache. */
  version = 0
  /** The change token for which the kernel's pages (for a folder: its cached listing) are good. */
  pagesToken: ChangeToken | undefined
  /** The kernel may hold pages. */
  hasPages = false
  /** A link, unlink or rename of ours changed ctime and link count, and its answer did not show the object itself. */
  isCtimeOurs = false
  /** Somebody else changed the object, and the kernel's own copy of size and times was not replaced since. */
  isNewsToKernel = false
  /** Somebody else changed it during our life: it is nobody's alone. */
  isShared = false
  refreshing: { readonly version: number, readonly result: Promise<Attributes | Errno> } | undefined
}
