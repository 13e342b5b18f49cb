/**
 * The reference file system: what POSIX (and the silly name of NFS) says, written as simply as possible.
 * Owns the expected answers. Knows no cache, no server and no time.
 */
import { Errno } from '../../agent/base/errno.ts'

export interface ReferenceNode {
  readonly kind: 'file' | 'directory'
  data: Buffer
  nlink: number
  opens: number
  /** The folder that still holds it under a silly name. */
  hiddenIn: ReferenceNode | undefined
  readonly names: Map<string, ReferenceNode>
  readonly hidden: Set<ReferenceNode>
}

const newNode = (kind: ReferenceNode['kind']): ReferenceNode => ({
  kind, data: Buffer.alloc(0), nlink: kind === 'directory' ? 2 : 1, opens: 0, hiddenIn: undefined, names: new Map(),
  hidden: new Set()
})

export class Reference {
  readonly root = newNode('directory')

  find (path: string): ReferenceNode | Errno {
    let at = this.root
    for (const part of path.split('/').filter((name) => name !== '')) {
      if (at.kind !== 'directory') return Errno.ENOTDIR
      const next = at.names.get(part)
      if (next === undefined) return Errno.ENOENT
      at = next
    }
    return at
  }

  create (path: string, exclusive: boolean): ReferenceNode | Errno {
    const place = this.#place(path)
    if (typeof place === 'number') return place
    const present = place.directory.names.get(place.name)
    if (present === undefined) {
      const made = newNode('file')
      place.directory.names.set(place.name, made)
      return made
    }
    if (exclusive) return Errno.EEXIST
    return present.kind === 'directory' ? Errno.EISDIR : present
  }

  mkdir (path: string): undefined | Errno {
    const place = this.#place(path)
    if (typeof place === 'number') return place
    if (place.directory.names.has(place.name)) return Errno.EEXIST
    place.directory.names.set(place.name, newNode('directory'))
    place.directory.nlink += 1
    return undefined
  }

  unlink (path: string): undefined | Errno {
    const place = this.#place(path)
    if (typeof place === 'number') return place
    const node = place.directory.names.get(place.name)
    if (node === undefined) return Errno.ENOENT
    if (node.kind === 'directory') return Errno.EISDIR
    place.directory.names.delete(place.name)
    this.#loseName(node, place.directory)
    return undefined
  }

  rmdir (path: string): undefined | Errno {
    const place = this.#place(path)
    if (typeof place === 'number') return place
    const node = place.directory.names.get(place.name)
    if (node === undefined) return Errno.ENOENT
    if (node.kind !== 'directory') return Errno.ENOTDIR
    if (node.names.size + node.hidden.size > 0) return Errno.ENOTEMPTY
    place.directory.names.delete(place.name)
    place.directory.nlink -= 1
    return undefined
  }

  link (from: string, to: string): undefined | Errno {
    const node = this.find(from)
    if (typeof node === 'number') return node
    const place = this.#place(to)
    if (typeof place === 'number') return place
    if (place.directory.names.has(place.name)) return Errno.EEXIST
    if (node.kind === 'directory') return Errno.EPERM
    place.directory.names.set(place.name, node)
    node.nlink += 1
    return undefined
  }

  rename (from: string, to: string): undefined | Errno {
    const source = this.#place(from)
    if (typeof source === 'number') return source
    const target = this.#place(to)
    if (typeof target === 'number') return target
    const moved = source.directory.names.get(source.name)
    if (moved === undefined) return Errno.ENOENT
    const replaced = target.directory.names.get(target.name)
    if (replaced === moved) return undefined
    if (moved.kind === 'directory' && this.#isInside(target.directory, moved)) return Errno.EINVAL
    if (replaced !== undefined) {
      if (moved.kind === 'directory' && replaced.kind !== 'directory') return Errno.ENOTDIR
      if (moved.kind !== 'directory' && replaced.kind === 'directory') return Errno.EISDIR
      if (replaced.names.size + replaced.hidden.size > 0) return Errno.ENOTEMPTY
    }
    source.directory.names.delete(source.name)
    target.directory.names.set(target.name, moved)
    if (moved.kind === 'directory') {
      source.directory.nlink -= 1
      target.directory.nlink += replaced === undefined ? 1 : 0
    } else if (replaced !== undefined) {
      this.#loseName(replaced, target.directory)
    }
    return undefined
  }

  close (node: ReferenceNode): void {
    node.opens -= 1
    if (node.opens > 0 || node.hiddenIn === undefined) return
    node.hiddenIn.hidden.delete(node)
    node.hiddenIn = undefined
  }

  write (node: ReferenceNode, offset: number, bytes: Buffer): void {
    if (offset + bytes.length > node.data.length) this.truncate(node, offset + bytes.length)
    bytes.copy(node.data, offset)
  }

  truncate (node: ReferenceNode, size: number): void {
    const data = Buffer.alloc(size)
    node.data.copy(data)
    node.data = data
  }

  #loseName (node: ReferenceNode, directory: ReferenceNode): void {
    node.nlink -= 1
    if (node.nlink > 0 || node.opens === 0) return
    node.hiddenIn = directory
    directory.hidden.add(node)
  }

  #isInside (directory: ReferenceNode, ancestor: ReferenceNode): boolean {
    if (directory === ancestor) return true
    return [...ancestor.names.values()].some((child) => child.kind === 'directory' && this.#isInside(directory, child))
  }

  #place (path: string): { directory: ReferenceNode, name: string } | Errno {
    const parts = path.split('/').filter((part) => part !== '')
    const name = parts.pop() ?? ''
    const directory = this.find(parts.join('/'))
    if (typeof directory === 'number') return directory
    return directory.kind === 'directory' ? { directory, name } : Errno.ENOTDIR
  }
}
