/**
 * Open files and folders. Owns the numbers, and what an open remembers: its opener's credential, its flags, which
 * errors it was told, and a folder's listing. Does not know what happens through a handle.
 */
import type { Errno } from '../../base/errno.ts'
import type { Credential, OpenState, ReadAnswer } from '../backend.ts'
import type { Inode } from './inode.ts'
import type { HandleId, ListingSink, Nodeid, OpenFlags, Waiting } from '../operations.ts'
import type { State } from './state.ts'

/** A folder's listing through one handle (names/directories.ts). */
export interface OpenFolder {
  /** From `offset` on into `sink`, until it is full or the folder ends; no further than somebody waits for it. */
  read (offset: number, plus: boolean, sink: ListingSink, reader: Waiting): Promise<undefined | Errno>
  close (): void
}

/** The first bytes of a file, asked for together with the permission to open it (files/early-reads.ts). */
export interface EarlyRead {
  readonly inode: Inode
  /** That of `CachedAttributes` when they were asked for. */
  readonly version: number
  readonly atMs: number
  /** Settles when `answer` is there, or will never be. */
  arrived: Promise<void> | undefined
  answer: ReadAnswer | undefined
  isOver: boolean
  /** The server let the opener read, where that means what a granted ACCESS means. */
  isGranted: boolean
}

export class OpenHandle {
  readonly id: HandleId
  readonly inode: Inode
  /** The number under which the kernel opened it; the inode may have another by now. */
  readonly nodeid: Nodeid
  readonly open: OpenState
  readonly flags: OpenFlags
  errorsSeen: number
  listing: OpenFolder | undefined
  early: EarlyRead | undefined

  constructor (facts: {
    id: HandleId
    inode: Inode
    nodeid: Nodeid
    open: OpenState
    flags: OpenFlags
    errorsSeen: number
  }) {
    this.id = facts.id
    this.inode = facts.inode
    this.nodeid = facts.nodeid
    this.open = facts.open
    this.flags = facts.flags
    this.errorsSeen = facts.errorsSeen
  }

  get credential (): Credential { return this.open.credential }
}

/** Bit positions of `HandleRecord.flags`; a successor reads them, so they never change their meaning. */
const flagBits = {
  read: 1, write: 2, append: 4, truncate: 8, direct: 16, sync: 32, execute: 64
} as const satisfies Record<keyof OpenFlags, number>

export const directoryFlags: OpenFlags = {
  read: true, write: false, append: false, truncate: false, direct: false, sync: false, execute: false
}

export class HandleTable {
  readonly #state: State
  readonly #handles = new Map<HandleId, OpenHandle>()

  constructor (state: State) { this.#state = state }

  get size (): number { return this.#handles.size }
  get (id: HandleId): OpenHandle | undefined { return this.#handles.get(id) }
  all (): Iterable<OpenHandle> { return this.#handles.values() }

  add (facts: { inode: Inode, nodeid: Nodeid, open: OpenState, flags: OpenFlags, errorsSeen: number }): OpenHandle {
    const handle = new OpenHandle({ id: this.#state.next('handle'), ...facts })
    this.#handles.set(handle.id, handle)
    this.#state.handles.set(handle.id, {
      id: handle.id,
      nodeid: handle.nodeid,
      open: handle.open,
      flags: packFlags(handle.flags),
      isDirectory: handle.inode.kind === 'directory'
    })
    return handle
  }

  delete (handle: OpenHandle): void {
    this.#handles.delete(handle.id)
    this.#state.handles.delete(handle.id)
  }
}

function packFlags (flags: OpenFlags): number {
  let packed = 0
  for (const name of Object.keys(flagBits) as (keyof OpenFlags)[]) if (flags[name]) packed |= flagBits[name]
  return packed
}
