/**
 * Removing what is open. Owns the rule of NFS clients (NFSv3 has no open files): the object gets another name in the
 * same folder and loses it at the last close, so that data stays readable and writable. Does not know why the name goes
 * (unlink or rename).
 *
 * An object with more than one link needs none of this: its handle stays good after the name is gone.
 */
import { toFileName, type FileName } from '../../base/brands.ts'
import { Errno, isErrno } from '../../base/errno.ts'
import type { Credential } from '../backend.ts'
import type { Core } from '../core.ts'
import type { Inode, SillyName } from '../objects/inode.ts'

/**
 * `move`: the name goes, as an unlink wants it. `link`: the object gets the other name beside the old one, which a
 * rename then replaces in one step, so that no client ever finds it missing.
 */
type Hiding = 'move' | 'link'

/** Names tried before giving up; another client with the same file open may hold some. */
const triesMax = 64

export class SillyRename {
  readonly #core: Core
  #counter = 0

  constructor (core: Core) { this.#core = core }

  /**
   * Gives the object its other name when taking this one would take the data from somebody who has it open here.
   * Answers whether it did; then the old name is free. Two at once for one object take turns: the second finds it done.
   */
  async hideIfOpen (
    inode: Inode,
    directory: Inode,
    name: FileName,
    credential: Credential,
    how: Hiding = 'move'
  ): Promise<boolean | Errno> {
    while (inode.hiding !== undefined) await inode.hiding
    if (inode.opens === 0) return false
    const hiding = this.#hideIfNeeded(inode, directory, name, credential, how)
    inode.hiding = hiding
    try {
      return await hiding
    } finally {
      inode.hiding = undefined
    }
  }

  async #hideIfNeeded (
    inode: Inode,
    directory: Inode,
    name: FileName,
    credential: Credential,
    how: Hiding
  ): Promise<boolean | Errno> {
    if (!await this.#isNeeded(inode, credential)) return false
    const failure = await this.#hide(inode, directory, name, credential, how)
    return failure ?? true
  }

  async #isNeeded (inode: Inode, credential: Credential): Promise<boolean> {
    if (inode.kind === 'directory' || inode.silly !== undefined) return false
    // A link count from the cache may be older than another client's unlink; only a second link that is there now makes
    // this safe.
    const { attributes } = this.#core
    if ((inode.cached.attributes?.nlink ?? 1) <= 1) return true
    const asked = await attributes.ask(inode, credential)
    return isErrno(asked) || asked.nlink <= 1
  }

  async #hide (
    inode: Inode,
    directory: Inode,
    name: FileName,
    credential: Credential,
    how: Hiding
  ): Promise<undefined | Errno> {
    const hidden = await this.#freeName(inode, directory, credential)
    if (isErrno(hidden)) return hidden
    // Recorded before the deed: a successor removes what it finds under this name, or finds nothing.
    const silly = this.#note(inode, directory, hidden, credential)
    if (how === 'link' && await this.#link(inode, directory, hidden, credential)) {
      silly.isSecondLink = true
      this.#core.names.put(directory, hidden, inode.nodeid)
      return undefined
    }
    const answer = await this.#rename(directory, name, hidden, credential)
    if (isErrno(answer)) {
      this.#forget(inode)
      return answer
    }
    this.#core.names.put(directory, hidden, inode.nodeid)
    return undefined
  }

  /** Puts the old name back, when what it was taken away for did not happen. */
  async restore (inode: Inode, name: FileName): Promise<void> {
    const silly = inode.silly
    if (silly === undefined) return
    if (silly.isSecondLink) return await this.#unlink(inode, silly)
    const answer = await this.#rename(silly.directory, silly.name, name, silly.credential)
    if (isErrno(answer)) return
    this.#forget(inode)
    this.#core.names.delete(silly.directory, silly.name)
    this.#core.names.put(silly.directory, name, inode.nodeid)
  }

  /** After the last close: the data may go. With `isForced` also while it is open: the session ends. */
  async remove (inode: Inode, isForced = false): Promise<void> {
    // A last close in the middle of getting the silly name: there is nothing to remove before that is done.
    while (inode.hiding !== undefined) await inode.hiding
    const silly = inode.silly
    if (silly === undefined || this.#core.backend.isClosed || (inode.opens > 0 && !isForced)) return
    const { directory } = silly
    const removal = this.#remove(inode, directory, silly.name, silly.credential)
    const removals = directory.sillyRemovals ??= new Set<Promise<void>>()
    removals.add(removal)
    await removal
    removals.delete(removal)
  }

  async #remove (inode: Inode, directory: Inode, name: FileName, credential: Credential): Promise<void> {
    const { attributes, backend, inodes, names } = this.#core
    inode.file?.discard()
    const sent = attributes.begin(directory)
    const answer = await backend.remove(directory.handle, name, credential)
    attributes.end(directory, isErrno(answer) ? undefined : answer, sent)
    names.delete(directory, name)
    this.#forget(inode)
    inodes.release(inode)
  }

  /** The old name is still there: only the second one goes. */
  async #unlink (inode: Inode, { directory, name, credential }: SillyName): Promise<void> {
    const { attributes, backend, names } = this.#core
    const sent = attributes.begin(directory)
    const answer = await backend.remove(directory.handle, name, credential)
    attributes.end(directory, isErrno(answer) ? undefined : answer, sent)
    attributes.expectCtimeChange(inode)
    names.delete(directory, name)
    this.#forget(inode)
  }

  async #freeName (inode: Inode, directory: Inode, credential: Credential): Promise<FileName | Errno> {
    const fileid = inode.fileid.toString(16).padStart(16, '0')
    for (let tries = 0; tries < triesMax; tries++) {
      this.#counter += 1
      const name = toFileName(`.nfs${fileid}${this.#counter.toString(16).padStart(8, '0')}`)
      const found = await this.#core.backend.lookup(directory.handle, name, credential)
      if (found === Errno.ENOENT) return name
      if (isErrno(found)) return found
    }
    return Errno.EBUSY
  }

  async #rename (directory: Inode, from: FileName, to: FileName, credential: Credential): Promise<undefined | Errno> {
    const { attributes, backend } = this.#core
    const sent = attributes.begin(directory)
    const answer = await backend.rename(directory.handle, from, directory.handle, to, credential)
    attributes.end(directory, isErrno(answer) ? undefined : answer.to, sent)
    return isErrno(answer) ? answer : undefined
  }

  /** False where the server's file system has no hard links, or no room for one more: its reason does not matter,
   * renaming is left. */
  async #link (inode: Inode, directory: Inode, hidden: FileName, credential: Credential): Promise<boolean> {
    const { attributes, backend } = this.#core
    const sent = attributes.begin(directory)
    const answer = await backend.link(inode.handle, directory.handle, hidden, credential)
    attributes.end(directory, isErrno(answer) ? undefined : answer.directory, sent)
    return !isErrno(answer)
  }

  #note (inode: Inode, directory: Inode, name: FileName, credential: Credential): SillyName {
    const silly: SillyName = { directory, name, credential, isSecondLink: false }
    inode.silly = silly
    const hidden = directory.sillyNames ??= new Map<FileName, Inode>()
    hidden.set(name, inode)
    this.#core.state.silly.set(inode.nodeid, { nodeid: inode.nodeid, directory: directory.handle, name })
    this.#core.attributes.expectCtimeChange(inode)
    return silly
  }

  #forget (inode: Inode): void {
    inode.silly?.directory.sillyNames?.delete(inode.silly.name)
    inode.silly = undefined
    this.#core.state.silly.delete(inode.nodeid)
  }
}
