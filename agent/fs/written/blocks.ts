/**
 * Packs bytes of all files one after the other into arena blocks. Owns how full a block is and who still needs it.
 * Bytes are written once and never changed: a request in flight, a reply being sent and an overwritten range may all
 * point at them. Does not know files or offsets.
 */
import type { Arena, ArenaBlock } from './arena.ts'

export class Slab {
  readonly block: ArenaBlock
  usedBytes = 0
  holders = 0
  constructor (block: ArenaBlock) { this.block = block }
}

export interface Piece { readonly slab: Slab, readonly offsetBytes: number, readonly lengthBytes: number }

export class BlockPacker {
  readonly #arena: Arena
  readonly #onFreed: () => void
  #current: Slab | undefined

  constructor (arena: Arena, onFreed: () => void) {
    this.#arena = arena
    this.#onFreed = onFreed
  }

  get usedBytes (): number { return this.#arena.usedBytes }

  /** How much `put` takes now without waiting. */
  get freeBytes (): number { return this.#arena.capacityBytes - this.#arena.usedBytes + this.freeInBlockBytes }
  get freeInBlockBytes (): number {
    return this.#current === undefined ? 0 : this.#arena.blockBytes - this.#current.usedBytes
  }

  /** Copies as many bytes of `data` from `from` as fit in one piece; the piece is held for the caller. Undefined when
   * full. */
  put (data: Buffer, from: number): Piece | undefined {
    const slab = this.#current ?? this.#next()
    if (slab === undefined) return undefined
    const lengthBytes = Math.min(data.length - from, this.#arena.blockBytes - slab.usedBytes)
    const offsetBytes = slab.usedBytes
    data.copy(slab.block.buffer, offsetBytes, from, from + lengthBytes)
    slab.usedBytes += lengthBytes
    slab.holders += 1
    if (slab.usedBytes === this.#arena.blockBytes) this.#current = undefined
    return { slab, offsetBytes, lengthBytes }
  }

  retain (slab: Slab): void { slab.holders += 1 }

  release (slab: Slab): void {
    slab.holders -= 1
    if (slab.holders > 0) return
    if (slab === this.#current) this.#current = undefined
    this.#arena.release(slab.block)
    this.#onFreed()
  }

  #next (): Slab | undefined {
    const block = this.#arena.acquire()
    if (block === undefined) return undefined
    this.#current = new Slab(block)
    return this.#current
  }
}
