/**
 * Making objects and names: create, mkdir, symlink, mknod, link. Owns what the server is asked to make and what the
 * caches learn from its answer. Does not know how an open file is used.
 */
import type { FileName } from '../../base/brands.ts'
import { Errno, isErrno } from '../../base/errno.ts'
import {
  Access, type AttributeChanges, type CreateMode, type Credential, type FileKind, type Made
} from '../backend.ts'
import type { Core } from '../core.ts'
import type { Inode } from '../objects/inode.ts'
import type { Lookups } from './lookups.ts'
import type { Caller, Entry, Nodeid, NodeToMake } from '../operations.ts'

/** What is asked for: the kind decides which bits a mount group needs. */
interface Wanted { readonly kind: FileKind, readonly mode: number }

export class Creations {
  readonly #core: Core
  readonly #lookups: Lookups

  constructor (core: Core, lookups: Lookups) {
    this.#core = core
    this.#lookups = lookups
  }

  /** A regular file; its inode and entry. O_TRUNC is not in the CREATE: a file that was there is emptied after its
   * unsent bytes. */
  create (
    parent: Nodeid,
    name: FileName,
    mode: number,
    how: CreateMode,
    caller: Caller
  ): Promise<{ inode: Inode, entry: Entry } | Errno> {
    return this.#make(
      parent,
      name,
      { kind: 'file', mode },
      caller,
      (directory, attributes) => this.#core.backend.create(directory.handle, name, how, attributes, caller.credential)
    )
  }

  async mkdir (parent: Nodeid, name: FileName, mode: number, caller: Caller): Promise<Entry | Errno> {
    const { backend, names, options } = this.#core
    let isShown = false
    const made = await this.#make(parent, name, { kind: 'directory', mode }, caller, async (directory, attributes) => {
      const answer = await backend.mkdir(directory.handle, name, attributes, caller.credential)
      isShown = !isErrno(answer) && answer.attributes !== undefined
      return answer
    })
    // Another node may have put a file into it by now, and closed it: only a solo writer's names are all its own.
    // Without attributes in the answer nothing tells later whether somebody was in the folder before we first asked.
    if (options.soloWriter && !isErrno(made) && isShown) names.beginComplete(made.inode)
    return entryOf(made)
  }

  async symlink (parent: Nodeid, name: FileName, target: string, caller: Caller): Promise<Entry | Errno> {
    if (!this.#core.backend.capabilities.symlinks) return Errno.EPERM
    return entryOf(
      await this.#make(
        parent,
        name,
        { kind: 'symlink', mode: 0o777 },
        caller,
        (directory, attributes) =>
          this.#core.backend.symlink(directory.handle, name, target, attributes, caller.credential)
      )
    )
  }

  async mknod (
    parent: Nodeid,
    name: FileName,
    node: NodeToMake,
    caller: Caller
  ): Promise<Entry | Errno> {
    const { kind, major, minor, mode } = node
    // MKNOD of NFSv3 makes no regular files; mknod(2) must not find one there already.
    if (kind === 'file') return entryOf(await this.create(parent, name, mode, { kind: 'guarded' }, caller))
    return entryOf(
      await this.#make(
        parent,
        name,
        { kind, mode },
        caller,
        (directory, attributes) =>
          this.#core.backend.mknod(directory.handle, name, { kind, major, minor }, attributes, caller.credential)
      )
    )
  }

  async link (nodeid: Nodeid, newParent: Nodeid, newName: FileName, caller: Caller): Promise<Entry | Errno> {
    const { attributes, backend, inodes, names } = this.#core
    const inode = inodes.get(nodeid)
    const directory = inodes.get(newParent)
    if (inode === undefined || directory === undefined) return Errno.ESTALE
    if (!backend.capabilities.hardLinks) return Errno.EPERM
    if (newName.length > backend.capabilities.nameBytesMax) return Errno.ENAMETOOLONG
    if (inode.silly !== undefined) return Errno.ENOENT
    if (!inodes.numbers.areTogether(inode.cached.attributes, directory.cached.attributes)) return Errno.EXDEV
    const refused = await this.#mayPin(inode, caller)
    if (refused !== undefined) return refused
    const sentDirectory = attributes.begin(directory)
    const sentInode = attributes.begin(inode)
    const answer = await backend.link(inode.handle, directory.handle, newName, caller.credential)
    if (!isErrno(answer)) names.expectNews(directory, newName)
    attributes.end(directory, isErrno(answer) ? undefined : answer.directory, sentDirectory)
    attributes.end(inode, isErrno(answer) ? undefined : { before: undefined, after: answer.attributes }, sentInode)
    if (isErrno(answer)) {
      this.#noteFailure(directory, newName, answer)
      return answer
    }
    names.put(directory, newName, inode.nodeid)
    if (answer.attributes === undefined || !attributes.isFresh(inode)) {
      const asked = await attributes.refresh(inode, caller.credential)
      if (isErrno(asked)) return asked
    }
    return this.#lookups.entry(directory, inode)
  }

  /**
   * fs.protected_hardlinks: who neither owns a file nor may read and write it makes no link to it. The kernel asks for
   * that right without asking us (kernel fs/namei.c, safe_hardlink_source), so it is judged here. Who may override it
   * owns or is root, as the kernel has found out before.
   */
  async #mayPin (inode: Inode, { credential }: Caller): Promise<undefined | Errno> {
    const { access, options } = this.#core
    if (!options.protectedHardlinks || options.kernelChecks || credential.uid === 0) return undefined
    if (credential.uid === inode.cached.attributes?.uid) return undefined
    const refused = await access.judge(inode, Access.read | Access.modify | Access.extend, credential)
    return refused === Errno.EACCES ? Errno.EPERM : refused
  }

  async #make (
    parent: Nodeid,
    name: FileName,
    wanted: Wanted,
    caller: Caller,
    call: (directory: Inode, attributes: AttributeChanges) => Promise<Made | Errno>
  ): Promise<{ inode: Inode, entry: Entry } | Errno> {
    const { backend, inodes } = this.#core
    const directory = inodes.get(parent)
    if (directory === undefined) return Errno.ESTALE
    if (name.length > backend.capabilities.nameBytesMax) return Errno.ENAMETOOLONG
    const { mountGroup } = this.#core.options
    const attributes = this.#attributesOf(wanted)
    let made = await this.#call(directory, name, caller.credential, () => call(directory, attributes))
    // Only a member (or root, unsquashed) may give a file to a group; then the folder's own set-gid bit is what is
    // left.
    if (made === Errno.EPERM && mountGroup !== undefined) {
      const { gid, ...rest } = attributes
      if (gid !== undefined) made = await this.#call(directory, name, caller.credential, () => call(directory, rest))
    }
    if (isErrno(made)) return made
    // The server left out what it made, and by the name we found what somebody else has put in its place. The kernel
    // would call that EIO.
    if (made.kind !== wanted.kind) return Errno.EEXIST
    const entry = this.#lookups.entry(directory, made)
    return isErrno(entry) ? entry : { inode: made, entry }
  }

  async #call (
    directory: Inode,
    name: FileName,
    credential: Credential,
    call: () => Promise<Made | Errno>
  ): Promise<Inode | Errno> {
    const { attributes, names } = this.#core
    const sent = attributes.begin(directory)
    const made = await call()
    if (!isErrno(made)) names.expectNews(directory, name)
    attributes.end(directory, isErrno(made) ? undefined : made.directory, sent)
    if (isErrno(made)) {
      this.#noteFailure(directory, name, made)
      return made
    }
    const inode = await this.#lookups.adopt(made, sent, credential)
    if (isErrno(inode)) {
      // It is there, and not known: in a folder that we made it must not count as missing.
      names.delete(directory, name)
      return inode
    }
    inode.where = { parent: directory, name }
    names.put(directory, name, inode.nodeid)
    return inode
  }

  #noteFailure (directory: Inode, name: FileName, errno: Errno): void {
    this.#core.attributes.noteFailure(directory, errno)
    // The server knows more about this name than we do.
    this.#core.names.delete(directory, name)
  }

  #attributesOf ({ kind, mode }: Wanted): AttributeChanges {
    const { mountGroup } = this.#core.options
    if (mountGroup === undefined || kind === 'symlink') return { mode }
    const groupBits = kind === 'directory' ? 0o2070 : 0o060
    return { mode: mode | groupBits, gid: mountGroup }
  }
}

function entryOf (made: { entry: Entry } | Errno): Entry | Errno {
  return isErrno(made) ? made : made.entry
}
