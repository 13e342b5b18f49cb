/**
 * Who asks, with the groups the FUSE header leaves out.
 *
 * Owns the cache of supplementary groups by thread and the interned `Credential` objects. Knows /proc/<tid>/status,
 * read through an injected function. A caller the session cannot see (pid 0, or gone) gets no groups: guessing would
 * give away files.
 */
import type { Identity } from '../base/volume-spec.ts'
import type { Credential } from '../fs/backend.ts'

/** Text of /proc/<tid>/status, or undefined when there is no such task. */
export type ReadStatus = (tid: number) => string | undefined

/** Long enough to cover a program's burst of calls, short enough that setgroups(2) or a reused pid is seen soon. */
const groupsValidMs = 1000
/** Threads remembered at once, and credentials interned; both start over when they are full. */
const tasksMax = 4096
const credentialsMax = 4096

interface Task {
  readonly uid: number
  readonly gid: number
  readonly untilMs: number
  readonly credential: Credential
}

/** Supplementary groups in a /proc/<tid>/status text. */
export function parseGroups (status: string): readonly number[] {
  const line = /^Groups:[ \t]*(.*)$/m.exec(status)?.[1] ?? ''
  return line.split(/\s+/).filter((word) => /^\d+$/.test(word)).map(Number)
}

/** The thread group, which is the process, in the same text. */
export function parseProcess (status: string): number { return Number(/^Tgid:\s*(\d+)$/m.exec(status)?.[1] ?? 0) }

export class Credentials {
  readonly #readStatus: ReadStatus
  /** Who everybody is to the server, where the volume says so. */
  readonly #everybody: Credential | undefined
  readonly #now: () => number
  readonly #tasks = new Map<number, Task>()
  readonly #processes = new Map<number, { readonly process: number, readonly untilMs: number }>()
  readonly #interned = new Map<string, Credential>()

  constructor (readStatus: ReadStatus, now: () => number, identity?: Identity) {
    this.#readStatus = readStatus
    this.#now = now
    this.#everybody = identity === undefined ? undefined : this.#intern(identity.uid, identity.gid, [])
  }

  /** The caller's rights as of now. The same user and groups give the same object. */
  of (uid: number, gid: number, pid: number): Credential {
    if (this.#everybody !== undefined) return this.#everybody
    if (pid === 0) return this.#intern(uid, gid, [])
    const known = this.#tasks.get(pid)
    const now = this.#now()
    if (known !== undefined && known.untilMs > now && known.uid === uid && known.gid === gid) return known.credential
    const status = this.#statusOf(pid, now)
    const credential = this.#intern(uid, gid, status === undefined ? [] : parseGroups(status))
    if (this.#tasks.size >= tasksMax) this.#tasks.clear()
    this.#tasks.set(pid, { uid, gid, untilMs: now + groupsValidMs, credential })
    return credential
  }

  /** The process of a thread, or 0 when it cannot be seen any more. */
  processOf (tid: number): number {
    const now = this.#now()
    const known = this.#processes.get(tid)
    if (known !== undefined && known.untilMs > now) return known.process
    this.#statusOf(tid, now)
    return this.#processes.get(tid)?.process ?? 0
  }

  #statusOf (tid: number, now: number): string | undefined {
    const status = this.#readStatus(tid)
    if (this.#processes.size >= tasksMax) this.#processes.clear()
    if (status === undefined) this.#processes.delete(tid)
    else this.#processes.set(tid, { process: parseProcess(status), untilMs: now + groupsValidMs })
    return status
  }

  #intern (uid: number, gid: number, groups: readonly number[]): Credential {
    const key = `${uid}:${gid}:${groups.join(',')}`
    const known = this.#interned.get(key)
    if (known !== undefined) return known
    const credential: Credential = Object.freeze({ uid, gid, groups: Object.freeze([...groups]), key })
    if (this.#interned.size >= credentialsMax) this.#interned.clear()
    this.#interned.set(key, credential)
    return credential
  }
}
