/**
 * The remote file system as the file-system core sees it.
 *
 * Owns the neutral types that cross that border. Knows no NFS version and no FUSE: handles are opaque bytes, change
 * tokens and verifiers are compared and never looked into, so NFSv4.1 or an object store fit without touching
 * `agent/fs`. Expected failures are returned as `Errno`; a thrown error is a fault (`WireError` never leaves the
 * backend: it reconnects).
 */
import type { FileName } from '../base/brands.ts'
import type { Errno } from '../base/errno.ts'

declare const brand: unique symbol
/** The server's handle of an object: raw bytes as latin1, usable as a Map key, at most 128 bytes (NFSv4). */
export type RemoteHandle = string & { readonly [brand]: 'RemoteHandle' }
/** Equal tokens: neither data nor metadata of the object changed in between. */
export type ChangeToken = bigint & { readonly [brand]: 'ChangeToken' }
/** A server's write verifier. A different one after a WRITE means uncommitted data may be lost. */
export type WriteVerifier = string & { readonly [brand]: 'WriteVerifier' }

/** Who asks. Interned by the caller: the same user and groups give the same `key`, and usually the same object. */
export interface Credential {
  readonly uid: number
  readonly gid: number
  /** Supplementary groups, the first of those that the process has (`callerGroupsMax`); the backend cuts to what its
   * protocol carries. */
  readonly groups: readonly number[]
  readonly key: string
}

export type FileKind = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'character' | 'block'

export interface Attributes {
  readonly kind: FileKind
  /** Permission, set-id and sticky bits (07777). */
  readonly mode: number
  readonly nlink: number
  readonly uid: number
  readonly gid: number
  readonly sizeBytes: number
  /** Space used on the server. */
  readonly usedBytes: number
  readonly rdevMajor: number
  readonly rdevMinor: number
  readonly fsid: bigint
  readonly fileid: bigint
  readonly atimeSeconds: number
  readonly atimeNanoseconds: number
  readonly mtimeSeconds: number
  readonly mtimeNanoseconds: number
  readonly ctimeSeconds: number
  readonly ctimeNanoseconds: number
  readonly change: ChangeToken
}

/** A time to set: the client's own value, or `'server'` for the server's clock (UTIME_NOW). */
export type TimeChange = 'server' | { readonly seconds: number, readonly nanoseconds: number }

export interface AttributeChanges {
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly sizeBytes?: number
  readonly atime?: TimeChange
  readonly mtime?: TimeChange
}

/** Size and mtime: while they stay, so do the bytes of a file and the names of a folder. */
export type DataState = Pick<Attributes, 'sizeBytes' | 'mtimeSeconds' | 'mtimeNanoseconds'>

/** What an operation did to an object it changed: the token before (atomically, if the server says so) and the
 * attributes after. */
export interface Change {
  readonly before: ChangeToken | undefined
  /** The part of `before` that speaks of data. */
  readonly beforeData?: DataState | undefined
  readonly after: Attributes | undefined
}

/** An object found by name or made. The attributes may be missing from a server's answer; the core asks again when it
 * needs them. */
export interface Found {
  readonly handle: RemoteHandle
  readonly attributes: Attributes | undefined
}

export interface Made extends Found {
  readonly directory: Change
}

export interface LookupAnswer extends Found {
  /** The folder that was asked. */
  readonly directory: Attributes | undefined
}

export interface ReadlinkAnswer {
  /** Raw bytes as latin1. */
  readonly target: string
  readonly attributes: Attributes | undefined
}

export interface Renamed {
  readonly from: Change
  readonly to: Change
}

export interface Linked {
  readonly attributes: Attributes | undefined
  readonly directory: Change
}

/** ACCESS bits, RFC 1813 section 3.3.4; the same values in NFSv4. */
export const Access = { read: 1, lookup: 2, modify: 4, extend: 8, delete: 16, execute: 32 } as const

export interface AccessAnswer {
  /** The subset of the asked bits that is granted. */
  readonly granted: number
  readonly attributes: Attributes | undefined
}

/** How a file is to be created. `exclusive` carries 8 verifier bytes so that a repeat is recognised. */
export type CreateMode =
  | { readonly kind: 'unchecked' }
  | { readonly kind: 'guarded' }
  | { readonly kind: 'exclusive' }

export type NodeKind = 'fifo' | 'socket' | 'character' | 'block'

/** What MKNOD makes; the numbers are those of a device. */
export interface NodeSpec {
  readonly kind: NodeKind
  readonly major: number
  readonly minor: number
}

/** The backend's state of an open file: opaque to the core, plain JSON-serialisable data, taken by read, write and
 * commit. */
export interface OpenState {
  readonly handle: RemoteHandle
  readonly credential: Credential
}
export interface OpenAccess { readonly read: boolean, readonly write: boolean }

export interface ReadAnswer {
  /** May be shorter than asked. Valid until `release` is called, which must happen exactly once. */
  readonly data: Buffer
  readonly eof: boolean
  readonly attributes: Attributes | undefined
  release (): void
}

/** How durable a write must be before it is answered, RFC 1813 section 3.3.7. Ordered. */
export const Stability = { unstable: 0, data: 1, file: 2 } as const
export type Stability = typeof Stability[keyof typeof Stability]

export interface WriteAnswer {
  /** Bytes accepted; may be fewer than given, also zero. */
  readonly count: number
  readonly committed: Stability
  readonly verifier: WriteVerifier
  readonly change: Change
}

export interface CommitAnswer {
  readonly verifier: WriteVerifier
  readonly change: Change
}

export interface DirectoryEntry {
  readonly name: FileName
  readonly fileid: bigint
  /** Opaque position after this entry; all 64 bits are used. */
  readonly cookie: bigint
  readonly attributes: Attributes | undefined
  readonly handle: RemoteHandle | undefined
}

export interface DirectoryPage {
  readonly entries: readonly DirectoryEntry[]
  readonly eof: boolean
  /** To be given back with the next cookie; raw bytes as latin1. */
  readonly cookieVerifier: string
  readonly directory: Attributes | undefined
}

/** Where a listing goes on, and how much of it is wanted. */
export interface ListPosition {
  /** Of the last entry; 0 is the start. */
  readonly cookie: bigint
  readonly cookieVerifier: string
  readonly replyBytes: number
  readonly withAttributes: boolean
}

/** Listing positions became invalid (NFS3ERR_BAD_COOKIE): start again from cookie 0. */
export const badCookie = Symbol('bad cookie')

export interface FilesystemStatistics {
  readonly totalBytes: bigint
  readonly freeBytes: bigint
  readonly availableBytes: bigint
  readonly totalFiles: bigint
  readonly freeFiles: bigint
  readonly availableFiles: bigint
}

/** What the file system behind this backend can do. Asked once, after connecting. */
export interface BackendCapabilities {
  readonly hardLinks: boolean
  readonly symlinks: boolean
  readonly unstableWrites: boolean
  readonly readBytesMax: number
  readonly writeBytesMax: number
  readonly directoryBytesPreferred: number
  /** Listings bring attributes and handles, unless the server turns out not to have such a call. */
  readonly directoryAttributes: boolean
  readonly fileBytesMax: number
  readonly nameBytesMax: number
}

/**
 * Every call waits as the mount's recovery mode says (`hard`: for ever) and may be running many times at once.
 * After the connection was shut down every call, pending ones included, answers EIO.
 */
export interface Backend {
  readonly capabilities: BackendCapabilities
  /** The folder that is the root of the volume (share and subDir resolved). */
  readonly root: Found
  /** How many answers the server has given to whatever call, failures and refusals included. A call that ended without
   * one (nfs(5) `soft`) does not count, though it answers an `Errno` too. */
  readonly answers: number
  getattr (handle: RemoteHandle, credential: Credential): Promise<Attributes | Errno>
  setattr (handle: RemoteHandle, changes: AttributeChanges, credential: Credential): Promise<Change | Errno>
  lookup (directory: RemoteHandle, name: FileName, credential: Credential): Promise<LookupAnswer | Errno>
  access (handle: RemoteHandle, wanted: number, credential: Credential): Promise<AccessAnswer | Errno>
  readlink (handle: RemoteHandle, credential: Credential): Promise<ReadlinkAnswer | Errno>
  open (handle: RemoteHandle, credential: Credential, access: OpenAccess): Promise<OpenState | Errno> | OpenState
  close (state: OpenState): Promise<void> | undefined
  read (state: OpenState, offsetBytes: number, countBytes: number): Promise<ReadAnswer | Errno>
  /** `data` must not change until the promise settles: a lost connection sends it again. */
  write (
    state: OpenState,
    offsetBytes: number,
    data: readonly Buffer[],
    stability: Stability
  ): Promise<WriteAnswer | Errno>
  /** Commits the range; `countBytes` 0 means to the end of the file. */
  commit (state: OpenState, offsetBytes: number, countBytes: number): Promise<CommitAnswer | Errno>
  /** With `exclusive` the attributes are set after the object exists; a server without EXCLUSIVE falls back to
   * guarded. */
  create (
    directory: RemoteHandle,
    name: FileName,
    how: CreateMode,
    attributes: AttributeChanges,
    credential: Credential
  ): Promise<Made | Errno>
  mkdir (
    directory: RemoteHandle,
    name: FileName,
    attributes: AttributeChanges,
    credential: Credential
  ): Promise<Made | Errno>
  symlink (
    directory: RemoteHandle,
    name: FileName,
    target: string,
    attributes: AttributeChanges,
    credential: Credential
  ): Promise<Made | Errno>
  mknod (
    directory: RemoteHandle,
    name: FileName,
    node: NodeSpec,
    attributes: AttributeChanges,
    credential: Credential
  ): Promise<Made | Errno>
  remove (directory: RemoteHandle, name: FileName, credential: Credential): Promise<Change | Errno>
  rmdir (directory: RemoteHandle, name: FileName, credential: Credential): Promise<Change | Errno>
  rename (
    from: RemoteHandle,
    fromName: FileName,
    to: RemoteHandle,
    toName: FileName,
    credential: Credential
  ): Promise<Renamed | Errno>
  link (
    handle: RemoteHandle,
    directory: RemoteHandle,
    name: FileName,
    credential: Credential
  ): Promise<Linked | Errno>
  readdir (
    directory: RemoteHandle,
    position: ListPosition,
    credential: Credential
  ): Promise<DirectoryPage | Errno | typeof badCookie>
  /** Of the file system that this object is on. */
  statfs (handle: RemoteHandle, credential: Credential): Promise<FilesystemStatistics | Errno>
}
