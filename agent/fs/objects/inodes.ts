/**
 * The objects the kernel may name. Owns identity: one inode per remote handle, numbers never used twice, kernel
 * references, and when an inode may be forgotten. Does not know what an inode is made of beyond that (inode.ts).
 */
import type { Attributes, RemoteHandle } from '../backend.ts'
import type { Clock } from '../../base/clock.ts'
import { rootNodeid, type Nodeid } from '../operations.ts'
import { CachedAttributes } from './cached-attributes.ts'
import { InodeNumbers } from './inode-numbers.ts'
import { IdleInodes } from './idle-inodes.ts'
import { Inode, isSameObject, unknownFileid, type Guise } from './inode.ts'
import type { State } from './state.ts'

/**
 * Long enough for a reply that names the inode to reach the kernel and be remembered, and for what a listing brought to
 * be looked up: attributes are believed as long (nfs(5) acregmin).
 */
const idleMs = 3_000

export class InodeTable {
  readonly #state: State
  readonly #clock: Clock
  readonly #idleMax: number
  readonly #byNodeid = new Map<Nodeid, Inode>()
  readonly #byHandle = new Map<RemoteHandle, Inode>()
  readonly #guises = new Map<Nodeid, Guise>()
  /** Without kernel references. */
  readonly #idle = new IdleInodes()
  readonly numbers = new InodeNumbers()
  /** Told when an inode is gone, so that its names can go too. */
  onForgotten: (inode: Inode) => void = () => undefined

  constructor (parts: { state: State, clock: Clock, idleMax: number }) {
    this.#state = parts.state
    this.#clock = parts.clock
    this.#idleMax = parts.idleMax
  }

  get size (): number { return this.#byNodeid.size }
  get (nodeid: Nodeid): Inode | undefined { return this.#byNodeid.get(nodeid) }
  known (handle: RemoteHandle): Inode | undefined { return this.#byHandle.get(handle) }
  all (): Iterable<Inode> { return this.#byNodeid.values() }

  /**
   * The inode of a handle, made when it is new. A handle that now names another object (fileid or kind changed: the
   * server used it again) gets a new number and generation; the old inode stays reachable by number and answers ESTALE.
   */
  intern (handle: RemoteHandle, attributes: Attributes): Inode {
    const known = this.#byHandle.get(handle)
    if (known !== undefined && isSameObject(known, attributes)) return known
    if (known !== undefined) known.isStale = true
    return this.#add(
      new Inode({
        nodeid: this.#state.next('nodeid'),
        generation: (known?.generation ?? 0) + 1,
        handle,
        kind: attributes.kind,
        fileid: attributes.fileid,
        ino: this.numbers.of(attributes)
      }, new CachedAttributes())
    )
  }

  /** The root has the number the kernel expects, and is never forgotten. */
  addRoot (handle: RemoteHandle, attributes: Attributes | undefined): Inode {
    const fileid = attributes?.fileid ?? unknownFileid
    if (attributes !== undefined) this.numbers.setMain(attributes.fsid)
    const ino = attributes?.fileid
    return this.#add(
      new Inode({ nodeid: rootNodeid, generation: 1, handle, kind: 'directory', fileid, ino }, new CachedAttributes())
    )
  }

  /**
   * Gives the object another number, under which the kernel begins anew: with a write-back cache it trusts its own size
   * and times of a file for as long as it knows the file by its number. Under the old one it goes on with what it has
   * open.
   */
  renumber (inode: Inode): void {
    const former = inode.nodeid
    inode.nodeid = this.#state.next('nodeid')
    inode.formerNodeids = [...inode.formerNodeids, former]
    this.#byNodeid.set(inode.nodeid, inode)
    this.#record(inode)
    inode.file?.renumbered()
    const silly = this.#state.silly.get(former)
    if (silly !== undefined) {
      this.#state.silly.set(inode.nodeid, { ...silly, nodeid: inode.nodeid })
      this.#state.silly.delete(former)
    }
    if (this.references(former) === 0) this.#dropFormer(inode, former)
  }

  /** The number under which the kernel knows the object in this guise. It is good for as long as the object is here. */
  numberInGuise (inode: Inode, guise: Guise): Nodeid {
    const known = inode.guises?.get(guise)
    if (known !== undefined) return known
    const nodeid = this.#state.next('nodeid')
    inode.guises ??= new Map<Guise, Nodeid>()
    inode.guises.set(guise, nodeid)
    this.#guises.set(nodeid, guise)
    this.#byNodeid.set(nodeid, inode)
    return nodeid
  }

  guiseOf (nodeid: Nodeid): Guise | undefined { return this.#guises.get(nodeid) }

  references (nodeid: Nodeid): number { return this.#state.lookups.get(nodeid) ?? 0 }

  remember (nodeid: Nodeid, count: number): void {
    this.#state.lookups.set(nodeid, this.references(nodeid) + count)
    const inode = this.#byNodeid.get(nodeid)
    if (inode !== undefined) this.#idle.delete(inode)
  }

  forget (nodeid: Nodeid, count: number): void {
    const left = this.references(nodeid) - count
    if (left > 0) {
      this.#state.lookups.set(nodeid, left)
      return
    }
    this.#state.lookups.delete(nodeid)
    const inode = this.#byNodeid.get(nodeid)
    if (inode === undefined) return
    if (inode.nodeid !== nodeid && !this.#guises.has(nodeid)) this.#dropFormer(inode, nodeid)
    this.release(inode)
  }

  #dropFormer (inode: Inode, former: Nodeid): void {
    inode.formerNodeids = inode.formerNodeids.filter((nodeid) => nodeid !== former)
    this.#byNodeid.delete(former)
    this.#state.inodes.delete(former)
  }

  #record ({ nodeid, generation, handle, kind, fileid }: Inode): void {
    this.#state.inodes.set(nodeid, { nodeid, generation, handle, kind, fileid })
  }

  /** To be called whenever something that kept the inode is gone: it is forgotten a moment later if nothing keeps
   * it. */
  release (inode: Inode): void {
    // Not at once: a reply that names it may be on its way to the kernel while the FORGET of an earlier one is handled.
    if (!this.#isKept(inode) && this.#byNodeid.has(inode.nodeid)) this.#idle.add(inode, this.#clock.nowMs())
    this.sweep()
  }

  /** Forgets idle inodes that are old, or too many. */
  sweep (): void {
    const before = this.#clock.nowMs() - idleMs
    for (let inode = this.#idle.oldest; inode?.idle !== undefined; inode = this.#idle.oldest) {
      if (inode.idle.sinceMs > before && this.#idle.size <= this.#idleMax) return
      this.#idle.delete(inode)
      if (!this.#isKept(inode)) this.#remove(inode)
    }
  }

  #isKept (inode: Inode): boolean {
    return inode.nodeid === rootNodeid || inode.opens > 0 || inode.silly !== undefined ||
      inode.formerNodeids.length > 0 ||
      this.references(inode.nodeid) > 0 || this.#isSeenInGuise(inode) ||
      (inode.file !== undefined && !inode.file.isEmpty)
  }

  #isSeenInGuise ({ guises }: Inode): boolean {
    for (const nodeid of guises?.values() ?? []) if (this.references(nodeid) > 0) return true
    return false
  }

  #add (inode: Inode): Inode {
    this.#byNodeid.set(inode.nodeid, inode)
    this.#byHandle.set(inode.handle, inode)
    this.#record(inode)
    if (inode.nodeid !== rootNodeid) {
      this.#idle.add(inode, this.#clock.nowMs())
      this.sweep()
    }
    return inode
  }

  #remove (inode: Inode): void {
    this.#byNodeid.delete(inode.nodeid)
    for (const nodeid of inode.guises?.values() ?? []) {
      this.#byNodeid.delete(nodeid)
      this.#guises.delete(nodeid)
    }
    if (this.#byHandle.get(inode.handle) === inode) this.#byHandle.delete(inode.handle)
    this.#state.inodes.delete(inode.nodeid)
    this.onForgotten(inode)
  }
}
