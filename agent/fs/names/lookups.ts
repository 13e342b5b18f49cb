/**
 * From a name to an object. Owns LOOKUP: what the caches answer, what the server is asked, and what a listing brings.
 * Does not know how names are made or removed.
 */
import type { FileName } from '../../base/brands.ts'
import { Errno, isErrno } from '../../base/errno.ts'
import type { MaybePromise } from '../../base/maybe-promise.ts'
import type { Attributes, Credential, DirectoryEntry, Found, RemoteHandle } from '../backend.ts'
import type { Core } from '../core.ts'
import type { Inode } from '../objects/inode.ts'
import { LookupAhead } from './lookup-ahead.ts'
import type { Caller, Entry, NoEntry, Nodeid } from '../operations.ts'

/** What a listing knows about one of its pages. */
interface PageFacts { readonly version: number, readonly sent: number, readonly receivedMs: number }

export class Lookups {
  readonly #core: Core
  readonly #ahead: LookupAhead

  constructor (core: Core) {
    this.#core = core
    this.#ahead = new LookupAhead(core, (directory, listed, page) => this.#noteListed(directory, listed, page))
  }

  lookup (parent: Nodeid, name: FileName, caller: Caller): MaybePromise<Entry | NoEntry | Errno> {
    const { attributes, backend, inodes, options, search, soft } = this.#core
    const directory = inodes.get(parent)
    if (directory === undefined) return Errno.ESTALE
    if (directory.kind !== 'directory') return Errno.ENOTDIR
    if (name.length > backend.capabilities.nameBytesMax) return Errno.ENAMETOOLONG
    if (options.lookupCache !== 'none' && attributes.isFresh(directory)) {
      // Where nobody knows yet whether the caller may walk here, the LOOKUP is the question for that too.
      const verdict = search.known(directory, caller)
      const known = verdict === undefined ? this.#cached(directory, name, caller) : verdict
      if (known !== undefined && known !== 'unknown') return this.#whenClosed(known)
    }
    return soft.or(() => this.#ask(directory, name, caller.credential), () => this.#lastKnown(directory, name, caller))
  }

  /** The inode behind a name, from the caches if they know it, else from the server. */
  async find (directory: Inode, name: FileName, credential: Credential): Promise<Inode | Errno> {
    const { attributes, inodes, names } = this.#core
    const known = names.get(directory, name)
    if (known !== undefined && known !== 0 && attributes.isFresh(directory)) {
      const inode = inodes.get(known)
      if (inode !== undefined && !inode.isStale) return inode
    }
    return this.findRemote(directory, name, credential)
  }

  /** The inode behind a name as the server says now. */
  async findRemote (directory: Inode, name: FileName, credential: Credential): Promise<Inode | Errno> {
    const { attributes, backend, names, search } = this.#core
    const version = directory.cached.version
    const mayKeep = directory.cached.own === undefined
    const wasFresh = attributes.isFresh(directory)
    const sent = attributes.stamp()
    const found = await backend.lookup(directory.handle, name, credential)
    const isQuiet = mayKeep && directory.cached.version === version
    if (isErrno(found)) {
      attributes.noteFailure(directory, found)
      if (found === Errno.EACCES) search.refused(directory, credential)
      if (found === Errno.ENOENT) {
        search.granted(directory, credential)
        this.#noteMissing(directory, name, isQuiet && wasFresh, credential)
      }
      return found
    }
    attributes.apply(directory, found.directory, sent)
    search.granted(directory, credential)
    const inode = await this.adopt(found, sent, credential)
    if (isErrno(inode)) return inode
    inode.where = { parent: directory, name }
    if (isQuiet && directory.cached.own === undefined) names.put(directory, name, inode.nodeid)
    else names.delete(directory, name)
    return inode
  }

  /** The inode of something the server named; asks for the attributes when the answer left them out. */
  async adopt (found: Found, sent: number, credential: Credential): Promise<Inode | Errno> {
    const { attributes, backend } = this.#core
    let known: Attributes | undefined = found.attributes
    let stamp = sent
    if (known === undefined) {
      stamp = attributes.stamp()
      const asked = await backend.getattr(found.handle, credential)
      if (isErrno(asked)) return asked
      known = asked
    }
    return this.#intern(found.handle, known, stamp)
  }

  /** What the kernel is told about a name and its object. */
  entry (directory: Inode, inode: Inode): Entry | Errno {
    const { attributes, options, search, special } = this.#core
    const shown = attributes.present(inode)
    if (shown === undefined) return Errno.ESTALE
    const mayBeKept = options.lookupCache !== 'none' && directory.cached.own === undefined &&
      !special.includes(inode) &&
      !search.isAboutToClose(inode)
    return {
      nodeid: shown.nodeid,
      attributes: shown.attributes,
      attributesTtlMs: shown.attributesTtlMs,
      generation: inode.generation,
      entryTtlMs: mayBeKept ? this.#nameTtlMs(directory) : 0
    }
  }

  /**
   * Nobody is led into a folder that was just closed while the kernel still has names inside that it would not ask for.
   */
  #whenClosed<T extends Entry | NoEntry | Errno> (answer: T): MaybePromise<T> {
    if (isErrno(answer) || answer.nodeid === 0) return answer
    const inode = this.#core.inodes.get(answer.nodeid)
    const closing = inode === undefined ? undefined : this.#core.search.closing(inode)
    return closing === undefined ? answer : closing.then(() => answer)
  }

  /** How long the kernel may walk through a name of this folder without asking. */
  #nameTtlMs (directory: Inode): number {
    const { attributes, search } = this.#core
    return search.isOpenToAll(directory) ? attributes.remainingMs(directory) : 0
  }

  /** An entry of a READDIRPLUS page; undefined when the page is no longer to be trusted about it. */
  ofListing (directory: Inode, listed: DirectoryEntry, page: PageFacts): Entry | undefined {
    const inode = this.#noteListed(directory, listed, page)
    // A special file must be looked up at each use.
    if (inode === undefined || this.#core.special.includes(inode)) return undefined
    const entry = this.entry(directory, inode)
    return isErrno(entry) ? undefined : entry
  }

  #noteListed (directory: Inode, listed: DirectoryEntry, page: PageFacts): Inode | undefined {
    const { names } = this.#core
    if (listed.handle === undefined || listed.attributes === undefined) return undefined
    // A name that we made or removed after the page was read must not come back.
    if (page.version !== directory.cached.version || directory.cached.own !== undefined) return undefined
    const inode = this.#intern(listed.handle, listed.attributes, page.sent, page.receivedMs)
    inode.where ??= { parent: directory, name: listed.name }
    names.put(directory, listed.name, inode.nodeid)
    return inode
  }

  #intern (handle: RemoteHandle, known: Attributes, sent: number, receivedMs?: number): Inode {
    const inode = this.#core.inodes.intern(handle, known)
    this.#core.attributes.apply(inode, known, sent, receivedMs)
    return inode
  }

  async #ask (directory: Inode, name: FileName, credential: Credential): Promise<Entry | NoEntry | Errno> {
    const { options, special } = this.#core
    const inode = await this.findRemote(directory, name, credential)
    if (inode === Errno.ENOENT) {
      const isKept = this.#core.names.get(directory, name) === 0 && options.lookupCache === 'all'
      return { nodeid: 0, entryTtlMs: isKept ? this.#nameTtlMs(directory) : 0 }
    }
    if (isErrno(inode)) return inode
    this.#ahead.asked(directory, { credential })
    const entry = this.entry(directory, inode)
    if (isErrno(entry)) return entry
    return special.includes(inode) ? special.entryFor(inode, entry, credential) : this.#whenClosed(entry)
  }

  #noteMissing (directory: Inode, name: FileName, isQuiet: boolean, credential: Credential): void {
    const { attributes, names, options } = this.#core
    if (isQuiet && options.lookupCache === 'all' && !options.noac) names.put(directory, name, 0)
    else names.delete(directory, name)
    // The answer "no such name" brings no attributes of the folder; with fresh ones the next such answer can be kept.
    const isWanted = options.lookupCache === 'all' && !options.noac && !directory.isStale &&
      directory.cached.refreshing === undefined
    if (isWanted && !attributes.isFresh(directory)) void attributes.refresh(directory, credential)
  }

  #cached (directory: Inode, name: FileName, caller: Caller): Entry | NoEntry | undefined {
    const { attributes, inodes, names, options, special } = this.#core
    const nodeid = names.get(directory, name)
    if (nodeid === undefined || nodeid === 0) {
      if (options.lookupCache !== 'all' || (nodeid === undefined && !directory.hasAllNames)) return undefined
      if (directory.cached.own !== undefined) return { nodeid: 0, entryTtlMs: 0 }
      // Noted, because the kernel will believe it too: a foreign change sends notices for the names that are here.
      if (nodeid === undefined) names.put(directory, name, 0)
      return { nodeid: 0, entryTtlMs: this.#nameTtlMs(directory) }
    }
    const inode = inodes.get(nodeid)
    if (inode === undefined || !attributes.isFresh(inode) || special.includes(inode)) return undefined
    const entry = this.entry(directory, inode)
    if (directory.ahead !== undefined) this.#ahead.known(directory, directory.ahead, caller)
    return isErrno(entry) ? undefined : entry
  }

  /** For a silent server: the name as it was last seen, good for this one answer. */
  #lastKnown (directory: Inode, name: FileName, caller: Caller): Entry | undefined {
    const { attributes, inodes, names, search } = this.#core
    if (search.lastKnown(directory, caller) !== undefined) return undefined
    const nodeid = names.get(directory, name)
    if (nodeid === undefined || nodeid === 0) return undefined
    const inode = inodes.get(nodeid)
    const shown = inode === undefined || inode.isStale ? undefined : attributes.present(inode)
    if (inode === undefined || shown === undefined) return undefined
    return { ...shown, attributesTtlMs: 0, generation: inode.generation, entryTtlMs: 0 }
  }
}
