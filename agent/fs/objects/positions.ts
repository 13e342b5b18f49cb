/**
 * Where each entry of a listing is found again. Owns the memory for it: 16 bytes an entry. Does not know pages, nor
 * when the server is asked (names/directories.ts).
 */
import type { DirectoryEntry } from '../backend.ts'

/** Cookies and name hashes of everything listed, in the order listed, and the server's word on how long cookies are
 * good. */
export class Positions {
  verifier = ''
  #cookies = new BigUint64Array(0)
  #hashes = new Float64Array(0)
  #count = 0

  get count (): number { return this.#count }

  /** The cookie that leads to entry `index`, which is at most `count`. */
  cookieBefore (index: number): bigint { return index <= 0 ? 0n : this.#cookies[index - 1] ?? 0n }

  namesBefore (index: number): Set<number> { return new Set(this.#hashes.subarray(0, index)) }

  /** A copy of the first `index` entries: two who list on from there do not share what they see. */
  upTo (index: number): Positions {
    const copy = new Positions()
    copy.verifier = this.verifier
    copy.#count = Math.min(index, this.#count)
    copy.#cookies = this.#cookies.slice(0, copy.#count)
    copy.#hashes = this.#hashes.slice(0, copy.#count)
    return copy
  }

  add (index: number, entries: readonly DirectoryEntry[]): void {
    const end = index + entries.length
    if (end > this.#cookies.length) {
      const room = Math.max(end, this.#cookies.length * 2)
      const cookies = new BigUint64Array(room)
      const hashes = new Float64Array(room)
      cookies.set(this.#cookies)
      hashes.set(this.#hashes)
      this.#cookies = cookies
      this.#hashes = hashes
    }
    for (const [step, entry] of entries.entries()) {
      this.#cookies[index + step] = entry.cookie
      this.#hashes[index + step] = hashName(entry.name)
    }
    this.#count = Math.max(this.#count, end)
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
