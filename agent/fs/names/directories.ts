/**
 * Listing a folder. Owns one open folder's position in the server's listing: ordinals for the kernel, the server's
 * 64-bit cookies behind them, the page at hand and the next one, and starting again when the server no longer knows a
 * cookie. The kernel keeps a listing and answers other openers from it; when it has dropped some of its pages it asks
 * in the middle, through a descriptor that never listed anything (fs/fuse/readdir.c). So what was listed last is
 * remembered at the folder too. Does not know attributes or names caches beyond telling `Lookups` what a page brought.
 *
 * Memory: 16 bytes for each entry listed (cookie and a hash of the name) until rewinddir or close, and once more for a
 * folder until it is forgotten; two pages of entries. All of it can be had again from the server, and is let go of when
 * the session's listings have too much together (`listingsBytesMax`).
 *
 * What goes on from page to page ends with who waits for it: a server's folder may have no end.
 */
import { toFileName } from '../../base/brands.ts'
import { Errno, isErrno } from '../../base/errno.ts'
import { badCookie, type DirectoryEntry, type DirectoryPage } from '../backend.ts'
import type { Core } from '../core.ts'
import type { OpenFolder, OpenHandle } from '../objects/handles.ts'
import { hashName, Positions } from '../objects/positions.ts'
import type { Lookups } from './lookups.ts'
import type { Holder } from '../objects/budget.ts'
import type { ListedEntry, ListingSink, Waiting } from '../operations.ts'

interface Page {
  readonly entries: readonly DirectoryEntry[]
  readonly eof: boolean
  /** Ordinal of the first entry. */
  readonly first: number
  readonly version: number
  readonly sent: number
  readonly receivedMs: number
}

/** `.` and `..` come first and are ours: ordinals 0 and 1. */
const dotEntries = 2
const restartsMax = 3
/** Pages without any entry that are not the last. */
const emptyPagesMax = 3
/** An entry of a page in our memory, with attributes and handle and without (measured on V8 of Node 24). */
const listedBytes = 800
const namedBytes = 250

export class FolderListing implements OpenFolder, Holder {
  readonly #core: Core
  readonly #lookups: Lookups
  readonly #handle: OpenHandle
  #positions: Positions
  #page: Page | undefined
  #next: { readonly first: number, readonly page: Promise<Page | Errno> } | undefined
  #readyNext: Page | undefined
  #withAttributes = false
  /** A reading that is under way; another waits for it. */
  #turn: Promise<unknown> | undefined
  /** For whom it is. */
  #reader: Waiting | undefined
  #isClosed = false

  constructor (core: Core, lookups: Lookups, handle: OpenHandle) {
    this.#core = core
    this.#lookups = lookups
    this.#handle = handle
    this.#positions = new Positions(core.listings)
  }

  read (offset: number, plus: boolean, sink: ListingSink, reader: Waiting): Promise<undefined | Errno> {
    const before = this.#turn
    const mine = before === undefined
      ? this.#readFor(reader, offset, plus, sink)
      : before.then(() => this.#readFor(reader, offset, plus, sink))
    this.#turn = mine
    return mine
  }

  close (): void {
    this.#isClosed = true
    this.#leave()
    this.shed()
    this.#core.listings.note(this, 0)
  }

  /** Pages that nobody has read yet are asked for again. */
  shed (): void {
    this.#page = undefined
    this.#next = undefined
    this.#readyNext = undefined
  }

  async #readFor (reader: Waiting, offset: number, plus: boolean, sink: ListingSink): Promise<undefined | Errno> {
    if (reader.isGivenUp) return Errno.EINTR
    this.#reader = reader
    try {
      return await this.#read(offset, plus, sink)
    } finally {
      this.#reader = undefined
    }
  }

  get #isWanted (): boolean { return this.#reader?.isGivenUp === false && !this.#isClosed }

  async #read (offset: number, plus: boolean, sink: ListingSink): Promise<undefined | Errno> {
    if (offset === 0) {
      // A file closed a moment ago may still be losing its silly name; who lists after the close must not see it.
      const removals = this.#handle.inode.sillyRemovals
      if (removals !== undefined && removals.size > 0) await Promise.all(removals)
      this.#rewind()
    } else this.#adopt(offset - dotEntries)
    this.#withAttributes = plus && this.#core.options.lookupCache !== 'none'
    if (!this.#giveDots(offset, sink)) return undefined
    let given = 0
    let ordinal = Math.max(offset, dotEntries)
    for (;;) {
      this.#positions.standing = ordinal - dotEntries
      const page = this.#pageAt(ordinal) ?? await this.#fetchFor(ordinal, given > 0)
      if (page === undefined) return undefined
      if (isErrno(page)) return given > 0 ? undefined : page
      const end = page.first + page.entries.length
      while (ordinal < end) {
        const entry = page.entries[ordinal - page.first]
        if (entry === undefined || !this.#give(entry, ordinal, page, plus, sink)) return undefined
        given += 1
        ordinal += 1
        this.#positions.standing = ordinal - dotEntries
      }
      if (page.eof) return undefined
    }
  }

  #rewind (): void {
    const { inode } = this.#handle
    this.#startFrom(new Positions(this.#core.listings))
    if (inode.listed?.isRead === false) inode.listed.close()
    inode.listed = this.#positions
  }

  /** An offset that this descriptor did not give: it comes from the listing that the kernel keeps, which was the last
   * to begin. */
  #adopt (index: number): void {
    const { listed } = this.#handle.inode
    if (index > this.#positions.count && listed !== undefined && listed.count > this.#positions.count) {
      this.#startFrom(listed.upTo(index))
    }
  }

  #startFrom (positions: Positions): void {
    this.#leave()
    this.#positions = positions
    this.shed()
  }

  /** What the folder does not keep for other openers is over. */
  #leave (): void {
    this.#positions.isRead = false
    if (this.#handle.inode.listed !== this.#positions) this.#positions.close()
  }

  #giveDots (offset: number, sink: ListingSink): boolean {
    const { inode } = this.#handle
    const dots = [['.', inode], ['..', inode.where?.parent ?? inode]] as const
    for (const [index, [name, shown]] of dots.entries()) {
      if (index < offset) continue
      const fileid = shown.ino ?? shown.fileid
      if (!sink({ name: toFileName(name), fileid, kind: 'directory', nextOffset: index + 1, entry: undefined })) {
        return false
      }
    }
    return true
  }

  #give (entry: DirectoryEntry, ordinal: number, page: Page, plus: boolean, sink: ListingSink): boolean {
    const found = plus ? this.#lookups.ofListing(this.#handle.inode, entry, page) : undefined
    const listed: ListedEntry = {
      name: entry.name,
      fileid: this.#inoOf(entry),
      kind: entry.attributes?.kind,
      nextOffset: ordinal + 1,
      entry: found
    }
    return sink(listed)
  }

  /**
   * Without attributes an entry is on the folder's own file system, or a mount point there: the server does not say.
   */
  #inoOf ({ attributes, fileid }: DirectoryEntry): bigint {
    const fsid = attributes?.fsid ?? this.#handle.inode.cached.attributes?.fsid
    return fsid === undefined ? fileid : this.#core.inodes.numbers.of({ fsid, fileid: attributes?.fileid ?? fileid })
  }

  #pageAt (ordinal: number): Page | undefined {
    for (const page of [this.#page, this.#readyNext]) {
      if (page === undefined || ordinal < page.first) continue
      const end = page.first + page.entries.length
      if (ordinal < end || (page.eof && ordinal === end)) return this.#turnTo(page)
    }
    return undefined
  }

  #turnTo (page: Page): Page {
    if (this.#page === page) return page
    this.#page = page
    this.#next = undefined
    this.#readyNext = undefined
    this.#note()
    if (!page.eof && !this.#isClosed) void this.#prefetch(page.first + page.entries.length)
    return page
  }

  /** The page with `ordinal`; undefined when the caller has something to return already and would have to wait. */
  async #fetchFor (ordinal: number, hasGiven: boolean): Promise<Page | Errno | undefined> {
    if (this.#next === undefined || this.#next.first !== ordinal) void this.#prefetch(ordinal)
    const next = this.#next
    if (next === undefined || hasGiven) return undefined
    const page = await next.page
    if (!isErrno(page)) return this.#turnTo(page)
    // It was begun when nobody waited for it, and has ended because of that.
    if (page !== Errno.EINTR || !this.#isWanted) return page
    const anew = await this.#prefetch(ordinal)
    return isErrno(anew) ? anew : this.#turnTo(anew)
  }

  #prefetch (first: number): Promise<Page | Errno> {
    const page = this.#fetch(first)
    const next = { first, page }
    this.#next = next
    this.#readyNext = undefined
    void page.then((ready) => {
      if (this.#next !== next) return
      // Whoever waits for it hears of a failure; whoever comes later asks anew, for it may be over by then.
      if (isErrno(ready)) {
        this.#next = undefined
        return
      }
      this.#readyNext = ready
      this.#note()
    })
    return page
  }

  #note (): void {
    if (this.#isClosed) return
    const entries = (this.#page?.entries.length ?? 0) + (this.#readyNext?.entries.length ?? 0)
    this.#core.listings.note(this, entries * (this.#withAttributes ? listedBytes : namedBytes))
  }

  /** The page that begins at `first`. What lies before and was never listed here is listed now, to find out where that
   * is. */
  async #fetch (first: number): Promise<Page | Errno> {
    const positions = this.#positions
    for (;;) {
      const nearest = Math.min(first, dotEntries + positions.count)
      const known = positions.knows(nearest - dotEntries) ? nearest : dotEntries
      const page = await this.#fetchPage(positions, known)
      if (known === first || isErrno(page)) return page
      if (page.eof && dotEntries + positions.count < first) return { ...page, entries: [], first }
      if (!this.#isWanted) return Errno.EINTR
    }
  }

  /** One page from `first` on. When the server has forgotten the cookie: from the start again, without names already
   * given. */
  async #fetchPage (positions: Positions, first: number): Promise<Page | Errno> {
    const index = first - dotEntries
    const start = positions.cookieBefore(index)
    let cookie = start
    let given: Set<number> | undefined
    let empty = 0
    for (let restarts = 0;;) {
      const answer = await this.#ask(positions, cookie)
      if (answer === badCookie) {
        restarts += 1
        if (restarts > restartsMax) return Errno.EIO
        given ??= positions.namesBefore(index)
        // Which names were given is not known any more: to give them twice, or others not at all, would be a lie.
        if (given === undefined) return Errno.EIO
        cookie = 0n
        positions.verifier = ''
        continue
      }
      if (isErrno(answer)) return answer
      const { page, version, sent } = answer
      positions.verifier = page.cookieVerifier
      const after: bigint | undefined = page.entries.at(-1)?.cookie
      if (!page.eof && after !== undefined && after === cookie) return Errno.ELOOP
      const entries = page.entries.filter(({ name }) =>
        name !== '.' && name !== '..' && given?.has(hashName(name)) !== true
      )
      empty = page.entries.length === 0 ? empty + 1 : 0
      if (empty > emptyPagesMax) return Errno.EIO
      if (entries.length === 0 && !page.eof) {
        if (!this.#isWanted) return Errno.EINTR
        cookie = after ?? cookie
        continue
      }
      positions.add(index, start, entries)
      return { entries, eof: page.eof, first, version, sent, receivedMs: this.#core.clock.nowMs() }
    }
  }

  async #ask (
    positions: Positions,
    cookie: bigint
  ): Promise<{ page: DirectoryPage, version: number, sent: number } | Errno | typeof badCookie> {
    const { attributes, backend } = this.#core
    const { inode, credential } = this.#handle
    const version = inode.cached.own === undefined ? inode.cached.version : -1
    const sent = attributes.stamp()
    const position = {
      cookie, cookieVerifier: cookie === 0n ? '' : positions.verifier,
      replyBytes: backend.capabilities.directoryBytesPreferred
    }
    let page = await backend.readdir(inode.handle, { ...position, withAttributes: this.#withAttributes }, credential)
    // A server without READDIRPLUS still lists.
    if (page === Errno.EOPNOTSUPP && this.#withAttributes) {
      page = await backend.readdir(inode.handle, { ...position, withAttributes: false }, credential)
    }
    if (page === badCookie) return page
    if (isErrno(page)) {
      attributes.noteFailure(inode, page)
      return page
    }
    const isQuiet = version === inode.cached.version
    attributes.apply(inode, page.directory, sent)
    return { page, version: isQuiet ? inode.cached.version : -1, sent }
  }
}
