/**
 * Who asks, with the groups the FUSE header leaves out.
 *
 * Owns the cache of supplementary groups by thread and the interned `Credential` objects. Knows the text of
 * /proc/<tid>/status. A caller the session cannot see (pid 0, or gone) gets no groups: guessing would give away files.
 */
import type { Identity } from '../base/volume-spec.ts'
import { callerGroupsMax, credentialsMax } from '../base/limits.ts'
import type { Credential } from '../fs/backend.ts'
import type { Tasks } from './tasks.ts'

/** Long enough to cover a program's burst of calls, short enough that setgroups(2) or a reused pid is seen soon. */
const groupsValidMs = 1000
/** Threads remembered at once: a hundred bytes each. They start over when they are full, as the credentials do. */
const tasksMax = 4096

interface Task {
  readonly uid: number
  readonly gid: number
  readonly untilMs: number
  readonly credential: Credential
}

/** Supplementary groups in a /proc/<tid>/status text: the first `callerGroupsMax` different ones. */
export function parseGroups (status: string): readonly number[] {
  const groups = new Set<number>()
  for (const word of lineOf(status, 'Groups').split(' ')) {
    if (/^\d+$/.test(word)) groups.add(Number(word))
    if (groups.size >= callerGroupsMax) break
  }
  return [...groups]
}

/** The thread group, which is the process, in the same text. */
export function parseProcess (status: string): number {
  const text = lineOf(status, 'Tgid')
  return /^\d+$/.test(text) ? Number(text) : 0
}

function lineOf (status: string, field: string): string {
  const at = status.startsWith(`${field}:`) ? 0 : status.indexOf(`\n${field}:`) + 1
  if (at === 0 && !status.startsWith(field)) return ''
  const end = status.indexOf('\n', at)
  // Of a line that was cut the last word may be half a number.
  return status.slice(at + field.length + 1, end < 0 ? status.lastIndexOf(' ') : end).trim()
}

export class Credentials {
  readonly #reader: Tasks
  /** Who everybody is to the server, where the volume says so. */
  readonly #everybody: Credential | undefined
  readonly #now: () => number
  readonly #tasks = new Map<number, Task>()
  readonly #processes = new Map<number, { readonly process: number, readonly untilMs: number }>()
  readonly #interned = new Map<string, Credential>()

  constructor (reader: Tasks, now: () => number, identity?: Identity) {
    this.#reader = reader
    this.#now = now
    this.#everybody = identity === undefined ? undefined : this.#intern(identity.uid, identity.gid, [])
  }

  /** The caller's rights as of now. The same user and groups give the same object. */
  of (uid: number, gid: number, pid: number): Credential {
    return this.#known(uid, gid, pid) ?? this.#learn(uid, gid, pid, this.#reader.head(uid, pid))
  }

  /** The same for a caller whose groups take long to read; undefined for all others. */
  ofSlow (uid: number, gid: number, pid: number): Promise<Credential> | undefined {
    if (!this.#reader.isSlow(uid) || this.#known(uid, gid, pid) !== undefined) return undefined
    return this.#reader.later(uid, pid).then((status) => this.#learn(uid, gid, pid, status))
  }

  /** The process of a thread, or 0 when it cannot be seen any more. */
  processOf (uid: number, tid: number): number | Promise<number> {
    const known = this.#processes.get(tid)
    if (known !== undefined && known.untilMs > this.#now()) return known.process
    return this.#reader.isSlow(uid)
      ? this.#reader.later(uid, tid).then((status) => this.#learnProcess(tid, status))
      : this.#learnProcess(tid, this.#reader.head(uid, tid))
  }

  #known (uid: number, gid: number, pid: number): Credential | undefined {
    if (this.#everybody !== undefined) return this.#everybody
    if (pid === 0) return this.#intern(uid, gid, [])
    const known = this.#tasks.get(pid)
    return known !== undefined && known.untilMs > this.#now() && known.uid === uid && known.gid === gid
      ? known.credential
      : undefined
  }

  #learn (uid: number, gid: number, pid: number, status: string | undefined): Credential {
    this.#learnProcess(pid, status)
    const credential = this.#intern(uid, gid, status === undefined ? [] : parseGroups(status))
    if (this.#tasks.size >= tasksMax) this.#tasks.clear()
    this.#tasks.set(pid, { uid, gid, untilMs: this.#now() + groupsValidMs, credential })
    return credential
  }

  #learnProcess (tid: number, status: string | undefined): number {
    if (this.#processes.size >= tasksMax) this.#processes.clear()
    if (status === undefined) {
      this.#processes.delete(tid)
      return 0
    }
    const process = parseProcess(status)
    this.#processes.set(tid, { process, untilMs: this.#now() + groupsValidMs })
    return process
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
