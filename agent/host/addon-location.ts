/**
 * Where the native addon lies. Owns the choice of file: beside the sources, or, in the packed binary, an unpacked and
 * verified copy. Does not know how the binary is packed: the packed entry leaves an `AddonSource` under a registered
 * symbol before anything loads the addon.
 *
 * A packed addon must be a file to be loaded, on a mount without noexec, in a folder nobody else can write: /run is
 * often noexec, a container's root is often read-only, and kubelet's environment may have no HOME.
 */
import { createHash, randomBytes } from 'node:crypto'
import {
  closeSync,
  fsyncSync,
  lstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeSync
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { HostError } from '../base/errors.ts'
import { makePrivateFolderSync } from './files.ts'
import { mountOf, readMountinfoSync } from './mountinfo.ts'

const temporaryPrefix = 'volbridge-addon-'
/** The last resort. */
export const temporaryFolders = ['/var/tmp', '/tmp'] as const

/** What a packed binary carries. `folders` are tried in order before /var/tmp and /tmp. */
export interface AddonSource {
  readonly bytes: () => Uint8Array
  readonly folders: readonly string[]
  /** The addon once it is loaded: a second copy in one process would have state of its own. */
  loaded?: unknown
  /** None of the folders could hold it: it was in a temporary one. */
  isTemporary?: boolean
}

/** Key on `globalThis`; a registered symbol, because the packed entry and the bundle are different modules. */
export const addonSourceKey = Symbol.for('volbridge.addonSource')

/** The file to load. In the source tree `build/Release/volbridge.node`, else the unpacked copy. */
export function locateAddon (source = injectedSource()): string {
  if (source !== undefined) return unpackAddon(source)
  return new URL('../../build/Release/volbridge.node', import.meta.url).pathname
}

export function injectedSource (): AddonSource | undefined {
  return (globalThis as { [addonSourceKey]?: AddonSource })[addonSourceKey]
}

/** Writes the carried bytes to the first folder that can hold code, or finds them there already. The content decides,
 * not the name. */
export function unpackAddon (source: AddonSource): string {
  const bytes = source.bytes()
  const hash = createHash('sha256').update(bytes).digest('hex')
  const refusals: string[] = []
  for (const folder of [...source.folders, undefined]) {
    try {
      const place = folder === undefined ? temporaryFolder() : privateFolder(folder)
      source.isTemporary = folder === undefined
      return placeAddon(place, bytes, hash)
    } catch (error) {
      refusals.push(error instanceof Error ? error.message : String(error))
    }
  }
  throw new HostError(
    { code: 'EACCES', errno: 13, call: 'unpacking the native addon' },
    `no folder can hold the native addon (${refusals.join('; ')}); give a state folder (--state-dir) on a file system without noexec`
  )
}

function privateFolder (folder: string): string {
  makePrivateFolderSync(folder)
  return refuseNoexec(folder)
}

function temporaryFolder (): string {
  for (const parent of temporaryFolders) {
    try {
      refuseNoexec(parent)
      return mkdtempSync(join(parent, temporaryPrefix))
    } catch { /* The next one; the caller reports when none is left. */ }
  }
  throw new Error('/var/tmp and /tmp are noexec or not writable')
}

function refuseNoexec (folder: string): string {
  const mount = mountOf(readMountinfoSync(), folder)
  if (mount?.options.includes('noexec') === true) throw new Error(`${folder} is mounted noexec`)
  return folder
}

/** A loaded addon needs its file no more; one in a folder of this process alone would stay behind for ever. */
export function forgetTemporary (path: string): void {
  const folder = dirname(path)
  if (basename(folder).startsWith(temporaryPrefix)) rmSync(folder, { recursive: true, force: true })
}

/** Files of earlier versions. A process that has one loaded keeps what it has mapped. */
function removeOthers (folder: string, kept: string): void {
  for (const name of readdirSync(folder)) {
    if (/^volbridge-[0-9a-f]{32}\.node$/.test(name) && name !== basename(kept)) {
      rmSync(join(folder, name), { force: true })
    }
  }
}

function placeAddon (folder: string, bytes: Uint8Array, hash: string): string {
  const path = join(folder, `volbridge-${hash.slice(0, 32)}.node`)
  if (hashOf(path) === hash) return path
  const fresh = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`
  const fd = openSync(fresh, 'wx', 0o700)
  try {
    for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at)
    fsyncSync(fd)
  } catch (error) {
    unlinkSync(fresh)
    throw error
  } finally {
    closeSync(fd)
  }
  renameSync(fresh, path)
  removeOthers(folder, path)
  return path
}

function hashOf (path: string): string | undefined {
  try {
    const facts = lstatSync(path)
    if (!facts.isFile() || facts.uid !== process.geteuid?.() || (facts.mode & 0o022) !== 0) return undefined
    return createHash('sha256').update(readFileSync(path)).digest('hex')
  } catch {
    return undefined
  }
}
