/**
 * State that must survive a crash is changed through one door.
 *
 * Owns the interface of what a successor of this process would need to go on: inodes the kernel knows, open handles,
 * silly renames, unwritten and uncommitted ranges. Today it lives in plain memory (`memory-state.ts`); a memfd may hold
 * it later without a change to the rest of `agent/fs`. Caches (attributes, names, access) are not in it: they can be
 * asked again.
 */
import type { FileName } from '../../base/brands.ts'
import type { FileKind, OpenState, RemoteHandle, WriteVerifier } from '../backend.ts'
import type { HandleId, Nodeid } from '../operations.ts'

export interface InodeRecord {
  readonly nodeid: Nodeid
  readonly generation: number
  readonly handle: RemoteHandle
  readonly kind: FileKind
  readonly fileid: bigint
}

export interface HandleRecord {
  readonly id: HandleId
  readonly nodeid: Nodeid
  readonly open: OpenState
  readonly flags: number
  readonly isDirectory: boolean
}

/** A removed but open object, living on under another name until its last close. */
export interface SillyRecord {
  readonly nodeid: Nodeid
  readonly directory: RemoteHandle
  readonly name: FileName
}

/** Bytes of a file not known to be on stable storage: where they go and which arena block holds them. */
export interface DirtyRecord {
  readonly nodeid: Nodeid
  readonly offsetBytes: number
  readonly lengthBytes: number
  readonly block: number
  readonly blockOffsetBytes: number
  /** Undefined until the server has accepted the bytes; then the verifier it gave. */
  readonly verifier: WriteVerifier | undefined
}

export interface StateTable<K, R> {
  get (key: K): R | undefined
  /** To be called again after each change of a record that its owner changes in place. */
  set (key: K, record: R): void
  delete (key: K): void
  entries (): Iterable<readonly [K, R]>
  readonly size: number
}

export interface State {
  readonly inodes: StateTable<Nodeid, InodeRecord>
  /** Kernel references per inode; separate because it changes with every lookup. */
  readonly lookups: StateTable<Nodeid, number>
  readonly handles: StateTable<HandleId, HandleRecord>
  readonly silly: StateTable<Nodeid, SillyRecord>
  /** Keyed by a number of the owner's choosing, unique in the session. */
  readonly dirty: StateTable<number, DirtyRecord>
  /** The next unused nodeid / handle id / dirty key: numbers are never used twice. */
  next (counter: 'nodeid' | 'handle' | 'dirty'): number
}
