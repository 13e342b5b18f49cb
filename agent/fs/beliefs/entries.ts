/**
 * Names of folders. Owns which names are known to exist or not, how many are kept, and that all names of a folder go
 * when somebody else changed it. Does not know how long they are good: a name is good while its folder's attributes are
 * (attributes.ts).
 */
import type { FileName } from '../../base/brands.ts'
import { invariant } from '../../base/errors.ts'
import type { Inode } from '../objects/inode.ts'
import type { InodeTable } from '../objects/inodes.ts'
import { UseOrder } from '../objects/use-order.ts'
import type { Invalidator, Nodeid } from '../operations.ts'

/** More notices than this at once would stall the kernel for longer than its own timeouts last. */
const noticesMax = 1_024

export class NameCache {
  readonly #max: number
  readonly #inodes: InodeTable
  readonly #invalidator: Invalidator
  /** Folders with names, least recently used first. */
  readonly #directories = new UseOrder<Inode, UseOrder<FileName, Nodeid>>()
  #count = 0

  constructor (parts: { max: number, inodes: InodeTable, invalidator: Invalidator }) {
    this.#max = parts.max
    this.#inodes = parts.inodes
    this.#invalidator = parts.invalidator
  }

  get size (): number { return this.#count }

  /** The number behind a name, 0 when it is known not to exist, undefined when nothing is known. */
  get (directory: Inode, name: FileName): Nodeid | undefined {
    const { names } = directory
    const found = names?.get(name)
    if (names !== undefined && found !== undefined) this.#directories.put(directory, names)
    return found
  }

  put (directory: Inode, name: FileName, nodeid: Nodeid): void {
    const names = directory.names ??= new UseOrder<FileName, Nodeid>()
    if (names.put(name, nodeid)) this.#count += 1
    this.#directories.put(directory, names)
    while (this.#count > this.#max) this.#evictOne()
  }

  /** From now on nothing is known about this name. */
  delete (directory: Inode, name: FileName): void {
    directory.hasAllNames = false
    this.expectNews(directory, name)
  }

  /** The kernel is about to hear what the name leads to. A notice about what it was would overtake that, or come after
   * and take a new folder away. */
  expectNews (directory: Inode, name: FileName): void {
    const { names } = directory
    if (names?.delete(name) !== true) return
    this.#count -= 1
    if (names.size === 0) this.#directories.delete(directory)
  }

  /**
   * A solo writer made this folder just now, so every name it gets is ours or makes its change token a foreign one:
   * until something is not known about it any more, a name that is not here does not exist. Saves one LOOKUP for every
   * file that is unpacked or copied into it. With other writers there are names that nobody has shown us.
   */
  beginComplete (directory: Inode): void {
    if (directory.names === undefined || directory.names.size === 0) directory.hasAllNames = true
  }

  /** Forgets all names of a folder. */
  clear (directory: Inode): void {
    this.#count -= directory.names?.size ?? 0
    directory.names = undefined
    directory.hasAllNames = false
    this.#directories.delete(directory)
  }

  /**
   * Forgets all names of a folder that somebody else changed, and has the kernel look them up again. Names of folders
   * may be working directories, and missing ones may have become such a moment ago: they only expire. Where the kernel
   * can't do that, those of folders are left to their time, and so they are when nobody knows whether there was a
   * change (`isGuess`): nfs-ganesha's MKDIR leaves it open every time.
   */
  clearForeign (directory: Inode, isGuess: boolean): void {
    const { canExpire } = this.#invalidator
    let notices = 0
    for (const [name, nodeid] of directory.names ?? []) {
      const isFolder = nodeid !== 0 && this.#inodes.get(nodeid)?.kind === 'directory'
      if (isFolder && (isGuess || !canExpire)) continue
      this.#invalidator.entry(directory.nodeid, name, isFolder || nodeid === 0 ? 'expire' : 'drop')
      notices += 1
      if (notices >= noticesMax) break
    }
    this.clear(directory)
  }

  /** The kernel must ask again for this name. */
  expire (directory: Inode, name: FileName): void { this.#invalidator.entry(directory.nodeid, name, 'expire') }

  /**
   * The kernel must ask again for every name of a folder through which not everybody may walk any more. A kernel that
   * cannot expire names drops them, folders too: a lost getcwd(2) is better than a stranger inside.
   */
  expireAll (directory: Inode): void {
    let notices = 0
    for (const [name] of directory.names ?? []) {
      this.#invalidator.entry(directory.nodeid, name, 'expire')
      notices += 1
      if (notices >= noticesMax) break
    }
  }

  #evictOne (): void {
    const directory = this.#directories.oldest
    const name = directory?.names?.oldest
    // Folders are in the list while they have names.
    invariant(directory !== undefined && name !== undefined, 'names that are counted are there')
    this.delete(directory, name)
  }
}
