/**
 * Where unwritten bytes live. Owns the interface; `memory-arena.ts` implements it on the heap, a memfd may later.
 * Does not know what the bytes mean.
 */

export interface ArenaBlock {
  /** Names the block in `DirtyRecord.block`. */
  readonly id: number
  readonly buffer: Buffer
}

export interface Arena {
  readonly blockBytes: number
  readonly capacityBytes: number
  readonly usedBytes: number
  /** A block, or undefined when the arena is full: the caller must wait for a release (back-pressure), never allocate
   * elsewhere. */
  acquire (): ArenaBlock | undefined
  release (block: ArenaBlock): void
  /** Gives back what was not used at any moment since the last call. Answers how much is free and still held. */
  shrink (): number
}
