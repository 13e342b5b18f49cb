/**
 * One driver's folder and file on disk: written whole or not at all.
 *
 * Owns the order of writing (a dot name, content, mode, fsync, a trial run, rename, fsync of the folder), what is left
 * of a crash, and telling our file from others'. kubelet's watcher ignores names that begin with a dot and acts on any
 * other at once, and a probe that fails is repeated for ever (k8s flexvolume/probe.go): nothing but a whole driver may
 * ever have a plain name there. Does not know how the plugin folder was found; it is open, and everything is done below
 * that descriptor.
 */
import { randomBytes } from 'node:crypto'
import { closeSync, constants, copyFileSync, fchmodSync, fchownSync, fstatSync, fsyncSync, linkSync } from 'node:fs'
import type { Stats } from 'node:fs'
import { VolumeError } from '../../base/errors.ts'
import { withRootFolder, type RootFolder } from '../../host/root-folder.ts'
import { byDescriptor } from '../../host/trust.ts'
import type { DriverName } from './driver-name.ts'
import { fileContains, isSameContent } from './file-content.ts'

export type Way = 'reflink' | 'copy' | 'hard link'
export type Deed = 'installed' | 'upgraded' | 'unchanged'

const freshSuffix = '.fresh'
const goneSuffix = '.gone'
const ownNames = /^\..*\.[0-9a-f]{12}\.(?:fresh|gone)$/
/** Younger ones may be another installer's, at work now. */
const leftOverMs = 10 * 60_000
/** A text that every build of ours contains. */
const mark = 'volbridge.addonSource'

const isCode = (error: unknown, code: string): boolean => (error as NodeJS.ErrnoException).code === code
const freshName = (name: string, suffix: string): string => `.${name}.${randomBytes(6).toString('hex')}${suffix}`

export interface Placing {
  /** A descriptor of what is to be the driver. */
  readonly source: number
  /** A driver of ours in the same plugin folder: it gets a second name instead of a second hundred megabytes. */
  readonly twin: DriverName | undefined
  readonly plugins: RootFolder
  readonly driver: DriverName
  /** Whether the file works where it lies: its descriptor, and its name for itself. @throws when it does not. */
  readonly tryOut: (file: number, name: string) => void
}

function withFile<T> (folder: RootFolder, name: string, work: (file: number) => T): T {
  const file = folder.openFile(name, constants.O_RDONLY)
  try {
    return work(file)
  } finally {
    closeSync(file)
  }
}

/** False where the file system cannot, or has reached its limit. */
function linkTwin (plugins: RootFolder, twin: DriverName, fresh: RootFolder, name: string): boolean {
  return withRootFolder(plugins.child(twin.folder), (folder) => {
    try {
      linkSync(folder.at(twin.file), fresh.at(name))
      return true
    } catch (error) {
      if (['EXDEV', 'EMLINK', 'EPERM', 'EOPNOTSUPP'].some((code) => isCode(error, code))) return false
      throw error
    }
  })
}

function copy (source: number, fresh: RootFolder, name: string): Way {
  const { COPYFILE_EXCL, COPYFILE_FICLONE_FORCE } = constants
  try {
    copyFileSync(byDescriptor(source), fresh.at(name), COPYFILE_EXCL | COPYFILE_FICLONE_FORCE)
    return 'reflink'
  } catch {
    copyFileSync(byDescriptor(source), fresh.at(name), COPYFILE_EXCL)
    return 'copy'
  }
}

/**
 * The driver's file in a folder that nobody else can enter: a copy is made with the mode of its source, and who has it
 * open for writing before the mode is ours keeps that. The source itself is never linked: whoever may write to it (a
 * download folder's owner, a build) would write to the node's driver.
 */
function fill (fresh: RootFolder, { source, twin, plugins, driver, tryOut }: Placing): Way {
  const name = driver.file
  const isLinked = twin !== undefined && linkTwin(plugins, twin, fresh, name)
  const way = isLinked ? 'hard link' : copy(source, fresh, name)
  withFile(fresh, name, (file) => {
    if (!isLinked) {
      if (process.geteuid?.() === 0) fchownSync(file, 0, 0)
      fchmodSync(file, 0o755)
      fsyncSync(file)
    }
    tryOut(file, `${fresh.path}/${name}`)
  })
  return way
}

/** A whole driver in a fresh dot folder of `parent`, given to `use`. Nothing of it is left behind when that is over. */
function withFresh (parent: RootFolder, placing: Placing, use: (name: string, fresh: RootFolder) => void): Way {
  const name = freshName(placing.driver.folder, freshSuffix)
  const fresh = parent.makeChild(name, 0o700)
  try {
    const way = fill(fresh, placing)
    use(name, fresh)
    return way
  } finally {
    fresh.close()
    if (parent.look(name) !== undefined) emptyAndRemove(parent, name)
  }
}

function emptyAndRemove (parent: RootFolder, name: string): void {
  withRootFolder(parent.child(name), (folder) => {
    for (const each of folder.names()) {
      if (folder.look(each)?.isDirectory() === true) emptyAndRemove(folder, each)
      else folder.removeFile(each)
    }
  })
  parent.removeFolder(name)
}

/** Removes what an installer that was killed has left. */
export function removeLeftOvers (folder: RootFolder): void {
  for (const name of folder.names().filter((candidate) => ownNames.test(candidate))) {
    const facts = folder.look(name)
    if (facts === undefined || Date.now() - facts.mtimeMs < leftOverMs) continue
    if (facts.isDirectory()) emptyAndRemove(folder, name)
    else folder.removeFile(name)
  }
}

const isOursIn = (folder: RootFolder, name: string): boolean =>
  folder.look(name)?.isFile() === true && withFile(folder, name, (file) => fileContains(file, mark))

/** @throws VolumeError CONFLICT for what is not ours to replace. */
function requireOurs (folder: RootFolder, name: string): void {
  if (isOursIn(folder, name)) return
  throw new VolumeError('CONFLICT', `${folder.path}/${name} is another driver's and is not replaced`, {
    field: '--driver', remedy: 'remove it if nothing uses it, or choose another --driver'
  })
}

/** The driver's folder if it is there. @throws VolumeError when it is none, or others than root can write to it. */
function openDriverFolder (plugins: RootFolder, { folder }: DriverName): RootFolder | undefined {
  const facts = plugins.look(folder)
  if (facts === undefined) return undefined
  if (facts.isDirectory()) return plugins.child(folder)
  throw new VolumeError(
    'CONFLICT',
    `${plugins.path}/${folder} is ${facts.isSymbolicLink() ? 'a symbolic link, which kubelet does not follow' : 'no folder'}`,
    { field: '--driver', remedy: 'remove it' }
  )
}

export function isOurs (plugins: RootFolder, driver: DriverName): boolean {
  const folder = plugins.look(driver.folder)?.isDirectory() === true ? plugins.child(driver.folder) : undefined
  return folder !== undefined && withRootFolder(folder, () => isOursIn(folder, driver.file))
}

const isWhole = ({ uid, mode }: Stats): boolean =>
  (mode & 0o777) === 0o755 && (uid === 0 || uid === process.geteuid?.())

function isInPlace (folder: RootFolder, name: string, source: number): boolean {
  return withFile(folder, name, (file) => isWhole(fstatSync(file)) && isSameContent(source, file))
}

export interface Placed {
  readonly deed: Deed
  readonly way: Way | undefined
}

/** A new driver appears with its folder in one rename, an existing one is replaced in one rename; live processes keep
 * the old file. */
export function placeDriver (placing: Placing): Placed {
  const folder = openDriverFolder(placing.plugins, placing.driver)
  if (folder === undefined) return { deed: 'installed', way: placeNewFolder(placing) }
  return withRootFolder(folder, () => placeIn(folder, placing))
}

function placeIn (folder: RootFolder, placing: Placing): Placed {
  const { file } = placing.driver
  removeLeftOvers(folder)
  const isThere = folder.look(file) !== undefined
  if (isThere) requireOurs(folder, file)
  if (isThere && isInPlace(folder, file, placing.source)) return { deed: 'unchanged', way: undefined }
  const way = withFresh(folder, placing, (_name, fresh) => { fresh.rename(file, file, folder) })
  folder.sync()
  return { deed: isThere ? 'upgraded' : 'installed', way }
}

function placeNewFolder (placing: Placing): Way {
  const { plugins, driver } = placing
  const way = withFresh(plugins, placing, (name, fresh) => {
    fresh.setMode(0o755)
    fresh.sync()
    plugins.rename(name, driver.folder)
  })
  plugins.sync()
  return way
}

/**
 * False when there was none. The folder vanishes from kubelet's sight in one rename before anything in it is deleted.
 */
export function removeDriver (plugins: RootFolder, driver: DriverName): boolean {
  const folder = openDriverFolder(plugins, driver)
  if (folder === undefined) return false
  withRootFolder(folder, () => { requireOnlyOurs(folder, driver.file) })
  const gone = freshName(driver.folder, goneSuffix)
  plugins.rename(driver.folder, gone)
  plugins.sync()
  emptyAndRemove(plugins, gone)
  return true
}

function requireOnlyOurs (folder: RootFolder, file: string): void {
  if (folder.look(file) !== undefined) requireOurs(folder, file)
  const others = folder.names().filter((name) => name !== file && !ownNames.test(name))
  if (others.length === 0) return
  throw new VolumeError(
    'CONFLICT',
    `${folder.path} holds ${others.slice(0, 5).join(', ')}, which is not ours and is not deleted`,
    { field: '--driver', remedy: 'remove that first' }
  )
}
