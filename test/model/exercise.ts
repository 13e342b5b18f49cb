/**
 * Random programs for the file-system core. Owns the operations, how a program is made from a seed, how it is run
 * against core and reference side by side, and how a failing one is made smaller. Does not know what the right answers
 * are: that is reference.ts.
 */
import { isErrno, type Errno } from '../../agent/base/errno.ts'
import type { HandleId } from '../../agent/fs/operations.ts'
import { Failed, type readWrite, type World } from '../peers/filesystem-user.ts'
import type { Reference, ReferenceNode } from './reference.ts'

export type Step =
  | {
    readonly op: 'create'
    readonly slot: number
    readonly path: string
    readonly exclusive: boolean
    readonly truncate: boolean
  }
  | {
    readonly op: 'open'
    readonly slot: number
    readonly path: string
    readonly truncate: boolean
    readonly sync: boolean
  }
  | { readonly op: 'close' | 'fsync', readonly slot: number }
  | {
    readonly op: 'write'
    readonly slot: number
    readonly offset: number
    readonly length: number
    readonly fill: number
  }
  | { readonly op: 'read', readonly slot: number, readonly offset: number, readonly length: number }
  | { readonly op: 'truncate', readonly path: string, readonly size: number }
  | { readonly op: 'unlink' | 'rmdir' | 'mkdir' | 'stat' | 'list', readonly path: string }
  | { readonly op: 'rename' | 'link', readonly path: string, readonly to: string }
  | { readonly op: 'reboot' | 'verifier' | 'short' }
  | { readonly op: 'advance', readonly ms: number }

export type Random = () => number

/** xorshift32: the same program from the same seed, everywhere. */
export function randomOf (seed: number): Random {
  let state = (seed | 0) === 0 ? 1 : seed | 0
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}

const slots = 4
const spots = ['a', 'b', 'c', 'd1', 'd2', 'd1/a', 'd1/b', 'd2/a', 'd2/d1', 'd2/d1/c']

export function makeProgram (random: Random, length: number, folder: string): Step[] {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T
  const integer = (below: number): number => Math.floor(random() * below)
  const path = (): string => `${folder}/${pick(spots)}`
  const slot = (): number => integer(slots)
  const offset = (): number => random() < 0.1 ? integer(400_000) : integer(6_000)
  const size = (): number => random() < 0.15 ? integer(150_000) : integer(3_000)
  const makers: readonly (readonly [number, () => Step])[] = [
    [8, () => ({ op: 'create', slot: slot(), path: path(), exclusive: random() < 0.2, truncate: random() < 0.2 })],
    [8, () => ({ op: 'open', slot: slot(), path: path(), truncate: random() < 0.1, sync: random() < 0.1 })],
    [6, () => ({ op: pick(['close', 'fsync'] as const), slot: slot() })],
    [22, () => ({ op: 'write', slot: slot(), offset: offset(), length: 1 + size(), fill: 1 + integer(255) })],
    [20, () => ({ op: 'read', slot: slot(), offset: offset(), length: 1 + size() })],
    [4, () => ({ op: 'truncate', path: path(), size: offset() })],
    [12, () => ({ op: pick(['unlink', 'rmdir', 'mkdir', 'stat', 'list'] as const), path: path() })],
    [8, () => ({ op: pick(['rename', 'rename', 'link'] as const), path: path(), to: path() })],
    [2, () => ({ op: pick(['reboot', 'verifier', 'short'] as const) })],
    [4, () => ({ op: 'advance', ms: pick([10, 1_100, 5_000, 40_000, 70_000]) })]
  ]
  const total = makers.reduce((sum, [weight]) => sum + weight, 0)
  return Array.from({ length }, () => {
    let at = random() * total
    for (const [weight, make] of makers) {
      at -= weight
      if (at < 0) return make()
    }
    return { op: 'verifier' }
  })
}

interface Slot { readonly handle: HandleId, readonly node: ReferenceNode }
type Outcome = { readonly errno: number } | { readonly value: unknown }

async function outcomeOf (work: () => Promise<unknown>): Promise<Outcome> {
  try {
    const value = await work()
    return isErrno(value) ? { errno: value } : { value }
  } catch (error) {
    if (error instanceof Failed) return { errno: error.errno }
    throw error
  }
}

const show = (outcome: Outcome): string =>
  JSON.stringify(outcome, (_key, value: unknown) => {
    const bytes = value as { type?: string, data?: number[] } | null
    return bytes?.type === 'Buffer' ? Buffer.from(bytes.data ?? []).toString('latin1') : value
  })
const valueOf = (value: unknown): Outcome => isErrno(value) ? { errno: value } : { value }

/** One program against core and reference; the folder exists. */
export class Actor {
  readonly #world: World
  readonly #reference: Reference
  readonly #slots: (Slot | undefined)[] = []

  constructor (world: World, reference: Reference) {
    this.#world = world
    this.#reference = reference
  }

  /** @throws Error telling the step, what was expected and what came. */
  async run (program: readonly Step[]): Promise<void> {
    for (const [index, step] of program.entries()) await this.#check(step, `step ${index} ${JSON.stringify(step)}`)
    for (let slot = 0; slot < slots; slot++) await this.#check({ op: 'close', slot }, `final close of ${slot}`)
  }

  async #check (step: Step, what: string): Promise<void> {
    const isTaken = (step.op === 'create' || step.op === 'open') && this.#slots[step.slot] !== undefined
    if (isTaken) await this.#check({ op: 'close', slot: step.slot }, `${what}: close first`)
    const actual = await outcomeOf(() => this.#act(step))
    const expected = this.#expect(step, actual)
    if (expected !== undefined && show(actual) !== show(expected)) {
      throw new Error(`${what}\n  expected ${show(expected).slice(0, 300)}\n  got      ${show(actual).slice(0, 300)}`)
    }
  }

  async #act (step: Step): Promise<unknown> {
    const world = this.#world
    switch (step.op) {
      case 'create':
        return { handle: await world.create(step.path, 0o644, { exclusive: step.exclusive, truncate: step.truncate }) }
      case 'open':
        return { handle: await this.#open(step) }
      case 'close':
        return this.#withSlot(step.slot, ({ handle }) => world.close(handle))
      case 'fsync':
        return this.#withSlot(step.slot, ({ handle }) => world.fsync(handle))
      case 'write':
        return this.#withSlot(
          step.slot,
          async ({ handle }) => ({ bytes: await world.write(handle, step.offset, patternOf(step)) })
        )
      case 'read':
        return this.#withSlot(step.slot, ({ handle }) => world.read(handle, step.offset, step.length))
      case 'truncate':
        return this.#truncate(step.path, step.size)
      case 'unlink':
        return world.unlink(step.path)
      case 'rmdir':
        return world.rmdir(step.path)
      case 'mkdir':
        return world.mkdir(step.path)
      case 'rename':
        return world.rename(step.path, step.to)
      case 'link':
        return world.link(step.path, step.to)
      case 'stat':
        return this.#stat(step.path)
      case 'list':
        return this.#list(step.path)
      case 'reboot':
        world.server.reboot()
        return undefined
      case 'verifier':
        world.server.verifier = `v${Number(world.server.verifier.slice(1)) + 1}`
        return undefined
      case 'short':
        world.server.intercept('write', (proceed, args) => shorten(world, proceed, args))
        return undefined
      case 'advance':
        world.clock.advance(step.ms)
        return undefined
    }
  }

  async #open (step: Step & { op: 'open' }): Promise<HandleId> {
    const flags: Partial<typeof readWrite> = { truncate: step.truncate, sync: step.sync }
    return this.#world.open(step.path, flags)
  }

  async #truncate (path: string, size: number): Promise<unknown> {
    const entry = await this.#world.lookup(path)
    if (isErrno(entry)) return entry
    if (entry.attributes.kind === 'directory') return { isFolder: true }
    await this.#world.truncate(path, size)
    return undefined
  }

  async #stat (path: string): Promise<unknown> {
    const { kind, nlink, sizeBytes } = await this.#world.stat(path)
    return kind === 'directory' ? { kind } : { kind, nlink, sizeBytes }
  }

  async #list (path: string): Promise<unknown> {
    const listed = await this.#world.list(path, { plus: path.length % 2 === 0 })
    return listed.map(({ name }) => name as string).filter((name) => !name.startsWith('.')).sort()
  }

  async #withSlot<T> (slot: number, work: (open: Slot) => Promise<T>): Promise<T | undefined> {
    const open = this.#slots[slot]
    return open === undefined ? undefined : work(open)
  }

  /** The reference's answer, with its state changed; undefined when there is nothing to compare. */
  #expect (step: Step, actual: Outcome): Outcome | undefined {
    const reference = this.#reference
    switch (step.op) {
      case 'create':
        return this.#opened(step.slot, reference.create(step.path, step.exclusive), step.truncate, actual)
      case 'open':
        return this.#opened(step.slot, reference.find(step.path), step.truncate, actual)
      case 'truncate': {
        const node = reference.find(step.path)
        if (isErrno(node)) return { errno: node }
        if (node.kind === 'directory') return { value: { isFolder: true } }
        reference.truncate(node, step.size)
        return { value: undefined }
      }
      case 'unlink':
        return valueOf(reference.unlink(step.path))
      case 'rmdir':
        return valueOf(reference.rmdir(step.path))
      case 'mkdir':
        return valueOf(reference.mkdir(step.path))
      case 'rename':
        return valueOf(reference.rename(step.path, step.to))
      case 'link':
        return valueOf(reference.link(step.path, step.to))
      case 'stat': {
        const node = reference.find(step.path)
        if (isErrno(node)) return { errno: node }
        return {
          value: node.kind === 'directory'
            ? { kind: node.kind }
            : { kind: node.kind, nlink: node.nlink, sizeBytes: node.data.length }
        }
      }
      case 'list': {
        const node = reference.find(step.path)
        if (isErrno(node)) return { errno: node }
        return node.kind === 'directory' ? { value: [...node.names.keys()].sort() } : { errno: 20 }
      }
      case 'close':
      case 'fsync':
      case 'write':
      case 'read':
      case 'reboot':
      case 'verifier':
      case 'short':
      case 'advance':
        return this.#expectOfSlot(step)
    }
  }

  #expectOfSlot (step: Step): Outcome | undefined {
    const open = 'slot' in step ? this.#slots[step.slot] : undefined
    if (open === undefined) return { value: undefined }
    if (step.op === 'write') {
      this.#reference.write(open.node, step.offset, patternOf(step))
      return { value: { bytes: step.length } }
    }
    if (step.op === 'read') return { value: open.node.data.subarray(step.offset, step.offset + step.length) }
    if (step.op === 'close' && 'slot' in step) {
      this.#slots[step.slot] = undefined
      this.#reference.close(open.node)
    }
    return { value: undefined }
  }

  #opened (slot: number, node: ReferenceNode | Errno, truncate: boolean, actual: Outcome): Outcome | undefined {
    if (isErrno(node)) return { errno: node }
    if (node.kind === 'directory') return { errno: 21 }
    if (!('value' in actual)) return { value: { handle: 'any' } }
    node.opens += 1
    if (truncate) this.#reference.truncate(node, 0)
    this.#slots[slot] = { handle: (actual.value as { handle: HandleId }).handle, node }
    return undefined
  }
}

/** Every byte differs from its neighbours: bytes shifted within one write would show. */
function patternOf ({ length, fill }: { readonly length: number, readonly fill: number }): Buffer {
  return Buffer.from(Array.from({ length }, (_value, index) => (fill + index * 7 + (index >> 8)) & 255))
}

/** A server that takes only some of the bytes. */
function shorten (world: World, proceed: () => unknown, args: readonly unknown[]): unknown {
  const [open, offset, data, stability] = args as [{ handle: string }, number, Buffer[], number]
  const bytes = Buffer.concat(data)
  if (bytes.length < 2 || stability > 0) return proceed()
  return world.server.backend().write(open as never, offset, [bytes.subarray(0, bytes.length >> 1)], 0)
}

/** Leaves out parts as long as it still fails, largest parts first. */
export async function shrink<T> (
  program: readonly T[],
  fails: (program: readonly T[]) => Promise<boolean>
): Promise<readonly T[]> {
  let smallest = program
  for (let part = Math.ceil(program.length / 2); part >= 1; part = part === 1 ? 0 : Math.ceil(part / 2)) {
    for (let at = 0; at < smallest.length;) {
      const shorter = [...smallest.slice(0, at), ...smallest.slice(at + part)]
      if (shorter.length < smallest.length && await fails(shorter)) smallest = shorter
      else at += part
    }
  }
  return smallest
}
