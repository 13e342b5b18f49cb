/**
 * FIFOs and sockets. They are this node's own: the server never hears of an open(2) or connect(2), and a kernel that
 * does not check mode bits asks nobody (kernel fs/fuse/dir.c, fuse_permission). So each of their names is looked up at
 * every use, and what the caller is shown keeps out who may not enter: the kernel lets nobody write to an object whose
 * owner it cannot name (kernel fs/namei.c, inode_permission, HAS_UNMAPPED_ID).
 *
 * Owns what each caller is shown. The right itself is the server's (ACCESS). Does not know how a name is looked up.
 *
 * | the caller may | FIFO | socket |
 * |---|---|---|
 * | read and write, or write | as it is | as it is |
 * | read | as it is | `ownerless` |
 * | neither | `closed` | `ownerless` |
 *
 * A guise is an inode of its own for the kernel and disturbs nobody else. Who reads and who writes a FIFO must meet in
 * one inode, so there one right brings the other. Refused: to leave the owner out of single answers about that inode; a
 * writer that opens it at the same moment was shut out with the reader.
 */
import { Errno, isErrno } from '../../base/errno.ts'
import type { AccessCache } from './access.ts'
import { Access, type Attributes, type Credential } from '../backend.ts'
import type { Guise, Inode } from '../objects/inode.ts'
import type { InodeTable } from '../objects/inodes.ts'
import type { Entry, Nodeid } from '../operations.ts'

/** A uid that no user namespace maps: (uid_t) -1, kernel include/linux/uidgid.h. */
const nobodyAtAll = 0xffff_ffff
const writeBits = Access.modify | Access.extend

export class SpecialFiles {
  readonly #access: AccessCache
  readonly #inodes: InodeTable
  readonly #kernelChecks: boolean

  constructor (parts: { access: AccessCache, inodes: InodeTable, kernelChecks: boolean }) {
    this.#access = parts.access
    this.#inodes = parts.inodes
    this.#kernelChecks = parts.kernelChecks
  }

  /** What is to be judged here, and so looked up at every use. */
  includes ({ kind }: Pick<Inode, 'kind'>): boolean {
    return !this.#kernelChecks && (kind === 'fifo' || kind === 'socket')
  }

  /** The entry of a special file as this caller is to see it. */
  async entryFor (inode: Inode, entry: Entry, credential: Credential): Promise<Entry | Errno> {
    const granted = await this.#grantedTo(inode, credential)
    if (isErrno(granted)) return granted
    const guise = guiseFor(inode, granted.bits)
    if (guise === undefined) return { ...entry, entryTtlMs: 0 }
    const nodeid = this.#inodes.numberInGuise(inode, guise)
    return { ...entry, nodeid, attributes: shownIn(guise, entry.attributes), attributesTtlMs: 0, entryTtlMs: 0 }
  }

  /** The attributes behind a number that the kernel has. */
  attributesFor (nodeid: Nodeid, attributes: Attributes): Attributes {
    const guise = this.#inodes.guiseOf(nodeid)
    return guise === undefined ? attributes : shownIn(guise, attributes)
  }

  async #grantedTo (inode: Inode, credential: Credential): Promise<{ readonly bits: number } | Errno> {
    let bits = 0
    for (const wanted of [Access.read, writeBits]) {
      const refused = await this.#access.judge(inode, wanted, credential)
      if (refused === undefined) bits |= wanted
      else if (refused !== Errno.EACCES) return refused
    }
    return { bits }
  }
}

function guiseFor ({ kind }: Inode, granted: number): Guise | undefined {
  if ((granted & writeBits) === writeBits) return undefined
  if (kind === 'socket') return 'ownerless'
  return granted === 0 ? 'closed' : undefined
}

/** `closed` is a file to the kernel, so that its open comes here and is refused (files/open-files.ts). */
function shownIn (guise: Guise, attributes: Attributes): Attributes {
  return guise === 'closed' ? { ...attributes, kind: 'file', sizeBytes: 0 } : { ...attributes, uid: nobodyAtAll }
}
