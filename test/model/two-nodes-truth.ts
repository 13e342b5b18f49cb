/**
 * What two nodes may see of one server: close-to-open, and names and attributes for as long as nfs(5) lets a client
 * believe what it has been shown.
 *
 * Owns the server's past (which object each name led to, which bytes each object had, until when) and what a node may
 * take for the present. Reads the server's tree after each step; knows no client.
 */
import type { MemoryServer } from '../peers/memory-backend.ts'

export type ObjectId = bigint
/** `undefined`: no such name. */
export type Target = ObjectId | undefined

export interface Thing {
  readonly kind: 'file' | 'directory'
  data: string
  readonly names: Map<string, ObjectId>
  /** Names of files that were removed while somebody had them open. */
  hidden: number
}
export type Tree = Map<ObjectId, Thing>

/** A value that something had, and the step and time at which it lost it. */
interface Past<T> { readonly value: T, readonly from: number, to: number, endMs: number }

export interface Beliefs {
  /** For how long a name may be believed after its folder has changed, ms. */
  readonly namesMs: number
  readonly missingMs: number
  /** The same of a file's attributes, and of its bytes where an open asks nobody. */
  readonly attributesMs: number
  readonly bytesMs: number
}

const never = Infinity

/** The server's tree now, without the names that clients hide files under. */
export function treeOf (server: MemoryServer): Tree {
  const tree: Tree = new Map()
  const visit = (node: MemoryServer['root']): void => {
    if (tree.has(node.fileid)) return
    const names = new Map<string, ObjectId>()
    let hidden = 0
    tree.set(node.fileid, {
      kind: node.kind === 'directory' ? 'directory' : 'file', data: node.data.toString('latin1'), names, hidden: 0
    })
    for (const [name, { node: child }] of node.names) {
      if (name.startsWith('.nfs')) hidden += 1
      else {
        names.set(name, child.fileid)
        visit(child)
      }
    }
    const thing = tree.get(node.fileid)
    if (thing !== undefined) thing.hidden = hidden
  }
  visit(server.root)
  return tree
}

/** Paths, kinds, bytes, and which names are one file: equal for equal trees whatever their numbers. */
export function textOfTree (tree: Tree, root: ObjectId): string {
  const first = new Map<ObjectId, string>()
  const lines: string[] = []
  const visit = (id: ObjectId, path: string): void => {
    const thing = tree.get(id)
    const known = first.get(id)
    if (thing === undefined) return
    lines.push(thing.kind === 'directory' ? `${path}/` : `${path} ${known ?? 'first'} ${JSON.stringify(thing.data)}`)
    if (known !== undefined) return
    first.set(id, path)
    for (const [name, child] of [...thing.names].sort(([one], [other]) => one < other ? -1 : 1)) {
      visit(child, `${path}/${name}`)
    }
  }
  visit(root, '')
  return lines.join('\n')
}

export function copyOf (tree: Tree): Tree {
  return new Map([...tree].map(([id, thing]) => [id, { ...thing, names: new Map(thing.names) }]))
}

export class Truth {
  readonly root: ObjectId
  tree: Tree
  step = 0
  nowMs = 0
  readonly #server: MemoryServer
  readonly #beliefs: Beliefs
  readonly #names = new Map<string, Past<Target>[]>()
  readonly #bytes = new Map<ObjectId, Past<string>[]>()
  readonly #kinds = new Map<ObjectId, Thing['kind']>()
  /** Steps at which a node used a name, or any name of a folder. */
  readonly #used = new Map<string, number[]>()
  /** The last step at which a node learned all about a folder, or about a file. */
  readonly #seen = new Map<string, number>()

  constructor (server: MemoryServer, beliefs: Beliefs) {
    this.#server = server
    this.#beliefs = beliefs
    this.root = server.root.fileid
    this.tree = treeOf(server)
    this.#note()
  }

  /** The server's tree as it is, which is not yet the past. */
  peek (): Tree { return treeOf(this.#server) }

  /** The step has been done: what has changed is the past now. */
  advance (ms: number): void {
    this.tree = treeOf(this.#server)
    this.#note()
    this.nowMs += ms
    this.step += 1
  }

  use (node: number, directory: ObjectId, name: string): void {
    for (const key of [`${node} ${directory} ${name}`, `${node} ${directory}`]) {
      const steps = this.#used.get(key) ?? []
      steps.push(this.step)
      this.#used.set(key, steps)
    }
  }

  see (node: number, id: ObjectId): void { this.#seen.set(`${node} ${id}`, this.step) }

  /** What the name may lead to for this node: the present first. */
  targets (node: number, directory: ObjectId, name: string): readonly Target[] {
    const past = this.#names.get(`${directory} ${name}`) ?? []
    const seen = this.#seen.get(`${node} ${directory}`) ?? -1
    const believed = past.filter(({ value, from, to, endMs }) => {
      if (to === never || to <= seen) return false
      const ms = value === undefined ? this.#beliefs.missingMs : this.#beliefs.namesMs
      if (ms === 0 || this.nowMs - endMs > ms) return false
      // That a name is missing is shown by asking for that name; that it is there by a listing too.
      const used = this.#used.get(value === undefined ? `${node} ${directory} ${name}` : `${node} ${directory}`) ?? []
      return used.some((step) => step >= from && step <= to)
    })
    return [...new Set([this.tree.get(directory)?.names.get(name), ...believed.map(({ value }) => value)])]
  }

  /** What a file's bytes may be for this node, `ms` after they have changed. */
  #bytesOf (node: number, id: ObjectId, ms: number): readonly string[] {
    const seen = this.#seen.get(`${node} ${id}`) ?? -1
    const past = this.#bytes.get(id) ?? []
    return past.filter(({ to, endMs }) => to === never || (ms > 0 && to > seen && this.nowMs - endMs <= ms)).map(
      ({ value }) => value
    )
  }

  opened (node: number, id: ObjectId): readonly string[] { return this.#bytesOf(node, id, this.#beliefs.bytesMs) }
  sizes (node: number, id: ObjectId): readonly number[] {
    return this.#bytesOf(node, id, this.#beliefs.attributesMs).map(({ length }) => length)
  }

  /** What it is, or was. */
  kindOf (id: ObjectId): Thing['kind'] | undefined { return this.#kinds.get(id) }

  /** All that a file has held since that step. */
  since (step: number, id: ObjectId): readonly string[] {
    return (this.#bytes.get(id) ?? []).filter(({ to }) => to > step).map(({ value }) => value)
  }

  #note (): void {
    for (const [id, { kind, data, names }] of this.tree) {
      this.#kinds.set(id, kind)
      if (kind === 'file') this.#change(this.#bytes, id, data)
      for (const [name, child] of names) this.#change(this.#names, `${id} ${name}`, child)
    }
    for (const [key, past] of this.#names) {
      const [directory = '', name = ''] = key.split(' ')
      const now = this.tree.get(BigInt(directory))?.names.get(name)
      if (now !== past.at(-1)?.value) this.#change(this.#names, key, now)
    }
  }

  /** Before its first value a name was missing and a file was not there. */
  #change<K, T> (all: Map<K, Past<T>[]>, key: K, value: T): void {
    const past = all.get(key) ?? (all === this.#names as unknown ? [this.#open(undefined as T, -1)] : [])
    all.set(key, past)
    const last = past.at(-1)
    if (last?.value === value && last !== undefined) return
    if (last !== undefined) Object.assign(last, { to: this.step, endMs: this.nowMs })
    past.push(this.#open(value, this.step))
  }

  #open<T> (value: T, from: number): Past<T> { return { value, from, to: never, endMs: never } }
}
