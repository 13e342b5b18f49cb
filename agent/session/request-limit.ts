/**
 * The node's limit on how long a request may wait.
 *
 * Owns the rule that keeps a mount alive under `fs.fuse.max_request_timeout` (Linux 6.15, kernel fs/fuse/dev.c,
 * fuse_check_timeout): the kernel aborts the whole connection, every pod's file with it, as soon as it sees one request
 * older than that. A mount with `hard` on a silent server waits longer. So the waiting request is answered with EIO
 * shortly before; one program gets an error, the mount lives. Does not know how a request is answered.
 */
import { Errno } from '../base/errno.ts'

/** As `sysctl fs.fuse` has them, in seconds; 0 is none. */
export interface KernelRequestLimits { readonly defaultSeconds: number, readonly maxSeconds: number }

/** The field of INIT has 16 bits. */
const requestTimeoutSecondsMax = 65_535
/** FUSE_TIMEOUT_TIMER_FREQ: shorter limits are taken as this one. */
const shortestSeconds = 15

/**
 * What INIT asks for, and how long a request may then wait. Undefined: as long as it takes, and INIT says nothing,
 * because whatever it said would be a limit. A default is for file systems that do not know better, and is overruled.
 */
export function requestTimeoutFor ({ defaultSeconds, maxSeconds }: KernelRequestLimits): {
  readonly wishedSeconds: number
  readonly limitMs: number
} | undefined {
  if (defaultSeconds === 0 && maxSeconds === 0) return undefined
  const seconds = Math.max(
    shortestSeconds,
    maxSeconds === 0 ? requestTimeoutSecondsMax : Math.min(maxSeconds, requestTimeoutSecondsMax)
  )
  // The request is older than we know: it waited in the kernel's queue. And a busy process looks late.
  return { wishedSeconds: requestTimeoutSecondsMax, limitMs: seconds * 800 }
}

/** A request that may be answered early. */
export interface Limited {
  readonly startedMs: number
  readonly isGivenUp: boolean
  giveUp (errno: Errno): void
}

const lookEveryMs = 250
/** While the server is silent, requests come that waited in the kernel's queue as long as those answered before
 * them. */
const silentMs = 250
/** What still waits for the server although the kernel has its answer. More is refused, or a program that tries again
 * and again would fill the memory. */
const forgottenMax = 256

export class RequestLimit {
  readonly #limitMs: number
  readonly #now: () => number
  readonly #onSilence: () => void
  #timer: NodeJS.Timeout | undefined
  #isSilent = false
  #forgotten = 0

  constructor (limitMs: number, now: () => number, onSilence: () => void) {
    this.#limitMs = limitMs
    this.#now = now
    this.#onSilence = onSilence
  }

  /** Looks from now on at `inFlight()`, which gives the oldest first. */
  start (inFlight: () => Iterable<Limited>): void {
    this.#timer ??= setInterval(() => { this.look(inFlight()) }, lookEveryMs).unref()
  }

  look (inFlight: Iterable<Limited>): void {
    const now = this.#now()
    for (const request of inFlight) {
      if (request.isGivenUp) continue
      if (now - request.startedMs < (this.#isSilent ? silentMs : this.#limitMs)) return
      if (!this.#isSilent) {
        this.#isSilent = true
        this.#onSilence()
      }
      this.#forgotten += 1
      request.giveUp(Errno.EIO)
    }
  }

  /** The server has answered something. */
  answered (wasGivenUp: boolean): void {
    this.#isSilent = false
    if (wasGivenUp) this.#forgotten = Math.max(0, this.#forgotten - 1)
  }

  /** Whether a new request may begin. */
  get admits (): boolean { return !this.#isSilent || this.#forgotten < forgottenMax }

  close (): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}
