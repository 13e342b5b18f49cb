/**
 * Programs that know names beforehand (git, make, rsync) look up one after the other in a folder. After some of these
 * LOOKUPs the folder is listed with attributes, and most of the others are answered from the caches: an entry of a
 * listing costs a fraction of a LOOKUP.
 *
 * Owns when that is worth it and how much is listed: in portions, never more entries than a fixed multiple of the names
 * looked up, never much further ahead than they will be looked up while the entries are believed, and no further when
 * few of them are used. Does not know what the caches make of an entry (lookups.ts): it is believed as after an `ls
 * -l`.
 */
import { isErrno } from '../../base/errno.ts'
import { badCookie, type Credential, type DirectoryEntry } from '../backend.ts'
import type { Core } from '../core.ts'
import type { Ahead, Inode } from '../objects/inode.ts'
import type { Caller } from '../operations.ts'

/** A walk along a path, or a program with few files, does not begin it. */
const askedMin = 32
/** LOOKUPs further apart than this on average are not a row of them. */
const rowMs = 1_000
/** At worst, when no entry is used, the server does about twice the work. */
const entriesPerLookup = 8
/** Entries not yet looked up: what the row takes in a second, or this if that is less. They are believed for acregmin,
 * normally 3 s. */
const leadMin = 256
const leadMs = 1_000
/** About 160 entries: other calls wait for no more. */
const pageBytes = 32 * 1024
/** From so many entries on one lookup in ten must have been answered by them. */
const judgedAfter = 2_048
const hitsWanted = 0.1

const begin = (nowMs: number): Ahead => ({
  asked: 0, sinceMs: nowMs, lastMs: nowMs, listed: 0, hits: 0, cookie: 0n, verifier: '', isRunning: false,
  isOver: false
})

/** What is known about a page of a listing: see lookups.ts. */
interface PageFacts { readonly version: number, readonly sent: number, readonly receivedMs: number }
type Note = (directory: Inode, listed: DirectoryEntry, page: PageFacts) => unknown

export class LookupAhead {
  readonly #core: Core
  readonly #note: Note
  readonly #isWanted: boolean

  constructor (core: Core, note: Note) {
    const { noac, lookupCache, acregminMs, acdirminMs } = core.options
    this.#core = core
    this.#note = note
    this.#isWanted = core.backend.capabilities.directoryAttributes && !noac && lookupCache !== 'none' &&
      acregminMs > 0 && acdirminMs > 0
  }

  /** The server was asked for a name of this folder, and it is there. */
  asked (directory: Inode, caller: Pick<Caller, 'credential'>): void {
    if (!this.#isWanted) return
    const nowMs = this.#core.clock.nowMs()
    const ahead = directory.ahead === undefined || nowMs - directory.ahead.lastMs > rowMs
      ? begin(nowMs)
      : directory.ahead
    directory.ahead = ahead
    ahead.lastMs = nowMs
    ahead.asked += 1
    if (ahead.asked === askedMin && nowMs - ahead.sinceMs > rowMs) directory.ahead = undefined
    else this.#goOn(directory, ahead, caller)
  }

  /** A name of this folder was looked up, and known. */
  known (directory: Inode, ahead: Ahead, caller: Pick<Caller, 'credential'>): void {
    ahead.hits += 1
    if (ahead.listed === 0 || ahead.isOver) return
    ahead.lastMs = this.#core.clock.nowMs()
    this.#goOn(directory, ahead, caller)
  }

  #goOn (directory: Inode, ahead: Ahead, caller: Pick<Caller, 'credential'>): void {
    if (ahead.asked < askedMin || ahead.isRunning || ahead.isOver || !mayList(ahead)) return
    ahead.isRunning = true
    void this.#list(directory, ahead, caller.credential)
  }

  async #list (directory: Inode, ahead: Ahead, credential: Credential): Promise<void> {
    const { attributes, backend, clock } = this.#core
    while (mayList(ahead)) {
      const version = directory.cached.own === undefined ? directory.cached.version : -1
      const sent = attributes.stamp()
      const { cookie, verifier } = ahead
      const page = await backend.readdir(directory.handle, {
        cookie, cookieVerifier: verifier, replyBytes: pageBytes, withAttributes: true
      }, credential)
      // Nobody asked for this: whatever is wrong, the LOOKUPs find out themselves.
      if (page === badCookie || isErrno(page)) {
        ahead.isOver = true
        break
      }
      const isQuiet = version === directory.cached.version
      attributes.apply(directory, page.directory, sent)
      const facts = { version: isQuiet ? directory.cached.version : -1, sent, receivedMs: clock.nowMs() }
      for (const entry of page.entries) {
        if (entry.name !== '.' && entry.name !== '..') this.#note(directory, entry, facts)
      }
      const last = page.entries.at(-1)
      ahead.listed += page.entries.length
      ahead.verifier = page.cookieVerifier
      ahead.isOver = page.eof || last === undefined || last.cookie === cookie ||
        page.entries.every(({ handle }) => handle === undefined)
      if (ahead.isOver) break
      ahead.cookie = last?.cookie ?? cookie
    }
    ahead.isRunning = false
  }
}

function mayList ({ asked, listed, hits, sinceMs, lastMs }: Ahead): boolean {
  const lookups = asked + hits
  const lead = Math.max(leadMin, lookups * leadMs / Math.max(1, lastMs - sinceMs))
  return listed < lookups * entriesPerLookup && listed - lookups < lead &&
    (listed < judgedAfter || hits >= hitsWanted * lookups)
}
