/**
 * How many requests, how many failed, how long they took, by operation.
 *
 * Owns the counters, as flat arrays: counting is on the path of every request. Does not know who shows them.
 */
import { nameOfOpcode } from '../../proto/fuse/operations.ts'
import { latencyBoundsSeconds } from './control.ts'
import type { SessionReport } from './control.ts'

/** The last bucket has no bound. */
const buckets = latencyBoundsSeconds.length + 1
const opcodes = nameOfOpcode.length

export class OperationStatistics {
  readonly #counts = new Float64Array(opcodes)
  readonly #errors = new Float64Array(opcodes)
  readonly #seconds = new Float64Array(opcodes)
  readonly #buckets = new Float64Array(opcodes * buckets)
  readBytes = 0
  writtenBytes = 0
  /** Every request so far. */
  requests = 0

  count (opcode: number, isError: boolean, ms: number): void {
    this.requests++
    const row = opcode < opcodes ? opcode : 0
    const seconds = ms / 1000
    this.#counts[row] = (this.#counts[row] ?? 0) + 1
    if (isError) this.#errors[row] = (this.#errors[row] ?? 0) + 1
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
