/**
 * consistency=solowriter, where it ends. Owns that a file which is not ours alone gets a number under which the kernel
 * begins anew, and that this is counted and told. Does not know how the change was noticed, nor what the shorter
 * caching is (attributes.ts, open-files.ts).
 */
import { showPath, type Inode } from '../objects/inode.ts'
import type { InodeTable } from '../objects/inodes.ts'
import type { Invalidator } from '../operations.ts'

export class SoloWriter {
  readonly #inodes: InodeTable
  readonly #invalidator: Invalidator
  readonly #onShared: (path: string) => void
  readonly #told = new WeakSet<Inode>()
  #ended = 0

  constructor (parts: { inodes: InodeTable, invalidator: Invalidator, onShared: (path: string) => void }) {
    this.#inodes = parts.inodes
    this.#invalidator = parts.invalidator
    this.#onShared = parts.onShared
  }

  /** Objects for which it has ended since the session began. */
  get ended (): number { return this.#ended }

  /** Somebody else changed it. */
  end (inode: Inode): void {
    this.distrust(inode)
    if (this.#told.has(inode)) return
    this.#told.add(inode)
    this.#ended += 1
    this.#onShared(showPath(inode))
  }

  /** What the kernel says about the file's size and times is wrong: it must ask, under another number. */
  distrust (inode: Inode): void {
    if (inode.kind !== 'file') return
    this.#inodes.renumber(inode)
    const { where } = inode
    if (where !== undefined) this.#invalidator.entry(where.parent.nodeid, where.name, 'drop')
  }
}
