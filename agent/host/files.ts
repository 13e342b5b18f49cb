/**
 * Files of our own that must survive a crash: written beside, fsynced, renamed, folder fsynced.
 * Owns that sequence and private folders. Does not know what is in them. Never used on a volume.
 */
import { randomBytes } from 'node:crypto'
import { chmod, lstat, mkdir, open, rename, unlink } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { HostError } from '../base/errors.ts'

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

/** Not `recursive`: Node loops for ever where a file system answers ENOENT to a mkdir below an existing folder, as
 * /proc does. */
async function makeFolders (path: string): Promise<void> {
  const parts = resolve(path).split('/').filter((part) => part !== '')
  for (let depth = 1; depth <= parts.length; depth++) {
    try {
      await mkdir(`/${parts.slice(0, depth).join('/')}`, { mode: 0o700 })
    } catch (error) {
      /* EROFS comes before EEXIST on a read-only file system. */
      if (!isCode(error, 'EEXIST') && !(isCode(error, 'EROFS') && depth < parts.length)) throw error
    }
  }
}

/** Makes a folder that only its owner can enter. A symlink or another user's folder in its place is refused. */
export async function makePrivateFolder (path: string): Promise<void> {
  await makeFolders(path)
  const facts = await lstat(path)
  if (!facts.isDirectory()) {
    throw new HostError(
      { code: 'ENOTDIR', errno: 20, call: `making ${path}` },
      `${path} is not a folder; remove it or choose another`
    )
  }
  if (facts.uid !== process.geteuid?.()) {
    throw new HostError(
      { code: 'EPERM', errno: 1, call: `making ${path}` },
      `${path} belongs to uid ${facts.uid}; remove it or choose another`
    )
  }
  if ((facts.mode & 0o077) !== 0) await chmod(path, 0o700)
}

export function isCode (error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
