/**
 * One agent a node: an exclusive lock on the state folder for as long as the process lives.
 * Owns the lock file. Does not know who should win: a newer agent asks the older over its socket.
 */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import { VolumeError } from '../base/errors.ts'
import { loadAddon, type DescriptorAddon } from './addon.ts'
import { isCode } from './files.ts'

export interface StateLock {
  release (): void
}

/** A link in its place would have us write to what it leads to; a pipe would have us wait. */
function openLock (path: string): number {
  const { O_RDWR, O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants
  try {
    const fd = openSync(path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600)
    if (fstatSync(fd).isFile()) return fd
    closeSync(fd)
  } catch (error) {
    if (!isCode(error, 'ELOOP')) throw error
  }
  throw new VolumeError('INVALID', `the lock file ${path} is not a regular file`, { remedy: 'remove it' })
}

/**
 * Takes the lock, or returns the pid of the process that has it (0 when it has not yet written it).
 * flock(2) belongs to the open file: the kernel drops it when the process dies, and descriptors are close-on-exec and
 * closed in forked children, so neither a session nor a child stuck in the kernel keeps it.
 */
export function lockState (path: string, addon: DescriptorAddon = loadAddon()): StateLock | number {
  const fd = openLock(path)
  if (!addon.lockFile(fd)) {
    const holder = Number.parseInt(readFileSync(fd, 'utf8'), 10)
    closeSync(fd)
    return Number.isNaN(holder) ? 0 : holder
  }
  ftruncateSync(fd)
  writeSync(fd, `${process.pid}\n`)
  let held = true
  return {
    release () {
      if (held) closeSync(fd)
      held = false
    }
  }
}
