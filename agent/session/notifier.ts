/**
 * Cache invalidation on its way to the kernel.
 *
 * Owns what is still to be said: joined per inode and per name, so that it is bounded by what the kernel can know, and
 * handed in small portions to the device's writer thread. Does not wait and is never waited for: the kernel may take
 * locks that a request holds which we have not answered (kernel fs/fuse/inode.c, fuse_reverse_inval_inode).
 */
import { Errno } from '../base/errno.ts'
import type { FileName } from '../base/brands.ts'
import type { Invalidator, Nodeid } from '../fs/operations.ts'
import type { FuseDevice } from '../host/fuse-device.ts'
import { encodeInvalEntry, encodeInvalInode, encodePrune } from '../../proto/fuse/notifications.ts'

/** Notifications with the writer thread at once: few, so that those behind them can still be joined. */
const underWayMax = 64

interface Range { offsetBytes: number, lengthBytes: number }

export interface NotifierCounters {
  readonly written: number
  /** The kernel did not know the inode or the name: nothing to do. */
  readonly unknown: number
  readonly failed: number
  readonly waiting: number
}

export class Notifier implements Invalidator {
  readonly #device: Pick<FuseDevice, 'notify' | 'notified'>
  readonly #inodes = new Map<Nodeid, Range>()
  readonly #entries = new Map<
    string,
    { readonly parent: Nodeid, readonly name: FileName, readonly isExpiryOnly: boolean }
  >()
  /** What the writer thread has, oldest first: the inode, 0 for a name. */
  readonly #underWayOf: Nodeid[] = []
  readonly #waiting = new Set<{ readonly nodeid: Nodeid | undefined, resolve (): void }>()
  #written = 0
  #unknown = 0
  #failed = 0
  #isOpen = false
  #canExpire = false
  #canPrune = false

  constructor (device: Pick<FuseDevice, 'notify' | 'notified'>) { this.#device = device }

  get counters (): NotifierCounters {
    return {
      written: this.#written, unknown: this.#unknown, failed: this.#failed,
      waiting: this.#inodes.size + this.#entries.size + this.#underWayOf.length
    }
  }

  inode (nodeid: Nodeid, offsetBytes: number, lengthBytes: number): void {
    const range = this.#inodes.get(nodeid)
    if (range === undefined) this.#inodes.set(nodeid, { offsetBytes, lengthBytes })
    else joinRange(range, offsetBytes, lengthBytes)
    this.#pump()
  }

  entry (parent: Nodeid, name: FileName, how: 'drop' | 'expire'): void {
    const key = `${parent}/${name}`
    const isExpiryOnly = this.#canExpire && how === 'expire' && this.#entries.get(key)?.isExpiryOnly !== false
    this.#entries.set(key, { parent, name, isExpiryOnly })
    this.#pump()
  }

  get canExpire (): boolean { return this.#canExpire }

  get canPrune (): boolean { return this.#canPrune }

  /** Not kept for later when the writer is busy: there is always more to prune. */
  prune (nodeids: readonly Nodeid[]): void {
    if (this.#isOpen && nodeids.length > 0) this.#submit(encodePrune(nodeids), 0)
  }

  isHeard (nodeid: Nodeid): boolean { return !this.#inodes.has(nodeid) && !this.#underWayOf.includes(nodeid) }

  /** With more being said all the time it may come later, never earlier. */
  whenHeard (nodeid?: Nodeid): Promise<void> {
    if (!this.#isOpen || this.#hasHeard(nodeid)) return Promise.resolve()
    return new Promise((resolve) => { this.#waiting.add({ nodeid, resolve }) })
  }

  #hasHeard (nodeid: Nodeid | undefined): boolean {
    return nodeid === undefined
      ? this.#inodes.size + this.#entries.size + this.#underWayOf.length === 0
      : this.isHeard(nodeid)
  }

  #tellHeard (isOver = false): void {
    for (const waiting of this.#waiting) {
      if (!isOver && !this.#hasHeard(waiting.nodeid)) continue
      this.#waiting.delete(waiting)
      waiting.resolve()
    }
  }

  /** The kernel has answered INIT's reply: from now on it knows something that can be invalidated. */
  open ({ canExpireNames, canPrune }: { canExpireNames: boolean, canPrune: boolean }): void {
    this.#isOpen = true
    this.#canExpire = canExpireNames
    this.#canPrune = canPrune
    this.#pump()
  }

  close (): void {
    this.#isOpen = false
    this.#inodes.clear()
    this.#entries.clear()
    this.#tellHeard(true)
  }

  /** The device reports that the oldest `count` notifications were written. */
  noteWritten (count: number): void {
    for (let index = 0; index < count; index++) this.#count(this.#device.notified[index] ?? 0)
    this.#underWayOf.splice(0, count)
    this.#pump()
    this.#tellHeard()
  }

  #count (result: number): void {
    if (result === 0) this.#written++
    else if (result === Errno.ENOENT || result === Errno.ENOTDIR) this.#unknown++
    else this.#failed++
  }

  #pump (): void {
    if (!this.#isOpen) return
    for (const [nodeid, { offsetBytes, lengthBytes }] of this.#inodes) {
      if (!this.#submit(encodeInvalInode(nodeid, offsetBytes, lengthBytes), nodeid)) return
      this.#inodes.delete(nodeid)
    }
    for (const [key, { parent, name, isExpiryOnly }] of this.#entries) {
      if (!this.#submit(encodeInvalEntry(parent, name, isExpiryOnly), 0)) return
      this.#entries.delete(key)
    }
  }

  /** False: try again when the next ones were written. */
  #submit (message: Buffer, nodeid: Nodeid): boolean {
    if (this.#underWayOf.length >= underWayMax) return false
    const result = this.#device.notify(message)
    if (result === Errno.EAGAIN) return false
    if (result === 0) this.#underWayOf.push(nodeid)
    else this.#failed++
    return true
  }
}

/** Widens a range. Length 0 means attributes only, -1 to the end of the file. */
function joinRange (range: Range, offsetBytes: number, lengthBytes: number): void {
  if (lengthBytes === 0) return
  if (range.lengthBytes === 0) {
    range.offsetBytes = offsetBytes
    range.lengthBytes = lengthBytes
    return
  }
  const end = (offset: number, length: number): number => length < 0 ? Infinity : offset + length
  const last = Math.max(end(range.offsetBytes, range.lengthBytes), end(offsetBytes, lengthBytes))
  range.offsetBytes = Math.min(range.offsetBytes, offsetBytes)
  range.lengthBytes = last === Infinity ? -1 : last - range.offsetBytes
}
