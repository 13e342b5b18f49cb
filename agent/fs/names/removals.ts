/**
 * Taking names away and moving them: unlink, rmdir, rename. Owns what that does to names and attributes of everything
 * involved. Does not know how an open object survives: that is silly-rename.ts.
 */
import type { FileName } from '../../base/brands.ts'
import { Errno, isErrno } from '../../base/errno.ts'
import type { Change, Credential } from '../backend.ts'
import type { Core } from '../core.ts'
import type { Inode } from '../objects/inode.ts'
import type { Lookups } from './lookups.ts'
import type { Caller, Nodeid, RenameFlags } from '../operations.ts'
import type { SillyRename } from './silly-rename.ts'

interface Place { readonly directory: Inode, readonly name: FileName }

export class Removals {
  readonly #core: Core
  readonly #lookups: Lookups
  readonly #silly: SillyRename

  constructor (core: Core, lookups: Lookups, silly: SillyRename) {
    this.#core = core
    this.#lookups = lookups
    this.#silly = silly
  }

  async unlink (parent: Nodeid, name: FileName, caller: Caller): Promise<undefined | Errno> {
    const directory = this.#core.inodes.get(parent)
    if (directory === undefined) return Errno.ESTALE
    if (directory.sillyNames?.has(name) === true) return Errno.EBUSY
    const place = { directory, name }
    const target = await this.#openTarget(place, caller.credential)
    if (isErrno(target)) return target
    const take = (): Promise<undefined | Errno> =>
      this.#take(
        place,
        target,
        (credential) => this.#core.backend.remove(directory.handle, name, credential),
        caller.credential
      )
    return target === undefined
      ? take()
      : alone(target, () => this.#unlinkKnown(place, target, take, caller.credential))
  }

  async #unlinkKnown (
    place: Place,
    target: Inode,
    take: () => Promise<undefined | Errno>,
    credential: Credential
  ): Promise<undefined | Errno> {
    const hidden = await this.#silly.hideIfOpen(target, place.directory, place.name, credential)
    if (isErrno(hidden)) return hidden
    if (!hidden) return take()
    this.#noteGone(place)
    // The last close may have come while the name was being changed.
    if (target.opens === 0) await this.#silly.remove(target)
    return undefined
  }

  async rmdir (parent: Nodeid, name: FileName, caller: Caller): Promise<undefined | Errno> {
    const { backend, inodes, names } = this.#core
    const directory = inodes.get(parent)
    if (directory === undefined) return Errno.ESTALE
    const known = names.get(directory, name)
    const target = known === undefined ? undefined : inodes.get(known)
    // A file closed a moment ago may still be losing its silly name; rm -r must not fail for that.
    if (target?.sillyRemovals !== undefined) await Promise.all(target.sillyRemovals)
    const answer = await this.#take(
      { directory, name },
      target,
      (credential) => backend.rmdir(directory.handle, name, credential),
      caller.credential
    )
    // POSIX allows either word; programs expect Linux's.
    return answer === Errno.EEXIST ? Errno.ENOTEMPTY : answer
  }

  async rename (
    parent: Nodeid,
    name: FileName,
    newParent: Nodeid,
    newName: FileName,
    flags: RenameFlags,
    caller: Caller
  ): Promise<undefined | Errno> {
    const { inodes } = this.#core
    const from = inodes.get(parent)
    const to = inodes.get(newParent)
    if (from === undefined || to === undefined) return Errno.ESTALE
    // No NFS version before 4.2 can do any of them atomically; the kernel's client refuses alike (fs/nfs/dir.c,
    // nfs_rename).
    if (flags.noReplace || flags.exchange || flags.whiteout) return Errno.EINVAL
    if (newName.length > this.#core.backend.capabilities.nameBytesMax) return Errno.ENAMETOOLONG
    // Programs then copy. What a server would make of it nobody has to find out.
    if (!inodes.numbers.areTogether(from.cached.attributes, to.cached.attributes)) return Errno.EXDEV
    if (from.sillyNames?.has(name) === true || to.sillyNames?.has(newName) === true) return Errno.EBUSY
    const source = { directory: from, name }
    const target = { directory: to, name: newName }
    const replaced = await this.#openTarget(target, caller.credential)
    if (isErrno(replaced)) return replaced
    const move = (): Promise<undefined | Errno> => this.#replace(source, target, replaced, caller.credential)
    return replaced === undefined || replaced.kind === 'directory' ? move() : alone(replaced, move)
  }

  async #replace (
    source: Place,
    target: Place,
    replaced: Inode | undefined,
    credential: Credential
  ): Promise<undefined | Errno> {
    const hidden = await this.#hideOpenTarget(source, target, replaced, credential)
    if (isErrno(hidden)) return hidden
    const answer = await this.#move(source, target, credential)
    if (hidden !== undefined) {
      if (answer !== undefined) await this.#silly.restore(hidden, target.name)
      else if (hidden.opens === 0) await this.#silly.remove(hidden)
    }
    return answer
  }

  /** The object whose name is about to be taken, as far as it matters: undefined when it cannot be open here. */
  async #openTarget (place: Place, credential: Credential): Promise<Inode | undefined | Errno> {
    const { handles, inodes, names } = this.#core
    const known = names.get(place.directory, place.name)
    const inode = known === undefined || known === 0 ? undefined : inodes.get(known)
    if (inode !== undefined && !inode.isStale) return inode
    if (handles.size === 0) return undefined
    const found = await this.#lookups.findRemote(place.directory, place.name, credential)
    return found === Errno.ENOENT ? undefined : found
  }

  async #hideOpenTarget (
    source: Place,
    target: Place,
    replaced: Inode | undefined,
    credential: Credential
  ): Promise<Inode | undefined | Errno> {
    if (replaced === undefined || replaced.kind === 'directory' || replaced.opens === 0) return undefined
    const moved = await this.#lookups.find(source.directory, source.name, credential)
    if (isErrno(moved)) return moved
    // Two names of one object, or a folder over a file: the target stays, so it must keep its name. The server says
    // what is wrong.
    if (moved === replaced || moved.kind === 'directory') return undefined
    const answer = await this.#silly.hideIfOpen(replaced, target.directory, target.name, credential, 'link')
    if (isErrno(answer)) return answer
    return answer ? replaced : undefined
  }

  async #move (source: Place, target: Place, credential: Credential): Promise<undefined | Errno> {
    const { attributes, backend, inodes, names } = this.#core
    const moved = inodes.get(names.get(source.directory, source.name) ?? 0)
    const replaced = inodes.get(names.get(target.directory, target.name) ?? 0)
    const isOneFolder = source.directory === target.directory
    const sentFrom = attributes.begin(source.directory)
    const sentTo = isOneFolder ? sentFrom : attributes.begin(target.directory)
    const answer = await backend.rename(
      source.directory.handle,
      source.name,
      target.directory.handle,
      target.name,
      credential
    )
    if (!isErrno(answer)) names.expectNews(target.directory, target.name)
    attributes.end(source.directory, isErrno(answer) ? undefined : answer.from, sentFrom)
    if (!isOneFolder) attributes.end(target.directory, isErrno(answer) ? undefined : answer.to, sentTo)
    if (isErrno(answer)) {
      attributes.noteFailure(source.directory, answer)
      names.delete(source.directory, source.name)
      names.delete(target.directory, target.name)
      return answer
    }
    if (moved !== undefined && moved === replaced) {
      // rename(2) of one object to a name it has: nothing has happened.
      names.put(target.directory, target.name, moved.nodeid)
      return undefined
    }
    this.#noteGone(source)
    if (moved === undefined) names.delete(target.directory, target.name)
    if (replaced !== undefined && replaced.silly === undefined) this.#noteUnlinked(replaced)
    if (moved !== undefined) {
      attributes.expectCtimeChange(moved)
      moved.where = { parent: target.directory, name: target.name }
      names.put(target.directory, target.name, moved.nodeid)
    }
    return undefined
  }

  async #take (
    place: Place,
    target: Inode | undefined,
    call: (credential: Credential) => Promise<Change | Errno>,
    credential: Credential
  ): Promise<undefined | Errno> {
    const { attributes, names } = this.#core
    const { directory, name } = place
    const sent = attributes.begin(directory)
    const answer = await call(credential)
    attributes.end(directory, isErrno(answer) ? undefined : answer, sent)
    if (isErrno(answer)) {
      attributes.noteFailure(directory, answer)
      if (answer === Errno.ENOENT) names.delete(directory, name)
      return answer
    }
    this.#noteGone(place)
    if (target !== undefined) this.#noteUnlinked(target)
    return undefined
  }

  #noteGone ({ directory, name }: Place): void {
    const { names, options } = this.#core
    if (options.lookupCache === 'all' && !options.noac && directory.cached.own === undefined) {
      names.put(directory, name, 0)
    } else names.delete(directory, name)
  }

  /** One link less, and nothing left to save when it was the last. */
  #noteUnlinked (inode: Inode): void {
    const { attributes, names } = this.#core
    const wasLast = inode.kind === 'directory' || (inode.cached.attributes?.nlink ?? 2) <= 1
    attributes.expectCtimeChange(inode)
    if (inode.kind === 'directory') {
      names.clear(inode)
      inode.isRemoved = true
    }
    if (wasLast && inode.opens === 0) inode.file?.discard()
  }
}

/**
 * One name of an object goes at a time, and nobody opens it meanwhile (open-files.ts). Else two names that go at once
 * would each see the other and take the data from whoever has it open, and an open that the server allowed just before
 * would hold nothing.
 */
async function alone<T> (inode: Inode, work: () => Promise<T>): Promise<T> {
  while (inode.taking !== undefined) await inode.taking
  const done = Promise.withResolvers<void>()
  inode.taking = done.promise
  try {
    return await work()
  } finally {
    inode.taking = undefined
    done.resolve()
  }
}
