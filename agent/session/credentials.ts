/**
 * Who asks, with the groups the FUSE header leaves out.
 *
 * Owns the cache of supplementary groups by thread and the interned `Credential` objects. Knows the text of
 * /proc/<tid>/status. A caller the session cannot see (pid 0, or gone) gets no groups: guessing would give away files.
 * Where the header does not say who asks (idmap.ts) it is nobody then.
 */
import type { Identity } from '../base/volume-spec.ts'
import { callerGroupsMax, credentialsMax } from '../base/limits.ts'
import type { Credential } from '../fs/backend.ts'
import type { Ids, IdMapping } from './idmap.ts'
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

/** FUSE_INVALID_UIDGID: the header does not say who asks. */
const noId = 0xffff_ffff
/** Whom no server and no system gives anything that it does not give to everybody. */
const nobodyId = 65_534

/** What the kernel checks files with: the fourth number of each (proc(5)). */
export function parseIds (status: string): Ids | undefined {
  const [, uid] = /^Uid:\s+\d+\s+\d+\s+\d+\s+(\d+)$/m.exec(status) ?? []
  const [, gid] = /^Gid:\s+\d+\s+\d+\s+\d+\s+(\d+)$/m.exec(status) ?? []
  return uid === undefined || gid === undefined
    ? undefined
    : { uid: Number(uid), gid: Number(gid), groups: parseGroups(status) }
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
  readonly #idMapping: IdMapping | undefined
  readonly #now: () => number
  readonly #tasks = new Map<number, Task>()
  readonly #processes = new Map<number, { readonly process: number, readonly untilMs: number }>()
  readonly #interned = new Map<string, Credential>()

  constructor (reader: Tasks, now: () => number, identity?: Identity, idMapping?: IdMapping) {
    this.#reader = reader
    this.#idMapping = idMapping
    this.#now = now
    this.#everybody = identity === undefined ? undefined : this.#intern(identity.uid, identity.gid, [])
  }

  /** The caller's rights as of now. The same user and groups give the same object. */
  of (uid: number, gid: number, pid: number): Credential {
    return this.#known(uid, gid, pid) ?? this.#learn(uid, gid, pid, this.#reader.head(this.#payer(uid, pid), pid))
  }

  /** The same for a caller whose groups take long to read; undefined for all others. */
  ofSlow (uid: number, gid: number, pid: number): Promise<Credential> | undefined {
    const payer = this.#payer(uid, pid)
    if (!this.#reader.isSlow(payer) || this.#known(uid, gid, pid) !== undefined) return undefined
    return this.#reader.later(payer, pid).then((status) => this.#learn(uid, gid, pid, status))
  }

  /** Never from memory: a thread that becomes another user (setuid(2)) shows in nothing but its status. */
  #inVolume (idMapping: IdMapping, uid: number, gid: number, pid: number, status: string | undefined): Credential {
    const onNode = status === undefined ? undefined : parseIds(status)
    const found = onNode === undefined ? undefined : idMapping.inVolume(pid, onNode)
    if (uid !== noId && gid !== noId) return this.#intern(uid, gid, found?.groups ?? [])
    return found === undefined
      ? this.#intern(nobodyId, nobodyId, [])
      : this.#intern(found.uid, found.gid, found.groups)
  }

  /** The process of a thread, or 0 when it cannot be seen any more. */
  processOf (uid: number, tid: number): number | Promise<number> {
    const known = this.#processes.get(tid)
    if (known !== undefined && known.untilMs > this.#now()) return known.process
    const payer = this.#payer(uid, tid)
    return this.#reader.isSlow(payer)
      ? this.#reader.later(payer, tid).then((status) => this.#learnProcess(tid, status))
      : this.#learnProcess(tid, this.#reader.head(payer, tid))
  }

  /** Whose time is spent on reading: a user of the node, whom headers do not name on idmapped volumes. */
  #payer (uid: number, pid: number): number { return this.#idMapping?.ownerOf(pid) ?? uid }

  #known (uid: number, gid: number, pid: number): Credential | undefined {
    if (this.#everybody !== undefined) return this.#everybody
    if (this.#idMapping !== undefined) {
      return pid === 0 ? this.#inVolume(this.#idMapping, uid, gid, pid, undefined) : undefined
    }
    if (pid === 0) return this.#intern(uid, gid, [])
    const known = this.#tasks.get(pid)
    return known !== undefined && known.untilMs > this.#now() && known.uid === uid && known.gid === gid
      ? known.credential
      : undefined
  }

  #learn (uid: number, gid: number, pid: number, status: string | undefined): Credential {
    this.#learnProcess(pid, status)
    if (this.#idMapping !== undefined) return this.#inVolume(this.#idMapping, uid, gid, pid, status)
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
