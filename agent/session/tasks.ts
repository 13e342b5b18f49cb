/**
 * Reading /proc for callers without costing the others more than a moment.
 *
 * Owns which users' tasks are slow to read (they have hundreds of groups, which the kernel prints for tens of
 * milliseconds), how much of the loop's time may go to finding that out, and the line of those that are read by another
 * thread: one at a time, users in turn. Does not know what is read for.
 */
import { credentialsMax, slowStatusBurstMs } from '../base/limits.ts'
import { statusHeadBytes, type TaskReader } from './proc-status.ts'

/** A user with such a task has others, or will have again. */
const slowForMs = 60_000
/** Of the loop's time this part goes to reading long texts at most. */
const shareOfTime = 0.1

interface Job { readonly tid: number, readonly done: (text: string | undefined) => void }

export class Tasks {
  readonly #reader: TaskReader
  readonly #now: () => number
  /** By uid: until when. Oldest first. */
  readonly #slow = new Map<number, number>()
  /** By uid, in the order of their turns. */
  readonly #waiting = new Map<number, Job[]>()
  #isReading = false
  #spentMs = 0
  #spentAtMs = 0

  constructor (reader: TaskReader, now: () => number) {
    this.#reader = reader
    this.#now = now
  }

  /** Tasks of this user are to be read by `later`. */
  isSlow (uid: number): boolean {
    if (this.#slow.size === 0) return false
    const untilMs = this.#slow.get(uid)
    if (untilMs !== undefined && untilMs > this.#now()) return true
    return this.#remaining() <= 0
  }

  /** The beginning of the text: all of it unless that is long. Undefined when there is no such task. */
  head (uid: number, tid: number): string | undefined {
    const startedMs = this.#now()
    const text = this.#reader.head(tid)
    if (text !== undefined && text.length >= statusHeadBytes) {
      this.#spentMs = slowStatusBurstMs - this.#remaining() + this.#now() - startedMs
      this.#spentAtMs = this.#now()
      this.#noteSlow(uid)
    }
    return text
  }

  /** Beginning and end of the text. */
  async later (uid: number, tid: number): Promise<string | undefined> {
    return await new Promise((done) => {
      const jobs = this.#waiting.get(uid)
      if (jobs === undefined) this.#waiting.set(uid, [{ tid, done }])
      else jobs.push({ tid, done })
      if (!this.#isReading) void this.#work()
    })
  }

  async #work (): Promise<void> {
    this.#isReading = true
    for (const [uid, jobs] of this.#waiting) {
      const job = jobs.shift()
      this.#waiting.delete(uid)
      // Behind all others: the loop comes to it again.
      if (jobs.length > 0) this.#waiting.set(uid, jobs)
      if (job === undefined) continue
      const text = await this.#reader.later(job.tid)
      if (text !== undefined && text.length >= statusHeadBytes) this.#noteSlow(uid)
      job.done(text)
    }
    this.#isReading = false
  }

  #noteSlow (uid: number): void {
    this.#slow.delete(uid)
    this.#slow.set(uid, this.#now() + slowForMs)
    if (this.#slow.size <= credentialsMax) return
    for (const oldest of this.#slow.keys()) {
      this.#slow.delete(oldest)
      return
    }
  }

  /** Of the loop's time, in milliseconds. */
  #remaining (): number {
    return slowStatusBurstMs - Math.max(0, this.#spentMs - (this.#now() - this.#spentAtMs) * shareOfTime)
  }
}
