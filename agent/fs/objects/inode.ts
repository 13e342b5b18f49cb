/**
 * An object the kernel may name, as data. Owns what is known of one object: its identity, who keeps it, and the fields
 * in which others keep what belongs to it; each names the file it belongs to. Does not know what is done with them:
 * where their owner keeps more than data, what others may do with it is an interface here.
 */
import type { FileName } from '../../base/brands.ts'
import type { Errno } from '../../base/errno.ts'
import type { Attributes, Credential, FileKind, RemoteHandle } from '../backend.ts'
import type { Nodeid } from '../operations.ts'
import type { CachedAttributes } from './cached-attributes.ts'
import type { Positions } from './positions.ts'
import type { UseOrder } from './use-order.ts'

/** A removed but open object: where its other name is, and who removed it. */
export interface SillyName {
  readonly directory: Inode
  readonly name: FileName
  readonly credential: Credential
  /** The old name is there as well, until a rename replaces it. */
  isSecondLink: boolean
}

/** The place of an inode in the list of those that nothing keeps (idle-inodes.ts). */
export interface IdlePlace {
  readonly sinceMs: number
  older: Inode | undefined
  newer: Inode | undefined
}

/**
 * What the server said it lets one user do (beliefs/access.ts): `asked` are the bits that it has judged, `granted`
 * those of them that it grants.
 */
export interface CachedAccess { readonly asked: number, readonly granted: number, readonly untilMs: number }

/** Names of a folder that are looked up in a row, and how far it was listed for them (names/lookup-ahead.ts). */
export interface Ahead {
  asked: number
  readonly sinceMs: number
  lastMs: number
  listed: number
  hits: number
  cookie: bigint
  verifier: string
  isRunning: boolean
  isOver: boolean
}

/** Write errors that nobody was waiting for (written/file-errors.ts). */
export interface FileErrors {
  /** Grows with each error. */
  sequence: number
  latest: Errno | undefined
  isTold: boolean
}

/** A file's bytes that are not known to be on stable storage, as others may use them (written/dirty-file.ts). */
export interface UnsavedBytes {
  readonly isEmpty: boolean
  /** Some were not even sent. */
  readonly hasUnwritten: boolean
  /** End of the last byte: the file is at least that long. */
  readonly endBytes: number
  /** Everything written before now has been answered by the server; errors are in the inode. */
  writeOut (): Promise<void>
  /** Everything written before now is on stable storage; errors are in the inode. */
  settle (): Promise<void>
  /** Runs a change of size between all writes before it and all after it. */
  aroundTruncate<T> (sizeBytes: number, change: () => Promise<T | Errno>): Promise<T | Errno>
  /** The object has another number: the records of its bytes say so. */
  renumbered (): void
  /** Drops everything: the file is gone. */
  discard (): void
}

/** How a FIFO or socket is shown to who may not use it, under a number of its own (beliefs/special-files.ts). */
export type Guise = 'closed' | 'ownerless'

/** How a file was when the first of the programs that are run from it was let in. */
export interface Running {
  count: number
  setIdBits: number
  readonly uid: number
  readonly gid: number
}

export class Inode {
  /** The number that is given to the kernel now. */
  nodeid: Nodeid
  /** Numbers it had before, which the kernel may still use (`renumber`). */
  formerNodeids: readonly Nodeid[] = []
  /** Its numbers in guises. */
  guises: Map<Guise, Nodeid> | undefined
  readonly generation: number
  readonly handle: RemoteHandle
  readonly kind: FileKind
  readonly fileid: bigint
  /** st_ino (inode-numbers.ts); undefined for a root whose attributes nobody has told yet. */
  readonly ino: bigint | undefined
  /** Open files and folders, and opens on their way. */
  opens = 0
  /** The server said ESTALE: nothing cached may answer for it until the server knows it again. */
  isStale = false
  /** A folder that we removed: who still has it open or as its cwd sees what it was, without links. */
  isRemoved = false
  /** Where it was seen last: for messages, and to know the parent of a folder. Never used to reach it. */
  where: { readonly parent: Inode, readonly name: FileName } | undefined
  /** Set while the object lives under a silly name (names/silly-rename.ts). */
  silly: SillyName | undefined
  /** One of its names is being taken away just now (names/removals.ts). */
  taking: Promise<void> | undefined
  /** Getting its silly name just now. */
  hiding: Promise<boolean | Errno> | undefined
  /** Silly names inside this folder. */
  sillyNames: Map<FileName, Inode> | undefined
  /** Removals of silly names inside this folder that are under way; rmdir waits for them. */
  sillyRemovals: Set<Promise<void>> | undefined
  /** idle-inodes.ts: set while nothing keeps it. */
  idle: IdlePlace | undefined
  /** beliefs/attributes.ts */
  readonly cached: CachedAttributes
  /** beliefs/access.ts */
  access: Map<string, CachedAccess> | undefined
  /** beliefs/entries.ts: 0 is a name known not to exist. */
  names: UseOrder<FileName, Nodeid> | undefined
  /** beliefs/entries.ts: `names` has every name of this folder; one that is not there does not exist. */
  hasAllNames = false
  /** beliefs/set-id.ts: set while programs are run from it, or are about to be. */
  running: Running | undefined
  /** Its set-id bits as the kernel was shown them last. */
  shownSetId = 0
  /** names/lookup-ahead.ts */
  ahead: Ahead | undefined
  /** names/directories.ts: the listing that began last */
  listed: Positions | undefined
  /** written/dirty-file.ts */
  file: UnsavedBytes | undefined
  /** written/file-errors.ts */
  errors: FileErrors | undefined

  constructor (
    identity: {
      nodeid: Nodeid
      generation: number
      handle: RemoteHandle
      kind: FileKind
      fileid: bigint
      ino: bigint | undefined
    },
    cached: CachedAttributes
  ) {
    this.nodeid = identity.nodeid
    this.generation = identity.generation
    this.handle = identity.handle
    this.kind = identity.kind
    this.fileid = identity.fileid
    this.ino = identity.ino
    this.cached = cached
  }
}

/** The fileid of a root whose attributes nobody has told yet: the first answer is believed. */
export const unknownFileid = -1n

/** Whether attributes can be those of this inode's object, and not of a later one under a handle used again. */
export function isSameObject (inode: Inode, attributes: Attributes): boolean {
  return inode.kind === attributes.kind && (inode.fileid === attributes.fileid || inode.fileid === unknownFileid)
}

/** Best-known path below the volume's root, for people. */
export function showPath (inode: Inode): string {
  const parts: string[] = []
  let at = inode
  // A rename may leave a loop of last-seen places behind; a path longer than this helps nobody.
  for (let depth = 0; depth < 64 && at.where !== undefined; depth++) {
    parts.unshift(Buffer.from(at.where.name, 'latin1').toString('utf8'))
    at = at.where.parent
  }
  return `/${parts.join('/')}`
}
