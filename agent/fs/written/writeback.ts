/**
 * Write-back of the session. Owns the memory that all files share: who may write now, who waits in line, and what is
 * sent early because memory is short or time has passed. Does not know how one file's bytes are sent: that is
 * dirty-file.ts.
 */
import type { Arena } from './arena.ts'
import type { OpenState } from '../backend.ts'
import { BlockPacker } from './blocks.ts'
import type { Clock } from '../../base/clock.ts'
import { DirtyFile, type OwnRange, type WritebackParts } from './dirty-file.ts'
import { showPath, type Inode } from '../objects/inode.ts'
import type { Unsaved } from '../operations.ts'
import type { FilesystemOptions } from '../options.ts'

/** Smaller copies come from memory that Node shares between them. */
const spareBytesMin = 64 * 1024

interface Waiter {
  readonly file: DirtyFile
  readonly open: OpenState
  readonly offset: number
  readonly data: Buffer
  readonly done: (isTaken: boolean) => void
}

export class Writeback {
  readonly #parts: Omit<WritebackParts, 'packer' | 'onChange' | 'writesInFlightMax'>
  readonly #clock: Clock
  readonly #options: FilesystemOptions
  readonly #arena: Arena
  readonly #packer: BlockPacker
  readonly #capacityBytes: number
  readonly #onEmpty: (inode: Inode) => void
  /** Files that hold bytes, in the order in which they began to. */
  readonly #files = new Set<DirtyFile>()
  #waiters: Waiter[] = []
  #waitingBytes = 0
  /** Copies of writers that have got their turn, for the next that must wait: a megabyte thrown away stays until a
   * collection. */
  #spare: Buffer[] = []
  #isAdmitting = false
  #isPressed = false
  #cancelTimer: (() => void) | undefined
  #isClosed = false

  constructor (parts: Omit<WritebackParts, 'packer' | 'onChange' | 'writesInFlightMax'> & {
    arena: Arena
    clock: Clock
    options: FilesystemOptions
    onEmpty: (inode: Inode) => void
  }) {
    this.#parts = parts
    this.#clock = parts.clock
    this.#options = parts.options
    this.#onEmpty = parts.onEmpty
    this.#arena = parts.arena
    this.#packer = new BlockPacker(parts.arena, () => { this.#admitSoon() })
    this.#capacityBytes = Math.min(parts.arena.capacityBytes, parts.options.dirtySessionBytesMax)
  }

  get packer (): BlockPacker { return this.#packer }
  get waiting (): number { return this.#waiters.length }
  get heldBytes (): number {
    let bytes = 0
    for (const file of this.#files) bytes += file.heldBytes
    return bytes
  }

  fileOf (inode: Inode): DirtyFile {
    if (inode.file instanceof DirtyFile) return inode.file
    const made = new DirtyFile(inode, {
      ...this.#parts,
      packer: this.#packer,
      writesInFlightMax: this.#options.writesInFlightMax,
      onChange: (file) => { this.#changed(file) }
    })
    inode.file = made
    return made
  }

  /** Our own bytes of [start, end); each slab is to be released. */
  snapshot (inode: Inode, start: number, end: number): OwnRange[] { return this.fileOf(inode).snapshot(start, end) }

  /** Whether a writer of so many bytes may come: at once, or into the line. */
  mayWait (inode: Inode, bytes: number): boolean {
    return this.#waitingBytes + bytes <= this.#options.waitingBytesMax ||
      (this.#waiters.length === 0 && this.#hasRoom(this.fileOf(inode), bytes))
  }

  /** Takes the bytes now and answers undefined, or later and answers whether they were taken (not after the end of the
   * session). */
  write (inode: Inode, open: OpenState, offset: number, data: Buffer): undefined | Promise<boolean> {
    const file = this.fileOf(inode)
    if (this.#waiters.length === 0 && this.#hasRoom(file, data.length)) {
      file.write(open, offset, data, this.#isPressed)
      return undefined
    }
    if (data.length > this.#capacityBytes / 2) return this.#writeInParts(inode, open, offset, data)
    // The caller's buffer is only lent for this call. What waits is bounded by `mayWait`, and for pages that the kernel
    // writes back by the requests that it has under way.
    this.#waitingBytes += data.length
    const copy = this.#copyOf(data)
    const taken = new Promise<boolean>((resolve) => {
      this.#waiters.push({ file, open, offset, data: copy, done: resolve })
    })
    this.#press()
    return taken
  }

  #copyOf (data: Buffer): Buffer {
    if (this.#spare.at(-1)?.length !== data.length) return Buffer.from(data)
    const copy = this.#spare.pop() ?? Buffer.allocUnsafeSlow(data.length)
    data.copy(copy)
    return copy
  }

  /** One write as large as all the memory there is would never find room. */
  async #writeInParts (inode: Inode, open: OpenState, offset: number, data: Buffer): Promise<boolean> {
    const copy = Buffer.from(data)
    const partBytes = Math.max(1, Math.floor(this.#capacityBytes / 4))
    for (let at = 0; at < copy.length; at += partBytes) {
      const taken = this.write(inode, open, offset + at, copy.subarray(at, at + partBytes))
      if (taken !== undefined && !await taken) return false
    }
    return true
  }

  /** Writes back and commits everything. */
  async settleAll (): Promise<void> {
    while (this.#files.size > 0 || this.#waiters.length > 0) {
      await Promise.all([...this.#files].map((file) => file.settle()))
      if (this.#isClosed) return
      this.#admit()
      // Only readers hold memory now: they need turns of the event loop to let go of it.
      if (this.#files.size === 0 && this.#waiters.length > 0) {
        await new Promise<void>((resolve) => { this.#clock.after(10, resolve) })
      }
    }
  }

  /** Nothing will be sent any more. Answers what was not saved. */
  close (): Unsaved {
    this.#isClosed = true
    this.#cancelTimer?.()
    const left = [...this.#files].filter((file) => !file.isEmpty)
    const waiters = this.#waiters.splice(0)
    const lostBytes = left.reduce((sum, file) => sum + file.heldBytes, 0)
    const inodes = new Set([...left, ...waiters.map(({ file }) => file)].map((file) => file.inode))
    for (const file of this.#files) file.abandon()
    this.#waitingBytes = 0
    for (const waiter of waiters) waiter.done(false)
    return { lostBytes, files: [...inodes].map(showPath) }
  }

  #hasRoom (file: DirtyFile, bytes: number): boolean {
    if (this.#isClosed) return false
    if (file.heldBytes > 0 && file.heldBytes + bytes > this.#options.dirtyFileBytesMax) return false
    const used = this.#packer.usedBytes
    return bytes <= this.#packer.freeBytes &&
      (used === 0 || used + bytes <= this.#capacityBytes || this.#packer.freeInBlockBytes >= bytes)
  }

  #changed (file: DirtyFile): void {
    if (file.isEmpty) {
      if (this.#files.delete(file)) this.#onEmpty(file.inode)
    } else if (!this.#files.has(file)) {
      file.sinceMs = this.#clock.nowMs()
      this.#files.add(file)
      this.#startTimer()
    }
    // Half of a file's share is committed while the other half is filled, so that a long stream never stops for a
    // COMMIT.
    if (file.unstableBytes > Math.min(this.#options.dirtyFileBytesMax, this.#capacityBytes) / 2) void file.commit()
    const used = this.#packer.usedBytes
    if (used > this.#capacityBytes * 3 / 4) this.#press()
    if (!this.#isPressed) return
    if (this.#waiters.length > 0) {
      if (file.unstableBytes > 0) void file.commit()
      this.#admitSoon()
    } else if (used < this.#capacityBytes / 2) {
      this.#isPressed = false
    } else if (file.unstableBytes > this.#capacityBytes / 8 || (file.unstableBytes > 0 && !file.hasUnwritten)) {
      void file.commit()
    }
  }

  /** Memory is short: sends everything there is, commits what has been sent, and from now on sends new bytes at
   * once. */
  #press (): void {
    if (this.#isPressed && this.#waiters.length !== 1) return
    this.#isPressed = true
    for (const file of this.#files) {
      file.push()
      if (file.unstableBytes > 0) void file.commit()
    }
  }

  /** In a later turn: blocks are freed in the middle of other work on the same file. */
  #admitSoon (): void {
    if (this.#isAdmitting || this.#waiters.length === 0) return
    this.#isAdmitting = true
    queueMicrotask(() => {
      this.#isAdmitting = false
      this.#admit()
    })
  }

  /** In the order of arrival; a writer whose own file is full lets writers of other files pass, never of the same. */
  #admit (): void {
    const full = new Set<DirtyFile>()
    const waiting = this.#waiters
    this.#waiters = []
    for (const [index, waiter] of waiting.entries()) {
      if (full.has(waiter.file) || !this.#hasRoom(waiter.file, waiter.data.length)) {
        this.#waiters.push(waiter)
        full.add(waiter.file)
        if (waiter.data.length > this.#packer.freeBytes) {
          this.#waiters.push(...waiting.slice(index + 1))
          return
        }
        continue
      }
      waiter.file.write(waiter.open, waiter.offset, waiter.data, this.#isPressed)
      this.#waitingBytes -= waiter.data.length
      if (waiter.data.length >= spareBytesMin) this.#spare.push(waiter.data)
      waiter.done(true)
    }
  }

  #startTimer (): void {
    if (this.#cancelTimer !== undefined || this.#isClosed) return
    this.#cancelTimer = this.#clock.after(this.#options.writeDelayMs, () => {
      this.#cancelTimer = undefined
      this.#tick()
    })
  }

  /** Sends what has waited long enough for more, and commits what has waited long enough for somebody to ask. */
  #tick (): void {
    const nowMs = this.#clock.nowMs()
    for (const file of this.#files) {
      const ageMs = nowMs - file.sinceMs
      if (ageMs >= this.#options.writeDelayMs) file.push()
      if (ageMs >= this.#options.commitDelayMs) {
        file.sinceMs = nowMs
        void file.settle()
      }
    }
    // Memory follows what is written: what the last period did not use goes back.
    const freeBytes = this.#arena.shrink()
    this.#spare = []
    if (this.#files.size > 0 || freeBytes > 0) this.#startTimer()
  }
}
