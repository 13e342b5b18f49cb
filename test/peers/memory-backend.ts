/**
 * A remote file system in memory, with a server's manners: unstable writes that a reboot loses, verifiers, wcc data,
 * listings with cookies. Owns a simple, separately written truth to judge `agent/fs` by, and hooks to delay, fail or
 * change any call. Does not know `agent/fs` beyond the `Backend` interface.
 */
import { toFileName, type FileName } from '../../agent/base/brands.ts'
import { Errno } from '../../agent/base/errno.ts'
import {
  Access, badCookie, type Attributes, type AttributeChanges, type Backend, type BackendCapabilities, type Change,
  type ChangeToken,
  type Credential, type DirectoryEntry, type FileKind, type Found, type Made, type RemoteHandle, type Stability,
  type WriteVerifier
} from '../../agent/fs/backend.ts'

export type CallName = Exclude<keyof Backend, 'capabilities' | 'root' | 'open' | 'close'>
/** Runs around one call: `proceed` does the server's work now. */
export type Intercept = (proceed: () => unknown, args: readonly unknown[]) => unknown

interface Node {
  fileid: bigint
  fsid: bigint
  handle: RemoteHandle
  readonly kind: FileKind
  mode: number
  uid: number
  gid: number
  nlink: number
  /** What clients see. */
  data: Buffer
  /** What survives a reboot. */
  stable: Buffer
  readonly names: Map<FileName, { node: Node, cookie: bigint }>
  readonly target: string
  atime: bigint
  mtime: bigint
  ctime: bigint
  rdevMajor: number
  rdevMinor: number
}

/** What an intercept answers when the call ends without an answer of the server, as on a `soft` mount. */
export class Silence {
  readonly errno: Errno
  constructor (errno: Errno) { this.errno = errno }
}

export const rootCredential: Credential = { uid: 0, gid: 0, groups: [], key: '0:0' }
const second = 1_000_000_000n

class FoldingNames extends Map<FileName, { node: Node, cookie: bigint }> {
  readonly #fold: (name: FileName) => FileName
  readonly #spelling = new Map<FileName, FileName>()

  constructor (fold: (name: FileName) => FileName) {
    super()
    this.#fold = fold
  }

  #spelled (name: FileName): FileName { return this.#spelling.get(this.#fold(name)) ?? name }
  override get (name: FileName): { node: Node, cookie: bigint } | undefined { return super.get(this.#spelled(name)) }
  override has (name: FileName): boolean { return super.has(this.#spelled(name)) }
  override set (name: FileName, value: { node: Node, cookie: bigint }): this {
    if (!this.has(name)) this.#spelling.set(this.#fold(name), name)
    return super.set(this.#spelled(name), value)
  }

  override delete (name: FileName): boolean {
    const spelled = this.#spelled(name)
    this.#spelling.delete(this.#fold(name))
    return super.delete(spelled)
  }
}

export class MemoryServer {
  readonly calls: { readonly name: CallName, readonly args: readonly unknown[] }[] = []
  readonly root: Node
  /** Calls that were answered; `silence` is no answer. */
  answers = 0
  /** Answers to READ that were not released. */
  leased = 0
  capabilities: BackendCapabilities = {
    hardLinks: true, symlinks: true, unstableWrites: true,

    readBytesMax: 65536, writeBytesMax: 65536, directoryBytesPreferred: 4096, directoryAttributes: true,
    fileBytesMax: 2 ** 43, nameBytesMax: 255
  }

  verifier = 'v1'
  /** Entries of a READDIR page. */
  pageEntries = 50
  cookieVerifier = 'c1'
  /** Check mode bits, as a server without root squash does. */
  enforcesModes = false
  /** An ACL that shuts this user out of whatever the mode says. */
  shutOut: number | undefined
  /** Every caller is this user to the server (all_squash with anonuid). */
  squashedTo: number | undefined
  /** Nanoseconds between two values of the server's clock; larger ones put several changes into one tick. */
  clockStep = 1n
  /** Answers carry attributes. */
  givesAttributes = true
  givesBefore = true
  /** What the server says is the file system of an object. */
  fsidOf: (node: { readonly fsid: bigint }) => bigint = ({ fsid }) => fsid
  /** Awaited before and after the work of each call. */
  pause: () => Promise<void> = () => Promise.resolve()
  readonly #intercepts = new Map<CallName, Intercept[]>()
  readonly #nodes = new Map<RemoteHandle, Node>()
  #lastFileid = 0n
  #lastCookie = 1n << 60n
  #time = 1_700_000_000n * second

  /** Names that fold to the same are one name, in the spelling in which it was made. */
  readonly #fold: ((name: FileName) => FileName) | undefined

  constructor ({ fold }: { fold?: (name: FileName) => FileName } = {}) {
    this.#fold = fold
    this.root = this.#newNode('directory', 0o755, rootCredential)
    this.root.nlink = 2
  }

  /** The next `times` calls of this name go through `intercept`. */
  intercept (name: CallName, intercept: Intercept, times = 1): void {
    const list = this.#intercepts.get(name) ?? []
    for (let index = 0; index < times; index++) list.push(intercept)
    this.#intercepts.set(name, list)
  }

  clearIntercepts (): void { this.#intercepts.clear() }

  /** Holds the next call of this name before (or after) its work, until `go`. */
  hold (name: CallName, when: 'before' | 'after' = 'before'): { readonly arrived: Promise<void>, go (): void } {
    let go = (): void => undefined
    let arrive = (): void => undefined
    const released = new Promise<void>((resolve) => { go = resolve })
    const arrived = new Promise<void>((resolve) => { arrive = resolve })
    this.intercept(name, async (proceed) => {
      if (when === 'before') {
        arrive()
        await released
        return proceed()
      }
      const answer = proceed()
      arrive()
      await released
      return answer
    })
    return { arrived, go: () => { go() } }
  }

  count (name: CallName): number { return this.calls.filter((call) => call.name === name).length }

  /** Power loss: what was not committed is gone, and a new verifier says so. */
  reboot (): void {
    for (const node of this.#nodes.values()) node.data = Buffer.from(node.stable)
    this.verifier = `v${Number(this.verifier.slice(1)) + 1}`
  }

  /** One client's view. */
  backend (): Backend {
    const call =
      <A extends readonly unknown[], R>(name: CallName, work: (...args: A) => R) =>
      async (...args: A): Promise<Awaited<R>> => {
        this.calls.push({ name, args })
        await this.pause()
        const intercept = this.#intercepts.get(name)?.shift()
        const proceed = (): R => work(...args)
        const answer = await (intercept === undefined ? proceed() : intercept(proceed, args) as R)
        await this.pause()
        if (answer instanceof Silence) return answer.errno as Awaited<R>
        this.answers++
        return answer
      }
    const server = this
    return {
      get capabilities () { return server.capabilities },
      get answers () { return server.answers },
      get root () { return { handle: server.root.handle, attributes: server.attributesOf(server.root) } },
      open: (handle, credential) => ({ handle, credential }),
      close: () => undefined,
      getattr: call('getattr', (handle: RemoteHandle) => this.#withNode(handle, (node) => this.attributesOf(node))),
      setattr: call(
        'setattr',
        (handle: RemoteHandle, changes: AttributeChanges, credential: Credential) =>
          this.#withNode(handle, (node) => this.#setattr(node, changes, credential))
      ),
      lookup: call(
        'lookup',
        (handle: RemoteHandle, name: FileName, credential: Credential) =>
          this.#withDirectory(handle, (directory) => {
            if ((this.#granted(directory, credential) & Access.lookup) === 0) return Errno.EACCES
            const found = directory.names.get(name)
            return found === undefined ? Errno.ENOENT : { ...this.#found(found.node), directory: this.#post(directory) }
          })
      ),
      access: call(
        'access',
        (handle: RemoteHandle, wanted: number, credential: Credential) =>
          this.#withNode(
            handle,
            (node) => ({ granted: wanted & this.#granted(node, credential), attributes: this.#post(node) })
          )
      ),
      readlink: call(
        'readlink',
        (handle: RemoteHandle) =>
          this.#withNode(handle, (node) => ({ target: node.target, attributes: this.#post(node) }))
      ),
      read: call(
        'read',
        (open, offset: number, count: number) =>
          this.#withNode(open.handle as RemoteHandle, (node) => {
            if (!this.#letsRead(node, (open as { credential: Credential }).credential)) return Errno.EACCES
            const data = Buffer.from(node.data.subarray(offset, offset + count))
            this.leased += 1
            return {
              data, eof: offset + count >= node.data.length, attributes: this.#post(node),
              release: () => { this.leased -= 1 }
            }
          })
      ) as Backend['read'],
      write: call(
        'write',
        (open, offset: number, data: readonly Buffer[], stability: Stability) =>
          this.#withNode(open.handle as RemoteHandle, (node) => {
            const bytes = Buffer.concat([...data])
            const change = this.#changing(node, () => {
              this.#put(node, offset, bytes)
              if (stability > 0) node.stable = Buffer.from(node.data)
            })
            return {
              count: bytes.length, committed: stability > 0 ? 2 : 0, verifier: this.verifier as WriteVerifier, change
            }
          })
      ) as Backend['write'],
      commit: call('commit', (open) =>
        this.#withNode((open as { handle: RemoteHandle }).handle, (node) => {
          node.stable = Buffer.from(node.data)
          return {
            verifier: this.verifier as WriteVerifier, change: { before: this.#before(node), after: this.#post(node) }
          }
        })) as Backend['commit'],
      create: call(
        'create',
        (
          handle: RemoteHandle,
          name: FileName,
          how: { kind: string },
          attributes: AttributeChanges,
          credential: Credential
        ) =>
          this.#withDirectory(handle, (directory) => {
            const present = directory.names.get(name)?.node
            if (present === undefined) {
              return this.#make(
                directory,
                name,
                this.#newNode('file', attributes.mode ?? 0o644, credential, attributes.gid)
              )
            }
            if (how.kind !== 'unchecked') return Errno.EEXIST
            if (present.kind === 'directory') return Errno.EISDIR
            if (present.kind !== 'file') return Errno.EEXIST
            if (attributes.sizeBytes !== undefined) {
              this.#changing(present, () => { this.#truncate(present, attributes.sizeBytes ?? 0) })
            }
            return {
              ...this.#found(present), directory: { before: this.#before(directory), after: this.#post(directory) }
            }
          })
      ) as Backend['create'],
      mkdir: call(
        'mkdir',
        (handle: RemoteHandle, name: FileName, attributes: AttributeChanges, credential: Credential) =>
          this.#makeNew(
            handle,
            name,
            () => this.#newNode('directory', attributes.mode ?? 0o755, credential, attributes.gid)
          )
      ) as Backend['mkdir'],
      symlink: call(
        'symlink',
        (handle: RemoteHandle, name: FileName, target: string, _attributes: AttributeChanges, credential: Credential) =>
          this.#makeNew(handle, name, () => this.#newNode('symlink', 0o777, credential, undefined, target))
      ) as Backend['symlink'],
      mknod: call(
        'mknod',
        (
          handle: RemoteHandle,
          name: FileName,
          node: { kind: FileKind },
          attributes: AttributeChanges,
          credential: Credential
        ) => this.#makeNew(handle, name, () => this.#newNode(node.kind, attributes.mode ?? 0o644, credential))
      ) as Backend['mknod'],
      remove: call(
        'remove',
        (handle: RemoteHandle, name: FileName) =>
          this.#withDirectory(handle, (directory) => this.#remove(directory, name, false))
      ),
      rmdir: call(
        'rmdir',
        (handle: RemoteHandle, name: FileName) =>
          this.#withDirectory(handle, (directory) => this.#remove(directory, name, true))
      ),
      rename: call(
        'rename',
        (from: RemoteHandle, fromName: FileName, to: RemoteHandle, toName: FileName) =>
          this.#withDirectory(
            from,
            (source) => this.#withDirectory(to, (target) => this.#rename(source, fromName, target, toName))
          )
      ),
      link: call(
        'link',
        (handle: RemoteHandle, to: RemoteHandle, name: FileName) =>
          this.#withNode(handle, (node) =>
            this.#withDirectory(to, (directory) => {
              if (directory.names.has(name)) return Errno.EEXIST
              if (node.kind === 'directory') return Errno.EPERM
              const change = this.#changing(directory, () => { this.#addName(directory, name, node) })
              this.#changing(node, () => { node.nlink += 1 }, true)
              return { attributes: this.#post(node), directory: change }
            }))
      ),
      readdir: call(
        'readdir',
        (handle: RemoteHandle, position: { cookie: bigint, cookieVerifier: string, withAttributes: boolean }) =>
          this.#withDirectory(handle, (directory) => this.#readdir(directory, position))
      ) as Backend['readdir'],
      statfs: call(
        'statfs',
        () => ({
          totalBytes: 1n << 40n, freeBytes: 1n << 39n, availableBytes: 1n << 39n, totalFiles: 1000n, freeFiles: 500n,
          availableFiles: 500n
        })
      )
    }
  }

  attributesOf (node: Node): Attributes {
    const times = (value: bigint): [number, number] => [Number(value / second), Number(value % second)]
    const [atimeSeconds, atimeNanoseconds] = times(node.atime)
    const [mtimeSeconds, mtimeNanoseconds] = times(node.mtime)
    const [ctimeSeconds, ctimeNanoseconds] = times(node.ctime)
    return {
      kind: node.kind, mode: node.mode, nlink: node.nlink, uid: node.uid, gid: node.gid, sizeBytes: node.data.length,
      usedBytes: node.data.length,
      rdevMajor: node.rdevMajor, rdevMinor: node.rdevMinor, fsid: this.fsidOf(node), fileid: node.fileid,
      atimeSeconds, atimeNanoseconds, mtimeSeconds, mtimeNanoseconds, ctimeSeconds, ctimeNanoseconds,
      change: this.#token(node)
    }
  }

  // What another client does, at once and without a call of ours.

  node (path: string): Node | undefined {
    let at: Node | undefined = this.root
    for (const part of path.split('/').filter((name) => name !== '')) at = at?.names.get(toFileName(part))?.node
    return at
  }

  read (path: string): string | undefined { return this.node(path)?.data.toString('latin1') }
  names (path: string): string[] { return [...this.node(path)?.names.keys() ?? []].sort() }

  /** Makes or replaces a file's content, committed. */
  put (path: string, content: string | Buffer, mode = 0o644): Node {
    const { directory, name } = this.#parent(path)
    let node = directory.names.get(name)?.node
    if (node === undefined) {
      const made = node = this.#newNode('file', mode, rootCredential)
      this.#changing(directory, () => { this.#addName(directory, name, made) })
    }
    const file = node
    this.#changing(file, () => {
      file.data = Buffer.from(content)
      file.stable = Buffer.from(content)
    })
    return file
  }

  makeFolder (path: string): Node {
    const { directory, name } = this.#parent(path)
    const node = this.#newNode('directory', 0o755, rootCredential)
    this.#make(directory, name, node)
    return node
  }

  unlink (path: string): void {
    const { directory, name } = this.#parent(path)
    this.#remove(directory, name, false)
  }

  /** The object is on another file system of the server, under this number there. */
  moveToFilesystem (path: string, fsid: bigint, fileid: bigint): void {
    const node = this.node(path)
    if (node === undefined) throw new Error(`${path} is not there`)
    Object.assign(node, { fsid, fileid, handle: `${node.handle}/${fsid}` })
    this.#nodes.set(node.handle, node)
  }

  chmod (path: string, mode: number): void {
    const node = this.node(path)
    if (node !== undefined) this.#changing(node, () => { node.mode = mode }, true)
  }

  /** The same object under a new handle, as after an export was made anew. */
  changeHandle (path: string): void {
    const node = this.node(path)
    if (node === undefined) return
    this.#nodes.delete(node.handle)
    node.handle = `${node.handle}+` as RemoteHandle
    this.#nodes.set(node.handle, node)
  }

  /** The handle's number is given to a new object of another kind. */
  reuseHandle (path: string, kind: FileKind): void {
    const { directory, name } = this.#parent(path)
    const old = directory.names.get(name)?.node
    if (old === undefined) return
    const node = this.#newNode(kind, 0o644, rootCredential)
    this.#nodes.delete(node.handle)
    node.handle = old.handle
    this.#nodes.set(node.handle, node)
    this.#changing(directory, () => {
      directory.names.delete(name)
      this.#addName(directory, name, node)
    })
  }

  #parent (path: string): { directory: Node, name: FileName } {
    const parts = path.split('/').filter((part) => part !== '')
    const name = toFileName(parts.pop() ?? '')
    const directory = this.node(parts.join('/'))
    if (directory === undefined) throw new Error(`no folder for ${path}`)
    return { directory, name }
  }

  #newNode (kind: FileKind, mode: number, credential: Credential, gid?: number, target = ''): Node {
    this.#lastFileid += 1n
    const now = this.#now()
    const node: Node = {
      fileid: this.#lastFileid, fsid: 1n, handle: `handle${this.#lastFileid}` as RemoteHandle, kind, mode,
      uid: credential.uid,
      gid: gid ?? credential.gid,
      nlink: kind === 'directory' ? 2 : 1, data: Buffer.from(target), stable: Buffer.from(target),
      names: this.#fold === undefined
        ? new Map<FileName, { node: Node, cookie: bigint }>()
        : new FoldingNames(this.#fold),
      target,
      atime: now, mtime: now, ctime: now, rdevMajor: 0, rdevMinor: 0
    }
    this.#nodes.set(node.handle, node)
    return node
  }

  #now (): bigint {
    this.#time += 1n
    return this.#time - this.#time % this.clockStep
  }

  #token (node: Node): ChangeToken {
    return (node.ctime << 64n ^ node.mtime << 20n ^ BigInt(node.data.length)) as ChangeToken
  }
  #before (node: Node): ChangeToken | undefined { return this.givesBefore ? this.#token(node) : undefined }
  #post (node: Node): Attributes | undefined { return this.givesAttributes ? this.attributesOf(node) : undefined }
  #found (node: Node): Found { return { handle: node.handle, attributes: this.#post(node) } }

  #changing (node: Node, change: () => void, isMetadata = false): Change {
    const before = this.#before(node)
    const beforeData = this.givesBefore ? this.attributesOf(node) : undefined
    change()
    node.ctime = this.#now()
    if (!isMetadata) node.mtime = node.ctime
    return { before, beforeData, after: this.#post(node) }
  }

  #withNode<T> (handle: RemoteHandle, work: (node: Node) => T): T | Errno {
    const node = this.#nodes.get(handle)
    return node === undefined || (node.nlink === 0) ? Errno.ESTALE : work(node)
  }

  #withDirectory<T> (handle: RemoteHandle, work: (node: Node) => T): T | Errno {
    return this.#withNode(handle, (node) => node.kind === 'directory' ? work(node) : Errno.ENOTDIR)
  }

  #put (node: Node, offset: number, bytes: Buffer): void {
    if (offset + bytes.length > node.data.length) this.#truncate(node, offset + bytes.length, false)
    node.data = Buffer.from(node.data)
    bytes.copy(node.data, offset)
  }

  #truncate (node: Node, size: number, isStable = true): void {
    const data = Buffer.alloc(size)
    node.data.copy(data)
    node.data = data
    if (isStable) node.stable = Buffer.from(data)
  }

  #setattr (node: Node, changes: AttributeChanges, credential: Credential): Change | Errno {
    const uid = this.squashedTo ?? credential.uid
    const isNow = changes.atime === 'server' || changes.mtime === 'server'
    if (this.enforcesModes && uid !== 0 && uid !== node.uid && !isNow) return Errno.EPERM
    const isData = changes.sizeBytes !== undefined
    return this.#changing(node, () => {
      if (changes.sizeBytes !== undefined) this.#truncate(node, changes.sizeBytes)
      if (changes.mode !== undefined) node.mode = changes.mode
      if (changes.uid !== undefined) node.uid = changes.uid
      if (changes.gid !== undefined) node.gid = changes.gid
      if (changes.mtime !== undefined && changes.mtime !== 'server') {
        node.mtime = BigInt(changes.mtime.seconds) * second + BigInt(changes.mtime.nanoseconds)
      }
      if (changes.atime !== undefined && changes.atime !== 'server') {
        node.atime = BigInt(changes.atime.seconds) * second + BigInt(changes.atime.nanoseconds)
      }
    }, !isData)
  }

  #granted (node: Node, credential: Credential): number {
    if (this.shutOut !== undefined && credential.uid === this.shutOut) return 0
    const uid = this.squashedTo ?? credential.uid
    if (!this.enforcesModes || uid === 0) return 63
    const shift = uid === node.uid
      ? 6
      : credential.gid === node.gid || credential.groups.includes(node.gid)
      ? 3
      : 0
    const bits = (node.mode >> shift) & 7
    return ((bits & 4) === 0 ? 0 : 1) | ((bits & 2) === 0 ? 0 : 4 | 8 | 16) | ((bits & 1) === 0 ? 0 : 2 | 32)
  }

  /** READ goes further than ACCESS, as on real servers: owners, and whoever may execute. */
  #letsRead (node: Node, credential: Credential): boolean {
    return credential.uid === node.uid || (this.#granted(node, credential) & (1 | 32)) !== 0
  }

  #addName (directory: Node, name: FileName, node: Node): void {
    this.#lastCookie += 7n
    directory.names.set(name, { node, cookie: this.#lastCookie })
  }

  #makeNew (handle: RemoteHandle, name: FileName, make: () => Node): Made | Errno {
    return this.#withDirectory(
      handle,
      (directory) => directory.names.has(name) ? Errno.EEXIST : this.#make(directory, name, make())
    )
  }

  #make (directory: Node, name: FileName, node: Node): Made {
    const change = this.#changing(directory, () => {
      this.#addName(directory, name, node)
      if (node.kind === 'directory') directory.nlink += 1
    })
    return { ...this.#found(node), directory: change }
  }

  #remove (directory: Node, name: FileName, isFolder: boolean): Change | Errno {
    const node = directory.names.get(name)?.node
    if (node === undefined) return Errno.ENOENT
    if (isFolder && node.kind !== 'directory') return Errno.ENOTDIR
    if (!isFolder && node.kind === 'directory') return Errno.EISDIR
    if (isFolder && node.names.size > 0) return Errno.ENOTEMPTY
    return this.#changing(directory, () => {
      directory.names.delete(name)
      if (isFolder) directory.nlink -= 1
      this.#changing(node, () => { node.nlink = isFolder ? 0 : node.nlink - 1 }, true)
    })
  }

  #rename (source: Node, fromName: FileName, target: Node, toName: FileName): { from: Change, to: Change } | Errno {
    const moved = source.names.get(fromName)?.node
    if (moved === undefined) return Errno.ENOENT
    const replaced = target.names.get(toName)?.node
    if (replaced === moved) {
      return {
        from: { before: this.#before(source), after: this.#post(source) },
        to: { before: this.#before(target), after: this.#post(target) }
      }
    }
    for (let at: Node | undefined = target; at !== undefined; at = this.#folderOf(at)) {
      if (at === moved) return Errno.EINVAL
    }
    if (replaced !== undefined) {
      if (moved.kind === 'directory' && replaced.kind !== 'directory') return Errno.ENOTDIR
      if (moved.kind !== 'directory' && replaced.kind === 'directory') return Errno.EISDIR
      if (replaced.names.size > 0) return Errno.ENOTEMPTY
    }
    const beforeFrom = this.#before(source)
    const beforeTo = this.#before(target)
    if (replaced !== undefined) this.#remove(target, toName, replaced.kind === 'directory')
    source.names.delete(fromName)
    this.#addName(target, toName, moved)
    if (moved.kind === 'directory') {
      source.nlink -= 1
      target.nlink += 1
    }
    this.#changing(moved, () => undefined, true)
    this.#changing(source, () => undefined)
    if (source !== target) this.#changing(target, () => undefined)
    return {
      from: { before: beforeFrom, after: this.#post(source) }, to: { before: beforeTo, after: this.#post(target) }
    }
  }

  #folderOf (node: Node): Node | undefined {
    for (const other of this.#nodes.values()) {
      for (const { node: child } of other.names.values()) if (child === node) return other
    }
    return undefined
  }

  #readdir (directory: Node, position: { cookie: bigint, cookieVerifier: string, withAttributes: boolean }): unknown {
    if (position.cookie !== 0n && position.cookieVerifier !== this.cookieVerifier) return badCookie
    const all = [...directory.names].filter(([, { cookie }]) => cookie > position.cookie)
    const entries = all.slice(0, this.pageEntries).map(([name, { node, cookie }]): DirectoryEntry => ({
      name, fileid: node.fileid, cookie,
      attributes: position.withAttributes ? this.#post(node) : undefined,
      handle: position.withAttributes ? node.handle : undefined
    }))
    return {
      entries, eof: all.length <= this.pageEntries, cookieVerifier: this.cookieVerifier,
      directory: this.#post(directory)
    }
  }
}
