/**
 * Files of our own that must survive a crash: written beside, fsynced, renamed, folder fsynced.
 * Owns that sequence and private folders. Does not know what is in them. Never used on a volume.
 */
import { randomBytes } from 'node:crypto'
import { open, rename, unlink } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { RootFolder, withRootFolder } from './root-folder.ts'

/** Temporary names start with a dot and end so; a crash may leave one, which readers skip and `mayBeLeftOver`
 * recognises. */
const freshSuffix = '.fresh'

export function mayBeLeftOver (name: string): boolean {
  return name.startsWith('.') && name.endsWith(freshSuffix)
}

/** After it returns the file has the new content also after a power cut; a crash before leaves the old content
 * whole. */
export async function writeFileDurably (path: string, content: string, mode = 0o600): Promise<void> {
  const folder = dirname(path)
  const fresh = `${folder}/.${randomBytes(6).toString('hex')}${freshSuffix}`
  const file = await open(fresh, 'wx', mode)
  try {
    await file.writeFile(content)
    await file.sync()
    await file.close()
    await rename(fresh, path)
  } catch (error) {
    await file.close().catch(() => undefined)
    await unlink(fresh).catch(() => undefined)
    throw error
  }
  await syncFolder(folder)
}

/** Missing is fine. */
export async function removeFileDurably (path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (isCode(error, 'ENOENT')) return
    throw error
  }
  await syncFolder(dirname(path))
}

async function syncFolder (path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/**
 * A folder that only its owner can enter, made if it is missing; in one that is there others cannot have put anything.
 * A link in its place is refused. Not Node's `recursive`, which loops for ever where a file system answers ENOENT to a
 * mkdir below an existing folder, as /proc does.
 * @throws VolumeError DENIED with what to do about a folder that others can write to, or one above it
 */
export function makePrivateFolderSync (path: string): void {
  withRootFolder(RootFolder.open(resolve(path), { make: 0o700, noLink: true }), (folder) => {
    if ((folder.facts.mode & 0o077) !== 0) folder.setMode(0o700)
  })
}

export async function makePrivateFolder (path: string): Promise<void> {
  makePrivateFolderSync(path)
}

export function isCode (error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
