/**
 * `State` on the heap: gone with the process. Owns nothing but maps and counters; does not know what records mean.
 */
import type { DirtyRecord, HandleRecord, InodeRecord, SillyRecord, State, StateTable } from './state.ts'
import { rootNodeid, type HandleId, type Nodeid } from '../operations.ts'

export class MemoryState implements State {
  readonly inodes: StateTable<Nodeid, InodeRecord> = new Map()
  readonly lookups: StateTable<Nodeid, number> = new Map()
  readonly handles: StateTable<HandleId, HandleRecord> = new Map()
  readonly silly: StateTable<Nodeid, SillyRecord> = new Map()
  readonly dirty: StateTable<number, DirtyRecord> = new Map()
  // The first nodeid given is 2: 1 is the root's by agreement with the kernel (FUSE_ROOT_ID).
  readonly #last = { nodeid: rootNodeid as number, handle: 0, dirty: 0 }

  next (counter: 'nodeid' | 'handle' | 'dirty'): number {
    this.#last[counter] += 1
    return this.#last[counter]
  }
}
