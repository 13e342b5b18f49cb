/**
 * st_ino. All that is mounted has one st_dev, and an export may show several file systems of its server (crossmnt,
 * child data sets, junctions), which number their objects each from the start. Programs that tell objects by st_dev and
 * st_ino (find, tar, rsync, cp) would take two for one: they report loops and link files that are not the same.
 *
 * Owns the number that is shown: the server's own on the file system of the volume's root, and one made of fsid and
 * fileid elsewhere. Submounts with a st_dev of their own would be right too; FUSE has them for virtiofs alone (kernel
 * fs/fuse/inode.c, fuse_iget: auto_submounts). Does not know objects or caches.
 */
import type { Attributes } from '../backend.ts'

type Place = Pick<Attributes, 'fsid' | 'fileid'>

/** Numbers that are made have this bit, which file systems leave alone as long as they can. */
const madeBit = 1n << 63n

export class InodeNumbers {
  /** File system of the volume's root. */
  #main: bigint | undefined
  #isTrusted = true

  /** False when the server has named two fsids for one object: then they mean nothing. */
  get isTrusted (): boolean { return this.#isTrusted }

  setMain (fsid: bigint): void { this.#main = fsid }
  distrust (): void { this.#isTrusted = false }

  isMain (fsid: bigint): boolean { return !this.#isTrusted || fsid === this.#main }

  /** The first file system that is seen is that of the root. */
  of ({ fsid, fileid }: Place): bigint {
    this.#main ??= fsid
    return fsid === this.#main || !this.#isTrusted ? fileid : madeBit | (mixed(mixed(fsid) ^ fileid) >> 1n)
  }

  /** Whether a name of one can lead to the other (link(2), rename(2)). */
  areTogether (one: Place | undefined, other: Place | undefined): boolean {
    return !this.#isTrusted || one === undefined || other === undefined || one.fsid === other.fsid
  }
}

/** 64 bits in, 64 well mixed bits out, no two alike (the finalizer of MurmurHash3). */
function mixed (value: bigint): bigint {
  let bits = BigInt.asUintN(64, value)
  bits = BigInt.asUintN(64, (bits ^ (bits >> 33n)) * 0xff51afd7ed558ccdn)
  bits = BigInt.asUintN(64, (bits ^ (bits >> 33n)) * 0xc4ceb9fe1a85ec53n)
  return bits ^ (bits >> 33n)
}
