/**
 * `Arena` on the heap. Owns the blocks, and how many free ones are kept: as many as were in use lately, so that a
 * stream of writes allocates nothing. A block let go of under load is memory that nobody has again before the next
 * collection, and collections of large buffers cost a quarter of the time of a sequential write. Does not know what is
 * in the blocks.
 */
import { invariant } from '../../base/errors.ts'
import { mebibyteBytes } from '../../base/limits.ts'
import type { Arena, ArenaBlock } from './arena.ts'

/** Big enough that a 1 MiB write is four pieces, small enough that one forgotten byte does not hold much. */
const defaultBlockBytes = mebibyteBytes / 4

export class MemoryArena implements Arena {
  readonly blockBytes: number
  readonly capacityBytes: number
  readonly #free: ArenaBlock[] = []
  readonly #used = new Set<ArenaBlock>()
  #lastId = 0
  /** The most blocks in use at once since the last `shrink`. */
  #peak = 0

  constructor (capacityBytes: number, blockBytes: number = defaultBlockBytes) {
    this.blockBytes = blockBytes
    this.capacityBytes = Math.max(blockBytes, Math.floor(capacityBytes / blockBytes) * blockBytes)
  }

  get usedBytes (): number { return this.#used.size * this.blockBytes }

  acquire (): ArenaBlock | undefined {
    if (this.usedBytes + this.blockBytes > this.capacityBytes) return undefined
    const block = this.#free.pop() ?? { id: ++this.#lastId, buffer: Buffer.allocUnsafeSlow(this.blockBytes) }
    this.#used.add(block)
    this.#peak = Math.max(this.#peak, this.#used.size)
    return block
  }

  /** Lets go of the free blocks: an idle session should be small. */
  trim (): void { this.#free.length = 0 }

  release (block: ArenaBlock): void {
    invariant(this.#used.delete(block), 'an arena block is released once')
    this.#free.push(block)
  }

  shrink (): number {
    this.#free.length = Math.min(this.#free.length, this.#peak - this.#used.size)
    this.#peak = this.#used.size
    return this.#free.length * this.blockBytes
  }
}
