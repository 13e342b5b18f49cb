/**
 * Writes that were acknowledged as UNSTABLE and that a crash may lose.
 *
 * Owns an undo list per file. It is kept only when the server was asked to forget like a machine that lost its page
 * cache; a COMMIT empties it, `crash` plays it backwards. Does not know NFS.
 */
import { fstatSync, ftruncateSync, readSync, writeSync, openSync, closeSync, constants } from 'node:fs'
import { toPath, type Tree, type TreeObject } from './tree.ts'

interface Undo {
  readonly offset: number
  readonly bytes: Buffer
  readonly size: number
}

export class UnstableData {
  readonly #undo = new Map<TreeObject, Undo[]>()
  readonly #isKept: boolean

  constructor (isKept: boolean) {
    this.#isKept = isKept
  }

  /** Remembers what a write of `length` bytes is about to cover. */
  note (object: TreeObject, fd: number, offset: number, length: number): void {
    if (!this.#isKept) return
    const bytes = Buffer.alloc(length)
    const read = readSync(fd, bytes, 0, length, offset)
    const list = this.#undo.get(object) ?? []
    list.push({ offset, bytes: bytes.subarray(0, read), size: fstatSync(fd).size })
    this.#undo.set(object, list)
  }

  commit (object: TreeObject): void { this.#undo.delete(object) }

  /** Everything not committed is as it was. */
  crash (tree: Tree): void {
    for (const [object, list] of this.#undo) {
      try {
        const fd = openSync(toPath(tree.find(object.handle).path), constants.O_WRONLY)
        for (const { offset, bytes, size } of list.reverse()) {
          if (bytes.length > 0) writeSync(fd, bytes, 0, bytes.length, offset)
          ftruncateSync(fd, size)
        }
        closeSync(fd)
      } catch { /* Removed meanwhile: nothing to restore. */ }
    }
    this.#undo.clear()
  }
}
