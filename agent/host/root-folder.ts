/**
 * Folders in which root acts. From the look to the deed each is one descriptor: whoever renames folders or puts links
 * in their place meanwhile changes nothing.
 *
 * Owns the walk to a folder (one component after the other, each judged by `trust.ts`, through no link that is not
 * root's) and deeds by name in an open one. Does not know what is kept there.
 */
import {
  closeSync, constants, fchmodSync, fstatSync, fsyncSync, lstatSync, mkdirSync, openSync, readSync, readdirSync,
  readlinkSync, renameSync, rmdirSync, unlinkSync, type Stats
} from 'node:fs'
import { VolumeError } from '../base/errors.ts'
import { byDescriptor, isTrustedOwner, refuse, requireRoots, showFolder } from './trust.ts'

/** open(2); Node names it nowhere. */
const O_PATH = 0o10000000
const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants
/** As the kernel does (MAXSYMLINKS). */
const linksMax = 40

const hasCode = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code
const partsOf = (path: string): string[] => path.split('/').filter((part) => part !== '' && part !== '.')
const closeAll = (fds: readonly number[]): void => { for (const fd of fds) closeSync(fd) }

/** Errors name the folder and not our descriptor of it. */
function spelled<T> (fd: number, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof Error) || !error.message.includes(byDescriptor(fd))) throw error
    throw Object.assign(error, { message: error.message.replaceAll(byDescriptor(fd), showFolder(fd)) })
  }
}

/**
 * The link's text; undefined for what is none or not there. @throws VolumeError DENIED for a link that is not root's.
 */
function linkAt (parent: number, name: string): string | undefined {
  const file = `${byDescriptor(parent)}/${name}`
  const facts = lstatSync(file, { throwIfNoEntry: false })
  if (facts?.isSymbolicLink() !== true) return undefined
  if (isTrustedOwner(facts.uid)) return readlinkSync(file)
  return refuse(`the link ${showFolder(parent)}/${name}`, `belongs to uid ${facts.uid}`, 'remove it')
}

const enter = (parent: number, name: string): number =>
  openSync(`${byDescriptor(parent)}/${name}`, O_PATH | O_DIRECTORY | O_NOFOLLOW)

function enterOrMake (parent: number, name: string, make: number | undefined): number {
  try {
    return enter(parent, name)
  } catch (error) {
    if (make === undefined || !hasCode(error, 'ENOENT')) throw error
  }
  try {
    mkdirSync(`${byDescriptor(parent)}/${name}`, { mode: make })
  } catch (error) {
    // Somebody else has made it meanwhile: it is judged like any other.
    if (!hasCode(error, 'EEXIST')) throw error
  }
  return enter(parent, name)
}

export interface WalkOptions {
  /** Where `/` is, for the path and for the links on the way. */
  readonly base?: RootFolder | undefined
  /** Missing folders are made with this mode. */
  readonly make?: number | undefined
  /** The last component may be no link; those on the way may. */
  readonly noLink?: boolean
}

/** From a start to the folder that holds the last component. Every folder on the way stays open, for `..`. */
class Walk {
  readonly #trail: number[]
  readonly #rest: string[]
  readonly #options: WalkOptions
  readonly #path: string
  #links = 0

  constructor (path: string, options: WalkOptions) {
    this.#path = path
    this.#rest = partsOf(path)
    this.#options = options
    this.#trail = [openSync(options.base === undefined ? '/' : options.base.here, O_PATH | O_DIRECTORY)]
  }

  get folder (): number { return this.#trail.at(-1) ?? -1 }

  /** The last component's name, or undefined when the path ends in `folder` itself. */
  run (): string | undefined {
    requireRoots(this.folder, true)
    for (let part = this.#rest.shift(); part !== undefined; part = this.#rest.shift()) {
      if (part === '..') this.#up()
      else if (!this.#followed(part)) {
        if (this.#rest.length === 0) return part
        this.push(part)
      }
    }
    return undefined
  }

  /** Enters a folder below the last. */
  push (name: string): void {
    this.#trail.push(spelled(this.folder, () => enterOrMake(this.folder, name, this.#options.make)))
    requireRoots(this.folder, true)
  }

  #up (): void {
    if (this.#trail.length > 1) closeAll(this.#trail.splice(-1))
  }

  #followed (part: string): boolean {
    const link = linkAt(this.folder, part)
    if (link === undefined) return false
    if (this.#options.noLink === true && this.#rest.length === 0) {
      refuse(`${showFolder(this.folder)}/${part}`, 'is a symbolic link and not a folder', 'remove it or choose another')
    }
    if (++this.#links > linksMax) throw new VolumeError('INVALID', `${this.#path}: too many symbolic links`)
    if (link.startsWith('/')) closeAll(this.#trail.splice(1))
    this.#rest.unshift(...partsOf(link))
    return true
  }

  close (): void { closeAll(this.#trail) }
}

export class RootFolder {
  readonly #fd: number

  private constructor (fd: number) {
    this.#fd = fd
  }

  /**
   * @throws VolumeError DENIED when others than root can write to it or to a folder on the way; the system's ENOENT.
   */
  static open (path: string, options: WalkOptions = {}): RootFolder {
    const walk = new Walk(path, options)
    try {
      const last = walk.run()
      if (last !== undefined) walk.push(last)
      return RootFolder.#judged(openSync(`${byDescriptor(walk.folder)}/.`, O_RDONLY | O_DIRECTORY), false)
    } finally {
      walk.close()
    }
  }

  /** As `open`; undefined for a folder that is not there. */
  static openIfThere (path: string, options: WalkOptions = {}): RootFolder | undefined {
    try {
      return RootFolder.open(path, options)
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined
      throw error
    }
  }

  /**
   * The node's root folder, or another from which paths begin: things are not made in it, so it may be sticky.
   * @throws VolumeError DENIED
   */
  static openBase (path: string): RootFolder {
    return RootFolder.#judged(openSync(path, O_RDONLY | O_DIRECTORY), true)
  }

  static #judged (fd: number, isPassed: boolean): RootFolder {
    try {
      requireRoots(fd, isPassed)
      return new RootFolder(fd)
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  /** This folder as a path, for calls that take nothing else. Good as long as it is open. */
  get here (): string { return `${byDescriptor(this.#fd)}/.` }
  get path (): string { return showFolder(this.#fd) }
  get facts (): Stats { return fstatSync(this.#fd) }

  /** A name in this folder as a path, for calls that take nothing else. Good as long as it is open. */
  at (name: string): string {
    if (name === '' || name === '..' || name.includes('/')) {
      throw new VolumeError('INVALID', `${JSON.stringify(name)} is not a file name`)
    }
    return `${byDescriptor(this.#fd)}/${name}`
  }

  #by<T> (work: () => T): T { return spelled(this.#fd, work) }

  names (): string[] { return readdirSync(this.here) }
  /** Of the name itself, never of what a link leads to. */
  look (name: string): Stats | undefined {
    return this.#by(() => lstatSync(this.at(name), { throwIfNoEntry: false }))
  }

  /** A folder in this one. @throws VolumeError DENIED when others than root can write to it; the system's ENOTDIR for a
   * link. */
  child (name: string): RootFolder {
    return RootFolder.#judged(this.#by(() => openSync(this.at(name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW)), false)
  }

  makeChild (name: string, mode: number): RootFolder {
    this.#by(() => { mkdirSync(this.at(name), { mode }) })
    return this.child(name)
  }

  /** A descriptor of a file in this folder. A link is no file (ELOOP), and a pipe does not make us wait. */
  openFile (name: string, flags: number, mode?: number): number {
    return this.#by(() => openSync(this.at(name), flags | O_NOFOLLOW | O_NONBLOCK, mode))
  }

  setMode (mode: number): void { fchmodSync(this.#fd, mode) }
  removeFile (name: string): void { this.#by(() => { unlinkSync(this.at(name)) }) }
  removeFolder (name: string): void { this.#by(() => { rmdirSync(this.at(name)) }) }
  rename (from: string, to: string, folder: RootFolder = this): void {
    this.#by(() => { renameSync(this.at(from), folder.at(to)) })
  }

  sync (): void { fsyncSync(this.#fd) }
  close (): void { closeSync(this.#fd) }
}

/** Opens, works, closes. */
export function withRootFolder<T> (folder: RootFolder, work: (folder: RootFolder) => T): T {
  try {
    return work(folder)
  } finally {
    folder.close()
  }
}

/**
 * One folder where nobody but root can lead us elsewhere. One that is there already is fine: it is judged when it is
 * used. @throws VolumeError DENIED when others than root can write to a folder on the way; the system's errors
 */
export function makeRootFolder (path: string, mode: number): void {
  const walk = new Walk(path, {})
  try {
    const name = walk.run()
    if (name === undefined) return
    spelled(walk.folder, () => { mkdirSync(`${byDescriptor(walk.folder)}/${name}`, { mode }) })
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
  } finally {
    walk.close()
  }
}

/**
 * The text of a file that root has written, or undefined when it is not there. Pipes, devices and what is longer than
 * `bytesMax` are refused: a file's owner must not make the reader wait or grow.
 * @throws VolumeError DENIED, INVALID
 */
export function readRootFile (path: string, bytesMax: number, base?: RootFolder): string | undefined {
  const walk = new Walk(path, { base })
  try {
    const name = walk.run()
    if (name === undefined) throw new VolumeError('INVALID', `${path} is not a file`)
    requireRoots(walk.folder, false)
    return readBounded(
      openSync(`${byDescriptor(walk.folder)}/${name}`, O_RDONLY | O_NOFOLLOW | O_NONBLOCK),
      path,
      bytesMax
    )
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined
    throw error
  } finally {
    walk.close()
  }
}

function readBounded (fd: number, path: string, bytesMax: number): string {
  try {
    const facts = fstatSync(fd)
    if (!facts.isFile()) throw new VolumeError('INVALID', `${path} is not a regular file`)
    if (!isTrustedOwner(facts.uid) || (facts.mode & 0o022) !== 0) {
      refuse(path, 'can be written by others', 'chown root, chmod go-w')
    }
    const bytes = Buffer.alloc(bytesMax + 1)
    let filled = 0
    for (let read = -1; read !== 0 && filled < bytes.length; filled += read) {
      read = readSync(fd, bytes, filled, bytes.length - filled, filled)
    }
    if (filled > bytesMax) throw new VolumeError('INVALID', `${path} is longer than ${bytesMax} bytes`)
    return bytes.toString('utf8', 0, filled)
  } finally {
    closeSync(fd)
  }
}
