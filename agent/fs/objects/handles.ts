/**
 * Open files and folders. Owns the numbers, and what an open remembers: its opener's credential, its flags, which
 * errors it was told, and a folder's listing. Does not know what happens through a handle.
 */
import type { Credential, OpenState } from '../backend.ts'
import type { Inode } from './inodes.ts'
import type { Listing } from '../names/directories.ts'
import type { EarlyRead } from '../files/early-reads.ts'
import type { HandleId, Nodeid, OpenFlags } from '../operations.ts'
import type { State } from './state.ts'

export class OpenHandle {
  readonly id: HandleId
  readonly inode: Inode
  /** The number under which the kernel opened it; the inode may have another by now. */
  readonly nodeid: Nodeid
  readonly open: OpenState
  readonly flags: OpenFlags
  errorsSeen: number
  listing: Listing | undefined
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
