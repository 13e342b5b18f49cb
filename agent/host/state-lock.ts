/**
 * One agent a node: an exclusive lock on the state folder for as long as the process lives.
 * Owns the lock file. Does not know who should win: a newer agent asks the older over its socket.
 */
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import { loadAddon, type DescriptorAddon } from './addon.ts'

export interface StateLock {
  release (): void
}

/**
 * Takes the lock, or returns the pid of the process that has it (0 when it has not yet written it).
 * flock(2) belongs to the open file: the kernel drops it when the process dies, and descriptors are close-on-exec and
 * closed in forked children, so neither a session nor a child stuck in the kernel keeps it.
 */
export function lockState (path: string, addon: DescriptorAddon = loadAddon()): StateLock | number {
  const fd = openSync(path, 'a+', 0o600)
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
