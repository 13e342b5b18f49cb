/**
 * A whole tree, object by object, straight from the backend: many calls under way, little memory, whatever its size.
 *
 * Owns the order, the limits, what is passed over (other file systems, what has vanished) and when there is no point in
 * going on. Does not know what is done with an object, and leaves the root itself alone.
 */
import type { FileName } from '../../base/brands.ts'
import { Errno, isErrno } from '../../base/errno.ts'
import { isPromise, type MaybePromise } from '../../base/maybe-promise.ts'
import {
  badCookie,
  type Attributes,
  type Backend,
  type Credential,
  type DirectoryEntry,
  type RemoteHandle
} from '../backend.ts'

export interface TreeObject {
  readonly name: FileName
  readonly handle: RemoteHandle
  readonly attributes: Attributes
}

/**
 * How it ended. `whole`: every object was seen. `refused`: the server refused whatever it was asked. `silent`: a call
 * ended without an answer (nfs(5) `soft`). `gone`: the root is not there any more. `stopped`: somebody said so, or
 * nothing may be sent any more.
 */
export type WalkEnd = 'whole' | 'refused' | 'silent' | 'gone' | 'stopped'

export interface WalkLimits {
  /** Folders that are listed at a time. */
  readonly listings: number
  /** Objects that are asked for or changed at a time. */
  readonly visits: number
  /** Folders that are known and wait for their turn. */
  readonly folders: number
  /** Folders on the way down to an object. */
  readonly depth: number
}

export interface WalkParts {
  readonly backend: Pick<Backend, 'answers' | 'capabilities' | 'readdir' | 'lookup' | 'getattr'> & {
    readonly isClosed: boolean
  }
  readonly credential: Credential
  /** Called for each object, for a folder before it is listed. */
  readonly visit: (object: TreeObject) => MaybePromise<undefined | Errno>
  readonly limits: WalkLimits
  /** Folders to be left alone, with all that is below them. */
  readonly except?: readonly Way[]
}

/** The way down from here to a folder. */
export type Way = readonly FileName[]

interface Folder extends TreeObject {
  readonly depth: number
  readonly except: readonly Way[]
}

export interface WalkCounts {
  readonly seen: number
  readonly refused: number
  /** Objects on other file systems of the server, which were left alone with all below them. */
  readonly elsewhere: number
  /** Folders that were to be left alone, and were. */
  readonly excepted: number
}

/** Refusals with nothing done in between before any was: root is squashed, or the export is read-only. */
const refusalsInVain = 64
/** A server that forgets its cookies so often in one folder never lists it. */
const restartsMax = 8

/** Gone, or something else by now: whoever made it sees to its group. */
const vanished: ReadonlySet<Errno> = new Set([Errno.ENOENT, Errno.ESTALE, Errno.ENOTDIR])
const maybeSilent: ReadonlySet<Errno> = new Set([Errno.EIO, Errno.ETIMEDOUT])

export class TreeWalk {
  readonly #parts: WalkParts
  readonly #fsid: bigint
  readonly #waiting: Folder[] = []
  readonly #whenFree: (() => void)[] = []
  #listings = 0
  #visits = 0
  #seen = 0
  #done = 0
  #refused = 0
  #elsewhere = 0
  #excepted = 0
  #end: WalkEnd | undefined
  #settle: (end: WalkEnd) => void = () => undefined
  #fail: (fault: unknown) => void = () => undefined
  /** The first object that the server refused, and how. */
  firstRefusal: { readonly name: FileName, readonly errno: Errno } | undefined
  readonly ended: Promise<WalkEnd>

  constructor (root: Omit<TreeObject, 'name'>, parts: WalkParts) {
    this.#parts = parts
    this.#fsid = root.attributes.fsid
    this.ended = new Promise((resolve, reject) => {
      this.#settle = resolve
      this.#fail = reject
    })
    this.#begin(this.#list({ ...root, name: '.' as FileName, depth: 0, except: parts.except ?? [] }))
  }

  get counts (): WalkCounts {
    return { seen: this.#seen, refused: this.#refused, elsewhere: this.#elsewhere, excepted: this.#excepted }
  }

  /** Nothing more is begun; what is under way comes to its end. */
  stop (): void { this.#over('stopped') }

  #over (end: WalkEnd): void {
    this.#end ??= end
    this.#waiting.length = 0
    for (const tell of this.#whenFree.splice(0)) tell()
    this.#look()
  }

  /** Lists folders until as many are under way as may be; the last one to come back ends the walk. */
  #look (): void {
    while (this.#listings < this.#parts.limits.listings) {
      const folder = this.#waiting.pop()
      if (folder === undefined) break
      this.#begin(this.#folder(folder))
    }
    if (this.#listings === 0 && this.#visits === 0) this.#settle(this.#end ?? 'whole')
  }

  #begin (work: Promise<void>): void {
    this.#listings += 1
    void work.catch((fault: unknown) => { this.#broken(fault) }).then(() => {
      this.#listings -= 1
      this.#look()
    })
  }

  #broken (fault: unknown): void {
    this.#fail(fault)
    this.#over('stopped')
  }

  async #folder (folder: Folder): Promise<void> {
    await this.#visit(folder)
    await this.#list(folder)
  }

  async #list (folder: Folder): Promise<void> {
    const { backend, credential } = this.#parts
    let [cookie, cookieVerifier, restarts] = [0n, '', 0]
    let withAttributes = backend.capabilities.directoryAttributes
    while (this.#end === undefined) {
      const { answers } = backend
      const page = await backend.readdir(folder.handle, {
        cookie, cookieVerifier, replyBytes: backend.capabilities.directoryBytesPreferred, withAttributes
      }, credential)
      if (page === badCookie && restarts < restartsMax) {
        ;[cookie, cookieVerifier, restarts] = [0n, '', restarts + 1]
      } else if (page === Errno.EOPNOTSUPP && withAttributes) {
        withAttributes = false
      } else if (page === badCookie || isErrno(page)) {
        this.#failed(folder, page === badCookie ? Errno.ELOOP : page, answers)
        return
      } else {
        await this.#enter(await this.#page(folder, page.entries))
        const last = page.entries.at(-1)
        if (page.eof || last === undefined || last.cookie === cookie) return
        ;[cookie, cookieVerifier] = [last.cookie, page.cookieVerifier]
      }
    }
  }

  /** Sees to all that is no folder; the folders of the page are the answer. */
  async #page (folder: Folder, entries: readonly DirectoryEntry[]): Promise<Folder[]> {
    const folders: Folder[] = []
    for (const known of entries.map((entry) => this.#known(folder, entry))) {
      const object = isPromise(known) ? await known : known
      if (object === undefined || this.#end !== undefined) continue
      this.#seen += 1
      if (object.attributes.fsid !== this.#fsid) {
        this.#elsewhere += 1
      } else if (object.attributes.kind === 'directory') {
        const except = waysBelow(folder, object.name)
        if (except.some((way) => way.length === 0)) this.#excepted += 1
        else folders.push({ ...object, depth: folder.depth + 1, except })
      } else {
        await this.#slot()
        this.#held(object).catch((fault: unknown) => { this.#broken(fault) })
      }
    }
    return folders
  }

  async #enter (folders: Folder[]): Promise<void> {
    const { limits } = this.#parts
    for (const folder of folders) {
      if (this.#end !== undefined) return
      if (folder.depth > limits.depth) {
        this.#refuse(folder.name, Errno.ENAMETOOLONG)
      } else if (this.#waiting.length < limits.folders) {
        this.#waiting.push(folder)
        this.#look()
      } else {
        await this.#folder(folder)
      }
    }
  }

  /** What the listing has left out is asked for. */
  #known (folder: Folder, entry: DirectoryEntry): MaybePromise<TreeObject | undefined> {
    const { name, handle, attributes } = entry
    if (name === '.' || name === '..') return undefined
    if (handle !== undefined && attributes !== undefined) return { name, handle, attributes }
    return this.#ask(folder, entry)
  }

  async #ask (folder: Folder, { name }: DirectoryEntry): Promise<TreeObject | undefined> {
    const { backend, credential } = this.#parts
    await this.#slot()
    const { answers } = backend
    try {
      const found = await backend.lookup(folder.handle, name, credential)
      if (isErrno(found)) return this.#failed({ name }, found, answers)
      const attributes = found.attributes ?? await backend.getattr(found.handle, credential)
      if (isErrno(attributes)) return this.#failed({ name }, attributes, answers)
      return { name, handle: found.handle, attributes }
    } finally {
      this.#free()
    }
  }

  async #visit (object: TreeObject): Promise<void> {
    await this.#slot()
    await this.#held(object)
  }

  /** One visit in a slot that was taken for it. */
  async #held (object: TreeObject): Promise<void> {
    try {
      if (this.#end !== undefined) return
      const { answers } = this.#parts.backend
      const errno = await this.#parts.visit(object)
      if (errno === undefined) this.#done += 1
      else this.#failed(object, errno, answers)
    } finally {
      this.#free()
    }
  }

  async #slot (): Promise<void> {
    while (this.#visits >= this.#parts.limits.visits) {
      await new Promise<void>((resolve) => { this.#whenFree.push(resolve) })
    }
    this.#visits += 1
  }

  #free (): void {
    this.#visits -= 1
    this.#whenFree.shift()?.()
    if (this.#visits === 0) this.#look()
  }

  #failed (
    { name, depth }: Pick<TreeObject, 'name'> & { depth?: number },
    errno: Errno,
    answersBefore: number
  ): undefined {
    const { backend } = this.#parts
    if (backend.isClosed) this.#over('stopped')
    else if (maybeSilent.has(errno) && backend.answers === answersBefore) this.#over('silent')
    else if (!vanished.has(errno)) this.#refuse(name, errno)
    else if (depth === 0) this.#over('gone')
    return undefined
  }

  #refuse (name: FileName, errno: Errno): void {
    this.#refused += 1
    this.firstRefusal ??= { name, errno }
    if (this.#done === 0 && this.#refused >= refusalsInVain) this.#over('refused')
  }
}

const nowhere: readonly Way[] = []

function waysBelow ({ except }: Folder, name: FileName): readonly Way[] {
  if (except.length === 0) return nowhere
  return except.filter((way) => way[0] === name).map((way) => way.slice(1))
}
