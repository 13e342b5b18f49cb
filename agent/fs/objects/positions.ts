/**
 * Where each entry of a listing is found again. Owns the memory for it: 16 bytes an entry, of the last
 * `listingEntriesMax`, and none but one when the session needs it elsewhere. Does not know pages, nor when the server
 * is asked (names/directories.ts).
 */
import { listingEntriesMax } from '../../base/limits.ts'
import type { DirectoryEntry } from '../backend.ts'
import type { Budget, Holder } from './budget.ts'

/** Cookies and name hashes of what was listed, in the order listed, and the server's word on how long cookies are
 * good. */
export class Positions implements Holder {
  verifier = ''
  /** The entry at which the listing was read last: the way there is always kept. */
  standing = 0
  /** A descriptor lists by it; otherwise only the folder keeps it. */
  isRead = true
  readonly #budget: Budget
  /** What was listed before this entry is not kept; the cookie that leads to it is. */
  #base = 0
  #baseCookie = 0n
  #cookies = new BigUint64Array(0)
  #hashes = new Float64Array(0)
  #count = 0
  #isOver = false

  constructor (budget: Budget) { this.#budget = budget }

  get count (): number { return this.#count }

  /** Whether the way to entry `index` is known. */
  knows (index: number): boolean { return index === 0 || (index >= this.#base && index <= this.#count) }

  /** The cookie that leads to entry `index`, which is known. */
  cookieBefore (index: number): bigint {
    if (index <= 0) return 0n
    return index === this.#base ? this.#baseCookie : this.#cookies[index - 1 - this.#base] ?? 0n
  }

  /** Undefined when they are not all kept. */
  namesBefore (index: number): Set<number> | undefined {
    return this.#base > 0 && index > 0 ? undefined : new Set(this.#hashes.subarray(0, index))
  }

  /** A copy of the first `index` entries: two who list on from there do not share what they see. */
  upTo (index: number): Positions {
    const copy = new Positions(this.#budget)
    if (index < this.#base) return copy
    copy.verifier = this.verifier
    copy.#base = this.#base
    copy.#baseCookie = this.#baseCookie
    copy.#count = Math.min(index, this.#count)
    copy.#cookies = this.#cookies.slice(0, copy.#count - copy.#base)
    copy.#hashes = this.#hashes.slice(0, copy.#count - copy.#base)
    copy.#note()
    return copy
  }

  /** What was listed from `index` on, to which `cookie` leads. */
  add (index: number, cookie: bigint, entries: readonly DirectoryEntry[]): void {
    if (index < this.#base || index > this.#count) this.#keepFrom(index, cookie)
    while (index + entries.length - this.#base > listingEntriesMax && index > this.#base) {
      this.#dropBefore(this.#base + Math.ceil((index - this.#base) / 2))
    }
    const first = index - this.#base
    this.#makeRoom(first + entries.length)
    for (const [step, entry] of entries.entries()) {
      this.#cookies[first + step] = entry.cookie
      this.#hashes[first + step] = hashName(entry.name)
    }
    this.#count = Math.max(this.#count, index + entries.length)
    this.#note()
  }

  /** From now on nothing is known of what lies before or behind where it was read last. */
  shed (): void {
    const index = Math.min(Math.max(this.standing, this.#base), this.#count)
    this.#keepFrom(index, this.cookieBefore(index))
  }

  /** Nobody will read it again. */
  close (): void {
    this.#isOver = true
    this.#budget.note(this, 0)
  }

  #note (): void {
    if (!this.#isOver) this.#budget.note(this, 16 * this.#cookies.length)
  }

  #keepFrom (index: number, cookie: bigint): void {
    this.#base = this.#count = index
    this.#baseCookie = cookie
    this.#cookies = new BigUint64Array(0)
    this.#hashes = new Float64Array(0)
  }

  #dropBefore (index: number): void {
    const cookie = this.cookieBefore(index)
    this.#cookies.copyWithin(0, index - this.#base)
    this.#hashes.copyWithin(0, index - this.#base)
    this.#base = index
    this.#baseCookie = cookie
  }

  #makeRoom (entries: number): void {
    if (entries <= this.#cookies.length) return
    const room = Math.max(entries, Math.min(listingEntriesMax, this.#cookies.length * 2))
    const cookies = new BigUint64Array(room)
    const hashes = new Float64Array(room)
    cookies.set(this.#cookies)
    hashes.set(this.#hashes)
    this.#cookies = cookies
    this.#hashes = hashes
  }
}

/** 53 bits: among 100,000 names two are confused once in two million listings that had to start again. */
export function hashName (name: string): number {
  let high = 0x811c9dc5
  let low = 0x2f0b4a27
  for (let index = 0; index < name.length; index++) {
    const code = name.charCodeAt(index)
    high = Math.imul(high ^ code, 0x01000193)
    low = Math.imul(low ^ code, 0x5bd1e995)
    low ^= low >>> 15
  }
  high = Math.imul(high ^ (low >>> 13), 0x85ebca6b)
  low = Math.imul(low ^ (high >>> 16), 0xc2b2ae35)
  return (high >>> 11) * 0x100000000 + (low >>> 0)
}
