/**
 * What the next WRITE of a file carries. Owns the choice: a run of due ranges of one user, at most one full WRITE long,
 * none of whose bytes are in flight. Does not know how it is sent or what the answer means.
 */
import type { OpenState } from '../backend.ts'
import type { Slab } from './blocks.ts'
import { mayShare, type Extent, type ExtentMap } from './extents.ts'

export interface Run {
  readonly start: number
  readonly end: number
  readonly open: OpenState
  readonly data: readonly Buffer[]
  readonly slabs: readonly Slab[]
  /** The ranges it carries; parts cut off from them later are added. */
  readonly extents: Extent[]
}

/** Buffers of one WRITE; IOV_MAX is 1024, and the RPC header needs some. */
const buffersMax = 512

/** The next due run, marked as being written. In the order of an elevator: on from `cursor`, then from the start
 * again. */
export function takeDueRun (
  extents: ExtentMap,
  inFlight: Iterable<{ readonly start: number, readonly end: number }>,
  cursor: number,
  bytesMax: number
): Run | undefined {
  const first = extents.find(cursor)
  const count = extents.count
  for (let step = 0; step < count; step++) {
    const index = (first + step) % count
    const extent = extents.at(index)
    if (extent === undefined || extent.phase !== 'dirty' || !extent.isDue) continue
    const bound = freeUntil(extent, inFlight, bytesMax)
    if (bound > extent.start) return takeRun(extents, index, extent, bound)
  }
  return undefined
}

/** How far from the start of `extent` no WRITE is in flight. */
function freeUntil (
  extent: Extent,
  inFlight: Iterable<{ readonly start: number, readonly end: number }>,
  bytesMax: number
): number {
  let bound = extent.start + bytesMax
  for (const { start, end } of inFlight) {
    if (start <= extent.start && end > extent.start) return extent.start
    if (start > extent.start && start < bound) bound = start
  }
  return bound
}

function takeRun (extents: ExtentMap, index: number, first: Extent, bound: number): Run {
  extents.split(index, bound)
  const { start, open } = first
  // Literals of one: an empty array makes room for 17 at its first push, and most random writes stay alone.
  const carried = [first]
  const slabs = [first.slab]
  const data = [bytesOf(first)]
  let end = first.end
  extents.move(first, 'writing', { carrier: carried })
  for (let next = index + 1; data.length < buffersMax && end < bound; next++) {
    extents.split(next, bound)
    const extent = extents.at(next)
    if (extent === undefined || extent.phase !== 'dirty' || extent.start !== end || !mayShare(extent.open, open)) break
    end = extent.end
    extents.move(extent, 'writing', { carrier: carried })
    carried.push(extent)
    slabs.push(extent.slab)
    data.push(bytesOf(extent))
  }
  return { start, end, open, data, slabs, extents: carried }
}

function bytesOf ({ slab, slabOffset, start, end }: Extent): Buffer {
  return slab.block.buffer.subarray(slabOffset, slabOffset + end - start)
}
