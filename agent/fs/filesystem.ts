/**
 * The file system: a thin front that joins the parts and hands each operation to the one that owns it.
 * Knows neither FUSE nor NFS: it is driven through `FilesystemOperations` and drives a `Backend`.
 */
import type { FileName } from '../base/brands.ts'
import { Errno } from '../base/errno.ts'
import { groupWalkLimits } from '../base/limits.ts'
import type { MaybePromise } from '../base/maybe-promise.ts'
import { AccessCache } from './beliefs/access.ts'
import type { Arena } from './written/arena.ts'
import { AttributeCache } from './beliefs/attributes.ts'
import type { AttributeChanges, Backend, Credential } from './backend.ts'
import { Budget } from './objects/budget.ts'
import type { Clock } from '../base/clock.ts'
import type { Core } from './core.ts'
import { Creations } from './names/creations.ts'
import { NameCache } from './beliefs/entries.ts'
import { BackendGate } from './gate.ts'
import { HandleTable } from './objects/handles.ts'
import type { Inode } from './objects/inode.ts'
import { InodeTable } from './objects/inodes.ts'
import { Lookups } from './names/lookups.ts'
import { Metadata } from './files/metadata.ts'
import { GroupChanges, type GroupWalk, type GroupWish } from './ownership/group-changes.ts'
import { TreeWalk, type TreeObject } from './ownership/tree-walk.ts'
import { OpenFiles } from './files/open-files.ts'
import type {
  Caller, Created, Entry, FileData, FilesystemOperations, HandleId, Invalidator, ListingSink, NoEntry, NodeAttributes,
  Nodeid, NodeToMake, Opened, OpenFlags, RenameFlags, StatfsAnswer, Unsaved, Waiting
} from './operations.ts'
import { stillWaiting } from './operations.ts'
import { defaultOptions, type FilesystemOptions } from './options.ts'
import { Removals } from './names/removals.ts'
import { SillyRename } from './names/silly-rename.ts'
import { Shedding } from './beliefs/shedding.ts'
import { SearchRights } from './beliefs/search.ts'
import { SpecialFiles } from './beliefs/special-files.ts'
import { SoloWriter } from './beliefs/solo-writer.ts'
import { SoftRevalidation } from './beliefs/soft-revalidation.ts'
import type { State } from './objects/state.ts'
import { Writeback } from './written/writeback.ts'

export interface FilesystemParts {
  readonly backend: Backend
  readonly state: State
  readonly arena: Arena
  readonly invalidator: Invalidator
  readonly options: Partial<FilesystemOptions>
  readonly clock: Clock
  /** Told of each object that was a solo writer's until somebody else changed it. */
  readonly onShared?: (path: string) => void
}

/** Numbers for metrics. */
export interface FilesystemGauges {
  readonly inodes: number
  readonly handles: number
  readonly names: number
  readonly dirtyBytes: number
  /** Answers of ACCESS that are remembered. */
  readonly accessAnswers: number
  /** Places and pages of listings. */
  readonly listingBytes: number
  readonly waitingWriters: number
  /** 1 while answers come from last known values. */
  readonly silent: number
  /** 1 with consistency=solowriter. */
  readonly soloWriter: number
}

export class Filesystem implements FilesystemOperations {
  readonly #core: Core
  readonly #shedding: Shedding
  readonly #gate: BackendGate
  readonly #lookups: Lookups
  readonly #metadata: Metadata
  readonly #creations: Creations
  readonly #removals: Removals
  readonly #silly: SillyRename
  readonly #files: OpenFiles

  constructor (parts: FilesystemParts) {
    this.#gate = new BackendGate(parts.backend)
    this.#core = makeCore(parts, this.#gate)
    this.#shedding = new Shedding({
      inodes: this.#core.inodes, invalidator: parts.invalidator, max: this.#core.options.knownInodesMax
    })
    this.#lookups = new Lookups(this.#core)
    this.#metadata = new Metadata(this.#core)
    this.#creations = new Creations(this.#core, this.#lookups)
    this.#silly = new SillyRename(this.#core)
    this.#removals = new Removals(this.#core, this.#lookups, this.#silly)
    this.#files = new OpenFiles(this.#core, {
      lookups: this.#lookups, creations: this.#creations, metadata: this.#metadata, silly: this.#silly
    })
  }

  gauges (): FilesystemGauges {
    const { access, handles, inodes, listings, names, soft, writeback } = this.#core
    return {
      inodes: inodes.size,
      handles: handles.size,
      names: names.size,
      dirtyBytes: writeback.heldBytes,
      accessAnswers: access.answers,
      listingBytes: listings.bytes,
      waitingWriters: writeback.waiting,
      silent: soft.isSilent ? 1 : 0,
      soloWriter: this.#core.solo === undefined ? 0 : 1
    }
  }

  /** What an operator should know about this file system though it works. */
  notes (): readonly string[] {
    return this.#core.search.isStrict
      ? [
        'the server keeps users out of folders whose mode lets everybody in (an ACL): each step of a path is judged, which costs time'
      ]
      : []
  }

  counters (): Record<string, number> {
    return this.#core.solo === undefined ? {} : { soloWriterEnded: this.#core.solo.ended }
  }

  lookup (parent: Nodeid, name: FileName, caller: Caller): MaybePromise<Entry | NoEntry | Errno> {
    return this.#lookups.lookup(parent, name, caller)
  }
  remember (nodeid: Nodeid, count: number): void {
    this.#core.inodes.remember(nodeid, count)
    this.#shedding.look()
  }

  acknowledge ({ nodeid, attributes }: NodeAttributes): void {
    const { inodes, invalidator } = this.#core
    const inode = inodes.get(nodeid)
    // A notice on its way makes the kernel throw away what it was asked for before (kernel fs/fuse/inode.c:
    // attr_version).
    if (inode !== undefined && invalidator.isHeard(nodeid)) this.#core.attributes.acknowledge(inode, attributes)
  }
  forget (nodeid: Nodeid, count: number): void { this.#core.inodes.forget(nodeid, count) }

  getattr (nodeid: Nodeid, handle: HandleId | undefined, caller: Caller): MaybePromise<NodeAttributes | Errno> {
    return this.#metadata.getattr(nodeid, handle === undefined ? undefined : this.#core.handles.get(handle), caller)
  }

  setattr (
    nodeid: Nodeid,
    handle: HandleId | undefined,
    changes: AttributeChanges,
    caller: Caller
  ): MaybePromise<NodeAttributes | Errno> {
    return this.#metadata.setattr(
      nodeid,
      handle === undefined ? undefined : this.#core.handles.get(handle),
      changes,
      caller
    )
  }

  readlink (nodeid: Nodeid, caller: Caller): MaybePromise<Buffer | Errno> {
    return this.#metadata.readlink(nodeid, caller)
  }
  access (nodeid: Nodeid, mask: number, caller: Caller): MaybePromise<undefined | Errno> {
    return this.#metadata.access(nodeid, mask, caller)
  }
  statfs (nodeid: Nodeid, caller: Caller): MaybePromise<StatfsAnswer | Errno> {
    return this.#metadata.statfs(nodeid, caller)
  }

  symlink (parent: Nodeid, name: FileName, target: string, caller: Caller): MaybePromise<Entry | Errno> {
    return this.#creations.symlink(parent, name, target, caller)
  }
  mknod (
    parent: Nodeid,
    name: FileName,
    node: NodeToMake,
    caller: Caller
  ): MaybePromise<Entry | Errno> {
    return this.#creations.mknod(parent, name, node, caller)
  }

  mkdir (parent: Nodeid, name: FileName, mode: number, caller: Caller): MaybePromise<Entry | Errno> {
    return this.#creations.mkdir(parent, name, mode, caller)
  }
  link (nodeid: Nodeid, newParent: Nodeid, newName: FileName, caller: Caller): MaybePromise<Entry | Errno> {
    return this.#creations.link(nodeid, newParent, newName, caller)
  }

  unlink (parent: Nodeid, name: FileName, caller: Caller): MaybePromise<undefined | Errno> {
    return this.#removals.unlink(parent, name, caller)
  }
  rmdir (parent: Nodeid, name: FileName, caller: Caller): MaybePromise<undefined | Errno> {
    return this.#removals.rmdir(parent, name, caller)
  }
  rename (
    parent: Nodeid,
    name: FileName,
    newParent: Nodeid,
    newName: FileName,
    flags: RenameFlags,
    caller: Caller
  ): MaybePromise<undefined | Errno> {
    return this.#removals.rename(parent, name, newParent, newName, flags, caller)
  }

  open (nodeid: Nodeid, flags: OpenFlags, caller: Caller): MaybePromise<Opened | Errno> {
    return this.#files.open(nodeid, flags, caller)
  }
  create (
    parent: Nodeid,
    name: FileName,
    mode: number,
    exclusive: boolean,
    flags: OpenFlags,
    caller: Caller
  ): MaybePromise<Created | Errno> {
    return this.#files.create(parent, name, mode, exclusive, flags, caller)
  }

  read (handle: HandleId, offsetBytes: number, countBytes: number): MaybePromise<FileData | Errno> {
    return this.#files.read(handle, offsetBytes, countBytes)
  }
  write (
    handle: HandleId,
    offsetBytes: number,
    data: Buffer,
    fromPageCache: boolean
  ): MaybePromise<{ readonly bytes: number } | Errno> {
    return this.#files.write(handle, offsetBytes, data, fromPageCache)
  }

  flush (handle: HandleId, _caller: Caller): MaybePromise<undefined | Errno> { return this.#files.flush(handle) }
  fsync (handle: HandleId): MaybePromise<undefined | Errno> { return this.#files.fsync(handle) }
  failureTold (handle: HandleId): void { this.#files.failureTold(handle) }
  release (handle: HandleId): MaybePromise<void> { return this.#files.release(handle) }
  opendir (nodeid: Nodeid, caller: Caller): MaybePromise<Opened | Errno> { return this.#files.opendir(nodeid, caller) }
  readdir (
    handle: HandleId,
    offset: number,
    plus: boolean,
    sink: ListingSink,
    reader: Waiting = stillWaiting
  ): MaybePromise<undefined | Errno> {
    return this.#files.readdir(handle, offset, plus, sink, reader)
  }

  /** Names are on stable storage when a server answers (RFC 1813 section 3.3.8 ff.): nothing is left to do. */
  fsyncdir (handle: HandleId): MaybePromise<undefined | Errno> {
    return this.#core.handles.get(handle) === undefined ? Errno.EBADF : undefined
  }
  neverOpened (handle: HandleId): MaybePromise<void> { return this.#files.neverOpened(handle) }
  releasedir (handle: HandleId): void { void this.#files.release(handle) }

  /** Begins to give all that is below `root`, which is this volume's, to a group; the root itself is left as it is. */
  giveTree (root: Omit<TreeObject, 'name'>, wish: GroupWish, credential: Credential): GroupWalk {
    const changes = new GroupChanges(this.#core, (...args) => this.#metadata.change(...args))
    const walk = new TreeWalk(root, {
      backend: this.#gate, credential, limits: groupWalkLimits, except: wish.except,
      visit: (object) => changes.give(object, wish, credential)
    })
    return {
      ended: walk.ended,
      progress: () => ({ ...walk.counts, changed: changes.changed, firstRefusal: walk.firstRefusal }),
      stop: () => { walk.stop() }
    }
  }

  async drain (deadlineMs: number): Promise<Unsaved> {
    const { clock, writeback } = this.#core
    let cancel = (): void => undefined
    const late = new Promise<void>((resolve) => { cancel = clock.after(deadlineMs, resolve) })
    await Promise.race([this.#finish(), late])
    cancel()
    // From here on nothing is sent: another node may own the volume as soon as this has been answered.
    this.#gate.shut()
    return writeback.close()
  }

  /** What the server must still be told: written bytes, and removed files that somebody kept open. */
  async #finish (): Promise<void> {
    await this.#core.writeback.settleAll()
    const hidden = [...this.#core.inodes.all()].filter((inode) => inode.silly !== undefined)
    await Promise.all(hidden.map((inode) => this.#silly.remove(inode, true)))
  }
}

function makeCore (parts: FilesystemParts, backend: BackendGate): Core {
  const { arena, clock, invalidator, state } = parts
  const options: FilesystemOptions = { ...defaultOptions, ...parts.options }
  const inodes = new InodeTable({
    state, clock, idleMax: options.idleInodesMax
  })
  const names = new NameCache({ max: options.namesMax, inodes, invalidator })
  const solo = options.soloWriter
    ? new SoloWriter({ inodes, invalidator, onShared: parts.onShared ?? (() => undefined) })
    : undefined
  const attributes = new AttributeCache({
    clock,
    options,
    backend,
    onForeignChange: (inode, isGuess) => {
      noteForeignChange(inode, isGuess, names, invalidator)
      solo?.end(inode)
    },
    onClosedToSome: (directory) => { search.closed(directory) },
    onOtherFsid: () => { inodes.numbers.distrust() }
  })
  const access = new AccessCache({ clock, backend, attributes, answersMax: options.accessAnswersMax })
  const search = new SearchRights({ access, names, invalidator, clock, kernelChecks: options.kernelChecks })
  const special = new SpecialFiles({ access, inodes, kernelChecks: options.kernelChecks })
  const writeback = new Writeback({
    backend, attributes, invalidator, state, arena, clock, options, onEmpty: (inode) => { inodes.release(inode) },
    onRefused: (inode) => { solo?.distrust(inode) }
  })
  inodes.onForgotten = (inode) => {
    names.clear(inode)
    access.forget(inode)
    inode.listed?.close()
  }
  const root = inodes.addRoot(backend.root.handle, backend.root.attributes)
  attributes.apply(root, backend.root.attributes, attributes.stamp())
  return {
    backend, state, clock, options, invalidator, inodes, attributes, names, access, search, special, writeback,
    handles: new HandleTable(state),
    listings: new Budget(options.listingsBytesMax),
    solo,
    soft: new SoftRevalidation({ clock, backend, afterMs: options.softRevalMs })
  }
}

/** Somebody else changed it: what the kernel holds of it must go. */
function noteForeignChange (inode: Inode, isGuess: boolean, names: NameCache, invalidator: Invalidator): void {
  if (inode.kind === 'directory') names.clearForeign(inode, isGuess)
  if (!inode.cached.hasPages) return
  for (const nodeid of [inode.nodeid, ...inode.formerNodeids]) invalidator.inode(nodeid, 0, -1)
  // With somebody reading, pages come back at once; without, there are none until the next open.
  if (inode.opens === 0) inode.cached.hasPages = false
}
