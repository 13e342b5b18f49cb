/**
 * One driver's folder and file on disk: written whole or not at all.
 *
 * Owns the order of writing (a dot name, content, mode, fsync, a trial run, rename, fsync of the folder), what is left
 * of a crash, and telling our file from others'. kubelet's watcher ignores names that begin with a dot and acts on any
 * other at once, and a probe that fails is repeated for ever (k8s flexvolume/probe.go): nothing but a whole driver may
 * ever have a plain name there.
 */
import { createHash, randomBytes } from 'node:crypto'
import {
  chmodSync, chownSync, closeSync, constants, copyFileSync, fsyncSync, linkSync, lstatSync, mkdirSync, openSync,
  readSync, readdirSync, renameSync,
  rmdirSync, statSync, unlinkSync, type Stats
} from 'node:fs'
import path from 'node:path'
import { VolumeError } from '../../base/errors.ts'
import type { DriverName } from './driver-name.ts'
import { contains } from './floor.ts'

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

export function factsOf (file: string): Stats | undefined {
  return lstatSync(file, { throwIfNoEntry: false })
}

function syncPath (file: string): void {
  const fd = openSync(file, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function hashOf (file: string): string {
  const hash = createHash('sha256')
  const chunk = Buffer.alloc(1 << 20)
  const fd = openSync(file, 'r')
  try {
    for (let read = readSync(fd, chunk); read > 0; read = readSync(fd, chunk)) hash.update(chunk.subarray(0, read))
  } finally {
    closeSync(fd)
  }
  return hash.digest('hex')
}

const isSame = (a: string, b: string): boolean => statSync(a).size === statSync(b).size && hashOf(a) === hashOf(b)

/**
 * `twin` is a driver of ours on the same file system: it gets a second name instead of a second hundred megabytes. The
 * source itself is never linked: whoever may write to it (a download folder's owner, a build) would write to the node's
 * driver.
 */
function place (source: string, twin: string | undefined, file: string): Way {
  if (twin !== undefined) {
    try {
      linkSync(twin, file)
      return 'hard link'
    } catch (error) {
      if (!['EXDEV', 'EMLINK', 'EPERM', 'EOPNOTSUPP'].some((code) => isCode(error, code))) throw error
    }
  }
  let way: Way = 'reflink'
  try {
    copyFileSync(source, file, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE)
  } catch {
    way = 'copy'
    copyFileSync(source, file, constants.COPYFILE_FICLONE)
  }
  if (process.geteuid?.() === 0) chownSync(file, 0, 0)
  chmodSync(file, 0o755)
  syncPath(file)
  return way
}

export interface Placing {
  readonly source: string
  readonly twin: string | undefined
  /** kubelet's plugin folder as reached from here. */
  readonly plugins: string
  readonly driver: DriverName
  /** Whether the file works where it lies. @throws when it does not. */
  readonly tryOut: (file: string) => void
}

export const driverFile = (plugins: string, { folder, file }: DriverName): string => path.join(plugins, folder, file)

/** Removes what an installer that was killed has left. */
export function removeLeftOvers (folder: string): void {
  for (const name of readdirSync(folder).filter((candidate) => ownNames.test(candidate))) {
    const file = path.join(folder, name)
    const facts = factsOf(file)
    if (facts === undefined || Date.now() - facts.mtimeMs < leftOverMs) continue
    if (!facts.isDirectory()) unlinkSync(file)
    else emptyAndRemove(file)
  }
}

function emptyAndRemove (folder: string): void {
  for (const name of readdirSync(folder)) unlinkSync(path.join(folder, name))
  rmdirSync(folder)
}

export const isOurs = (file: string): boolean => factsOf(file)?.isFile() === true && contains(file, mark)

/** @throws VolumeError CONFLICT for what is not ours to replace. */
function requireOurs (file: string, facts: Stats): void {
  if (facts.isFile() && contains(file, mark)) return
  throw new VolumeError('CONFLICT', `${file} is another driver's and is not replaced`, {
    field: '--driver', remedy: 'remove it if nothing uses it, or choose another --driver'
  })
}

function requireFolder (folder: string, facts: Stats): void {
  if (facts.isDirectory()) return
  throw new VolumeError(
    'CONFLICT',
    `${folder} is ${facts.isSymbolicLink() ? 'a symbolic link, which kubelet does not follow' : 'no folder'}`,
    { field: '--driver', remedy: 'remove it' }
  )
}

/** A new driver appears with its folder in one rename, an existing one is replaced in one rename; live processes keep
 * the old file. */
export function placeDriver (placing: Placing): { readonly deed: Deed, readonly way: Way | undefined } {
  const { source, twin, plugins, driver, tryOut } = placing
  const folder = path.join(plugins, driver.folder)
  const file = path.join(folder, driver.file)
  const folderFacts = factsOf(folder)
  if (folderFacts === undefined) return { deed: 'installed', way: placeNewFolder(placing, folder) }
  requireFolder(folder, folderFacts)
  removeLeftOvers(folder)
  const facts = factsOf(file)
  if (facts !== undefined) requireOurs(file, facts)
  if (facts !== undefined && (facts.mode & 0o777) === 0o755 && isSame(source, file)) {
    return { deed: 'unchanged', way: undefined }
  }
  const fresh = path.join(folder, freshName(driver.file, freshSuffix))
  try {
    const way = place(source, twin, fresh)
    tryOut(fresh)
    renameSync(fresh, file)
    syncPath(folder)
    return { deed: facts === undefined ? 'installed' : 'upgraded', way }
  } catch (error) {
    if (factsOf(fresh) !== undefined) unlinkSync(fresh)
    throw error
  }
}

function placeNewFolder ({ source, twin, plugins, driver, tryOut }: Placing, folder: string): Way {
  const fresh = path.join(plugins, freshName(driver.folder, freshSuffix))
  mkdirSync(fresh, { mode: 0o755 })
  try {
    const file = path.join(fresh, driver.file)
    const way = place(source, twin, file)
    tryOut(file)
    syncPath(fresh)
    renameSync(fresh, folder)
    syncPath(plugins)
    return way
  } catch (error) {
    emptyAndRemove(fresh)
    throw error
  }
}

/** False when there was none. The folder vanishes from kubelet's sight in one rename before anything in it is
 * deleted. */
export function removeDriver (plugins: string, driver: DriverName): boolean {
  const folder = path.join(plugins, driver.folder)
  const folderFacts = factsOf(folder)
  if (folderFacts === undefined) return false
  requireFolder(folder, folderFacts)
  const facts = factsOf(path.join(folder, driver.file))
  if (facts !== undefined) requireOurs(path.join(folder, driver.file), facts)
  const others = readdirSync(folder).filter((name) => name !== driver.file && !ownNames.test(name))
  if (others.length > 0) {
    throw new VolumeError(
      'CONFLICT',
      `${folder} holds ${others.slice(0, 5).join(', ')}, which is not ours and is not deleted`,
      { field: '--driver', remedy: 'remove that first' }
    )
  }
  const gone = path.join(plugins, freshName(driver.folder, goneSuffix))
  renameSync(folder, gone)
  syncPath(plugins)
  emptyAndRemove(gone)
  return true
}
