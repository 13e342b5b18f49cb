/**
 * Objects that the kernel knows and nobody uses. It keeps them for as long as the node has memory, and each costs this
 * process about 1.2 KiB: after a walk through a million files that would be the end of it.
 *
 * Owns how many the kernel may know before it is asked to give some back, oldest first, round and round: those in use
 * it keeps. Does not know how it is asked. Where the kernel can only be told a name (before Linux 6.18), files that are
 * not open lose theirs, much later: a file that something else is mounted on would lose that with its name.
 */
import type { Inode } from '../objects/inode.ts'
import type { InodeTable } from '../objects/inodes.ts'
import { rootNodeid, type Invalidator, type Nodeid } from '../operations.ts'

/** One notice names so many: the kernel goes through them without letting go of the connection. */
const batchMax = 512
/** Looked at for one notice; most of what is old is in use where programs have everything open. */
const lookedAtMax = 4 * batchMax

export class Shedding {
  readonly #inodes: InodeTable
  readonly #invalidator: Invalidator
  readonly #max: number
  #next: Iterator<Inode, undefined> | undefined
  #isAsking = false

  constructor (parts: { inodes: InodeTable, invalidator: Invalidator, max: number }) {
    this.#inodes = parts.inodes
    this.#invalidator = parts.invalidator
    this.#max = parts.max
  }

  /** To be called whenever the kernel has been given something. */
  look (): void {
    const { canPrune } = this.#invalidator
    if (this.#isAsking || this.#inodes.size <= (canPrune ? this.#max : 2 * this.#max)) return
    this.#isAsking = true
    if (canPrune) this.#invalidator.prune(this.#batch().map(({ nodeid }) => nodeid))
    else for (const inode of this.#batch()) this.#dropName(inode)
    void this.#invalidator.whenHeard().then(() => { this.#isAsking = false })
  }

  #dropName ({ where, kind, opens }: Inode): void {
    if (where !== undefined && kind === 'file' && opens === 0) {
      this.#invalidator.entry(where.parent.nodeid, where.name, 'drop')
    }
  }

  #batch (): Inode[] {
    const batch: Inode[] = []
    for (let looked = 0; looked < lookedAtMax && batch.length < batchMax; looked++) {
      this.#next ??= this.#inodes.all()[Symbol.iterator]()
      const next = this.#next.next()
      if (next.done === true) {
        this.#next = undefined
        return batch
      }
      if (mayGo(next.value, this.#inodes)) batch.push(next.value)
    }
    return batch
  }
}

/** What we know to be in use is not worth a look of the kernel's. */
function mayGo ({ nodeid, opens, silly }: Inode, inodes: { references (nodeid: Nodeid): number }): boolean {
  return nodeid !== rootNodeid && opens === 0 && silly === undefined && inodes.references(nodeid) > 0
}
