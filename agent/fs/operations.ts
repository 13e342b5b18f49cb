/**
 * The file system as its front doors see it: one method per operation, neutral types in and out.
 *
 * Owns the border between a session (FUSE today) and the core. Knows no wire format and no device.
 * Every method may answer at once or later (`MaybePromise`), many run at the same time, and an expected failure is an
 * `Errno`.
 */
import type { FileName } from '../base/brands.ts'
import type { Errno } from '../base/errno.ts'
import type { MaybePromise } from '../base/maybe-promise.ts'
import type { AttributeChanges, Attributes, Credential, FilesystemStatistics, NodeKind, NodeSpec } from './backend.ts'

/** Our number of an inode. The root is 1; numbers are never used twice in the life of a session. */
export type Nodeid = number
/** Our number of an open file or folder. */
export type HandleId = number
export const rootNodeid: Nodeid = 1

/** Who asks. `credential` (with the groups of the process) is looked up only when somebody needs it. */
export interface Caller {
  readonly uid: number
  readonly gid: number
  readonly pid: number
  readonly credential: Credential
}

/** Whoever waits for an answer, as long as it is wanted: work without an end of its own ends with that. */
export interface Waiting { readonly isGivenUp: boolean }
/** For those who do not say. */
export const stillWaiting: Waiting = { isGivenUp: false }

export interface NodeAttributes {
  readonly nodeid: Nodeid
  readonly attributes: Attributes
  /** How long the attributes may be believed. */
  readonly attributesTtlMs: number
}

/** A name that exists. Whoever passes it on to a kernel that counts lookups calls `remember` once, and
 * `acknowledge`. */
export interface Entry extends NodeAttributes {
  readonly generation: number
  readonly entryTtlMs: number
}

/** A name that does not exist, and how long that may be believed. */
export interface NoEntry { readonly nodeid: 0, readonly entryTtlMs: number }

/** open(2) flags already taken apart. */
export interface OpenFlags {
  readonly read: boolean
  readonly write: boolean
  readonly append: boolean
  readonly truncate: boolean
  /** O_DIRECT: the kernel's page cache is bypassed. */
  readonly direct: boolean
  /** O_SYNC or O_DSYNC: every write is stable before it is answered. */
  readonly sync: boolean
  /** Opened by execve: ACCESS asks for execute instead of read. */
  readonly execute: boolean
}

export interface Opened {
  readonly handle: HandleId
  /** The file is unchanged since the kernel last cached it: its pages may stay. */
  readonly keepCache: boolean
  /** Reads and writes of this descriptor must not go through the kernel's page cache. */
  readonly bypassesCache?: boolean
}

export interface Created {
  readonly entry: Entry
  readonly opened: Opened
}

/** What mknod(2) is to make. */
export interface NodeToMake extends Omit<NodeSpec, 'kind'> {
  readonly kind: NodeKind | 'file'
  /** The umask is applied. */
  readonly mode: number
}

export interface StatfsAnswer extends FilesystemStatistics {
  readonly nameBytesMax: number
  readonly blockBytes: number
}

/** What the end of a session could not save. */
export interface Unsaved {
  readonly lostBytes: number
  readonly files: readonly string[]
}

export interface FileData {
  /** In order; together the answer. Empty at end of file. Valid until `release`, called exactly once. */
  readonly parts: readonly Buffer[]
  readonly bytes: number
  release (): void
}

export interface ListedEntry {
  readonly name: FileName
  readonly fileid: bigint
  readonly kind: Attributes['kind'] | undefined
  /** Position after this entry, below 2^63, to be given back as `offset`. */
  readonly nextOffset: number
  /** For readdirplus: undefined when the server gave no handle or attributes. `.` and `..` never have one. */
  readonly entry: Entry | undefined
}

/** Takes listed entries until it is full; false means "this one did not fit, stop". Only accepted entries with `entry`
 * count as remembered by the taker. */
export type ListingSink = (listed: ListedEntry) => boolean

export interface RenameFlags { readonly noReplace: boolean, readonly exchange: boolean, readonly whiteout: boolean }

export interface FilesystemOperations {
  lookup (parent: Nodeid, name: FileName, caller: Caller): MaybePromise<Entry | NoEntry | Errno>
  /** The kernel was given `count` references more to this inode. */
  remember (nodeid: Nodeid, count: number): void
  /** The kernel has taken these attributes: what it believes of the object is not older. */
  acknowledge (taken: NodeAttributes): void
  /** The kernel gave `count` references back. Never waits, never fails. */
  forget (nodeid: Nodeid, count: number): void
  getattr (nodeid: Nodeid, handle: HandleId | undefined, caller: Caller): MaybePromise<NodeAttributes | Errno>
  setattr (
    nodeid: Nodeid,
    handle: HandleId | undefined,
    changes: AttributeChanges,
    caller: Caller
  ): MaybePromise<NodeAttributes | Errno>
  readlink (nodeid: Nodeid, caller: Caller): MaybePromise<Buffer | Errno>
  symlink (parent: Nodeid, name: FileName, target: string, caller: Caller): MaybePromise<Entry | Errno>
  /** `mode` has the umask applied. A regular file made by mknod(2) comes as kind 'file'. */
  mknod (
    parent: Nodeid,
    name: FileName,
    node: NodeToMake,
    caller: Caller
  ): MaybePromise<Entry | Errno>
  mkdir (parent: Nodeid, name: FileName, mode: number, caller: Caller): MaybePromise<Entry | Errno>
  unlink (parent: Nodeid, name: FileName, caller: Caller): MaybePromise<undefined | Errno>
  rmdir (parent: Nodeid, name: FileName, caller: Caller): MaybePromise<undefined | Errno>
  rename (
    parent: Nodeid,
    name: FileName,
    newParent: Nodeid,
    newName: FileName,
    flags: RenameFlags,
    caller: Caller
  ): MaybePromise<undefined | Errno>
  link (nodeid: Nodeid, newParent: Nodeid, newName: FileName, caller: Caller): MaybePromise<Entry | Errno>
  open (nodeid: Nodeid, flags: OpenFlags, caller: Caller): MaybePromise<Opened | Errno>
  create (
    parent: Nodeid,
    name: FileName,
    mode: number,
    exclusive: boolean,
    flags: OpenFlags,
    caller: Caller
  ): MaybePromise<Created | Errno>
  read (handle: HandleId, offsetBytes: number, countBytes: number): MaybePromise<FileData | Errno>
  /** `data` is only valid during the call: the core copies what it keeps, before it returns. Answers the count of bytes
   * taken. */
  write (
    handle: HandleId,
    offsetBytes: number,
    data: Buffer,
    fromPageCache: boolean
  ): MaybePromise<{ readonly bytes: number } | Errno>
  /** close(2): dirty data is on the server and committed, or the error is here. */
  flush (handle: HandleId, caller: Caller): MaybePromise<undefined | Errno>
  fsync (handle: HandleId): MaybePromise<undefined | Errno>
  /** The kernel has taken the failure of a write, flush or fsync: somebody knows of it. */
  failureTold (handle: HandleId): void
  release (handle: HandleId): MaybePromise<void>
  /** Instead of `release` or `releasedir`: the kernel did not take the answer with this handle, nor acted on it. */
  neverOpened (handle: HandleId): MaybePromise<void>
  opendir (nodeid: Nodeid, caller: Caller): MaybePromise<Opened | Errno>
  /** From `offset` (0 is the start) into `sink` until it is full or the folder ends. */
  readdir (
    handle: HandleId,
    offset: number,
    plus: boolean,
    sink: ListingSink,
    reader?: Waiting
  ): MaybePromise<undefined | Errno>
  fsyncdir (handle: HandleId): MaybePromise<undefined | Errno>
  releasedir (handle: HandleId): void
  statfs (nodeid: Nodeid, caller: Caller): MaybePromise<StatfsAnswer | Errno>
  /** access(2), asked only where the kernel does not decide itself. `mask` is R_OK|W_OK|X_OK. */
  access (nodeid: Nodeid, mask: number, caller: Caller): MaybePromise<undefined | Errno>
  /** Writes back and commits everything, then refuses further work. Answers what could not be saved. */
  drain (deadlineMs: number): Promise<Unsaved>
}

/**
 * Cache invalidation, the one signal that goes up from the core. Called outside any request, never awaited by one:
 * the kernel may take locks that a pending request holds (kernel fs/fuse/inode.c, fuse_reverse_inval_inode).
 */
export interface Invalidator {
  /** Drops attributes and, when `lengthBytes` is not 0, cached pages from `offsetBytes` (length -1: to the end). */
  inode (nodeid: Nodeid, offsetBytes: number, lengthBytes: number): void
  /**
   * The name, positive or negative, is looked up again at its next use. `drop`: it leaves the kernel's tree, also under
   * whoever works there (getcwd(2) fails with ENOENT). `expire`: it stays until then; an answer to an older LOOKUP may
   * renew it for its time.
   */
  entry (parent: Nodeid, name: FileName, how: 'drop' | 'expire'): void
  /** The kernel knows `expire`; elsewhere names are dropped. */
  readonly canExpire: boolean
  /** Asks the kernel to forget those of these inodes that nobody uses. For kernels that can (`canPrune`). */
  prune (nodeids: readonly Nodeid[]): void
  readonly canPrune: boolean
  /** Whether nothing that was said of this inode is still on its way. */
  isHeard (nodeid: Nodeid): boolean
  /** Resolves when the kernel has heard all that was said so far, or all that was said of this inode. */
  whenHeard (nodeid?: Nodeid): Promise<void>
}
