/**
 * /proc/TASK/uid_map, gid_map, stat, mountinfo and owner of callers, read while they wait. Owns how much is read: a
 * pod's user may make itself a namespace with as many mounts as it likes, and every volume's user would wait for them.
 * Does not know what is looked for in the texts.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs'
import { taskFileBytesMax } from '../base/limits.ts'
import type { ReadTaskFile, ReadTaskOwner } from './idmap.ts'

export function createTaskFileReader (procPath = '/proc'): ReadTaskFile {
  const buffer = Buffer.allocUnsafe(16 * 1024)
  return (task, file) => {
    let fd: number
    try {
      fd = openSync(`${procPath}/${task}/${file}`, 'r')
    } catch {
      // Gone, or not for us: nothing is known of it, and nothing is believed then.
      return undefined
    }
    try {
      let text = ''
      while (text.length <= taskFileBytesMax) {
        const bytes = readSync(fd, buffer, 0, buffer.length, null)
        if (bytes === 0) return text
        text += buffer.toString('latin1', 0, bytes)
      }
      return undefined
    } catch {
      return undefined
    } finally {
      closeSync(fd)
    }
  }
}

/** The effective user, or root for a process that no debugger of its user may see (proc(5)). */
export function createTaskOwnerReader (procPath = '/proc'): ReadTaskOwner {
  return (task) => {
    try {
      return statSync(`${procPath}/${task}`, { throwIfNoEntry: false })?.uid
    } catch {
      return undefined
    }
  }
}
