/**
 * /proc/<tid>/status of callers. Owns the one synchronous read on the path of a request: it is a few microseconds, and
 * the caller is blocked in the request meanwhile, so the answer cannot change under it. Does not know what is looked
 * for in the text.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import type { ReadStatus } from './credentials.ts'

/** A status is about 1.5 KiB; the line of groups may be long (NGROUPS_MAX is 65536, up to 11 bytes each). */
const statusBytesMax = 1024 * 1024

export function createStatusReader (procPath = '/proc'): ReadStatus {
  const buffer = Buffer.allocUnsafe(16 * 1024)
  return (tid) => {
    let fd: number
    try {
      fd = openSync(`${procPath}/${tid}/status`, 'r')
    } catch {
      return undefined
    }
    try {
      let text = ''
      while (text.length < statusBytesMax) {
        const bytes = readSync(fd, buffer, 0, buffer.length, null)
        if (bytes === 0) break
        text += buffer.toString('latin1', 0, bytes)
      }
      return text
    } catch {
      // ESRCH: the task went away between open and read.
      return undefined
    } finally {
      closeSync(fd)
    }
  }
}
