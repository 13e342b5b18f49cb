/**
 * Write-back of one file. Owns when its bytes are sent, how many WRITEs are in flight, what an answer means for the
 * bytes, and that bytes stay until a COMMIT with the same verifier as their WRITE (RFC 1813 sections 3.3.7 and 3.3.21).
 * Does not know other files, memory limits or timers: that is writeback.ts.
 *
 * Rules that keep overlapping writes in order: bytes never change in memory once written, a new WRITE waits while one
 * for the same bytes is in flight, and a change of size waits for all of them.
 */
import { Errno, isErrno } from '../../base/errno.ts'
import { invariant } from '../../base/errors.ts'
import type { AttributeCache } from '../beliefs/attributes.ts'
import { Stability, type OpenState, type WriteAnswer } from '../backend.ts'
import type { BlockPacker } from './blocks.ts'
import { ExtentMap, mayShare, type Extent } from './extents.ts'
import { recordError } from './file-errors.ts'
import type { BackendGate } from '../gate.ts'
import type { Inode, UnsavedBytes } from '../objects/inode.ts'
import type { Invalidator } from '../operations.ts'
import { takeDueRun, type Run } from './runs.ts'
import type { State } from '../objects/state.ts'

export interface WritebackParts {
  readonly backend: BackendGate
  readonly attributes: AttributeCache
  readonly invalidator: Invalidator
  readonly state: State
  readonly packer: BlockPacker
  readonly writesInFlightMax: number
  /** Told when bytes were dropped because the server refused them. */
  readonly onRefused: (inode: Inode) => void
  /** Told after every change of what this file holds. */
  readonly onChange: (file: DirtyFile) => void
}

interface Request extends Run { readonly stability: Stability }

/** A server that takes nothing, or never keeps what it promised, is asked so often; then it is an error. */
const refusalsMax = 5
/** COMMITs with another verifier than the WRITEs, one after the other; then writes are sent FILE_SYNC, which needs no
 * COMMIT. */
const mismatchesMax = 3

/** Bytes held here, and where they lie. */
export type OwnRange = Pick<Extent, 'start' | 'end' | 'slab' | 'slabOffset'>

export class DirtyFile implements UnsavedBytes {
  readonly #inode: Inode
  readonly #parts: WritebackParts
  readonly #extents: ExtentMap
  readonly #requests = new Set<Request>()
  #waiters: { readonly epoch: number, readonly done: () => void }[] = []
  /** Changes of size that wait until no WRITE is in flight. */
  #quiet: (() => void)[] = []
  #epoch = 1
  #answers = 0
  #cursor = 0
  #holds = 0
  #settling = 0
  #refusals = 0
  #mismatches = 0
  #isSynchronous: boolean
  #commit: { readonly answers: number, readonly done: Promise<void> } | undefined
  #isAbandoned = false
  /** When the oldest bytes now held arrived; kept for writeback.ts. */
  sinceMs = 0

  constructor (inode: Inode, parts: WritebackParts) {
    this.#inode = inode
    this.#parts = parts
    this.#extents = new ExtentMap({ owner: inode, state: parts.state, packer: parts.packer })
    this.#isSynchronous = !parts.backend.capabilities.unstableWrites
  }

  get inode (): Inode { return this.#inode }
  get isEmpty (): boolean { return this.#extents.count === 0 && this.#requests.size === 0 }
  get hasUnwritten (): boolean { return this.#extents.unwrittenBytes > 0 }
  get heldBytes (): number { return this.#extents.bytes }
  get unstableBytes (): number { return this.#extents.unstableBytes }
  /** End of the last byte held here: the file is at least that long. */
  get endBytes (): number { return this.#extents.endBytes }

  /** Ranges that overlap [start, end), as they are now; their bytes are held until `release` of each slab. */
  snapshot (start: number, end: number): OwnRange[] {
    const found = []
    for (let index = this.#extents.find(start);; index++) {
      const extent = this.#extents.at(index)
      if (extent === undefined || extent.start >= end) return found
      this.#parts.packer.retain(extent.slab)
      found.push({ start: extent.start, end: extent.end, slab: extent.slab, slabOffset: extent.slabOffset })
    }
  }

  /** Takes a copy of `data`, to be sent at once when `isDue`. The caller has made sure that there is room. */
  write (open: OpenState, offset: number, data: Buffer, isDue: boolean): void {
    invariant(data.length <= this.#parts.packer.freeBytes, 'written bytes have room before they are taken')
    let taken = 0
    let last: Extent | undefined
    while (taken < data.length) {
      const piece = this.#parts.packer.put(data, taken)
      invariant(piece !== undefined, 'written bytes have room when they are taken')
      last = this.#extents.add(offset + taken, piece, open, this.#epoch)
      if (isDue) this.#extents.setDue(last)
      taken += piece.lengthBytes
    }
    if (isDue) this.#pump()
    else if (last !== undefined) this.#sendFullRun(last)
    this.#parts.onChange(this)
  }

  /** Everything written before now has been answered by the server; errors are in the inode. */
  async writeOut (): Promise<void> {
    const epoch = this.#closeEpoch()
    await this.#written(epoch)
  }

  /** Everything written before now is on stable storage; errors are in the inode. */
  async settle (): Promise<void> {
    const epoch = this.#closeEpoch()
    this.#settling += 1
    try {
      while (!this.#isAbandoned && !this.#parts.backend.isClosed) {
        await this.#written(epoch)
        if (!this.#hasUnstable(epoch)) return
        await this.#commitOnce()
      }
    } finally {
      this.#settling -= 1
    }
  }

  /** Sends what is there without waiting for it. */
  push (): void {
    this.#makeDue(Infinity)
    this.#pump()
  }

  /**
   * Runs a change of size between all writes before it and all after it: nothing is sent meanwhile, and bytes beyond
   * the new size are dropped so that no later rewrite can bring them back.
   */
  async aroundTruncate<T> (sizeBytes: number, change: () => Promise<T | Errno>): Promise<T | Errno> {
    await this.writeOut()
    this.#holds += 1
    try {
      while (this.#requests.size > 0 && !this.#isAbandoned) {
        await new Promise<void>((resolve) => { this.#quiet.push(resolve) })
      }
      const answer = await change()
      if (!isErrno(answer)) this.#extents.cut(sizeBytes, Infinity)
      return answer
    } finally {
      this.#holds -= 1
      this.#afterChange()
    }
  }

  renumbered (): void { this.#extents.renumbered() }

  /** Drops everything: the file is gone. */
  discard (): void {
    this.#extents.cut(0, Infinity)
    this.#afterChange()
  }

  /** Lets everybody go who waits; nothing will be sent any more. */
  abandon (): void {
    this.#isAbandoned = true
    this.#wake()
  }

  #closeEpoch (): number { return this.#epoch++ }

  async #written (epoch: number): Promise<void> {
    while (!this.#isAbandoned && this.#extents.hasUnwritten(epoch)) {
      this.#makeDue(epoch)
      const done = new Promise<void>((resolve) => { this.#waiters.push({ epoch, done: resolve }) })
      this.#pump()
      await done
    }
  }

  #makeDue (epoch: number): void {
    for (const extent of this.#extents.all()) {
      if (extent.phase === 'dirty' && extent.epoch <= epoch) this.#extents.setDue(extent)
    }
  }

  #hasUnstable (epoch: number): boolean {
    return this.#extents.unstableBytes > 0 &&
      this.#extents.all().some((extent) => extent.phase === 'unstable' && extent.epoch <= epoch)
  }

  /** A run of wsize bytes around the newest write goes out at once; the rest waits for more. */
  #sendFullRun (newest: Extent): void {
    const wanted = this.#parts.backend.capabilities.writeBytesMax
    let first = this.#extents.find(newest.start)
    let bytes = newest.end - newest.start
    let left = newest
    while (bytes < wanted) {
      const previous = this.#extents.at(first - 1)
      if (
        previous === undefined || previous.end !== left.start || previous.phase !== 'dirty' ||
        !mayShare(previous.open, newest.open)
      ) break
      bytes += previous.end - previous.start
      left = previous
      first -= 1
    }
    if (bytes < wanted) return
    const end = left.start + wanted
    for (let index = first;; index++) {
      // What is beyond a full WRITE goes on waiting for more.
      this.#extents.split(index, end)
      const extent = this.#extents.at(index)
      if (extent === undefined || extent.start >= end) break
      this.#extents.setDue(extent)
    }
    this.#pump()
  }

  #pump (): void {
    if (this.#parts.backend.isClosed) return
    while (this.#holds === 0 && this.#extents.dueCount > 0 && this.#requests.size < this.#parts.writesInFlightMax) {
      const run = takeDueRun(
        this.#extents,
        this.#requests,
        this.#cursor,
        this.#parts.backend.capabilities.writeBytesMax
      )
      if (run === undefined) return
      for (const slab of run.slabs) this.#parts.packer.retain(slab)
      this.#cursor = run.end
      const request = { ...run, stability: this.#stabilityOf(run.end - run.start) }
      this.#requests.add(request)
      void this.#send(request)
    }
  }

  /** One WRITE that is all there is to save needs no COMMIT when it is sent FILE_SYNC: a small file costs one call less
   * at close. */
  #stabilityOf (bytes: number): Stability {
    if (this.#isSynchronous) return Stability.file
    const isAll = this.#settling > 0 && this.#extents.unstableBytes === 0 && this.#extents.unwrittenBytes === bytes
    return isAll ? Stability.file : Stability.unstable
  }

  async #send (request: Request): Promise<void> {
    const { attributes, backend, packer } = this.#parts
    const sent = attributes.begin(this.#inode)
    const answer = await backend.write(request.open, request.start, request.data, request.stability)
    attributes.end(this.#inode, isErrno(answer) ? undefined : answer.change, sent)
    this.#requests.delete(request)
    if (isErrno(answer)) this.#fail(request.extents, answer)
    else this.#take(request, answer)
    for (const slab of request.slabs) packer.release(slab)
    this.#afterChange()
  }

  #take (request: Request, answer: WriteAnswer): void {
    const asked = request.end - request.start
    // What was sent UNSTABLE before writes became synchronous is answered honestly: it is committed like any other.
    const isTooWeak = this.#isSynchronous && request.stability === Stability.file && answer.committed < Stability.file
    if (answer.count <= 0 || isTooWeak) this.#refusals += 1
    else this.#refusals = 0
    if (this.#refusals > refusalsMax) {
      this.#refusals = 0
      this.#fail(request.extents, Errno.EIO)
      return
    }
    const end = isTooWeak ? request.start : request.start + Math.min(answer.count, asked)
    this.#answers += 1
    // `split` adds the right part to the list that is walked.
    for (const extent of request.extents) {
      if (!this.#isCarried(extent, request)) continue
      if (extent.start < end && extent.end > end) this.#extents.split(this.#extents.find(extent.start), end)
      if (extent.start >= end) {
        this.#extents.move(extent, 'dirty')
        this.#extents.setDue(extent)
      } else if (answer.committed >= Stability.file) {
        this.#extents.remove(extent)
      } else {
        this.#extents.move(extent, 'unstable', { verifier: answer.verifier, answered: this.#answers })
      }
    }
  }

  /** Overwritten since it was sent: the answer says nothing about what is there now. */
  #isCarried (extent: Extent, request: Request): boolean {
    return extent.phase === 'writing' && extent.carrier === request.extents && this.#extents.has(extent)
  }

  /** Joins a COMMIT that covers everything answered so far, or sends one. Never two at once for one file. */
  async #commitOnce (): Promise<void> {
    const needed = this.#answers
    while (this.#commit !== undefined) {
      const running = this.#commit
      await running.done
      if (running.answers >= needed) return
    }
    await this.commit()
  }

  /** Sends a COMMIT unless one is under way; used alone it frees memory early. */
  commit (): Promise<void> {
    if (this.#commit !== undefined) return this.#commit.done
    const sample = this.#extents.all().find((extent) => extent.phase === 'unstable')
    if (sample === undefined || this.#parts.backend.isClosed) return Promise.resolve()
    const answers = this.#answers
    const done = this.#sendCommit(sample.open, answers)
    this.#commit = { answers, done }
    return done
  }

  async #sendCommit (open: OpenState, answers: number): Promise<void> {
    const { attributes, backend } = this.#parts
    const sent = attributes.begin(this.#inode)
    const answer = await backend.commit(open, 0, 0)
    attributes.end(this.#inode, isErrno(answer) ? undefined : answer.change, sent)
    this.#commit = undefined
    const covered = this.#extents.all().filter((extent) => extent.phase === 'unstable' && extent.answered <= answers)
    if (isErrno(answer)) {
      this.#fail(covered, answer)
    } else {
      const lost = covered.filter((extent) => extent.verifier !== answer.verifier)
      this.#extents.removeAll((extent) =>
        extent.phase === 'unstable' && extent.answered <= answers && extent.verifier === answer.verifier
      )
      for (const extent of lost) {
        this.#extents.move(extent, 'dirty')
        this.#extents.setDue(extent)
      }
      this.#mismatches = lost.length === 0 ? 0 : this.#mismatches + 1
      if (this.#mismatches >= mismatchesMax) this.#isSynchronous = true
    }
    this.#afterChange()
  }

  /** The server refused these bytes for good: they are dropped, here and in the kernel, and the error waits for its
   * readers. */
  #fail (extents: readonly Extent[], errno: Errno): void {
    const { attributes, invalidator, onRefused } = this.#parts
    let start = Infinity
    let end = 0
    for (const extent of extents) {
      if (!this.#extents.has(extent)) continue
      start = Math.min(start, extent.start)
      end = Math.max(end, extent.end)
      this.#extents.remove(extent)
    }
    // Also when every byte was overwritten meanwhile: somebody was promised that write.
    recordError(this.#inode, errno)
    attributes.noteFailure(this.#inode, errno)
    attributes.expire(this.#inode)
    this.#inode.cached.pagesToken = undefined
    if (end > start) {
      for (const nodeid of [this.#inode.nodeid, ...this.#inode.formerNodeids]) {
        invalidator.inode(nodeid, start, end - start)
      }
    }
    onRefused(this.#inode)
  }

  #afterChange (): void {
    this.#wake()
    this.#pump()
    this.#parts.onChange(this)
  }

  #wake (): void {
    if (this.#quiet.length > 0 && (this.#requests.size === 0 || this.#isAbandoned)) {
      for (const go of this.#quiet.splice(0)) go()
    }
    if (this.#waiters.length === 0) return
    const waiting = this.#waiters
    this.#waiters = []
    for (const waiter of waiting) {
      if (this.#isAbandoned || !this.#extents.hasUnwritten(waiter.epoch)) waiter.done()
      else this.#waiters.push(waiter)
    }
  }
}
