/**
 * Attributes and what they prove. Owns how long attributes are believed, which of two answers is newer, and whether a
 * change was ours or somebody else's. Does not know names or bytes: it tells their owners when somebody else changed an
 * object.
 *
 * Ours or foreign: every change of our own is bracketed by `begin` and `end`. Its answer names the change token before
 * and after. While changes of our own are in flight, tokens seen cannot be judged, so they are collected; when the last
 * one has ended, a token that was seen (as "before", or in another answer) and that none of ours made is somebody
 * else's work.
 */
import type { Attributes, Change, Credential, DataState } from '../backend.ts'
import type { BackendGate } from '../gate.ts'
import type { Clock } from '../../base/clock.ts'
import { Errno, isErrno } from '../../base/errno.ts'
import type { OwnChanges } from '../objects/cached-attributes.ts'
import { isSameObject, type Inode } from '../objects/inode.ts'
import { canAllSearch } from '../objects/mode-bits.ts'
import type { NodeAttributes } from '../operations.ts'
import { defaultOptions, type FilesystemOptions } from '../options.ts'
import { shownMode } from './set-id.ts'

/** A very long stream of changes in flight is judged in portions, so that nothing grows with it. */
const judgedAfter = 256
const madeKept = 1_024
/** inode(7): S_ISUID, S_ISGID */
const setIdBits = 0o6000

/** Minimum and maximum in ms, nfs(5) acregmin … acdirmax. */
interface Lifetimes { readonly minMs: number, readonly maxMs: number }

const fileLifetimes = ({ acregminMs, acregmaxMs }: FilesystemOptions): Lifetimes => ({
  minMs: acregminMs, maxMs: acregmaxMs
})
const folderLifetimes = ({ acdirminMs, acdirmaxMs }: FilesystemOptions): Lifetimes => ({
  minMs: acdirminMs, maxMs: acdirmaxMs
})
const shorter = (one: Lifetimes, other: Lifetimes): Lifetimes => ({
  minMs: Math.min(one.minMs, other.minMs), maxMs: Math.min(one.maxMs, other.maxMs)
})

export class AttributeCache {
  readonly #clock: Clock
  readonly #options: FilesystemOptions
  readonly #backend: BackendGate
  readonly #onForeignChange: (inode: Inode, isGuess: boolean) => void
  readonly #onClosedToSome: (directory: Inode) => void
  readonly #onOtherFsid: () => void
  readonly #file: Lifetimes
  readonly #folder: Lifetimes
  readonly #sharedFile: Lifetimes
  readonly #sharedFolder: Lifetimes
  #order = 0

  constructor (parts: {
    clock: Clock
    options: FilesystemOptions
    backend: BackendGate
    onForeignChange: (inode: Inode, isGuess: boolean) => void
    /** Everybody could walk through this folder, and not everybody can any more. */
    onClosedToSome: (directory: Inode) => void
    /** The server has named two fsids for one object. */
    onOtherFsid: () => void
  }) {
    this.#clock = parts.clock
    this.#options = parts.options
    this.#backend = parts.backend
    this.#onForeignChange = parts.onForeignChange
    this.#onClosedToSome = parts.onClosedToSome
    this.#onOtherFsid = parts.onOtherFsid
    this.#file = fileLifetimes(parts.options)
    this.#folder = folderLifetimes(parts.options)
    this.#sharedFile = shorter(this.#file, fileLifetimes(defaultOptions))
    this.#sharedFolder = shorter(this.#folder, folderLifetimes(defaultOptions))
  }

  /** To be taken before a request is sent, and given back with its answer. */
  stamp (): number { return ++this.#order }

  isFresh (inode: Inode): boolean { return this.remainingMs(inode) > 0 }

  remainingMs (inode: Inode): number {
    const cached = inode.cached
    if (cached.isExpired || inode.isStale || this.#options.noac || cached.attributes === undefined) return 0
    return Math.max(0, cached.atMs + cached.ttlMs - this.#clock.nowMs())
  }

  expire (inode: Inode): void { inode.cached.isExpired = true }

  /** After a link, unlink or rename whose answer did not show the object itself. */
  expectCtimeChange (inode: Inode): void {
    inode.cached.isExpired = true
    inode.cached.isCtimeOurs = true
  }

  markStale (inode: Inode): void {
    inode.isStale = true
    inode.cached.isExpired = true
    inode.cached.version += 1
  }

  /** Takes what an answer says about an object; ignores it when it is older than what is known. */
  apply (
    inode: Inode,
    attributes: Attributes | undefined,
    sent: number,
    receivedMs: number = this.#clock.nowMs()
  ): void {
    if (attributes === undefined) return
    const cached = inode.cached
    const last = cached.attributes
    if (!this.#accept(inode, attributes, sent, receivedMs)) return
    if (cached.own !== undefined) {
      cached.own.seen.push(attributes.change)
      if (last !== undefined && last.sizeBytes !== attributes.sizeBytes && cached.own.resized.length < judgedAfter) {
        cached.own.resized.push(attributes)
      }
      return
    }
    if (last === undefined || last.change === attributes.change) return
    if (cached.isCtimeOurs && hasSameData(last, attributes)) {
      if (cached.pagesToken === last.change) cached.pagesToken = attributes.change
    } else {
      this.#foreign(inode)
    }
    cached.isCtimeOurs = false
  }

  /** A change of our own is about to be sent. Answers its stamp. */
  begin (inode: Inode): number {
    const cached = inode.cached
    cached.version += 1
    const own = cached.own ??= { inFlight: 0, made: new Set(), seen: [], resized: [], isUnknown: false }
    if (own.inFlight === 0 && cached.attributes !== undefined) own.made.add(cached.attributes.change)
    own.inFlight += 1
    return this.stamp()
  }

  /** It was answered; `undefined` when it failed. */
  end (inode: Inode, change: Change | undefined, sent: number): void {
    const cached = inode.cached
    const own = cached.own
    if (own === undefined) return
    own.inFlight -= 1
    cached.version += 1
    if (change === undefined) {
      cached.isExpired = true
    } else {
      this.#learn(inode, own, change, sent)
    }
    if (own.inFlight === 0) {
      cached.own = undefined
      this.#judge(inode, own)
    } else if (own.seen.length > judgedAfter) {
      own.seen = own.seen.filter((token) => !own.made.has(token))
      own.resized = []
      if (own.made.size > madeKept) {
        for (const token of [...own.made].slice(0, own.made.size - madeKept / 2)) own.made.delete(token)
      }
    }
  }

  /** The server's present attributes. Calls at the same time share one request, unless a change of our own came in
   * between. */
  refresh (inode: Inode, credential: Credential): Promise<Attributes | Errno> {
    const running = inode.cached.refreshing
    if (running !== undefined && running.version === inode.cached.version) return running.result
    const result = this.ask(inode, credential)
    const mine = { version: inode.cached.version, result }
    inode.cached.refreshing = mine
    return result.then((answer) => {
      if (inode.cached.refreshing === mine) inode.cached.refreshing = undefined
      return answer
    })
  }

  /** The same, asked now whatever is under way. */
  async ask (inode: Inode, credential: Credential): Promise<Attributes | Errno> {
    const sent = this.stamp()
    const answer = await this.#backend.getattr(inode.handle, credential)
    if (isErrno(answer)) {
      this.noteFailure(inode, answer)
      return answer
    }
    if (!isSameObject(inode, answer)) {
      this.markStale(inode)
      return Errno.ESTALE
    }
    this.apply(inode, answer, sent)
    return inode.cached.attributes ?? answer
  }

  /** ESTALE from any call about an object: nothing cached may lead to it any more. */
  noteFailure (inode: Inode, errno: Errno): void {
    if (errno === Errno.ESTALE) this.markStale(inode)
  }

  /**
   * Unwritten bytes will move mtime, and may drop set-id bits, when they are written: the kernel has to ask again. A
   * solo writer's kernel says times itself.
   */
  areBehind ({ cached, file }: Inode): boolean {
    return file !== undefined && file.hasUnwritten &&
      (!this.#options.soloWriter || ((cached.attributes?.mode ?? 0) & setIdBits) !== 0)
  }

  /** What the kernel is told: with our own bytes that the server has not got yet, and without the silly name. */
  present (inode: Inode): NodeAttributes | undefined {
    const known = inode.cached.attributes
    if (known === undefined) return undefined
    const file = inode.file
    const sizeBytes = Math.max(known.sizeBytes, file === undefined ? 0 : file.endBytes)
    const nlink = inode.isRemoved ? 0 : inode.silly === undefined ? known.nlink : Math.max(0, known.nlink - 1)
    const mode = this.#options.nosuid ? shownMode(inode, known) : known.mode
    const fileid = inode.ino ?? known.fileid
    const isChanged = sizeBytes !== known.sizeBytes || nlink !== known.nlink || mode !== known.mode ||
      fileid !== known.fileid
    return {
      nodeid: inode.nodeid,
      attributes: isChanged ? { ...known, sizeBytes, nlink, mode, fileid } : known,
      attributesTtlMs: this.areBehind(inode) ? 0 : this.remainingMs(inode)
    }
  }

  /** The kernel has taken these; what came later is still news to it. Not before: an answer may not fit, or nobody
   * waits for it any more. */
  acknowledge ({ cached }: Inode, taken: Attributes): void {
    if (cached.isNewsToKernel && taken.change === cached.attributes?.change) cached.isNewsToKernel = false
  }

  #accept (inode: Inode, next: Attributes, sent: number, receivedMs: number): boolean {
    const cached = inode.cached
    const last = cached.attributes
    if (last !== undefined && sent <= cached.order) {
      // The request left before what we know arrived: only a later ctime proves that its answer is newer.
      const order = compareTimes(next, last)
      if (order < 0) return false
      if (order === 0) {
        // Within one tick of the server's clock the order cannot be known; the next question settles it. A larger size
        // is taken meanwhile: pipelined writes that extend a file are answered in any order.
        if (next.change === last.change) {
          if (next.mode !== last.mode || next.uid !== last.uid || next.gid !== last.gid || next.nlink !== last.nlink) {
            cached.isExpired = true
          }
          return false
        }
        if (next.sizeBytes > last.sizeBytes) cached.attributes = next
        cached.isExpired = true
        return next.sizeBytes > last.sizeBytes
      }
    }
    this.#renewTtl(inode, next, receivedMs)
    if (last !== undefined && last.fsid !== next.fsid) this.#onOtherFsid()
    cached.attributes = next
    cached.atMs = receivedMs
    cached.order = ++this.#order
    cached.isExpired = false
    inode.isStale = false
    inode.isRemoved = false
    if (last !== undefined && (last.mode !== next.mode || last.uid !== next.uid || last.gid !== next.gid)) {
      inode.access = undefined
      if (inode.kind === 'directory' && canAllSearch(last) && !canAllSearch(next)) this.#onClosedToSome(inode)
    }
    return true
  }

  /** nfs(5): starts at the minimum, doubles while nothing changes, and starts again when something does. */
  #renewTtl (inode: Inode, next: Attributes, nowMs: number): void {
    const cached = inode.cached
    const { minMs, maxMs } = this.#lifetimes(inode)
    if (cached.attributes === undefined || cached.attributes.change !== next.change) {
      cached.ttlMs = minMs
      cached.ttlSinceMs = nowMs
    } else if (nowMs >= cached.ttlSinceMs + cached.ttlMs) {
      cached.ttlMs = Math.min(cached.ttlMs * 2, Math.max(minMs, maxMs))
      cached.ttlSinceMs = nowMs
    }
  }

  /** An object that is not a solo writer's any more gets those of everybody, if they are shorter. */
  #lifetimes ({ kind, cached }: Inode): Lifetimes {
    const isShared = this.#options.soloWriter && cached.isShared
    if (kind === 'directory') return isShared ? this.#sharedFolder : this.#folder
    return isShared ? this.#sharedFile : this.#file
  }

  #learn (inode: Inode, own: OwnChanges, change: Change, sent: number): void {
    const cached = inode.cached
    if (change.after === undefined) {
      own.isUnknown = true
      cached.isExpired = true
      return
    }
    const last = cached.attributes
    if (
      change.before !== undefined && cached.isCtimeOurs && last !== undefined && change.beforeData !== undefined &&
      hasSameData(last, change.beforeData)
    ) {
      // What it was before shows our link, unlink or rename.
      if (change.before !== last.change) cached.isCtimeOurs = false
      own.made.add(change.before)
    } else if (change.before !== undefined) own.seen.push(change.before)
    else if (last === undefined || inode.kind === 'directory' || !hasSameData(last, change.after)) own.isUnknown = true
    for (const half of own.resized) if (isHalfOf(half, change, change.after, own)) own.made.add(half.change)
    // A call that changed nothing, such as a CREATE of what was there, made nothing: the token may be somebody else's.
    if (change.before !== change.after.change || last === undefined) own.made.add(change.after.change)
    this.#accept(inode, change.after, sent, this.#clock.nowMs())
  }

  #judge (inode: Inode, own: OwnChanges): void {
    const cached = inode.cached
    const now = cached.attributes?.change
    if (own.seen.some((token) => !own.made.has(token))) {
      this.#foreign(inode)
    } else if (own.isUnknown) {
      cached.pagesToken = undefined
      if (inode.kind === 'directory') this.#foreign(inode, true)
    } else if (cached.pagesToken !== undefined) {
      cached.pagesToken = now !== undefined && own.made.has(cached.pagesToken) && own.made.has(now) ? now : undefined
    }
  }

  #foreign (inode: Inode, isGuess = false): void {
    inode.cached.version += 1
    inode.cached.pagesToken = undefined
    inode.cached.isNewsToKernel = true
    inode.cached.isShared = true
    // What came with this news was to be believed for as long as a solo writer may.
    if (this.#options.soloWriter) inode.cached.ttlMs = Math.min(inode.cached.ttlMs, this.#lifetimes(inode).minMs)
    inode.access = undefined
    this.#onForeignChange(inode, isGuess)
  }
}

/** Negative when `a` is older by the server's clock. */
function compareTimes (a: Attributes, b: Attributes): number {
  return a.ctimeSeconds - b.ctimeSeconds || a.ctimeNanoseconds - b.ctimeNanoseconds
}

/**
 * nfs-ganesha truncates and then sets the times. An answer from between the two has the new size under a token that is
 * neither before nor after, and nobody but us has changed anything: what came before was ours, and it is not newer than
 * what came after.
 */
function isHalfOf (seen: Attributes, { before, beforeData }: Change, after: Attributes, own: OwnChanges): boolean {
  return before !== undefined && own.made.has(before) && beforeData !== undefined &&
    beforeData.sizeBytes !== after.sizeBytes &&
    seen.sizeBytes === after.sizeBytes && compareTimes(seen, after) <= 0
}

function hasSameData (a: DataState, b: DataState): boolean {
  return a.sizeBytes === b.sizeBytes && a.mtimeSeconds === b.mtimeSeconds && a.mtimeNanoseconds === b.mtimeNanoseconds
}
