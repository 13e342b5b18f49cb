/**
 * Names of folders. Owns which names are known to exist or not, how many are kept, and that all names of a folder go
 * when somebody else changed it. Does not know how long they are good: a name is good while its folder's attributes are
 * (attributes.ts).
 */
import type { FileName } from '../../base/brands.ts'
import type { Inode } from '../objects/inode.ts'
import type { InodeTable } from '../objects/inodes.ts'
import type { Invalidator, Nodeid } from '../operations.ts'

/** More notices than this at once would stall the kernel for longer than its own timeouts last. */
const noticesMax = 1_024

export class NameCache {
  readonly #max: number
  readonly #inodes: InodeTable
  readonly #invalidator: Invalidator
  /** Folders with names, least recently used first. */
  readonly #directories = new Set<Inode>()
  #latest: Inode | undefined
  #count = 0

  constructor (parts: { max: number, inodes: InodeTable, invalidator: Invalidator }) {
    this.#max = parts.max
    this.#inodes = parts.inodes
    this.#invalidator = parts.invalidator
  }

  get size (): number { return this.#count }

  /** The number behind a name, 0 when it is known not to exist, undefined when nothing is known. */
  get (directory: Inode, name: FileName): Nodeid | undefined {
    const found = directory.names?.get(name)
    if (found !== undefined) this.#touch(directory)
    return found
  }

  put (directory: Inode, name: FileName, nodeid: Nodeid): void {
    const names = directory.names ??= new Map<FileName, Nodeid>()
    if (names.size === 0) this.#directories.add(directory)
    // Moving a name to the end keeps the map in order of use.
    if (!names.delete(name)) this.#count += 1
    names.set(name, nodeid)
    this.#touch(directory)
    while (this.#count > this.#max) this.#evictOne()
  }

  /** From now on nothing is known about this name. */
  delete (directory: Inode, name: FileName): void {
    directory.hasAllNames = false
    if (directory.names?.delete(name) !== true) return
    this.#count -= 1
    if (directory.names.size === 0) this.#directories.delete(directory)
  }

  /** The kernel is about to hear what the name leads to. A notice about what it was would overtake that, or come after
   * and take a new folder away. */
  expectNews (directory: Inode, name: FileName): void {
    if (directory.names?.delete(name) === true) this.#count -= 1
  }

  /**
   * We made this folder just now, so every name it gets is ours or makes its change token a foreign one: until
   * something is not known about it any more, a name that is not here does not exist. Saves one LOOKUP for every file
   * that is unpacked or copied into it.
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
    if (this.#latest === directory) this.#latest = undefined
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

  #touch (directory: Inode): void {
    if (this.#latest === directory) return
    this.#latest = directory
    this.#directories.delete(directory)
    this.#directories.add(directory)
  }

  #evictOne (): void {
    for (const directory of this.#directories) {
      for (const name of directory.names?.keys() ?? []) {
        this.delete(directory, name)
        return
      }
    }
  }
}
