/**
 * Attributes on request: getattr, setattr, readlink, access, statfs. Owns the order between changes of attributes and
 * written bytes. Does not know names.
 */
import { Errno, isErrno } from '../../base/errno.ts'
import type { MaybePromise } from '../../base/maybe-promise.ts'
import { accessBitsOf } from '../beliefs/access.ts'
import {
  Access,
  type AttributeChanges,
  type Attributes,
  type Change,
  type Credential,
  type RemoteHandle
} from '../backend.ts'
import type { Core } from '../core.ts'
import type { OpenHandle } from '../objects/handles.ts'
import type { Inode } from '../objects/inode.ts'
import type { Caller, NodeAttributes, Nodeid, StatfsAnswer } from '../operations.ts'

/** inode(7) */
const SET_UID = 0o4000
const SET_GID = 0o2000
const GROUP_EXECUTE = 0o010

/** f_bsize when nothing better is known: a page. */
const blockBytes = 4096

/** File systems whose last values are kept for a silent server. */
const statisticsKept = 64

export class Metadata {
  readonly #core: Core
  /** By fsid; the root's file system is `undefined`. */
  readonly #lastStatistics = new Map<bigint | undefined, StatfsAnswer>()

  constructor (core: Core) { this.#core = core }

  getattr (nodeid: Nodeid, handle: OpenHandle | undefined, caller: Caller): MaybePromise<NodeAttributes | Errno> {
    const { attributes, inodes, soft, special } = this.#core
    const inode = inodes.get(nodeid)
    if (inode === undefined) return Errno.ESTALE
    // The server would say ESTALE of a folder that is gone; fstat(2) of one that is open answers.
    const gone = inode.isRemoved ? attributes.present(inode) : undefined
    if (gone !== undefined) return gone
    if (special.includes(inode)) return this.#special(inode, nodeid, caller.credential)
    // Under an old number only what is open goes on: a path is walked again, and leads to the new one.
    if (inode.nodeid !== nodeid && inode.opens === 0) return Errno.ESTALE
    const isDirty = attributes.areBehind(inode)
    // With a handle the kernel asks for itself, before it reads or seeks: it needs the size, which we know better than
    // the server. It is told to ask again, because mtime is the server's to say once the bytes are there (nfs(5): stat
    // sees own writes).
    if (attributes.isFresh(inode) && (!isDirty || handle !== undefined)) {
      const known = attributes.present(inode)
      if (known !== undefined) return known
    }
    const credential = handle?.credential ?? caller.credential
    return soft.or(() => this.#ask(inode, credential), () => inode.isStale ? undefined : attributes.present(inode))
  }

  async setattr (
    nodeid: Nodeid,
    handle: OpenHandle | undefined,
    changes: AttributeChanges,
    caller: Caller
  ): Promise<NodeAttributes | Errno> {
    const { access, backend, inodes, special } = this.#core
    const inode = inodes.get(nodeid)
    if (inode === undefined) return Errno.ESTALE
    if (changes.sizeBytes !== undefined && changes.sizeBytes > backend.capabilities.fileBytesMax) return Errno.EFBIG
    const credential = handle?.credential ?? caller.credential
    // truncate(2) needs the right to write. The kernel leaves that to us, and servers let owners set a size whatever
    // the mode says (RFC 1813 section 4.4).
    if (changes.sizeBytes !== undefined && handle === undefined) {
      const refused = await access.judge(inode, Access.modify | Access.extend, credential)
      if (refused !== undefined) return refused
    }
    const failure = await this.#mayTouch(inode, changes, credential) ?? await this.#chmod(inode, changes, credential)
    if (failure !== undefined) return failure
    return special.includes(inode) ? this.#special(inode, nodeid, credential) : this.#shown(inode, credential)
  }

  /** A change that may shut somebody out of a folder through which the kernel lets everybody walk. */
  async #chmod (inode: Inode, changes: AttributeChanges, credential: Credential): Promise<undefined | Errno> {
    const isFolderMode = changes.mode !== undefined && inode.kind === 'directory'
    const closing = isFolderMode ? await this.#core.search.beforeChmod(inode, changes.mode) : undefined
    try {
      return await this.change(inode, changes, credential)
    } finally {
      closing?.done()
    }
  }

  /**
   * utimensat(2) with one time to be now and the other to stay is the owner's alone, but as a SETATTR servers let
   * everybody do it who may write. Whether the caller is the owner to the server shows when it is given the time it
   * has.
   */
  async #mayTouch (
    inode: Inode,
    { atime, mtime }: AttributeChanges,
    credential: Credential
  ): Promise<undefined | Errno> {
    const known = inode.cached.attributes
    const isOneNow = (atime === 'server') !== (mtime === 'server') && (atime === undefined || mtime === undefined)
    if (!isOneNow || known === undefined || credential.uid === 0 || credential.uid === known.uid) return undefined
    const same = atime === 'server'
      ? { atime: { seconds: known.atimeSeconds, nanoseconds: known.atimeNanoseconds } }
      : { mtime: { seconds: known.mtimeSeconds, nanoseconds: known.mtimeNanoseconds } }
    return await this.change(inode, same, credential)
  }

  /** A FIFO or a socket under one of its numbers. */
  async #special (inode: Inode, nodeid: Nodeid, credential: Credential): Promise<NodeAttributes | Errno> {
    const shown = await this.#shown(inode, credential)
    if (isErrno(shown)) return shown
    return { ...shown, nodeid, attributes: this.#core.special.attributesFor(nodeid, shown.attributes) }
  }

  /** SETATTR, after the bytes written before it: a late WRITE would undo a size, a time or a cleared set-id bit. */
  async change (inode: Inode, changes: AttributeChanges, credential: Credential): Promise<undefined | Errno> {
    const file = inode.file
    const send = (): Promise<Change | Errno> => this.#send(inode, changes, credential)
    let answer: Change | Errno
    if (file === undefined || file.isEmpty) {
      answer = await send()
    } else if (changes.sizeBytes !== undefined) {
      answer = await file.aroundTruncate(changes.sizeBytes, send)
    } else {
      // Committed too: bytes written again after a reboot would move mtime and drop set-id bits. The kernel's client
      // does the same (fs/nfs/inode.c, nfs_setattr), and a small file then costs its close nothing.
      await file.settle()
      answer = await send()
    }
    if (isErrno(answer)) return answer
    if (changes.sizeBytes !== undefined && changes.mode === undefined) {
      await this.#dropSetId(inode, answer.after, credential)
    }
    return undefined
  }

  /**
   * Linux takes set-id bits from a file that is truncated; a server that does it with rights of its own (nfs-ganesha)
   * leaves them. The owner's client can repair that. Somebody else's cannot, and need not: only a write could put code
   * behind the bits, and drops them.
   */
  async #dropSetId (inode: Inode, after: Attributes | undefined, credential: Credential): Promise<void> {
    if (after === undefined || credential.uid === 0 || credential.uid !== after.uid) return
    const bits = after.mode & (SET_UID | ((after.mode & GROUP_EXECUTE) === 0 ? 0 : SET_GID))
    if (bits !== 0) await this.#send(inode, { mode: after.mode & ~bits }, credential)
  }

  async readlink (nodeid: Nodeid, caller: Caller): Promise<Buffer | Errno> {
    const { attributes, backend, inodes } = this.#core
    const inode = inodes.get(nodeid)
    if (inode === undefined) return Errno.ESTALE
    if (inode.kind !== 'symlink') return Errno.EINVAL
    const sent = attributes.stamp()
    const answer = await backend.readlink(inode.handle, caller.credential)
    if (isErrno(answer)) {
      attributes.noteFailure(inode, answer)
      return answer
    }
    attributes.apply(inode, answer.attributes, sent)
    return Buffer.from(answer.target, 'latin1')
  }

  /** access(2) and chdir(2): the server says, for the caller. */
  access (nodeid: Nodeid, mask: number, caller: Caller): MaybePromise<undefined | Errno> {
    const { access, inodes } = this.#core
    const inode = inodes.get(nodeid)
    if (inode === undefined) return Errno.ESTALE
    const wanted = accessBitsOf(mask, inode.kind === 'directory')
    const known = access.known(inode, wanted, caller.credential)
    return known === 'unknown' ? this.#judged(inode, wanted, caller.credential) : known
  }

  async #judged (inode: Inode, wanted: number, credential: Credential): Promise<undefined | Errno> {
    const { access, search, soft } = this.#core
    const verdict = await soft.or(
      async () => ({ refused: await access.ask(inode, wanted, credential) }),
      () => {
        const last = access.lastKnown(inode, wanted, credential)
        return last === 'unknown' ? undefined : { refused: last }
      }
    )
    if (isErrno(verdict)) return verdict
    if (verdict.refused === Errno.EACCES && wanted === Access.lookup) search.refused(inode, credential)
    return verdict.refused
  }

  /** Of the file system that the object is on: below the volume's root there may be others. */
  statfs (nodeid: Nodeid, caller: Caller): MaybePromise<StatfsAnswer | Errno> {
    const { backend, inodes, soft } = this.#core
    const inode = inodes.get(nodeid)
    if (inode === undefined) return Errno.ESTALE
    const fsid = inode.cached.attributes?.fsid
    const isMain = fsid === undefined || inodes.numbers.isMain(fsid)
    const handle = isMain ? backend.root.handle : inode.handle
    const key = isMain ? undefined : fsid
    return soft.or(() => this.#askStatistics(handle, key, caller.credential), () => this.#lastStatistics.get(key))
  }

  async #askStatistics (
    handle: RemoteHandle,
    key: bigint | undefined,
    credential: Credential
  ): Promise<StatfsAnswer | Errno> {
    const answer = await this.#core.backend.statfs(handle, credential)
    if (isErrno(answer)) return answer
    const { nameBytesMax } = this.#core.backend.capabilities
    const statistics: StatfsAnswer = { ...answer, nameBytesMax, blockBytes }
    if (this.#lastStatistics.size >= statisticsKept) this.#lastStatistics.clear()
    this.#lastStatistics.set(key, statistics)
    return statistics
  }

  async #ask (inode: Inode, credential: Credential): Promise<NodeAttributes | Errno> {
    if (this.#core.attributes.areBehind(inode)) await inode.file?.writeOut()
    return this.#shown(inode, credential)
  }

  async #shown (inode: Inode, credential: Credential): Promise<NodeAttributes | Errno> {
    const { attributes } = this.#core
    if (!attributes.isFresh(inode)) {
      const asked = await attributes.refresh(inode, credential)
      if (isErrno(asked)) return asked
    }
    return attributes.present(inode) ?? Errno.ESTALE
  }

  async #send (inode: Inode, changes: AttributeChanges, credential: Credential): Promise<Change | Errno> {
    const { attributes, backend } = this.#core
    const sent = attributes.begin(inode)
    const answer = await backend.setattr(inode.handle, changes, credential)
    if (isErrno(answer)) attributes.noteFailure(inode, answer)
    else inode.access = undefined
    attributes.end(inode, isErrno(answer) ? undefined : answer, sent)
    return answer
  }
}
