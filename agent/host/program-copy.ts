/**
 * A copy of our own executable under the state folder: a container's root file system goes with its pod, what runs on
 * the node stays. Owns the copy and its name, which is its content. Does not know who runs it.
 */
import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { copyFile, lstat, open, readdir, rename, unlink } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { makePrivateFolder } from './files.ts'

const prefix = 'volbridge-'

async function hashOf (path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash)
  return hash.digest('hex')
}

async function isCopy (path: string, hash: string): Promise<boolean> {
  const facts = await lstat(path).catch(() => undefined)
  return facts?.isFile() === true && facts.uid === process.geteuid?.() && (facts.mode & 0o022) === 0 &&
    await hashOf(path) === hash
}

/** Copies `program` into `folder`, or finds it there. Copies of other versions go: a process that runs one keeps what
 * it has mapped. */
export async function placeProgram (program: string, folder: string): Promise<string> {
  await makePrivateFolder(folder)
  const hash = await hashOf(program)
  const path = join(folder, `${prefix}${hash.slice(0, 16)}`)
  if (!await isCopy(path, hash)) await place(program, path)
  for (const name of await readdir(folder)) {
    if (name.startsWith(prefix) && name !== basename(path)) await unlink(join(folder, name)).catch(() => undefined)
  }
  return path
}

async function place (program: string, path: string): Promise<void> {
  const fresh = `${path}.${randomBytes(4).toString('hex')}`
  try {
    await copyFile(program, fresh)
    const file = await open(fresh, 'r+')
    try {
      await file.chmod(0o700)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(fresh, path)
  } catch (error) {
    await unlink(fresh).catch(() => undefined)
    throw error
  }
}
