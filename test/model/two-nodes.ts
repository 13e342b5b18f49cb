/**
 * Random programs on two mounts of one server, with somebody else on the server itself.
 *
 * Owns the steps, how they are made from a seed, how they are done, and which outcomes are right: those of a client
 * that takes for the present what two-nodes-truth.ts lets it. A step ends before the next begins, on whatever node:
 * then there is no other excuse.
 */
import { Errno, isErrno } from '../../agent/base/errno.ts'
import type { HandleId } from '../../agent/fs/operations.ts'
import { Failed, type World } from '../peers/filesystem-user.ts'
import type { MemoryServer } from '../peers/memory-backend.ts'
import type { Random } from './exercise.ts'
import { alternativesOf, type Outcome } from './two-nodes-client.ts'
import { textOfTree, type ObjectId, type Truth } from './two-nodes-truth.ts'

export type Deed =
  | { readonly op: 'stat' | 'get' | 'list' | 'mkdir' | 'rmdir' | 'unlink', readonly path: string }
  | { readonly op: 'put' | 'add', readonly path: string, readonly data: string }
  | { readonly op: 'truncate', readonly path: string, readonly size: number }
  | { readonly op: 'rename' | 'link', readonly path: string, readonly to: string }
  | { readonly op: 'hold', readonly path: string }
  | { readonly op: 'look' | 'drop' }

/** `node` 2 is nobody's client: it acts on the server itself. */
export type NodeStep =
  | { readonly node: 0 | 1 | 2, readonly deed: Deed }
  | { readonly advance: number }

const spots = ['a', 'b', 'd', 'e', 'd/a', 'd/b', 'd/e', 'e/a', 'd/e/a', 'd/e/b']
/** Within acregmin, beyond it, beyond acdirmin, beyond all. */
const waitsMs = [1, 500, 3_100, 31_000, 61_000, 130_000]

export function makeNodeProgram (random: Random, length: number): NodeStep[] {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T
  const path = (): string => pick(spots)
  const data = (): string => `${Math.floor(random() * 1000)}`.repeat(1 + Math.floor(random() * 3))
  const makers: readonly (readonly [number, () => Deed])[] = [
    [10, () => ({ op: 'stat', path: path() })],
    [14, () => ({ op: 'get', path: path() })],
    [4, () => ({ op: 'list', path: random() < 0.3 ? '' : pick(['d', 'e', 'd/e']) })],
    [14, () => ({ op: 'put', path: path(), data: data() })],
    [6, () => ({ op: 'add', path: path(), data: data() })],
    [3, () => ({ op: 'truncate', path: path(), size: Math.floor(random() * 5) })],
    [12, () => ({ op: 'mkdir', path: pick(['d', 'e', 'd/e', 'd', 'a']) })],
    [4, () => ({ op: 'rmdir', path: pick(['d', 'e', 'd/e']) })],
    [8, () => ({ op: 'unlink', path: path() })],
    [10, () => ({ op: 'rename', path: path(), to: path() })],
    [4, () => ({ op: 'link', path: path(), to: path() })],
    [3, () => ({ op: 'hold', path: path() })],
    [6, () => ({ op: pick(['look', 'look', 'drop'] as const) })]
  ]
  const total = makers.reduce((sum, [weight]) => sum + weight, 0)
  const deed = (): Deed => {
    let at = random() * total
    return (makers.find(([weight]) => (at -= weight) < 0) ?? makers[0] as typeof makers[number])[1]()
  }
  return Array.from({ length }, (): NodeStep => {
    if (random() < 0.12) return { advance: pick(waitsMs) }
    return { node: pick([0, 0, 0, 0, 1, 1, 1, 1, 2] as const), deed: deed() }
  })
}

/** What is held, and what it may be. */
interface Held { readonly handle: HandleId, readonly may: readonly ObjectId[], readonly since: number }

export class Nodes {
  readonly #worlds: readonly World[]
  readonly #server: MemoryServer
  readonly #truth: Truth
  readonly #held: (Held | undefined)[] = []

  constructor (worlds: readonly World[], server: MemoryServer, truth: Truth) {
    this.#worlds = worlds
    this.#server = server
    this.#truth = truth
  }

  /** @throws Error telling the step, what would have been right and what came. */
  async run (program: readonly NodeStep[]): Promise<void> {
    for (const [index, step] of program.entries()) {
      if ('advance' in step) {
        for (const { clock } of this.#worlds) clock.advance(step.advance)
        this.#truth.advance(step.advance)
      } else await this.#do(step.node, step.deed, `step ${index} ${JSON.stringify(step)}`)
    }
    for (const node of this.#worlds.keys()) await this.#drop(node)
  }

  async #do (node: number, deed: Deed, what: string): Promise<void> {
    if (node === 2) this.#actOnServer(deed)
    else if (deed.op === 'hold') await this.#hold(node, deed.path)
    else if (deed.op === 'look') await this.#look(node, what)
    else if (deed.op === 'drop') await this.#drop(node)
    else await this.#check(node, deed, what)
    this.#truth.advance(0)
  }

  async #check (node: number, deed: Deed, what: string): Promise<void> {
    const world = this.#worlds[node] as World
    const truth = this.#truth
    const right = alternativesOf(truth, node, deed)
    const outcome = await outcomeOf(() => act(world, deed))
    const left = textOfTree(this.#treeNow(), truth.root)
    const fits = right.filter((one) => show(one.outcome) === show(outcome) && textOfTree(one.tree, truth.root) === left)
    if (fits.length === 0) {
      const words = [...new Set(right.map((one) => show(one.outcome)))].slice(0, 6).join(' or ')
      throw new Error(`${what}\n  right    ${words}\n  got      ${show(outcome)}\n  tree now\n${left}`)
    }
    // Only what all that fits agree about is known to have been seen.
    for (const id of fits[0]?.seen ?? []) if (fits.every(({ seen }) => seen.includes(id))) truth.see(node, id)
  }

  #treeNow (): Truth['tree'] { return this.#truth.peek() }

  /** What others do to a server: what its administrator's shell could. */
  #actOnServer (deed: Deed): void {
    const server = this.#server
    const at = 'path' in deed ? server.node(deed.path) : undefined
    const parent = 'path' in deed ? server.node(deed.path.split('/').slice(0, -1).join('/')) : undefined
    if (!('path' in deed) || parent?.kind !== 'directory') return
    if ((deed.op === 'put' || deed.op === 'add') && at?.kind !== 'directory') server.put(deed.path, deed.data)
    if (deed.op === 'mkdir' && at === undefined) server.makeFolder(deed.path)
    if (deed.op === 'unlink' && at?.kind === 'file') server.unlink(deed.path)
  }

  async #hold (node: number, path: string): Promise<void> {
    await this.#drop(node)
    const right = alternativesOf(this.#truth, node, { op: 'get', path })
    const may = right.flatMap(({ object }) => object ?? [])
    const opened = await outcomeOf(() => (this.#worlds[node] as World).open(path, { write: false }))
    if ('errno' in opened) return
    this.#held[node] = { handle: opened.value as HandleId, may, since: this.#truth.step }
  }

  /** A descriptor shows what its file has held since it was opened, or ESTALE when somebody else removed that. */
  async #look (node: number, what: string): Promise<void> {
    const held = this.#held[node]
    if (held === undefined) return
    const seen = await outcomeOf(async () => (await (this.#worlds[node] as World).readText(held.handle)))
    if ('errno' in seen && seen.errno === Errno.ESTALE) return
    const right = held.may.flatMap((id) => this.#truth.since(held.since, id))
    if ('errno' in seen || !right.includes(seen.value as string)) {
      throw new Error(`${what}\n  right    ${JSON.stringify(right)}\n  got      ${show(seen)}`)
    }
  }

  async #drop (node: number): Promise<void> {
    const held = this.#held[node]
    this.#held[node] = undefined
    if (held !== undefined) await (this.#worlds[node] as World).close(held.handle)
  }
}

const show = (outcome: Outcome): string => JSON.stringify(outcome)

async function outcomeOf (work: () => Promise<unknown>): Promise<Outcome> {
  try {
    const value = await work()
    return isErrno(value) ? { errno: value } : { value }
  } catch (error) {
    if (error instanceof Failed) return { errno: error.errno }
    throw error
  }
}

async function act (world: World, deed: Deed): Promise<unknown> {
  switch (deed.op) {
    case 'stat': {
      const { kind, sizeBytes } = await world.stat(deed.path)
      return kind === 'directory' ? { kind } : { kind, size: sizeBytes }
    }
    case 'get': {
      const handle = await world.open(deed.path, { write: false })
      const text = await world.readText(handle)
      await world.close(handle)
      return text
    }
    case 'list':
      return (await world.list(deed.path, { plus: true })).map(({ name }) => name as string).filter((name) =>
        !name.startsWith('.')
      ).sort()
    case 'put':
      return await written(world, await world.create(deed.path, 0o644, { truncate: true }), 0, deed.data)
    case 'add': {
      const handle = await world.open(deed.path)
      const { sizeBytes } = await world.stat(deed.path)
      return await written(world, handle, sizeBytes, deed.data)
    }
    case 'truncate': {
      const entry = await world.lookup(deed.path)
      if (isErrno(entry)) return entry
      if (entry.attributes.kind === 'directory') return Errno.EISDIR
      return await world.truncate(deed.path, deed.size)
    }
    case 'mkdir':
    case 'rmdir':
    case 'unlink':
      return await world[deed.op](deed.path)
    case 'rename':
    case 'link':
      return await world[deed.op](deed.path, deed.to)
    case 'hold':
    case 'look':
    case 'drop':
      return undefined
  }
}

async function written (world: World, handle: HandleId, offset: number, data: string): Promise<unknown> {
  await world.write(handle, offset, data)
  return await world.close(handle)
}
