/**
 * `Arena` on the heap. Owns the blocks; keeps a few free ones so that a steady stream of writes allocates nothing,
 * and gives the rest back to the system so that an idle session stays small. Does not know what is in them.
 */
import { invariant } from '../base/errors.ts'
import { mebibyteBytes } from '../base/limits.ts'
import type { Arena, ArenaBlock } from './arena.ts'

/** Big enough that a 1 MiB write is four pieces, small enough that one forgotten byte does not hold much. */
const defaultBlockBytes = mebibyteBytes / 4
const keptFreeBytes = 8 * mebibyteBytes

export class MemoryArena implements Arena {
  readonly blockBytes: number
  readonly capacityBytes: number
  readonly #free: ArenaBlock[] = []
  readonly #used = new Set<ArenaBlock>()
  #lastId = 0

  constructor (capacityBytes: number, blockBytes: number = defaultBlockBytes) {
    this.blockBytes = blockBytes
    this.capacityBytes = Math.max(blockBytes, Math.floor(capacityBytes / blockBytes) * blockBytes)
  }

  get usedBytes (): number { return this.#used.size * this.blockBytes }

  acquire (): ArenaBlock | undefined {
    if (this.usedBytes + this.blockBytes > this.capacityBytes) return undefined
    const block = this.#free.pop() ?? { id: ++this.#lastId, buffer: Buffer.allocUnsafeSlow(this.blockBytes) }
    this.#used.add(block)
    return block
  }

  /** Lets go of the free blocks: an idle session should be small. */
  trim (): void { this.#free.length = 0 }

  release (block: ArenaBlock): void {
    invariant(this.#used.delete(block), 'an arena block is released once')
    if ((this.#free.length + 1) * this.blockBytes <= keptFreeBytes) this.#free.push(block)
  }
}
