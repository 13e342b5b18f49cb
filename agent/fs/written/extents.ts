/**
 * The bytes of one file that are not known to be on stable storage, as ranges that never overlap, ordered by offset.
 * Owns the ranges, what phase each is in, and their records in `State`. Does not know when anything is sent.
 *
 * A range is `dirty` (only here), then `writing` (a WRITE carries it), then `unstable` (the server has it in memory),
 * then gone. An overwrite cuts what it covers out of older ranges, whatever their phase: their bytes stay where they
 * are for a WRITE in flight.
 */
import type { OpenState, WriteVerifier } from '../backend.ts'
import type { BlockPacker, Piece, Slab } from './blocks.ts'
import type { Nodeid } from '../operations.ts'
import type { DirtyRecord, State } from '../objects/state.ts'

export type Phase = 'dirty' | 'writing' | 'unstable'

/** Its own record in `State`: with random writes tens of thousands live for a second or two, and every copy would be a
 * survivor to collect. */
export class Extent implements DirtyRecord {
  readonly key: number
  /** Whose bytes they are; its number may change. */
  readonly owner: { readonly nodeid: Nodeid }
  start: number
  end: number
  readonly slab: Slab
  /** Where byte `start` is in the slab. */
  slabOffset: number
  /** Whose open the bytes came through: its credential writes them. */
  readonly open: OpenState
  /** Everything written before a flush has an epoch up to the flush's. */
  readonly epoch: number
  phase: Phase = 'dirty'
  /** To be sent now, also when it is less than a full write. */
  isDue = false
  verifier: WriteVerifier | undefined = undefined
  /** Order of the WRITE's answer among all answers; a COMMIT sent later covers it. */
  answered = 0
  /** The request that carries it, while `writing`: a part cut off from it is told. */
  carrier: Extent[] | undefined = undefined

  constructor (facts: {
    key: number
    owner: { readonly nodeid: Nodeid }
    start: number
    end: number
    slab: Slab
    slabOffset: number
    open: OpenState
    epoch: number
  }) {
    this.key = facts.key
    this.owner = facts.owner
    this.start = facts.start
    this.end = facts.end
    this.slab = facts.slab
    this.slabOffset = facts.slabOffset
    this.open = facts.open
    this.epoch = facts.epoch
  }

  get nodeid (): Nodeid { return this.owner.nodeid }
  get offsetBytes (): number { return this.start }
  get lengthBytes (): number { return this.end - this.start }
  get block (): number { return this.slab.block.id }
  get blockOffsetBytes (): number { return this.slabOffset }

  /** The part from `at` on, in the same phase and carried by the same request. */
  partFrom (at: number, key: number): Extent {
    const part = new Extent({ ...this, key, start: at, slabOffset: this.slabOffset + at - this.start })
    part.phase = this.phase
    part.isDue = this.isDue
    part.verifier = this.verifier
    part.answered = this.answered
    part.carrier = this.carrier
    return part
  }
}

export class ExtentMap {
  readonly #owner: { readonly nodeid: Nodeid }
  readonly #state: State
  readonly #packer: BlockPacker
  readonly #list: Extent[] = []
  readonly #unwrittenByEpoch = new Map<number, number>()
  #unwrittenBytes = 0
  #unstableBytes = 0
  #dueCount = 0

  constructor (parts: { owner: { readonly nodeid: Nodeid }, state: State, packer: BlockPacker }) {
    this.#owner = parts.owner
    this.#state = parts.state
    this.#packer = parts.packer
  }

  get count (): number { return this.#list.length }
  get unwrittenBytes (): number { return this.#unwrittenBytes }
  get unstableBytes (): number { return this.#unstableBytes }
  get bytes (): number { return this.#unwrittenBytes + this.#unstableBytes }
  get dueCount (): number { return this.#dueCount }
  get endBytes (): number { return this.#list.at(-1)?.end ?? 0 }
  all (): readonly Extent[] { return this.#list }
  at (index: number): Extent | undefined { return this.#list[index] }

  hasUnwritten (epoch: number): boolean {
    for (const known of this.#unwrittenByEpoch.keys()) if (known <= epoch) return true
    return false
  }

  /** Index of the first range that ends after `offset`. */
  find (offset: number): number {
    let low = 0
    let high = this.#list.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const extent = this.#list[middle]
      if (extent !== undefined && extent.end <= offset) low = middle + 1
      else high = middle
    }
    return low
  }

  /** Adds a piece of new bytes over whatever was there. */
  add (start: number, piece: Piece, open: OpenState, epoch: number): Extent {
    const end = start + piece.lengthBytes
    this.cut(start, end)
    const index = this.find(start)
    const previous = this.#list[index - 1]
    if (previous !== undefined && canGrow(previous, start, piece, open)) {
      previous.end = end
      this.#count(previous, piece.lengthBytes)
      this.#record(previous)
      this.#packer.release(piece.slab)
      return previous
    }
    const extent = new Extent({
      key: this.#state.next('dirty'), owner: this.#owner, start, end, slab: piece.slab, slabOffset: piece.offsetBytes,
      open, epoch
    })
    this.#list.splice(index, 0, extent)
    this.#enter(extent)
    return extent
  }

  /** Removes a range: data cut off is gone, or is superseded. */
  cut (start: number, end: number): void {
    let index = this.find(start)
    let extent = this.#list[index]
    while (extent !== undefined && extent.start < end) {
      if (extent.start < start && extent.end > end) {
        this.split(index, start)
        index += 1
      } else if (extent.start < start) {
        this.#count(extent, start - extent.end)
        extent.end = start
        this.#record(extent)
        index += 1
      } else if (extent.end > end) {
        const gone = end - extent.start
        this.#count(extent, -gone)
        extent.start = end
        extent.slabOffset += gone
        this.#record(extent)
        return
      } else {
        this.#removeAt(index)
      }
      extent = this.#list[index]
    }
  }

  /** The owner has another number. */
  renumbered (): void {
    for (const extent of this.#list) this.#record(extent)
  }

  /** Makes two ranges of one, at `at`. */
  split (index: number, at: number): void {
    const extent = this.#list[index]
    if (extent === undefined || at <= extent.start || at >= extent.end) return
    const right = extent.partFrom(at, this.#state.next('dirty'))
    this.#count(extent, at - extent.end)
    extent.end = at
    this.#record(extent)
    this.#packer.retain(right.slab)
    this.#list.splice(index + 1, 0, right)
    this.#enter(right)
    right.carrier?.push(right)
  }

  remove (extent: Extent): void {
    const index = this.find(extent.start)
    if (this.#list[index] === extent) this.#removeAt(index)
  }

  /** Removes all ranges for which `isDone` answers true, in one pass. */
  removeAll (isDone: (extent: Extent) => boolean): void {
    let kept = 0
    for (const extent of this.#list) {
      if (isDone(extent)) this.#forget(extent)
      else this.#list[kept++] = extent
    }
    this.#list.length = kept
  }

  has (extent: Extent): boolean { return this.#list[this.find(extent.start)] === extent }

  setDue (extent: Extent): void {
    if (extent.isDue || extent.phase !== 'dirty') return
    extent.isDue = true
    this.#dueCount += 1
  }

  move (
    extent: Extent,
    phase: Phase,
    facts: { verifier?: WriteVerifier, answered?: number, carrier?: Extent[] } = {}
  ): void {
    this.#leave(extent)
    extent.phase = phase
    extent.isDue = false
    extent.verifier = facts.verifier
    extent.answered = facts.answered ?? 0
    extent.carrier = facts.carrier
    this.#enter(extent)
  }

  #removeAt (index: number): void {
    const [extent] = this.#list.splice(index, 1)
    if (extent !== undefined) this.#forget(extent)
  }

  #forget (extent: Extent): void {
    this.#leave(extent)
    this.#state.dirty.delete(extent.key)
    this.#packer.release(extent.slab)
  }

  #enter (extent: Extent): void {
    this.#count(extent, extent.end - extent.start)
    if (extent.isDue) this.#dueCount += 1
    if (extent.phase !== 'unstable') {
      this.#unwrittenByEpoch.set(extent.epoch, (this.#unwrittenByEpoch.get(extent.epoch) ?? 0) + 1)
    }
    this.#record(extent)
  }

  #leave (extent: Extent): void {
    this.#count(extent, extent.start - extent.end)
    if (extent.isDue) this.#dueCount -= 1
    if (extent.phase === 'unstable') return
    const left = (this.#unwrittenByEpoch.get(extent.epoch) ?? 0) - 1
    if (left > 0) this.#unwrittenByEpoch.set(extent.epoch, left)
    else this.#unwrittenByEpoch.delete(extent.epoch)
  }

  #count (extent: Extent, bytes: number): void {
    if (extent.phase === 'unstable') this.#unstableBytes += bytes
    else this.#unwrittenBytes += bytes
  }

  #record (extent: Extent): void {
    this.#state.dirty.set(extent.key, extent)
  }
}

/** Small sequential writes become one range as long as nobody sends it. */
function canGrow (extent: Extent, start: number, piece: Piece, open: OpenState): boolean {
  return extent.end === start && extent.phase === 'dirty' && extent.slab === piece.slab &&
    mayShare(extent.open, open) &&
    extent.slabOffset + (extent.end - extent.start) === piece.offsetBytes
}

/** Bytes of two opens may go out in one WRITE when the same user wrote them. */
export function mayShare (a: OpenState, b: OpenState): boolean {
  return a === b || (a.credential.key === b.credential.key && a.handle === b.handle)
}
