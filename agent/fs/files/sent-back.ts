/**
 * Callers whose open(2) was answered with ESTALE. Owns that nobody is sent back twice in a row: after the first ESTALE
 * the kernel walks the path again and asks for every name (fs/namei.c, do_filp_open), which may end at another file;
 * the second one it hands to the program. Does not know why somebody is sent back.
 */
import type { Clock } from '../../base/clock.ts'

/** Threads in this state at one moment are those between an answer and their next request: a handful. */
const callersMax = 1_024
/** Whoever has not come again by then was refused on the way, or killed: its next open is a new one. */
const rememberedMs = 10_000

export class SentBack {
  readonly #clock: Clock
  /** By thread, oldest first. */
  readonly #sinceMs = new Map<number, number>()

  constructor (clock: Clock) { this.#clock = clock }

  note (pid: number): void {
    this.#sinceMs.delete(pid)
    this.#sinceMs.set(pid, this.#clock.nowMs())
    if (this.#sinceMs.size <= callersMax) return
    for (const oldest of this.#sinceMs.keys()) {
      this.#sinceMs.delete(oldest)
      return
    }
  }

  /** True when this open is a caller's second attempt. Asked once for every open. */
  takeBack (pid: number): boolean {
    const sinceMs = this.#sinceMs.get(pid)
    if (sinceMs === undefined) return false
    this.#sinceMs.delete(pid)
    return this.#clock.nowMs() - sinceMs <= rememberedMs
  }
}
