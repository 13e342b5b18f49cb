/**
 * A file system in memory behind `FilesystemOperations`, for tests and benchmarks of the FUSE side.
 *
 * Owns a small POSIX: enough for every operation to do what its name says. Counts what the kernel holds (lookups,
 * handles), and can be told to keep calls waiting (`gate`). Knows no caches, no NFS, no device.
 */
import { toFileName } from '../../agent/base/brands.ts'
import type { FileName } from '../../agent/base/brands.ts'
import { Errno } from '../../agent/base/errno.ts'
import type { MaybePromise } from '../../agent/base/maybe-promise.ts'
import type { AttributeChanges, Attributes, ChangeToken, FileKind } from '../../agent/fs/backend.ts'
import { rootNodeid } from '../../agent/fs/operations.ts'
import type {
  Caller,
  Created,
  Entry,
  FileData,
  FilesystemOperations,
  HandleId,
  ListingSink,
  NodeAttributes,
  NoEntry,
  Nodeid,
  Opened,
  OpenFlags,
  StatfsAnswer,
  Unsaved,
  RenameFlags
} from '../../agent/fs/operations.ts'

const second = 1_000_000_000n
const nowNanoseconds = (): bigint => BigInt(Date.now()) * 1_000_000n

interface Inode {
  readonly nodeid: Nodeid
  readonly kind: FileKind
  mode: number
  uid: number
  gid: number
  nlink: number
  data: Buffer
  sizeBytes: number
  target: string
  major: number
  minor: number
  parent: Inode | undefined
  readonly entries: Map<FileName, Inode>
  /** Nanoseconds since 1970, as all times here. */
  atime: bigint
  mtime: bigint
  ctime: bigint
  change: bigint
}

export interface MemoryOptions {
  /** Applied to entries and attributes; 0 makes the kernel ask every time. */
  readonly ttlMs?: number
  /** How long a missing name may be believed; undefined answers ENOENT, which is never cached. */
  readonly negativeTtlMs?: number
  readonly keepCache?: boolean
  /** What close(2) fails with. */
  readonly flushErrno?: Errno
}

/** Calls that wait until the test says so. */
export type GatedCall = 'lookup' | 'getattr' | 'open' | 'read' | 'write' | 'create' | 'fsync' | 'flush'

export class MemoryFilesystem implements FilesystemOperations {
  /** References the kernel holds, by inode. Empty after an unmount. */
  readonly remembered = new Map<Nodeid, number>()
  /** Objects whose attributes the kernel took, in order. */
  readonly acknowledged: Nodeid[] = []
  /** Open files whose failures the kernel took. */
  readonly told: HandleId[] = []
  readonly handles = new Map<HandleId, Inode>()
  readonly calls: string[] = []
  readonly callers: Caller[] = []
  readonly lastFlags: OpenFlags[] = []
  /** Data handed out and not yet given back. */
  unreleasedReads = 0
  options: MemoryOptions
  readonly root: Inode
  readonly #inodes = new Map<Nodeid, Inode>()
  readonly #gates = new Map<GatedCall, Promise<void>>()
  #nextNodeid = rootNodeid
  #nextHandle = 1

  constructor (options: MemoryOptions = {}) {
    this.options = options
    this.root = this.#make('directory', 0o755, undefined, { uid: 0, gid: 0 })
  }

  /** Keeps calls of this kind waiting until the returned function is called. */
  gate (call: GatedCall): () => void {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#gates.set(call, promise)
    return () => {
      this.#gates.delete(call)
      resolve()
    }
  }

  /** A file made behind the kernel's back. */
  plant (name: string, data: Buffer, parent = this.root): Inode {
    const inode = this.#make('file', 0o644, parent, { uid: 0, gid: 0 })
    inode.data = data
    inode.sizeBytes = data.length
    this.#attach(parent, toFileName(name), inode)
    return inode
  }

  /** A name taken away behind the kernel's back. */
  uproot (name: string, parent = this.root): void {
    parent.entries.delete(toFileName(name))
    this.#touch(parent)
  }

  overwrite (inode: Inode, data: Buffer): void {
    inode.data = data
    inode.sizeBytes = data.length
    this.#touch(inode)
  }

  #make (
    kind: FileKind,
    mode: number,
    parent: Inode | undefined,
    owner: { readonly uid: number, readonly gid: number }
  ): Inode {
    const now = nowNanoseconds()
    const inode: Inode = {
      nodeid: this.#nextNodeid++,
      kind,
      mode,
      uid: owner.uid,
      gid: owner.gid,
      nlink: kind === 'directory' ? 2 : 0,
      data: Buffer.alloc(0),
      sizeBytes: 0,
      target: '',
      major: 0,
      minor: 0,
      parent,
      entries: new Map(),
      atime: now,
      mtime: now,
      ctime: now,
      change: 0n
    }
    this.#inodes.set(inode.nodeid, inode)
    return inode
  }

  #attach (parent: Inode, name: FileName, inode: Inode): void {
    parent.entries.set(name, inode)
    if (inode.kind !== 'directory') inode.nlink++
    else parent.nlink++
    this.#touch(parent)
    inode.ctime = nowNanoseconds()
  }

  #touch (inode: Inode): void {
    inode.mtime = inode.ctime = nowNanoseconds()
    inode.change++
  }

  #attributes (inode: Inode): Attributes {
    const nanoseconds = (time: bigint): number => Number((time % second + second) % second)
    const seconds = (time: bigint): number => Number((time - BigInt(nanoseconds(time))) / second)
    return {
      kind: inode.kind,
      mode: inode.mode,
      nlink: inode.nlink,
      uid: inode.uid,
      gid: inode.gid,
      sizeBytes: inode.kind === 'symlink' ? inode.target.length : inode.sizeBytes,
      usedBytes: inode.sizeBytes,
      rdevMajor: inode.major,
      rdevMinor: inode.minor,
      fsid: 7n,
      fileid: BigInt(inode.nodeid) + 1000n,
      atimeSeconds: seconds(inode.atime),
      atimeNanoseconds: nanoseconds(inode.atime),
      mtimeSeconds: seconds(inode.mtime),
      mtimeNanoseconds: nanoseconds(inode.mtime),
      ctimeSeconds: seconds(inode.ctime),
      ctimeNanoseconds: nanoseconds(inode.ctime),
      change: inode.change as ChangeToken
    }
  }

  #entry (inode: Inode): Entry {
    const ttl = this.options.ttlMs ?? 0
    return {
      nodeid: inode.nodeid, generation: 0, attributes: this.#attributes(inode), attributesTtlMs: ttl, entryTtlMs: ttl
    }
  }

  #gated<T> (call: GatedCall, answer: () => T): MaybePromise<T> {
    this.calls.push(call)
    const gate = this.#gates.get(call)
    return gate === undefined ? answer() : gate.then(answer)
  }

  #inode (nodeid: Nodeid): Inode {
    const inode = this.#inodes.get(nodeid)
    if (inode === undefined) throw new Error(`the kernel speaks of inode ${nodeid}, which does not exist`)
    return inode
  }

  /** Makes a new name, or says that it is taken. */
  #add (parent: Nodeid, name: FileName, kind: FileKind, mode: number, caller: Caller): Inode | Errno {
    const folder = this.#inode(parent)
    if (name.length > 255) return Errno.ENAMETOOLONG
    if (folder.entries.has(name)) return Errno.EEXIST
    const inode = this.#make(kind, mode, folder, caller)
    this.#attach(folder, name, inode)
    return inode
  }

  #open (inode: Inode): Opened {
    const handle = this.#nextHandle++
    this.handles.set(handle, inode)
    return { handle, keepCache: this.options.keepCache ?? false }
  }

  lookup (parent: Nodeid, name: FileName, caller: Caller): MaybePromise<Entry | NoEntry | Errno> {
    this.callers.push(caller)
    return this.#gated('lookup', () => {
      const inode = this.#inode(parent).entries.get(name)
      if (inode !== undefined) return this.#entry(inode)
      return this.options.negativeTtlMs === undefined
        ? Errno.ENOENT
        : { nodeid: 0, entryTtlMs: this.options.negativeTtlMs }
    })
  }

  remember (nodeid: Nodeid, count: number): void {
    this.remembered.set(nodeid, (this.remembered.get(nodeid) ?? 0) + count)
  }

  acknowledge ({ nodeid }: NodeAttributes): void { this.acknowledged.push(nodeid) }

  forget (nodeid: Nodeid, count: number): void {
    const left = (this.remembered.get(nodeid) ?? 0) - count
    if (left < 0) throw new Error(`inode ${nodeid} is forgotten ${-left} times too often`)
    if (left === 0) this.remembered.delete(nodeid)
    else this.remembered.set(nodeid, left)
  }

  getattr (nodeid: Nodeid): MaybePromise<NodeAttributes | Errno> {
    return this.#gated('getattr', () => this.#entry(this.#inode(nodeid)))
  }

  setattr (nodeid: Nodeid, _handle: HandleId | undefined, changes: AttributeChanges): NodeAttributes {
    const inode = this.#inode(nodeid)
    inode.mode = changes.mode ?? inode.mode
    inode.uid = changes.uid ?? inode.uid
    inode.gid = changes.gid ?? inode.gid
    if (changes.sizeBytes !== undefined) {
      const data = Buffer.alloc(changes.sizeBytes)
      inode.data.copy(data, 0, 0, Math.min(changes.sizeBytes, inode.sizeBytes))
      this.overwrite(inode, data)
    }
    const nanoseconds = (time: NonNullable<AttributeChanges['atime']>): bigint =>
      time === 'server' ? nowNanoseconds() : BigInt(time.seconds) * second + BigInt(time.nanoseconds)
    if (changes.atime !== undefined) inode.atime = nanoseconds(changes.atime)
    if (changes.mtime !== undefined) inode.mtime = nanoseconds(changes.mtime)
    // As every server: a change of owner takes the set-id bits away.
    if (changes.uid !== undefined || changes.gid !== undefined) inode.mode &= ~0o6000
    inode.ctime = nowNanoseconds()
    return this.#entry(inode)
  }

  readlink (nodeid: Nodeid): Buffer { return Buffer.from(this.#inode(nodeid).target, 'latin1') }

  symlink (parent: Nodeid, name: FileName, target: string, caller: Caller): Entry | Errno {
    const inode = this.#add(parent, name, 'symlink', 0o777, caller)
    if (typeof inode === 'number') return inode
    inode.target = target
    return this.#entry(inode)
  }

  mknod (
    parent: Nodeid,
    name: FileName,
    node: Parameters<FilesystemOperations['mknod']>[2],
    caller: Caller
  ): Entry | Errno {
    const inode = this.#add(parent, name, node.kind, node.mode, caller)
    if (typeof inode === 'number') return inode
    inode.major = node.major
    inode.minor = node.minor
    return this.#entry(inode)
  }

  mkdir (parent: Nodeid, name: FileName, mode: number, caller: Caller): Entry | Errno {
    const inode = this.#add(parent, name, 'directory', mode, caller)
    return typeof inode === 'number' ? inode : this.#entry(inode)
  }

  #remove (parent: Nodeid, name: FileName, isFolder: boolean): undefined | Errno {
    const folder = this.#inode(parent)
    const inode = folder.entries.get(name)
    if (inode === undefined) return Errno.ENOENT
    if (isFolder && inode.kind !== 'directory') return Errno.ENOTDIR
    if (isFolder && inode.entries.size > 0) return Errno.ENOTEMPTY
    if (!isFolder && inode.kind === 'directory') return Errno.EISDIR
    folder.entries.delete(name)
    if (isFolder) folder.nlink--
    else inode.nlink--
    this.#touch(folder)
    return undefined
  }

  unlink (parent: Nodeid, name: FileName): undefined | Errno { return this.#remove(parent, name, false) }
  rmdir (parent: Nodeid, name: FileName): undefined | Errno { return this.#remove(parent, name, true) }

  rename (parent: Nodeid, name: FileName, newParent: Nodeid, newName: FileName, flags: RenameFlags): undefined | Errno {
    const from = this.#inode(parent)
    const to = this.#inode(newParent)
    const inode = from.entries.get(name)
    if (inode === undefined) return Errno.ENOENT
    if (flags.exchange || flags.whiteout) return Errno.EINVAL
    if (flags.noReplace && to.entries.has(newName)) return Errno.EEXIST
    from.entries.delete(name)
    to.entries.set(newName, inode)
    this.#touch(from)
    this.#touch(to)
    return undefined
  }

  link (nodeid: Nodeid, newParent: Nodeid, newName: FileName): Entry | Errno {
    const folder = this.#inode(newParent)
    if (folder.entries.has(newName)) return Errno.EEXIST
    const inode = this.#inode(nodeid)
    this.#attach(folder, newName, inode)
    return this.#entry(inode)
  }

  open (nodeid: Nodeid, flags: OpenFlags): MaybePromise<Opened | Errno> {
    this.lastFlags.push(flags)
    return this.#gated('open', () => {
      const inode = this.#inode(nodeid)
      if (flags.truncate) this.overwrite(inode, Buffer.alloc(0))
      return this.#open(inode)
    })
  }

  create (
    parent: Nodeid,
    name: FileName,
    mode: number,
    exclusive: boolean,
    flags: OpenFlags,
    caller: Caller
  ): MaybePromise<Created | Errno> {
    this.lastFlags.push(flags)
    return this.#gated('create', () => {
      const known = this.#inode(parent).entries.get(name)
      if (known !== undefined && exclusive) return Errno.EEXIST
      const inode = known ?? this.#add(parent, name, 'file', mode, caller)
      if (typeof inode === 'number') return inode
      return { entry: this.#entry(inode), opened: this.#open(inode) }
    })
  }

  read (handle: HandleId, offsetBytes: number, countBytes: number): MaybePromise<FileData | Errno> {
    return this.#gated('read', () => {
      const inode = this.handles.get(handle)
      if (inode === undefined) return Errno.EBADF
      const data = inode.data.subarray(offsetBytes, Math.min(offsetBytes + countBytes, inode.sizeBytes))
      this.unreleasedReads++
      return { parts: data.length === 0 ? [] : [data], bytes: data.length, release: () => { this.unreleasedReads-- } }
    })
  }

  write (handle: HandleId, offsetBytes: number, data: Buffer): MaybePromise<{ readonly bytes: number } | Errno> {
    const inode = this.handles.get(handle)
    if (inode === undefined) return Errno.EBADF
    const end = offsetBytes + data.length
    if (end > inode.data.length) {
      const grown = Buffer.alloc(Math.max(end, 2 * inode.data.length))
      inode.data.copy(grown)
      inode.data = grown
    }
    data.copy(inode.data, offsetBytes)
    inode.sizeBytes = Math.max(inode.sizeBytes, end)
    this.#touch(inode)
    return this.#gated('write', () => ({ bytes: data.length }))
  }

  flush (): MaybePromise<undefined | Errno> { return this.#gated('flush', () => this.options.flushErrno) }
  fsync (): MaybePromise<undefined | Errno> { return this.#gated('fsync', () => undefined) }
  failureTold (handle: HandleId): void { this.told.push(handle) }
  release (handle: HandleId): void { this.handles.delete(handle) }
  neverOpened (handle: HandleId): void { this.handles.delete(handle) }
  opendir (nodeid: Nodeid): Opened { return this.#open(this.#inode(nodeid)) }

  readdir (handle: HandleId, offset: number, plus: boolean, sink: ListingSink): undefined | Errno {
    this.calls.push(plus ? 'readdirplus' : 'readdir')
    const folder = this.handles.get(handle)
    if (folder === undefined) return Errno.EBADF
    const list: (readonly [string, Inode, boolean])[] = [['.', folder, false], ['..', folder.parent ?? folder, false]]
    for (const [name, inode] of folder.entries) list.push([name, inode, true])
    for (let index = offset; index < list.length; index++) {
      const [name, inode, hasEntry] = list[index] ?? ['', folder, false]
      const fits = sink({
        name: toFileName(name),
        fileid: BigInt(inode.nodeid) + 1000n,
        kind: inode.kind,
        nextOffset: index + 1,
        entry: plus && hasEntry ? this.#entry(inode) : undefined
      })
      if (!fits) return undefined
    }
    return undefined
  }

  fsyncdir (): undefined { return undefined }
  releasedir (handle: HandleId): void { this.handles.delete(handle) }

  statfs (): StatfsAnswer {
    return {
      totalBytes: 1n << 40n, freeBytes: 1n << 39n, availableBytes: 1n << 38n, totalFiles: 1000n, freeFiles: 900n,
      availableFiles: 800n, nameBytesMax: 255, blockBytes: 4096
    }
  }

  access (): undefined { return undefined }
  drain (): Promise<Unsaved> {
    return Promise.resolve({ lostBytes: 0, files: [] })
  }
}
