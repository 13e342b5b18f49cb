/**
 * Open files and folders: open, create, read, write, flush, fsync, release, opendir, readdir. Owns close-to-open: OPEN
 * asks the server, close(2) answers when everything is safe. Does not know how bytes travel (writeback.ts, reads.ts) or
 * how a folder is listed.
 */
import type { FileName } from '../../base/brands.ts'
import { Errno, isErrno } from '../../base/errno.ts'
import type { MaybePromise } from '../../base/maybe-promise.ts'
import { Access, type Credential, type OpenState } from '../backend.ts'
import type { Core } from '../core.ts'
import type { Creations } from '../names/creations.ts'
import { FolderListing } from '../names/directories.ts'
import { beginRun, endRun, gainsRights } from '../beliefs/set-id.ts'
import { EarlyReads, mayJudge } from './early-reads.ts'
import { errorsSeenAtOpen, noteTold, takeError } from '../written/file-errors.ts'
import { directoryFlags, type EarlyRead, type OpenHandle } from '../objects/handles.ts'
import type { Inode } from '../objects/inode.ts'
import type { Lookups } from '../names/lookups.ts'
import type { Metadata } from './metadata.ts'
import type {
  Caller,
  Created,
  Entry,
  FileData,
  HandleId,
  ListingSink,
  Nodeid,
  Opened,
  OpenFlags,
  Waiting
} from '../operations.ts'
import { FileReader } from './reads.ts'
import { SentBack } from './sent-back.ts'
import type { SillyRename } from '../names/silly-rename.ts'

/** inode(7) */
const OWNER_READ = 0o400
/** A notice waits for pages that a READ holds, and so for the server. */
const heardMs = 1_000

/** What an open brings with it; a caller who has looked the name up again for it is let in. */
interface Opening { readonly nodeid: Nodeid, readonly flags: OpenFlags, readonly mayBeSentBack: boolean }

export class OpenFiles {
  readonly #core: Core
  readonly #lookups: Lookups
  readonly #creations: Creations
  readonly #metadata: Metadata
  readonly #silly: SillyRename
  readonly #reader: FileReader
  readonly #early: EarlyReads
  readonly #sentBack: SentBack

  constructor (core: Core, parts: { lookups: Lookups, creations: Creations, metadata: Metadata, silly: SillyRename }) {
    this.#core = core
    this.#lookups = parts.lookups
    this.#creations = parts.creations
    this.#metadata = parts.metadata
    this.#silly = parts.silly
    this.#early = new EarlyReads(core)
    this.#sentBack = new SentBack(core.clock)
    this.#reader = new FileReader({
      backend: core.backend, attributes: core.attributes, writeback: core.writeback, early: this.#early
    })
  }

  open (nodeid: Nodeid, flags: OpenFlags, caller: Caller): MaybePromise<Opened | Errno> {
    const opened = this.#attempt(nodeid, flags, caller, !this.#sentBack.takeBack(caller.pid))
    return opened instanceof Promise
      ? opened.then((answer) => this.#noted(answer, caller))
      : this.#noted(opened, caller)
  }

  #attempt (nodeid: Nodeid, flags: OpenFlags, caller: Caller, mayBeSentBack: boolean): MaybePromise<Opened | Errno> {
    const inode = this.#core.inodes.get(nodeid)
    if (inode === undefined) return Errno.ESTALE
    if (inode.kind === 'directory' && flags.write) return Errno.EISDIR
    // The kernel opens these itself, unless it was shown a guise, because the caller may not.
    if (inode.kind !== 'file' && inode.kind !== 'directory') return Errno.EACCES
    return this.#opening(inode, () => this.#open(inode, { nodeid, flags, mayBeSentBack }, caller))
  }

  #noted<T> (answer: T | Errno, caller: Caller): T | Errno {
    if (answer === Errno.ESTALE) this.#sentBack.note(caller.pid)
    return answer
  }

  async create (
    parent: Nodeid,
    name: FileName,
    mode: number,
    exclusive: boolean,
    flags: OpenFlags,
    caller: Caller
  ): Promise<Created | Errno> {
    const made = await this.#creations.create(
      parent,
      name,
      mode,
      { kind: exclusive ? 'exclusive' : 'unchecked' },
      caller
    )
    // Something that is no file has got the name since the kernel looked. After ESTALE it looks again, and follows a
    // link or says EISDIR.
    if (isErrno(made)) return this.#noted(made === Errno.EEXIST && !exclusive ? Errno.ESTALE : made, caller)
    const { inode, entry } = made
    const opened = await this.#opening(inode, async () => {
      if (!exclusive && !looksNew(entry, mode | (this.#core.options.mountGroup === undefined ? 0 : 0o060))) {
        // Somebody else made it first: then this is an open like any other, and the server decides.
        const refused = await this.#core.access.ask(inode, accessWanted(flags), caller.credential)
        if (refused !== undefined) return refused
        const failure = flags.truncate
          ? await this.#metadata.change(inode, { sizeBytes: 0 }, caller.credential)
          : undefined
        if (failure !== undefined) return failure
      }
      // The creator may use its descriptor whatever the mode says: nobody asks ACCESS.
      return this.#grant(inode, {
        nodeid: inode.nodeid, flags, isBlind: flags.write && !flags.read && (mode & OWNER_READ) === 0
      }, caller.credential)
    })
    if (isErrno(opened)) return opened
    return { entry: { ...entry, ...this.#core.attributes.present(inode) }, opened }
  }

  opendir (nodeid: Nodeid, caller: Caller): Promise<Opened | Errno> | Errno {
    const { access, inodes, options } = this.#core
    const inode = inodes.get(nodeid)
    if (inode === undefined) return Errno.ESTALE
    if (inode.kind !== 'directory') return Errno.ENOTDIR
    return this.#opening(inode, async () => {
      const known = options.cto ? 'unknown' : access.known(inode, Access.read, caller.credential)
      const refused = known === 'unknown' ? await access.ask(inode, Access.read, caller.credential) : known
      return refused ?? this.#grant(inode, { nodeid, flags: directoryFlags, isBlind: false }, caller.credential)
    })
  }

  read (id: HandleId, offset: number, count: number): MaybePromise<FileData | Errno> {
    const handle = this.#core.handles.get(id)
    if (handle === undefined) return Errno.EBADF
    if (handle.inode.kind === 'directory') return Errno.EISDIR
    return this.#reader.read(handle, offset, count)
  }

  write (
    id: HandleId,
    kernelOffset: number,
    data: Buffer,
    fromPageCache: boolean
  ): MaybePromise<{ readonly bytes: number } | Errno> {
    const { backend, handles, options, writeback } = this.#core
    const handle = handles.get(id)
    // A page written back by the kernel comes with any handle of the file; it was let in when it was dirtied.
    if (handle === undefined || (!handle.flags.write && !fromPageCache)) return Errno.EBADF
    if (backend.isClosed) return Errno.EIO
    // Not to a page: the kernel would throw away good bytes to tell of others. The descriptor hears of it at its fsync
    // and close.
    const error = fromPageCache ? undefined : takeError(handle.inode, handle)
    if (error !== undefined) return error
    const offset = handle.flags.append && !fromPageCache ? this.#appendAt(handle, kernelOffset) : kernelOffset
    if (offset + data.length > backend.capabilities.fileBytesMax) {
      if (fromPageCache) this.#core.solo?.distrust(handle.inode)
      return Errno.EFBIG
    }
    if (!fromPageCache && !writeback.mayWait(handle.inode, data.length)) return Errno.ENOMEM
    const isSynchronous = handle.flags.sync || options.noac
    const bytes = data.length
    this.#showOthers(handle, offset, bytes)
    const taken = writeback.write(handle.inode, handle.open, offset, data)
    if (taken === undefined && !isSynchronous) return { bytes }
    return this.#finishWrite(handle, taken, bytes, isSynchronous)
  }

  /**
   * The kernel appends at the size it has, which may be older than ours when another node has written: then it must not
   * land in the middle of foreign bytes. What the kernel keeps of it at the wrong place is called back.
   */
  #appendAt ({ inode, nodeid }: OpenHandle, kernelOffset: number): number {
    const { cached, file } = inode
    const end = Math.max(cached.attributes?.sizeBytes ?? 0, file?.endBytes ?? 0)
    if (!cached.isShared || kernelOffset >= end) return kernelOffset
    this.#core.invalidator.inode(nodeid, kernelOffset, -1)
    return end
  }

  /** close(2), and every other end of a descriptor. A reader's close has nothing to wait for. */
  flush (id: HandleId): MaybePromise<undefined | Errno> {
    const handle = this.#core.handles.get(id)
    if (handle === undefined) return Errno.EBADF
    return handle.flags.write ? this.#save(handle) : undefined
  }

  fsync (id: HandleId): MaybePromise<undefined | Errno> {
    const handle = this.#core.handles.get(id)
    return handle === undefined ? Errno.EBADF : this.#save(handle)
  }

  failureTold (id: HandleId): void {
    const handle = this.#core.handles.get(id)
    if (handle !== undefined) noteTold(handle.inode, handle)
  }

  release (id: HandleId): MaybePromise<void> {
    const { backend, handles, inodes } = this.#core
    const handle = handles.get(id)
    if (handle === undefined) return
    handles.delete(handle)
    if (handle.early !== undefined) this.#early.drop(handle.early)
    handle.listing?.close()
    const { inode } = handle
    inode.opens -= 1
    if (handle.flags.execute) endRun(inode)
    const isQuick = inode.file === undefined || inode.file.isEmpty
    if (isQuick && (inode.silly === undefined || inode.opens > 0)) {
      inodes.release(inode)
      return backend.close(handle.open)
    }
    return this.#releaseLate(handle)
  }

  /** The kernel was told to drop its pages, or not to, and did not hear it: the next open says it again. */
  neverOpened (id: HandleId): MaybePromise<void> {
    const handle = this.#core.handles.get(id)
    if (handle !== undefined) handle.inode.cached.pagesToken = undefined
    return this.release(id)
  }

  readdir (
    id: HandleId,
    offset: number,
    plus: boolean,
    sink: ListingSink,
    reader: Waiting
  ): Promise<undefined | Errno> | Errno {
    const handle = this.#core.handles.get(id)
    if (handle === undefined) return Errno.EBADF
    if (handle.inode.kind !== 'directory') return Errno.ENOTDIR
    handle.listing ??= new FolderListing(this.#core, this.#lookups, handle)
    return handle.listing.read(offset, plus, sink, reader)
  }

  /** Counts as open while it is being opened: an unlink at this moment must not take the data away. */
  async #opening (inode: Inode, open: () => Promise<Opened | Errno>): Promise<Opened | Errno> {
    while (inode.taking !== undefined) await inode.taking
    inode.opens += 1
    const opened = await open()
    if (!isErrno(opened)) return opened
    inode.opens -= 1
    if (inode.opens === 0 && inode.silly !== undefined) await this.#silly.remove(inode)
    this.#core.inodes.release(inode)
    return opened
  }

  async #open (inode: Inode, how: Opening, caller: Caller): Promise<Opened | Errno> {
    const { access, attributes, options } = this.#core
    const { credential } = caller
    const wanted = accessWanted(how.flags)
    const isBelieved = !options.cto && !(options.soloWriter && inode.cached.isShared)
    const known = isBelieved && attributes.isFresh(inode) ? access.known(inode, wanted, credential) : 'unknown'
    if (known !== 'unknown') return known ?? await this.#admit(inode, how, caller)
    const early = this.#early.begin(inode, how.flags, credential)
    const refused = early !== undefined && mayJudge(early)
      ? await this.#judgedBy(early, wanted, credential)
      : await access.ask(inode, wanted, credential)
    const opened = refused ?? await this.#admit(inode, how, caller)
    if (early === undefined) return opened
    const handle = isErrno(opened) ? undefined : this.#core.handles.get(opened.handle)
    if (handle === undefined) this.#early.drop(early)
    else handle.early = early
    return opened
  }

  /** A READ that succeeds is the server's permission. Whatever else it answers, ACCESS says what that means. */
  async #judgedBy (early: EarlyRead, wanted: number, credential: Credential): Promise<Errno | undefined> {
    const { access } = this.#core
    await early.arrived
    if (!early.isGranted) return access.ask(early.inode, wanted, credential)
    access.grant(early.inode, wanted, credential)
    return undefined
  }

  /** The server has let the caller in. */
  async #admit (inode: Inode, how: Opening, caller: Caller): Promise<Opened | Errno> {
    const { options } = this.#core
    const { credential } = caller
    const { nodeid, flags } = how
    if (how.mayBeSentBack && mustLookAgain(inode, nodeid)) {
      await this.#whenHeard(nodeid)
      return Errno.ESTALE
    }
    if (flags.truncate) {
      const failure = await this.#metadata.change(inode, { sizeBytes: 0 }, credential)
      if (failure !== undefined) return failure
    }
    const isBlind = options.soloWriter && flags.write && !flags.read && await this.#mayNotRead(inode, credential)
    return this.#grant(inode, { nodeid, flags, isBlind }, credential)
  }

  /**
   * What the kernel looks up next is thrown away if a notice about the inode comes in between, and it would go on with
   * the old size.
   */
  async #whenHeard (nodeid: Nodeid): Promise<void> {
    const { clock, invalidator } = this.#core
    if (invalidator.isHeard(nodeid)) return
    let cancel = (): void => undefined
    const late = new Promise<void>((resolve) => { cancel = clock.after(heardMs, resolve) })
    await Promise.race([invalidator.whenHeard(nodeid), late])
    cancel()
  }

  /** A kernel with a write-back cache reads the rest of a page that is written in part, with the writer's
   * descriptor. */
  async #mayNotRead (inode: Inode, credential: Credential): Promise<boolean> {
    const { access } = this.#core
    const known = access.known(inode, Access.read, credential)
    return (known === 'unknown' ? await access.ask(inode, Access.read, credential) : known) !== undefined
  }

  /** `isBlind`: the opener may write and not read. */
  async #grant (
    inode: Inode,
    { nodeid, flags, isBlind }: { nodeid: Nodeid, flags: OpenFlags, isBlind: boolean },
    credential: Credential
  ): Promise<Opened | Errno> {
    const { backend, handles, options } = this.#core
    if (handles.size >= options.openHandlesMax) return Errno.ENFILE
    const opening = inode.kind === 'directory'
      ? { handle: inode.handle, credential }
      : backend.open(inode.handle, credential, { read: flags.read || flags.execute, write: flags.write })
    const open: OpenState | Errno = opening instanceof Promise ? await opening : opening
    if (isErrno(open)) return open
    if (flags.execute && options.nosuid && gainsRights(inode, credential)) {
      await backend.close(open)
      return Errno.EACCES
    }
    if (flags.execute) beginRun(inode)
    const cached = inode.cached
    const token = cached.own === undefined ? cached.attributes?.change : undefined
    const keepCache = token !== undefined && cached.pagesToken === token
    cached.pagesToken = token
    cached.hasPages = true
    const handle = handles.add({ inode, nodeid, open, flags, errorsSeen: errorsSeenAtOpen(inode) })
    // A whole page would be written back over the bytes that another node has put into it meanwhile.
    const bypassesCache = options.soloWriter && flags.write && (isBlind || cached.isShared)
    return { handle: handle.id, keepCache, ...bypassesCache ? { bypassesCache } : undefined }
  }

  /** The kernel keeps pages per number: under the other ones they are older now. */
  #showOthers ({ inode, nodeid }: OpenHandle, offset: number, bytes: number): void {
    if (inode.formerNodeids.length === 0) return
    for (const other of [inode.nodeid, ...inode.formerNodeids]) {
      if (other !== nodeid) this.#core.invalidator.inode(other, offset, bytes)
    }
  }

  async #finishWrite (
    handle: OpenHandle,
    taken: undefined | Promise<boolean>,
    bytes: number,
    isSynchronous: boolean
  ): Promise<{ readonly bytes: number } | Errno> {
    if (taken !== undefined && !await taken) return Errno.EIO
    if (!isSynchronous) return { bytes }
    const failure = await this.#save(handle)
    return failure ?? { bytes }
  }

  #save (handle: OpenHandle): MaybePromise<undefined | Errno> {
    const { inode } = handle
    if (inode.file === undefined || inode.file.isEmpty) return takeError(inode, handle)
    return this.#saveLate(handle, inode.file)
  }

  async #saveLate (
    handle: OpenHandle,
    file: { settle (): Promise<void>, readonly isEmpty: boolean }
  ): Promise<undefined | Errno> {
    await file.settle()
    const error = takeError(handle.inode, handle)
    if (error !== undefined) return error
    // The session ended while bytes were waiting: nobody may be told that they are safe.
    return this.#core.backend.isClosed && !file.isEmpty ? Errno.EIO : undefined
  }

  async #releaseLate (handle: OpenHandle): Promise<void> {
    const { backend, inodes } = this.#core
    const { inode } = handle
    if (inode.silly !== undefined && inode.opens === 0) await this.#silly.remove(inode)
    else await inode.file?.settle()
    await backend.close(handle.open)
    inodes.release(inode)
  }
}

/**
 * The answer to OPEN has no attributes, and the kernel would go on with the size it has: an append would land in the
 * middle of what another node wrote, a read would end too early. A notice would come too late and does not change the
 * size. After ESTALE the kernel looks the name up again, which brings the attributes; then it opens again. The same for
 * whoever comes with an old number.
 */
const mustLookAgain = ({ cached, kind, nodeid: present }: Inode, nodeid: Nodeid): boolean =>
  kind === 'file' && (cached.isNewsToKernel || present !== nodeid)

/** The ACCESS bits that open(2) needs. The kernel's client asks for both bits of writing too (fs/nfs/dir.c,
 * nfs_access_calc_mask). */
function accessWanted (flags: OpenFlags): number {
  return (flags.execute ? Access.execute : 0) | (flags.read && !flags.execute ? Access.read : 0) |
    (flags.write || flags.truncate ? Access.modify | Access.extend : 0)
}

/** An UNCHECKED create does not say whether it made the file. One with other permissions or with data was there
 * before. */
function looksNew (entry: Entry, mode: number): boolean {
  const { attributes } = entry
  return attributes.sizeBytes === 0 && attributes.nlink === 1 && (attributes.mode & 0o777) === (mode & 0o777)
}
