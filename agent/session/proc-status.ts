/**
 * /proc/<tid>/status of callers. Owns how it is read: at once, on the path of a request, or by another thread. The
 * caller is blocked in the request meanwhile, so the answer cannot change under it. Does not know what is looked for in
 * the text, nor which way is to be taken.
 *
 * The kernel prints the whole text before it gives the first byte of it: a few microseconds, and 25 ms (measured) with
 * the 65,536 groups that a process may have.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { open } from 'node:fs/promises'

export interface TaskReader {
  /** The first `statusHeadBytes` now, or undefined when there is no such task. */
  head (tid: number): string | undefined
  /** Beginning and end, at most `statusHeadBytes` each, without holding anybody up. */
  later (tid: number): Promise<string | undefined>
}

/**
 * A status is about 1.5 KiB, to which the groups add 7 to 11 bytes each: this is all of it for a task with less than
 * two hundred of them. What follows the groups is about 1.3 KiB.
 */
export const statusHeadBytes = 4096
const chunkBytes = 64 * 1024
/** NGROUPS_MAX is 65,536, each up to 11 bytes. */
const statusBytesMax = 1024 * 1024

export function createTaskReader (procPath = '/proc'): TaskReader {
  const buffer = Buffer.allocUnsafe(statusHeadBytes)
  return {
    head (tid) {
      let fd: number
      try {
        fd = openSync(`${procPath}/${tid}/status`, 'r')
      } catch {
        return undefined
      }
      try {
        return buffer.toString('latin1', 0, readSync(fd, buffer, 0, buffer.length, null))
      } catch {
        // ESRCH: the task went away between open and read.
        return undefined
      } finally {
        closeSync(fd)
      }
    },
    async later (tid) {
      try {
        await using file = await open(`${procPath}/${tid}/status`, 'r')
        const chunk = Buffer.allocUnsafe(chunkBytes)
        let [head, tail] = ['', '']
        for (let read = 0; read < statusBytesMax;) {
          const { bytesRead } = await file.read(chunk, 0, chunk.length, null)
          if (bytesRead === 0) break
          read += bytesRead
          const text = chunk.toString('latin1', 0, bytesRead)
          if (head === '') head = text.slice(0, statusHeadBytes)
          tail = (tail + text).slice(-statusHeadBytes)
          if (read === head.length) tail = ''
        }
        return tail === '' ? head : joined(head, tail)
      } catch {
        return undefined
      }
    }
  }
}

/** Without the number that was cut, and the rest of a line whose beginning is not there. */
function joined (head: string, tail: string): string {
  return head.slice(0, head.lastIndexOf(' ') + 1) + tail.slice(tail.indexOf('\n'))
}
