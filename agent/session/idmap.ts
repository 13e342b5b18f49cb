/**
 * What a caller's ids mean in a volume whose mounts may be idmapped.
 *
 * With FUSE_ALLOW_IDMAP only requests that make an inode carry ids, in the volume's terms; all others carry none
 * (kernel fs/fuse/dev.c, fuse_get_req). So who asks comes from /proc, as the node's ids, and these are turned into the
 * volume's as the mount of the caller does it. Which mount that is no request says, but what the caller's mount
 * namespace has of this file system is in its mountinfo:
 *
 * | caller | its mounts of this file system | its ids in the volume |
 * |---|---|---|
 * | in the session's user namespace | any | as they are |
 * | in another | plain ones only | as they are |
 * | in another | idmapped ones only | as inside the pod's user namespace |
 * | in another | both, or none | nobody can tell |
 *
 * A container's runtime maps a pod's volumes with the map of the pod's user namespace. That is not always the caller's:
 * any user may make one more for itself, in which it has uid 0, so that the maps of its ancestors are looked at and the
 * outermost counts; a map that no runtime makes for a pod tells nothing.
 *
 * Owns these rules. Knows texts of proc(5), read through an injected function; does not know credentials and requests.
 */

export type TaskFile = 'uid_map' | 'gid_map' | 'stat' | 'mountinfo'
/** Text of /proc/TASK/FILE; undefined when it can't be read, or is longer than `createTaskFileReader` takes. */
export type ReadTaskFile = (task: number | 'self', file: TaskFile) => string | undefined

/** Which user of the node a task is; undefined when it is gone. */
export type ReadTaskOwner = (task: number) => number | undefined

export interface Ids { readonly uid: number, readonly gid: number, readonly groups: readonly number[] }

/** One line of a map (user_namespaces(7)): `count` ids from `inside` on are those from `outside` on for us. */
interface Range { readonly inside: number, readonly outside: number, readonly count: number }
interface Maps { readonly uids: Range, readonly gids: Range }

/** `node`: our own user namespace. `unknown`: nothing is believed. */
type Space = 'node' | 'unknown' | Maps
type Mapping = 'plain' | 'idmapped' | 'unclear'

interface Task {
  readonly space: Space
  /** Looked at for callers in other user namespaces only. */
  mapping: Mapping | undefined
  owner: number | undefined
  readonly untilMs: number
}

/** As long as groups are believed; a thread that changes its user namespace keeps its ids on the node. */
const validMs = 1000
/** Threads remembered at once: they start over when they are full. */
const tasksMax = 4096
/** Further up nobody looks; shells in shells have a dozen ancestors. */
const ancestorsMax = 64
/** A parent may end between two looks; then its child has another. */
const looksMax = 3
/** What a pod has at least, from 0 on and in one range (Kubernetes KEP-127; no user can make that of one id). */
const podIdsMin = 65_536

/** The range of a map with a single line. */
function parseRange (text: string): Range | undefined {
  const [, inside, outside, count] = /^\s*(\d+)\s+(\d+)\s+(\d+)\s*$/.exec(text) ?? []
  return count === undefined
    ? undefined
    : { inside: Number(inside), outside: Number(outside), count: Number(count) }
}

const isPods = (range: Range | undefined): range is Range =>
  range !== undefined && range.inside === 0 && range.count >= podIdsMin

function podMapsOf (uidMap: string, gidMap: string): Space {
  const [uids, gids] = [parseRange(uidMap), parseRange(gidMap)]
  return isPods(uids) && isPods(gids) ? { uids, gids } : 'unknown'
}

const translate = ({ inside, outside, count }: Range, id: number): number | undefined =>
  id >= outside && id < outside + count ? inside + id - outside : undefined

/** A name may contain anything, also `)`: what follows its end is state and parent. */
export function parseParent (stat: string): number {
  const [, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return Number(parent ?? 0)
}

/** How the file system with this device number is mounted where this mountinfo is from. */
export function mappingIn (mountinfo: string, device: string): Mapping {
  const kinds = new Set<Mapping>()
  for (const line of mountinfo.split('\n')) {
    const [, , number, , , options = ''] = line.split(' ', 6)
    if (number === device) kinds.add(options.split(',').includes('idmapped') ? 'idmapped' : 'plain')
  }
  const [kind = 'unclear'] = kinds
  return kinds.size === 1 ? kind : 'unclear'
}

export class IdMapping {
  readonly #read: ReadTaskFile
  readonly #readOwner: ReadTaskOwner
  readonly #now: () => number
  readonly #device: string
  readonly #tasks = new Map<number, Task>()
  #own: { readonly uids: string | undefined, readonly gids: string | undefined } | undefined

  /** `device`: the file system's `major:minor`. */
  constructor ({ read, readOwner, now, device }: {
    read: ReadTaskFile
    readOwner: ReadTaskOwner
    now: () => number
    device: string
  }) {
    this.#read = read
    this.#readOwner = readOwner
    this.#now = now
    this.#device = device
  }

  /** Ids of the node as they are in the volume for this thread; undefined when nobody can tell. */
  inVolume (tid: number, ids: Ids): Ids | undefined {
    const known = this.#tasks.get(tid)
    if (known === undefined || known.untilMs <= this.#now()) return this.#translated(this.#learn(tid, 0), tid, ids)
    // Ids that its map does not have: it is in another namespace by now.
    return this.#translated(known, tid, ids) ?? this.#translated(this.#learn(tid, 0), tid, ids)
  }

  /** For a fair share of our time, not for rights. */
  ownerOf (tid: number): number | undefined {
    const known = this.#tasks.get(tid)
    if (known === undefined || known.untilMs <= this.#now()) return this.#readOwner(tid)
    known.owner ??= this.#readOwner(tid)
    return known.owner
  }

  #translated (task: Task, tid: number, ids: Ids): Ids | undefined {
    const { space } = task
    if (space === 'node') return ids
    task.mapping ??= mappingIn(this.#read(tid, 'mountinfo') ?? '', this.#device)
    if (task.mapping === 'plain') return ids
    if (task.mapping === 'unclear' || space === 'unknown') return undefined
    const uid = translate(space.uids, ids.uid)
    const gid = translate(space.gids, ids.gid)
    if (uid === undefined || gid === undefined) return undefined
    const groups = ids.groups.map((group) => translate(space.gids, group)).filter((group) => group !== undefined)
    return { uid, gid, groups }
  }

  #learn (tid: number, depth: number): Task {
    const task: Task = {
      space: this.#spaceOf(tid, depth), mapping: undefined, owner: undefined, untilMs: this.#now() + validMs
    }
    if (this.#tasks.size >= tasksMax) this.#tasks.clear()
    this.#tasks.set(tid, task)
    return task
  }

  #spaceOf (tid: number, depth: number): Space {
    const [uidMap, gidMap] = [this.#read(tid, 'uid_map'), this.#read(tid, 'gid_map')]
    if (uidMap === undefined || gidMap === undefined || depth > ancestorsMax) return 'unknown'
    this.#own ??= { uids: this.#read('self', 'uid_map'), gids: this.#read('self', 'gid_map') }
    if (uidMap === this.#own.uids && gidMap === this.#own.gids) return 'node'
    const above = this.#spaceAbove(tid, depth)
    return above === 'node' ? podMapsOf(uidMap, gidMap) : above
  }

  #spaceAbove (tid: number, depth: number): Space {
    for (let looks = 0; looks < looksMax; looks++) {
      const stat = this.#read(tid, 'stat')
      if (stat === undefined) return 'unknown'
      const parent = parseParent(stat)
      // Outside our pid namespace.
      if (parent === 0) return 'node'
      const known = this.#tasks.get(parent)
      if (known !== undefined && known.untilMs > this.#now()) return known.space
      if (this.#read(parent, 'stat') !== undefined) return this.#learn(parent, depth + 1).space
    }
    return 'unknown'
  }
}
