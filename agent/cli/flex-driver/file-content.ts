/**
 * What is in an open file, read without moving anybody's position in it.
 *
 * Owns searching and comparing. Does not know what the files are.
 */
import { createHash } from 'node:crypto'
import { fstatSync, readSync } from 'node:fs'

const chunkBytes = 1 << 20

/** Whether a file contains a text. Symbol versions stand in ELF files as NUL-terminated strings. */
export function fileContains (fd: number, text: string): boolean {
  const wanted = Buffer.from(text, 'latin1')
  const chunk = Buffer.alloc(chunkBytes)
  let kept = 0
  for (let at = 0;;) {
    const read = readSync(fd, chunk, kept, chunk.length - kept, at)
    if (read === 0) return false
    at += read
    const filled = chunk.subarray(0, kept + read)
    if (filled.includes(wanted)) return true
    kept = Math.min(wanted.length - 1, filled.length)
    filled.copy(chunk, 0, filled.length - kept)
  }
}

function hashOf (fd: number): string {
  const hash = createHash('sha256')
  const chunk = Buffer.alloc(chunkBytes)
  for (let at = 0;;) {
    const read = readSync(fd, chunk, 0, chunk.length, at)
    if (read === 0) return hash.digest('hex')
    hash.update(chunk.subarray(0, read))
    at += read
  }
}

export const isSameContent = (a: number, b: number): boolean =>
  fstatSync(a).size === fstatSync(b).size && hashOf(a) === hashOf(b)
