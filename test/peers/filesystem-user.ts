/**
 * A program's view of `FilesystemOperations`: paths, and a kernel's habits (it counts references, looks names up one by
 * one, and asks again after ESTALE). Owns a small world of server, clock and core for tests. Does not know FUSE.
 */
import { toFileName, type FileName } from '../../agent/base/brands.ts'
import { Errno, errnoName, isErrno } from '../../agent/base/errno.ts'
import type { Credential } from '../../agent/fs/backend.ts'
import { Filesystem } from '../../agent/fs/filesystem.ts'
import { MemoryArena } from '../../agent/fs/written/memory-arena.ts'
import { MemoryState } from '../../agent/fs/objects/memory-state.ts'
import {
  rootNodeid,
  type Caller,
  type Entry,
  type HandleId,
  type ListedEntry,
  type NodeAttributes,
  type Nodeid,
  type Opened,
  type OpenFlags
} from '../../agent/fs/operations.ts'
import type { FilesystemOptions } from '../../agent/fs/options.ts'
import { ManualClock } from './manual-clock.ts'
import { MemoryServer } from './memory-backend.ts'

export const readWrite: OpenFlags = {
  read: true, write: true, append: false, truncate: false, direct: false, sync: false, execute: false
}
export const readOnly: OpenFlags = { ...readWrite, write: false }

export function callerOf (uid: number, gid = uid, groups: readonly number[] = []): Caller {
  const credential: Credential = { uid, gid, groups, key: `${uid}:${gid}:${groups.join(',')}` }
  return { uid, gid, pid: 1, credential }
}
export const root = callerOf(0)

export class Failed extends Error {
  readonly errno: number
  constructor (errno: Errno) {
    super(errnoName(errno))
    this.errno = errno
  }
}

/** The value, or an exception that names the errno. */
export function good<T> (value: T | Errno): T {
  if (isErrno(value)) throw new Failed(value)
  return value
}

export interface Notice {
  readonly kind: 'inode' | 'entry'
  readonly nodeid: Nodeid
  readonly name?: FileName
  readonly offset?: number
  readonly length?: number
}

export class World {
  readonly server: MemoryServer
  readonly clock = new ManualClock()
  readonly state = new MemoryState()
  readonly notices: Notice[] = []
  /** What the kernel was asked to forget. */
  readonly pruned: Nodeid[] = []
  /** Inodes of which something was said that the kernel has not heard yet. */
  readonly unheard = new Set<Nodeid>()
  readonly fs: Filesystem
  readonly arena: MemoryArena
  caller = root

  constructor (options: Partial<FilesystemOptions> & {
    server?: MemoryServer
    arenaBytes?: number
    blockBytes?: number
    kernelCanExpire?: boolean
    kernelCanPrune?: boolean
    onShared?: (path: string) => void
  } = {}) {
    const {
      server = new MemoryServer(),
      arenaBytes = 8 * 1024 * 1024,
      blockBytes = 64 * 1024,
      kernelCanExpire = true,
      kernelCanPrune = true,
      onShared = () => undefined,
      ...rest
    } = options
    this.server = server
    this.arena = new MemoryArena(arenaBytes, blockBytes)
    this.fs = new Filesystem({
      backend: server.backend(),
      state: this.state,
      arena: this.arena,
      invalidator: {
        canExpire: kernelCanExpire,
        canPrune: kernelCanPrune,
        prune: (nodeids) => { this.pruned.push(...nodeids) },
        isHeard: (nodeid) => !this.unheard.has(nodeid),
        whenHeard: () => Promise.resolve(),
        inode: (nodeid, offset, length) => { this.notices.push({ kind: 'inode', nodeid, offset, length }) },
        entry: (nodeid, name) => { this.notices.push({ kind: 'entry', nodeid, name }) }
      },
      options: rest,
      onShared,
      clock: this.clock
    })
  }

  async lookup (path: string): Promise<Entry | Errno> {
    let parent: Nodeid = rootNodeid
    let found: Entry | undefined
    for (const part of path.split('/').filter((name) => name !== '')) {
      const entry = await this.fs.lookup(parent, toFileName(part), this.caller)
      if (isErrno(entry)) return entry
      if (entry.nodeid === 0) return Errno.ENOENT
      found = entry as Entry
      this.#take(found)
      parent = found.nodeid
    }
    if (found !== undefined) return found
    const attributes = await this.getattr(rootNodeid)
    return isErrno(attributes) ? attributes : { ...attributes, generation: 1, entryTtlMs: 0 }
  }

  async getattr (nodeid: Nodeid): Promise<NodeAttributes | Errno> {
    const answer = await this.fs.getattr(nodeid, undefined, this.caller)
    if (!isErrno(answer)) this.fs.acknowledge(answer)
    return answer
  }

  /** What a kernel does with an entry that it has got. */
  #take (entry: Entry): void {
    this.fs.remember(entry.nodeid, 1)
    this.fs.acknowledge(entry)
  }

  async nodeid (path: string): Promise<Nodeid> { return good(await this.lookup(path)).nodeid }

  async at (path: string): Promise<{ parent: Nodeid, name: FileName }> {
    const parts = path.split('/').filter((part) => part !== '')
    const name = toFileName(parts.pop() ?? '')
    const parent = good(await this.lookup(parts.join('/')))
    // A kernel never asks for a name in what is no folder.
    if (parent.attributes.kind !== 'directory') throw new Failed(Errno.ENOTDIR)
    return { parent: parent.nodeid, name }
  }

  async stat (path: string): Promise<Entry['attributes']> {
    const nodeid = await this.nodeid(path)
    return good(await this.getattr(nodeid)).attributes
  }

  async open (path: string, flags: Partial<OpenFlags> = {}): Promise<HandleId> {
    return good(await this.opened(path, flags)).handle
  }

  /** After ESTALE the kernel walks the path again, once. */
  async opened (path: string, flags: Partial<OpenFlags> = {}, caller = this.caller): Promise<Opened | Errno> {
    const attempt = async (): Promise<Opened | Errno> =>
      this.fs.open(await this.nodeid(path), { ...readWrite, ...flags }, caller)
    const opened = await attempt()
    return opened === Errno.ESTALE ? await attempt() : opened
  }

  async create (
    path: string,
    mode = 0o644,
    flags: Partial<OpenFlags> & { exclusive?: boolean } = {}
  ): Promise<HandleId> {
    const { parent, name } = await this.at(path)
    const { exclusive = false, ...rest } = flags
    const { entry, opened } = good(
      await this.fs.create(parent, name, mode, exclusive, { ...readWrite, ...rest }, this.caller)
    )
    this.#take(entry)
    return opened.handle
  }

  async write (handle: HandleId, offset: number, data: string | Buffer): Promise<number> {
    const lent = Buffer.from(data)
    const answer = this.fs.write(handle, offset, lent, false)
    // The core may only read during the call.
    lent.fill(0x21)
    return good(this.#told(handle, await answer)).bytes
  }

  async read (handle: HandleId, offset: number, count: number): Promise<Buffer> {
    const data = good(await this.fs.read(handle, offset, count))
    const bytes = Buffer.concat([...data.parts])
    data.release()
    return bytes
  }

  async readText (handle: HandleId, offset = 0, count = 1 << 20): Promise<string> {
    return (await this.read(handle, offset, count)).toString('latin1')
  }
  async flush (handle: HandleId): Promise<undefined | Errno> {
    return this.#told(handle, await this.fs.flush(handle, this.caller))
  }

  async fsync (handle: HandleId): Promise<undefined | Errno> { return this.#told(handle, await this.fs.fsync(handle)) }

  #told<T> (handle: HandleId, answer: T | Errno): T | Errno {
    if (isErrno(answer)) this.fs.failureTold(handle)
    return answer
  }

  async release (handle: HandleId): Promise<void> { await this.fs.release(handle) }

  async close (handle: HandleId): Promise<undefined | Errno> {
    const error = await this.flush(handle)
    await this.release(handle)
    return error
  }

  async unlink (path: string): Promise<undefined | Errno> {
    const { parent, name } = await this.at(path)
    return this.fs.unlink(parent, name, this.caller)
  }

  async rmdir (path: string): Promise<undefined | Errno> {
    const { parent, name } = await this.at(path)
    return this.fs.rmdir(parent, name, this.caller)
  }

  async mkdir (path: string, mode = 0o755): Promise<undefined | Errno> {
    const { parent, name } = await this.at(path)
    const made = await this.fs.mkdir(parent, name, mode, this.caller)
    if (isErrno(made)) return made
    this.#take(made)
    return undefined
  }

  async rename (from: string, to: string): Promise<undefined | Errno> {
    const source = await this.at(from)
    const target = await this.at(to)
    return this.fs.rename(source.parent, source.name, target.parent, target.name, {
      noReplace: false, exchange: false, whiteout: false
    }, this.caller)
  }

  async link (from: string, to: string): Promise<undefined | Errno> {
    const nodeid = await this.nodeid(from)
    const { parent, name } = await this.at(to)
    const made = await this.fs.link(nodeid, parent, name, this.caller)
    if (isErrno(made)) return made
    this.#take(made)
    return undefined
  }

  async truncate (path: string, sizeBytes: number): Promise<void> {
    good(await this.fs.setattr(await this.nodeid(path), undefined, { sizeBytes }, this.caller))
  }

  /** Everything in a folder, `most` entries per call. */
  async list (path: string, options: { plus?: boolean, most?: number } = {}): Promise<ListedEntry[]> {
    const handle = good(await this.fs.opendir(await this.nodeid(path), this.caller)).handle
    const listed = await this.listHandle(handle, options)
    this.fs.releasedir(handle)
    return listed
  }

  async listHandle (
    handle: HandleId,
    options: { plus?: boolean, most?: number, from?: number } = {}
  ): Promise<ListedEntry[]> {
    const { plus = false, most = 20, from = 0 } = options
    const listed: ListedEntry[] = []
    let offset = from
    for (;;) {
      let taken = 0
      const answer = await this.fs.readdir(handle, offset, plus, (entry) => {
        if (taken === most) return false
        taken += 1
        listed.push(entry)
        if (entry.entry !== undefined) this.#take(entry.entry)
        offset = entry.nextOffset
        return true
      })
      if (answer !== undefined) throw new Failed(answer)
      if (taken === 0) return listed
    }
  }
}
