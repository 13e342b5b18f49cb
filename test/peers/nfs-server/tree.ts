/**
 * The exported folder as objects with handles.
 *
 * Owns the way from a handle to a path: an object is known by device, inode number and time of birth (so a reused
 * number is a new object) and remembers the names it was seen under, relative to its parents, so that renaming a folder
 * moves everything below it. A name counts only while the inode is found there. Does not know NFS; a handle that leads
 * nowhere fails as STALE.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, type BigIntStats } from 'node:fs'
import { NfsFailure } from './status.ts'

/** File names and paths are bytes: latin1 text outside, buffers towards the file system. */
export const toPath = (latin1: string): Buffer => Buffer.from(latin1, 'latin1')

export interface TreeObject {
  readonly handle: Buffer
  readonly key: string
  /** Where it was seen: parent and name. The root has none. */
  readonly names: { parent: TreeObject, name: string }[]
  /** createverf3 of the exclusive CREATE that made it. */
  createVerifier: string | undefined
}

export interface Found {
  readonly object: TreeObject
  readonly path: string
  readonly stats: BigIntStats
}

interface OpenFile {
  readonly fd: number
  users: number
  dropped: boolean
}

/** What is shown of an object instead of what lstat says. */
export type Disguise = (stats: BigIntStats) => { readonly nlink?: bigint, readonly ino?: bigint }

const openFilesMax = 256
/** Four letters, inode number, time of birth mixed with the device. */
const handleBytes = 20

export class Tree {
  readonly #folder: string
  readonly #objects = new Map<string, TreeObject>()
  readonly #open = new Map<string, OpenFile>()
  readonly #disguise: Disguise | undefined
  readonly root: TreeObject
  readonly device: bigint

  /** `folder` is latin1 text as all paths here. */
  constructor (folder: string, disguise?: Disguise) {
    this.#folder = folder
    this.#disguise = disguise
    const stats = lstatSync(toPath(folder), { bigint: true })
    this.device = stats.dev
    this.root = this.#intern(stats)
  }

  #intern (stats: BigIntStats): TreeObject {
    const handle = Buffer.alloc(handleBytes)
    handle.write('vbnf', 0, 'latin1')
    handle.writeBigUInt64BE(stats.ino, 4)
    handle.writeBigUInt64BE(BigInt.asUintN(64, stats.birthtimeNs ^ (stats.dev << 44n)), 12)
    const key = handle.toString('latin1')
    const known = this.#objects.get(key)
    if (known !== undefined) return known
    const object: TreeObject = { handle, key, names: [], createVerifier: undefined }
    this.#objects.set(key, object)
    return object
  }

  /** The object under a name, which must exist there. */
  child (parent: Found, name: string): Found {
    const path = `${parent.path}/${name}`
    const stats = lstatSync(toPath(path), { bigint: true })
    const object = this.#intern(stats)
    if (!object.names.some((known) => known.parent === parent.object && known.name === name)) {
      object.names.push({ parent: parent.object, name })
    }
    return { object, path, stats: this.#shown(stats) }
  }

  #shown (stats: BigIntStats): BigIntStats {
    const changes = this.#disguise?.(stats)
    if (changes === undefined) return stats
    const own = Object.entries(changes).map(([name, value]) => [name, { value, enumerable: true }] as const)
    return Object.create(stats, Object.fromEntries(own)) as BigIntStats
  }

  parentOf (found: Found): Found {
    const parent = found.object.names[0]?.parent
    return parent === undefined ? found : this.#find(parent)
  }

  /** The object of a handle, where it is now. */
  find (handle: Buffer): Found {
    const object = this.#objects.get(handle.toString('latin1'))
    if (object === undefined) {
      throw new NfsFailure(
        handle.length === handleBytes && handle.toString('latin1', 0, 4) === 'vbnf' ? 'STALE' : 'BADHANDLE'
      )
    }
    return this.#find(object)
  }

  #find (object: TreeObject): Found {
    if (object === this.root) {
      return { object, path: this.#folder, stats: this.#shown(lstatSync(toPath(this.#folder), { bigint: true })) }
    }
    for (const known of [...object.names]) {
      const found = this.#at(object, known.parent, known.name)
      if (found !== undefined) return found
      object.names.splice(object.names.indexOf(known), 1)
    }
    this.forget(object)
    throw new NfsFailure('STALE')
  }

  #at (object: TreeObject, parent: TreeObject, name: string): Found | undefined {
    try {
      const path = `${this.#find(parent).path}/${name}`
      const stats = lstatSync(toPath(path), { bigint: true })
      return this.#intern(stats) === object ? { object, path, stats: this.#shown(stats) } : undefined
    } catch {
      return undefined
    }
  }

  /** A name is gone or leads elsewhere now. */
  unname (object: TreeObject, parent: TreeObject, name: string): void {
    const index = object.names.findIndex((known) => known.parent === parent && known.name === name)
    if (index >= 0) object.names.splice(index, 1)
    if (object.names.length === 0) this.forget(object)
  }

  forget (object: TreeObject): void {
    this.#objects.delete(object.key)
    this.#drop(object.key)
  }

  #drop (key: string): void {
    const file = this.#open.get(key)
    if (file === undefined) return
    this.#open.delete(key)
    file.dropped = true
    if (file.users === 0) closeSync(file.fd)
  }

  /** Runs `work` with a descriptor of a regular file; descriptors are kept for the next call. */
  async withFile<T> (found: Found, work: (fd: number) => Promise<T>): Promise<T> {
    if (!found.stats.isFile()) throw new NfsFailure(found.stats.isDirectory() ? 'ISDIR' : 'INVAL')
    const { key } = found.object
    let file = this.#open.get(key)
    if (file === undefined) {
      file = { fd: openSync(toPath(found.path), constants.O_RDWR | constants.O_NOFOLLOW), users: 0, dropped: false }
      this.#open.set(key, file)
      const oldest = this.#open.keys().next().value
      if (this.#open.size > openFilesMax && oldest !== undefined) this.#drop(oldest)
    }
    file.users++
    try {
      return await work(file.fd)
    } finally {
      file.users--
      if (file.dropped && file.users === 0) closeSync(file.fd)
    }
  }

  statsOf (fd: number): BigIntStats { return this.#shown(fstatSync(fd, { bigint: true })) }

  close (): void {
    for (const key of [...this.#open.keys()]) this.#drop(key)
  }
}
