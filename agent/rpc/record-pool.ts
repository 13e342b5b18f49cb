/**
 * Memory for large records, used again and again.
 *
 * Owns free buffers in a few sizes and the rule how many are kept. A lease is given back exactly once: a second
 * `release` of the same lease does nothing, because by then the buffer may be somebody else's. Does not know what is
 * received into them.
 */
import { kibibyteBytes, mebibyteBytes, recordBytesMax } from '../base/limits.ts'
import type { RecordMemory } from '../../proto/rpc/record.ts'

/** A READ's reply is its data and about 150 bytes; the odd kilobytes keep 1 MiB of data out of the next larger size. */
const sizesBytes = [8, 68, 260, 1028, recordBytesMax / kibibyteBytes].map((kibibytes) => kibibytes * kibibyteBytes)

class Lease implements RecordMemory {
  readonly buffer: Buffer
  #pool: RecordPool | undefined

  constructor (buffer: Buffer, pool: RecordPool) {
    this.buffer = buffer
    this.#pool = pool
  }

  release (): void {
    const pool = this.#pool
    this.#pool = undefined
    pool?.takeBack(this.buffer)
  }
}

export class RecordPool {
  readonly #free = new Map<number, Buffer[]>(sizesBytes.map((bytes) => [bytes, []]))
  readonly #keptBytesMax: number
  #keptBytes = 0
  #leased = 0

  /** `keptBytesMax` bounds what lies free; what is leased is bounded by the calls in flight. */
  constructor (keptBytesMax = 16 * mebibyteBytes) {
    this.#keptBytesMax = keptBytesMax
  }

  /** Leases out now. */
  get leased (): number { return this.#leased }
  get keptBytes (): number { return this.#keptBytes }

  acquire (bytes: number): RecordMemory {
    const size = sizesBytes.find((candidate) => candidate >= bytes) ?? bytes
    this.#leased++
    const kept = this.#free.get(size)?.pop()
    if (kept !== undefined) this.#keptBytes -= size
    return new Lease(kept ?? Buffer.allocUnsafeSlow(size), this)
  }

  takeBack (buffer: Buffer): void {
    this.#leased--
    const list = this.#free.get(buffer.length)
    if (list === undefined || this.#keptBytes + buffer.length > this.#keptBytesMax) return
    this.#keptBytes += buffer.length
    list.push(buffer)
  }

  /** Lets go of everything free: an idle session should be small. */
  trim (): void {
    for (const list of this.#free.values()) list.length = 0
    this.#keptBytes = 0
  }
}
