/**
 * Every way in which one call of a client may come out, when it takes for the present what two-nodes-truth.ts lets it.
 *
 * Owns how a call is made of names that are believed and of what the server does with objects. Knows no time and no
 * cache.
 */
import { Errno } from '../../agent/base/errno.ts'
import type { Deed } from './two-nodes.ts'
import { copyOf, type ObjectId, type Target, type Thing, type Tree, type Truth } from './two-nodes-truth.ts'

export type Outcome = { readonly errno: number } | { readonly value: unknown }

export interface Alternative {
  readonly outcome: Outcome
  readonly tree: Tree
  /** Folders and files whose present the client knows after that. */
  readonly seen: readonly ObjectId[]
  readonly object?: ObjectId
}

/** Where a path leads for a client: a folder that it believes in, and what it believes of the last name. */
interface Place { readonly directory: ObjectId, readonly name: string, readonly target: Target }

type Rest = Omit<Alternative, 'outcome' | 'tree'>

class Client {
  readonly #truth: Truth
  readonly #node: number
  readonly found: Alternative[] = []

  constructor (truth: Truth, node: number) {
    this.#truth = truth
    this.#node = node
  }

  fail (errno: Errno, seen: readonly ObjectId[] = []): void {
    this.found.push({ outcome: { errno }, tree: this.#truth.tree, seen })
  }

  answer (value: unknown, rest: Rest = { seen: [] }): void {
    this.found.push({ outcome: { value }, tree: this.#truth.tree, ...rest })
  }

  /** The same with a tree that has changed. */
  change (rest: Rest, work: (tree: Tree) => Errno | undefined): void {
    const tree = copyOf(this.#truth.tree)
    const errno = work(tree)
    this.found.push({ outcome: errno === undefined ? { value: undefined } : { errno }, tree, ...rest })
  }

  kindOf (id: ObjectId): Thing['kind'] | undefined { return this.#truth.kindOf(id) }
  thing (id: ObjectId): Thing | undefined { return this.#truth.tree.get(id) }

  /** Walks in every way that is possible; what ends a walk is an outcome. An empty path is the root. */
  places (path: string): readonly Place[] {
    const parts = path.split('/')
    const name = parts.pop() ?? ''
    const folders = parts.reduce<readonly ObjectId[]>(
      (at, part) => at.flatMap((directory) => this.#step(directory, part)),
      [this.#truth.root]
    )
    return folders.flatMap((directory) => {
      if (this.thing(directory) === undefined) this.fail(Errno.ESTALE)
      if (this.kindOf(directory) === 'file') {
        this.fail(Errno.ENOTDIR)
        return []
      }
      return this.#targets(directory, name).map((target) => ({ directory, name, target }))
    })
  }

  #targets (directory: ObjectId, name: string): readonly Target[] {
    this.#truth.use(this.#node, directory, name)
    const targets = this.#truth.targets(this.#node, directory, name)
    // What is gone is found out by whatever asks for it.
    if (targets.some((target) => target !== undefined && this.thing(target) === undefined)) this.fail(Errno.ESTALE)
    return targets
  }

  #step (directory: ObjectId, name: string): readonly ObjectId[] {
    if (this.kindOf(directory) === 'file') this.fail(Errno.ENOTDIR)
    if (this.kindOf(directory) !== 'directory') return []
    return this.#targets(directory, name).flatMap((target) => {
      if (target === undefined) this.fail(Errno.ENOENT)
      return target ?? []
    })
  }

  /** What the last name may be; a name that is believed to be missing ends it. */
  objects (path: string): readonly ObjectId[] {
    if (path === '') return [this.#truth.root]
    return this.places(path).flatMap(({ target }) => {
      if (target === undefined) this.fail(Errno.ENOENT)
      return target ?? []
    })
  }

  sizes (id: ObjectId): readonly number[] { return this.#truth.sizes(this.#node, id) }
  bytes (id: ObjectId): readonly string[] { return this.#truth.opened(this.#node, id) }
}

let lastMade = -1n
/** A number that the server never gives. */
const make = (tree: Tree, kind: Thing['kind'], data = ''): ObjectId => {
  const id = lastMade--
  tree.set(id, { kind, data, names: new Map(), hidden: 0 })
  return id
}

function folderOf (tree: Tree, id: ObjectId): Thing | Errno {
  const thing = tree.get(id)
  return thing === undefined ? Errno.ESTALE : thing.kind === 'directory' ? thing : Errno.ENOTDIR
}

function isInside (tree: Tree, id: ObjectId, ancestor: ObjectId): boolean {
  return id === ancestor || [...tree.get(ancestor)?.names.values() ?? []].some((child) => isInside(tree, id, child))
}

function put (client: Client, path: string, data: string): void {
  for (const { directory, name, target } of client.places(path)) {
    // A file that is believed to be there may be opened as it is, wherever its name is by now.
    if (target !== undefined && client.thing(target)?.kind === 'file') {
      client.change({ seen: [target] }, (tree) => {
        const thing = tree.get(target)
        if (thing !== undefined) thing.data = data
        return undefined
      })
    }
    if (target !== undefined && client.kindOf(target) === 'directory') client.fail(Errno.EISDIR)
    client.change({ seen: [directory] }, (tree) => {
      const folder = folderOf(tree, directory)
      if (typeof folder === 'number') return folder
      const there = folder.names.get(name)
      const thing = there === undefined ? undefined : tree.get(there)
      if (thing?.kind === 'directory') return Errno.EISDIR
      if (thing === undefined) folder.names.set(name, make(tree, 'file', data))
      else thing.data = data
      return undefined
    })
  }
}

/** unlink and rmdir: a name that is believed to be missing is not asked for; else the server looks again. */
function remove (client: Client, path: string, isFolder: boolean): void {
  for (const { directory, name, target } of client.places(path)) {
    if (target === undefined) client.fail(Errno.ENOENT)
    const believed = target === undefined ? undefined : client.kindOf(target)
    if (believed !== undefined && (believed === 'directory') !== isFolder) {
      client.fail(isFolder ? Errno.ENOTDIR : Errno.EISDIR)
    }
    client.change({ seen: [directory] }, (tree) => {
      const folder = folderOf(tree, directory)
      if (typeof folder === 'number') return folder
      const there = folder.names.get(name)
      const thing = there === undefined ? undefined : tree.get(there)
      if (thing === undefined) return Errno.ENOENT
      if ((thing.kind === 'directory') !== isFolder) return isFolder ? Errno.ENOTDIR : Errno.EISDIR
      if (thing.names.size + thing.hidden > 0) return Errno.ENOTEMPTY
      folder.names.delete(name)
      return undefined
    })
  }
}

function makeFolder (client: Client, path: string): void {
  for (const { directory, name, target } of client.places(path)) {
    if (target !== undefined) client.fail(Errno.EEXIST)
    client.change({ seen: [directory] }, (tree) => {
      const folder = folderOf(tree, directory)
      if (typeof folder === 'number') return folder
      if (folder.names.has(name)) return Errno.EEXIST
      folder.names.set(name, make(tree, 'directory'))
      return undefined
    })
  }
}

function link (client: Client, path: string, to: string): void {
  for (const object of client.objects(path)) {
    for (const { directory, name, target } of client.places(to)) {
      if (target !== undefined) client.fail(Errno.EEXIST)
      client.change({ seen: [directory] }, (tree) => {
        const folder = folderOf(tree, directory)
        if (typeof folder === 'number') return folder
        if (folder.names.has(name)) return Errno.EEXIST
        const thing = tree.get(object)
        if (thing === undefined) return Errno.ESTALE
        if (thing.kind === 'directory') return Errno.EPERM
        folder.names.set(name, object)
        return undefined
      })
    }
  }
}

function rename (client: Client, path: string, to: string): void {
  for (const source of client.places(path)) {
    if (source.target === undefined) client.fail(Errno.ENOENT)
    for (const target of client.places(to)) {
      const same = source.target !== undefined && source.target === target.target
      if (same) client.answer(undefined)
      client.change({ seen: [source.directory, target.directory] }, (tree) => moved(tree, source, target))
    }
  }
}

function moved (tree: Tree, source: Place, target: Place): Errno | undefined {
  const from = folderOf(tree, source.directory)
  const to = folderOf(tree, target.directory)
  if (typeof from === 'number') return from
  if (typeof to === 'number') return to
  const id = from.names.get(source.name)
  const thing = id === undefined ? undefined : tree.get(id)
  if (id === undefined || thing === undefined) return Errno.ENOENT
  const replacedId = to.names.get(target.name)
  const replaced = replacedId === undefined ? undefined : tree.get(replacedId)
  if (replacedId === id) return undefined
  if (thing.kind === 'directory' && isInside(tree, target.directory, id)) return Errno.EINVAL
  if (replaced !== undefined) {
    if (thing.kind === 'directory' && replaced.kind !== 'directory') return Errno.ENOTDIR
    if (thing.kind !== 'directory' && replaced.kind === 'directory') return Errno.EISDIR
    if (replaced.names.size + replaced.hidden > 0) return Errno.ENOTEMPTY
  }
  from.names.delete(source.name)
  to.names.set(target.name, id)
  return undefined
}

/** Every outcome that is right, with the tree that it leaves. */
export function alternativesOf (truth: Truth, node: number, deed: Deed): readonly Alternative[] {
  const client = new Client(truth, node)
  tell(client, deed)
  return client.found
}

function tell (client: Client, deed: Deed): void {
  switch (deed.op) {
    case 'stat':
      for (const id of client.objects(deed.path)) {
        // One that is gone has its attributes for as long as they are believed.
        if (client.kindOf(id) === 'directory') client.answer({ kind: 'directory' })
        else for (const size of client.sizes(id)) client.answer({ kind: 'file', size })
      }
      return
    case 'get':
      for (const id of client.objects(deed.path)) {
        if (client.kindOf(id) === 'directory') client.fail(Errno.EISDIR)
        else if (client.thing(id) !== undefined) {
          for (const text of client.bytes(id)) client.answer(text, { seen: [id], object: id })
        }
      }
      return
    case 'list':
      for (const id of client.objects(deed.path)) {
        const thing = client.thing(id)
        if (client.kindOf(id) === 'file') client.fail(Errno.ENOTDIR)
        if (thing?.kind === 'directory') client.answer([...thing.names.keys()].sort(), { seen: [id] })
      }
      return
    case 'put':
      return put(client, deed.path, deed.data)
    case 'add':
      return resize(client, deed.path, (data) => data + deed.data)
    case 'truncate':
      return resize(client, deed.path, (data) => data.slice(0, deed.size).padEnd(deed.size, '\0'))
    case 'mkdir':
      return makeFolder(client, deed.path)
    case 'rmdir':
    case 'unlink':
      return remove(client, deed.path, deed.op === 'rmdir')
    case 'link':
      return link(client, deed.path, deed.to)
    case 'rename':
      return rename(client, deed.path, deed.to)
    case 'hold':
    case 'look':
    case 'drop':
  }
}

/** A file that is there gets its bytes from one node after the other: each begins where the last has ended. */
function resize (client: Client, path: string, work: (data: string) => string): void {
  for (const id of client.objects(path)) {
    if (client.kindOf(id) === 'directory') client.fail(Errno.EISDIR)
    if (client.thing(id)?.kind !== 'file') continue
    client.change({ seen: [id] }, (tree) => {
      const thing = tree.get(id)
      if (thing === undefined) return Errno.ESTALE
      thing.data = work(thing.data)
      return undefined
    })
  }
}
