/**
 * Inodes that nothing keeps, in the order in which that began. A list through the inodes themselves: taking one out of
 * the middle or from the front costs the same however long it is. (A Map is in that order too, but looks at every
 * deleted entry before its first living one.) Does not know when one is to be forgotten.
 */
import type { Inode } from './inode.ts'

export class IdleInodes {
  #oldest: Inode | undefined
  #newest: Inode | undefined
  #size = 0

  get size (): number { return this.#size }
  get oldest (): Inode | undefined { return this.#oldest }

  /** Puts it at the end, also when it is in the list already. */
  add (inode: Inode, sinceMs: number): void {
    this.delete(inode)
    inode.idle = { sinceMs, older: this.#newest, newer: undefined }
    if (this.#newest?.idle === undefined) this.#oldest = inode
    else this.#newest.idle.newer = inode
    this.#newest = inode
    this.#size += 1
  }

  delete (inode: Inode): void {
    const place = inode.idle
    if (place === undefined) return
    inode.idle = undefined
    if (place.older?.idle === undefined) this.#oldest = place.newer
    else place.older.idle.newer = place.newer
    if (place.newer?.idle === undefined) this.#newest = place.older
    else place.newer.idle.older = place.older
    this.#size -= 1
  }
}
