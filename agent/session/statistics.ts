/**
 * How many requests, how many failed, how long they took, by operation.
 *
 * Owns the counters, as flat arrays: counting is on the path of every request. Does not know who shows them.
 */
import { errnoName } from '../base/errno.ts'
import { nameOfOpcode } from '../../proto/fuse/operations.ts'
import { latencyBoundsSeconds } from './control.ts'
import type { SessionReport } from './control.ts'

/** The last bucket has no bound. */
const buckets = latencyBoundsSeconds.length + 1
const opcodes = nameOfOpcode.length
/** What a cache can answer. Other requests are answered at once because they need no answer of the server. */
const cacheable: ReadonlySet<string> = new Set([
  'LOOKUP', 'GETATTR', 'READLINK', 'READ', 'READDIR', 'READDIRPLUS', 'STATFS', 'ACCESS'
])

export class OperationStatistics {
  readonly #counts = new Float64Array(opcodes)
  readonly #errors = new Float64Array(opcodes)
  readonly #seconds = new Float64Array(opcodes)
  readonly #buckets = new Float64Array(opcodes * buckets)
  /** Requests answered in the turn in which they came: nobody was asked. */
  readonly #atOnce = new Float64Array(opcodes)
  /** Errors by errno; Linux numbers them up to 133 (asm-generic/errno.h). */
  readonly #errnos = new Float64Array(256)
  readBytes = 0
  writtenBytes = 0
  /** Every request so far. */
  requests = 0

  /** `errno` is 0 for a success. */
  count (opcode: number, errno: number, ms: number, isAtOnce = false): void {
    this.requests++
    const row = opcode < opcodes ? opcode : 0
    if (isAtOnce) this.#atOnce[row] = (this.#atOnce[row] ?? 0) + 1
    const seconds = ms / 1000
    this.#counts[row] = (this.#counts[row] ?? 0) + 1
    if (errno !== 0) {
      this.#errors[row] = (this.#errors[row] ?? 0) + 1
      const known = errno < this.#errnos.length ? errno : 0
      this.#errnos[known] = (this.#errnos[known] ?? 0) + 1
    }
    this.#seconds[row] = (this.#seconds[row] ?? 0) + seconds
    let bucket = 0
    while (bucket < buckets - 1 && seconds > (latencyBoundsSeconds[bucket] ?? Infinity)) bucket++
    const at = row * buckets + bucket
    this.#buckets[at] = (this.#buckets[at] ?? 0) + 1
  }

  /** `fuse_LOOKUP_total`-like names without units of their own; the metrics page gives them labels. */
  counters (): Record<string, number> {
    const counters: Record<string, number> = { fuseReadBytes: this.readBytes, fuseWrittenBytes: this.writtenBytes }
    for (const [opcode, name] of this.#used()) {
      counters[`fuseRequests:${name}`] = this.#counts[opcode] ?? 0
      if ((this.#errors[opcode] ?? 0) > 0) counters[`fuseErrors:${name}`] = this.#errors[opcode] ?? 0
      if (cacheable.has(name) && (this.#atOnce[opcode] ?? 0) > 0) {
        counters[`fuseCached:${name}`] = this.#atOnce[opcode] ?? 0
      }
    }
    for (const [errno, count] of this.#errnos.entries()) {
      if (count > 0) counters[`fuseErrnos:${errno === 0 ? 'other' : errnoName(errno)}`] = count
    }
    return counters
  }

  /** Cumulative counts per bound, as Prometheus wants them. */
  latency (): SessionReport['latency'] {
    const latency: Record<string, { count: number, sumSeconds: number, buckets: number[] }> = {}
    for (const [opcode, name] of this.#used()) {
      let sum = 0
      const cumulative = latencyBoundsSeconds.map((_, bucket) => (sum += this.#buckets[opcode * buckets + bucket] ?? 0))
      latency[name] = { count: this.#counts[opcode] ?? 0, sumSeconds: this.#seconds[opcode] ?? 0, buckets: cumulative }
    }
    return latency
  }

  * #used (): Generator<readonly [number, string]> {
    for (let opcode = 0; opcode < opcodes; opcode++) {
      if ((this.#counts[opcode] ?? 0) > 0) yield [opcode, nameOfOpcode[opcode] ?? 'unknown']
    }
  }
}
