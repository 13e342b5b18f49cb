/**
 * Mounting and looking at mount points, each as a host call with a deadline.
 * Owns which system calls make a bind, a read-only bind, an unmount. Does not know volumes, sessions or whose mount it
 * is.
 */
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { HostError, VolumeError } from '../base/errors.ts'
import type { MountFlags } from '../base/volume-spec.ts'
import { listFolders } from './cgroups.ts'
import type { HostCallOptions, HostCalls } from './host-calls.ts'
import { callNames, MNT, MS, type HostOp } from './host-program.ts'
import { parseMountinfo, type MountEntry, type Mountinfo } from './mountinfo.ts'
import { sameNamespaces, type NodeNamespaces } from './namespaces.ts'

export type PathKind = 'folder' | 'file' | 'symlink' | 'other' | 'missing' | 'orphan'
/** What stands at a path, and the path as mountinfo spells it. `orphan`: the parent folder is missing too. */
export interface PathFacts {
  readonly kind: PathKind
  readonly path: string
}

export interface FileSystemFigures {
  readonly type: bigint
  readonly fragmentBytes: bigint
  readonly blocks: bigint
  readonly freeBlocks: bigint
  readonly availableBlocks: bigint
  readonly files: bigint
  readonly freeFiles: bigint
}

export interface FolderFacts { readonly mode: number, readonly uid: number, readonly gid: number }

export interface MountRequest {
  readonly source: string
  readonly target: string
  readonly type: string
  readonly data: string
  readonly flags: number
}

const S_IFMT = 0o170000
const kinds: Readonly<Record<number, PathKind>> = { 0o040000: 'folder', 0o100000: 'file', 0o120000: 'symlink' }

/** The per-mount flags of mount(2). `readOnly` is left to the bind. */
export function mountFlagBits (flags: MountFlags): number {
  const bits = {
    readOnly: 0,
    nosuid: MS.NOSUID,
    nodev: MS.NODEV,
    noexec: MS.NOEXEC,
    noatime: MS.NOATIME,
    nodiratime: MS.NODIRATIME,
    relatime: MS.RELATIME,
    sync: MS.SYNCHRONOUS,
    dirsync: MS.DIRSYNC
  } as const satisfies Record<keyof MountFlags, number>
  return Object.entries(bits).reduce((sum, [name, bit]) => flags[name as keyof MountFlags] ? sum | bit : sum, 0)
}

/** What `mountFlagBits` would have been given for a mount that is there, but for read-only. */
export function flagBitsOf ({ options }: MountEntry): number {
  const bits: Readonly<Record<string, number>> = {
    nosuid: MS.NOSUID, nodev: MS.NODEV, noexec: MS.NOEXEC, noatime: MS.NOATIME, nodiratime: MS.NODIRATIME,
    relatime: MS.RELATIME
  }
  return options.reduce((sum, option) => sum | (bits[option] ?? 0), 0)
}

const refusedLink = (path: string, cause: HostError): VolumeError =>
  new VolumeError('DENIED', `a symbolic link on the way to "${path}" belongs to another user than root`, {
    cause, remedy: 'give the folder it leads to'
  })

export class Mounts {
  readonly #calls: HostCalls
  readonly #namespaces: NodeNamespaces
  /** Run before every program: enters the node's namespaces when the agent lives in a container. */
  readonly #before: readonly HostOp[]
  #last: { readonly text: string, readonly mounts: Mountinfo } = { text: '', mounts: [] }

  constructor (calls: HostCalls, namespaces: NodeNamespaces = sameNamespaces()) {
    this.#calls = calls
    this.#namespaces = namespaces
    this.#before = namespaces.enter.map((path) => ({ op: 'setns', path }))
  }

  /** What is mounted where these calls mount. */
  async mountinfo (): Promise<Mountinfo> {
    const text = await readFile(this.#namespaces.mountinfo, 'utf8')
    // Asked for each volume's statistics; on a node with a thousand mounts reading it costs little and parsing it
    // milliseconds.
    if (text !== this.#last.text) this.#last = { text, mounts: parseMountinfo(text) }
    return this.#last.mounts
  }

  /** What the kernel's NFS client counts, where these calls mount. */
  async mountstats (): Promise<string> {
    return await readFile(join(dirname(this.#namespaces.mountinfo), 'mountstats'), 'utf8')
  }

  async #run (ops: readonly HostOp[], options?: HostCallOptions): Promise<Buffer | undefined> {
    const results = await this.#calls.run([...this.#before, ...ops], options)
    return results.get(this.#before.length)
  }

  /**
   * Never asks the file system mounted at the path, only its parents. What is done at the path that comes back goes
   * through no link any more.
   * @throws VolumeError DENIED when a link on the way is another user's, who could lead us anywhere
   */
  async inspect (path: string, options?: HostCallOptions): Promise<PathFacts> {
    try {
      const data = await this.#run([{ op: 'inspect', path }], options)
      if (data === undefined) throw new HostError({ code: 'EIO', errno: 5, call: `resolving ${path}` })
      const exists = data.readUInt32LE(0) === 1
      const resolved = data.subarray(12).toString('utf8')
      if (!exists) return { kind: 'missing', path: resolved }
      /* A dead mount may refuse even its mode; whatever is mounted there is a folder for us. */
      if (data.readUInt32LE(8) !== 0) return { kind: 'folder', path: resolved }
      return { kind: kinds[data.readUInt32LE(4) & S_IFMT] ?? 'other', path: resolved }
    } catch (error) {
      if (error instanceof HostError && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) {
        return { kind: 'orphan', path }
      }
      if (error instanceof HostError && error.code === 'EPERM') throw refusedLink(path, error)
      throw error
    }
  }

  async isEmpty (path: string, options?: HostCallOptions): Promise<boolean> {
    try {
      await this.#run([{ op: 'empty', path }], options)
      return true
    } catch (error) {
      if (error instanceof HostError && error.code === 'ENOTEMPTY') return false
      throw error
    }
  }

  async makeFolder (path: string, mode: number, options?: HostCallOptions): Promise<void> {
    await this.#run([{ op: 'mkdir', path, mode }], options)
  }

  async removeFolder (path: string, options?: HostCallOptions): Promise<void> {
    await this.#run([{ op: 'rmdir', path }], options)
  }

  /** In this order, until one refuses. */
  async removeFolders (paths: readonly string[], options?: HostCallOptions): Promise<void> {
    await this.#run(paths.map((path) => ({ op: 'rmdir', path })), options)
  }

  /** Of a file system of the kernel's own, which nobody has to be waited for. */
  async foldersIn (path: string): Promise<readonly string[]> {
    return await listFolders(join(dirname(this.#namespaces.mountinfo), 'root', path))
  }

  /** Inode number, never that of a remote file system: for folders of our own. */
  async inodeOf (path: string, options?: HostCallOptions): Promise<bigint> {
    const data = await this.#run([{ op: 'stat', path }], options)
    if (data === undefined) throw new HostError({ code: 'EIO', errno: 5, call: `stat ${path}` })
    return data.readBigUInt64LE(32)
  }

  /** Writes a word to a control file of the kernel (sysfs, fusectl, cgroups). */
  async writeControl (path: string, text: string, options?: HostCallOptions): Promise<void> {
    await this.#run([{ op: 'write', path, text }], options)
  }

  /** FS_IMMUTABLE_FL of a folder, beneath whatever is mounted on it. EBUSY: something is, on a kernel (before 5.2) that
   * cannot look beneath. */
  async setImmutable (path: string, immutable: boolean, options?: HostCallOptions): Promise<void> {
    await this.#run([{ op: 'immutable', path, mode: immutable ? 1 : 0 }], options)
  }

  async chmod (path: string, mode: number, options?: HostCallOptions): Promise<void> {
    await this.#run([{ op: 'chmod', path, mode }], options)
  }

  async statfs (path: string, options?: HostCallOptions): Promise<FileSystemFigures> {
    const data = await this.#run([{ op: 'statfs', path }], options)
    if (data === undefined) throw new HostError({ code: 'EIO', errno: 5, call: `statfs ${path}` })
    const [
      type = 0n,
      fragmentBytes = 0n,
      blocks = 0n,
      freeBlocks = 0n,
      availableBlocks = 0n,
      files = 0n,
      freeFiles = 0n
    ] = Array.from({ length: 7 }, (_, n) => data.readBigUInt64LE(n * 8))
    return { type, fragmentBytes, blocks, freeBlocks, availableBlocks, files, freeFiles }
  }

  /** Mounts a file system on a folder that is no symlink. */
  async mount (request: MountRequest, options?: HostCallOptions): Promise<void> {
    await this.#run([{ op: 'mountAt', ...request }], options)
  }

  /**
   * Mounts one folder of a file system, which is entered without following any link or leaving the file system's root.
   * The whole of it is mounted in a namespace of the child's own, where nobody sees it; only the folder gets out
   * (open_tree, move_mount). Before Linux
   * 5.2 it stays below the folder's bind on the same mount point.
   */
  async mountFolder (request: MountRequest & { readonly beneath: string }, options?: HostCallOptions): Promise<void> {
    const { beneath, ...mount } = request
    const { target } = mount
    try {
      await this.#run([
        { op: 'isolate', path: target }, { op: 'mountAt', ...mount },
        { op: 'beneath', base: target, path: beneath, flags: 0 }, { op: 'attach', path: target }
      ], options)
    } catch (error) {
      if (!(error instanceof HostError && error.code === 'ENOSYS')) throw error
      await this.#run([{ op: 'mountAt', ...mount }, { op: 'beneath', base: target, path: beneath, flags: 1 }], options)
    }
  }

  /** Whether `mountFolder` mounted the file system and then could not enter the folder. */
  isAboutFolder (error: HostError): boolean {
    return error.call.startsWith(callNames.beneath)
  }

  /** Asks the file system itself for its root. */
  async rootOf (path: string, options?: HostCallOptions): Promise<FolderFacts> {
    const data = await this.#run([{ op: 'stat', path }], options)
    if (data === undefined) throw new HostError({ code: 'EIO', errno: 5, call: `stat ${path}` })
    const [mode = 0, uid = 0, gid = 0] = Array.from({ length: 3 }, (_, n) => Number(data.readBigUInt64LE(n * 8)))
    return { mode: mode & 0o7777, uid, gid }
  }

  async chgrp (path: string, gid: number, options?: HostCallOptions): Promise<void> {
    await this.#run([{ op: 'chgrp', path, mode: gid }], options)
  }

  /** Writes back what the kernel holds for a file system. */
  async sync (path: string, options?: HostCallOptions): Promise<void> {
    await this.#run([{ op: 'syncfs', path }], options)
  }

  /** Fails what is being waited for at the server, for every user of the file system, and unmounts nothing. */
  async abortRequests (path: string, options?: HostCallOptions): Promise<void> {
    await this.#run([{ op: 'abort', path }], options)
  }

  /**
   * Binds `source` at `target`, read-only if asked: the flag belongs to the bind, so a second step sets it, repeating
   * the other flags, which a remount would else clear. `anew` does that step also for a writable bind, which else takes
   * its flags from its source.
   *
   * Nobody sees a read-only bind while it can be written to: a container that follows the target (HostToContainer) may
   * be running when a dead mount is replaced. It is made in a namespace of the child's own, over its source, and comes
   * out finished. Before Linux 5.2 the two steps are done in place; if the second fails the bind is taken away again.
   */
  async bind (
    request: {
      source: string
      target: string
      flags: number
      readOnly: boolean
      anew?: boolean
      /** What is bound is this folder or file below `source`, reached through no link; ENOSYS before Linux 5.2. */
      beneath?: string
    },
    options?: HostCallOptions
  ): Promise<void> {
    const { source, target, flags, readOnly, anew = false, beneath = '' } = request
    const bindAt = (folder: string): HostOp => ({
      op: 'mountAt', source, target: folder, type: '', data: '', flags: MS.BIND
    })
    const setFlags = (folder: string): HostOp => ({
      op: 'mountAt', source: '', target: folder, type: '', data: '',
      flags: MS.BIND | MS.REMOUNT | (readOnly ? MS.RDONLY : 0) | flags
    })
    if (readOnly || beneath !== '') {
      try {
        await this.#run([{ op: 'isolate', path: target }, bindAt(source), setFlags(source), {
          op: 'beneath', base: source, path: beneath, flags: beneath === '' ? 0 : 2
        }, { op: 'attach', path: target }], options)
        return
      } catch (error) {
        if (beneath !== '' || !(error instanceof HostError && error.code === 'ENOSYS')) throw error
      }
    }
    await this.#run([bindAt(target)], options)
    if (!readOnly && !anew) return
    try {
      await this.#run([setFlags(target)], options)
    } catch (error) {
      await this.unmount(target, { detach: true }, options).catch(() => undefined)
      throw error
    }
  }

  /** umount2 with UMOUNT_NOFOLLOW. `force` aborts the file system's requests for every user of it, `detach` takes the
   * name away at once. */
  async unmount (
    path: string,
    how: { force?: boolean, detach?: boolean } = {},
    options?: HostCallOptions
  ): Promise<void> {
    const flags = (how.force === true ? MNT.FORCE : 0) | (how.detach === true ? MNT.DETACH : 0)
    await this.#run([{ op: 'umount', path, flags }], options)
  }
}
