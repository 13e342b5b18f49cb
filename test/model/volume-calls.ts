/**
 * Random sequences of CSI calls, and what must be true after them: the reference for staging and publishing.
 * Owns the calls, how a sequence is made from a seed, the rules of one call, and which states a set of answers can be
 * explained by. Does not know sockets, mounts or journals: the world that runs them says what was answered and what is
 * to be seen.
 */
import type { Random } from './exercise.ts'

/** Two volumes share an export, one has another. A variant is the same volume with other attributes; what is published
 * without having been staged is an inline volume, which shares nothing with one that was. */
export const volumes = ['v0', 'v1', 'v2'] as const
export type VolumeName = typeof volumes[number]
export const slots = ['s0', 's1', 's2'] as const
export type Slot = typeof slots[number]
export const targets = ['t0', 't1', 't2', 't3'] as const
export type Target = typeof targets[number]
export type Variant = 'plain' | 'other' | 'inline'

export type Call =
  | { readonly do: 'stage', readonly volume: VolumeName, readonly variant: Variant, readonly slot: Slot }
  | { readonly do: 'unstage', readonly volume: VolumeName, readonly slot: Slot }
  | {
    readonly do: 'publish'
    readonly volume: VolumeName
    readonly variant: Variant
    readonly slot: Slot | undefined
    readonly target: Target
    readonly readOnly: boolean
  }
  | { readonly do: 'unpublish', readonly volume: VolumeName, readonly target: Target }
  | { readonly do: 'stats', readonly volume: VolumeName, readonly at: Slot | Target }

/** Calls made at once; `killAfterMs`: the agent is killed so long after they were sent, and another one started. */
export interface Batch { readonly calls: readonly Call[], readonly killAfterMs?: number }

interface Held { readonly volume: VolumeName, readonly variant: Variant }
export interface State {
  readonly staged: Readonly<Partial<Record<Slot, Held>>>
  readonly published: Readonly<Partial<Record<Target, Held & { readonly readOnly: boolean }>>>
}
export const nothing: State = { staged: {}, published: {} }

/** A gRPC code's name; `lost` when the agent was killed before it answered. */
export type Answer = string

/** Same text, same state. */
export function show (state: State): string {
  const staged = slots.flatMap((slot) =>
    state.staged[slot] === undefined ? [] : [`${slot}=${state.staged[slot].volume}/${state.staged[slot].variant}`]
  )
  const published = targets.flatMap((target) => {
    const held = state.published[target]
    return held === undefined ? [] : [`${target}=${held.volume}/${held.variant}${held.readOnly ? ' ro' : ''}`]
  })
  return [...staged, ...published].join(', ') || 'nothing'
}

const without = <T extends object>(record: T, key: keyof T): T => {
  const rest = { ...record }
  delete rest[key]
  return rest
}

/** The state after it, or every code that it may be refused with. */
type Verdict = { readonly after: State } | { readonly refused: ReadonlySet<string> }
const verdict = (broken: readonly (string | false)[], after: () => State): Verdict => {
  const codes = broken.filter((code) => code !== false)
  return codes.length > 0 ? { refused: new Set(codes) } : { after: after() }
}

/** CSI: one volume id has one set of attributes as long as it is anywhere. */
const isElsewhereDifferent = (state: State, { volume, variant }: Held): boolean =>
  [...Object.values(state.staged), ...Object.values(state.published)].some((held) =>
    held.volume === volume && held.variant !== variant
  )

const isOthers = (held: Held | undefined, volume: VolumeName): boolean => held !== undefined && held.volume !== volume

const rules: { readonly [D in Call['do']]: (state: State, call: Extract<Call, { do: D }>) => Verdict } = {
  stage: (state, { volume, variant, slot }) =>
    verdict([
      isElsewhereDifferent(state, { volume, variant }) && 'ALREADY_EXISTS',
      isOthers(state.staged[slot], volume) && 'ALREADY_EXISTS'
    ], () => ({ ...state, staged: { ...state.staged, [slot]: { volume, variant } } })),
  unstage: (state, { volume, slot }) =>
    verdict([
      isOthers(state.staged[slot], volume) && 'ALREADY_EXISTS'
    ], () => ({ ...state, staged: without(state.staged, slot) })),
  publish: (state, { volume, variant, slot, target, readOnly }) =>
    verdict([
      isElsewhereDifferent(state, { volume, variant }) && 'ALREADY_EXISTS',
      slot !== undefined && (state.staged[slot]?.volume !== volume || state.staged[slot].variant !== variant) &&
      'FAILED_PRECONDITION',
      isOthers(state.published[target], volume) && 'ALREADY_EXISTS',
      state.published[target] !== undefined && state.published[target].readOnly !== readOnly && 'ALREADY_EXISTS'
    ], () => ({ ...state, published: { ...state.published, [target]: { volume, variant, readOnly } } })),
  unpublish: (state, { volume, target }) =>
    verdict([
      isOthers(state.published[target], volume) && 'ALREADY_EXISTS'
    ], () => ({ ...state, published: without(state.published, target) })),
  stats: (state, { volume, at }) =>
    verdict([
      { ...state.staged, ...state.published }[at]?.volume !== volume && 'NOT_FOUND'
    ], () => state)
}
const judge = (state: State, call: Call): Verdict =>
  (rules[call.do] as (state: State, call: Call) => Verdict)(state, call)

const pathOf = (call: Call): string =>
  call.do === 'stats' ? call.at : call.do === 'stage' || call.do === 'unstage' ? call.slot : call.target
/** One call at a time works on a volume, and one on a path. */
const meet = (one: Call, other: Call): boolean => one.volume === other.volume || pathOf(one) === pathOf(other)

function mayBeTurnedAway (call: Call, answer: Answer, batch: readonly Call[]): boolean {
  const isMet = batch.some((other) => other !== call && other.do !== 'stats' && meet(call, other))
  // Statistics wait for nobody: of a volume that is being staged there may be no figures yet.
  return isMet && answer === (call.do === 'stats' ? 'UNAVAILABLE' : 'ABORTED')
}

/**
 * Every state that can be there after the calls of a batch were answered so: some order of them must explain all
 * answers. A call that was lost was done as a whole or not at all. Empty when no order does.
 */
export function explain (
  states: readonly State[],
  calls: readonly Call[],
  answers: readonly Answer[]
): readonly State[] {
  const found = new Map<string, State>()
  const visit = (state: State, left: readonly number[]): void => {
    if (left.length === 0) found.set(show(state), state)
    for (const index of left) {
      const [call, answer] = [calls[index], answers[index]]
      if (call === undefined || answer === undefined) continue
      const rest = left.filter((other) => other !== index)
      const ruled = judge(state, call)
      if (answer === 'lost' || mayBeTurnedAway(call, answer, calls)) visit(state, rest)
      if ('after' in ruled) {
        if (answer === 'OK' || answer === 'lost') visit(ruled.after, rest)
      } else if (ruled.refused.has(answer)) visit(state, rest)
    }
  }
  for (const state of states) visit(state, calls.map((_call, index) => index))
  return [...found.values()]
}

/** How often the agent is killed, of all batches. */
export function makeSequence (random: Random, length: number, kills: number): Batch[] {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T
  const call = (volume: VolumeName): Call => {
    const variant = random() < 0.1 ? 'other' : 'plain'
    const slot = random() < 0.9 ? slots[volumes.indexOf(volume)] ?? 's0' : pick(slots)
    const target = pick(targets)
    const kinds: readonly (readonly [number, () => Call])[] = [
      [4, () => ({ do: 'stage', volume, variant, slot })],
      [
        6,
        () => ({
          do: 'publish', volume, target, readOnly: random() < 0.25,
          ...random() < 0.12 ? { variant: 'inline', slot: undefined } : { variant, slot }
        })
      ],
      [4, () => ({ do: 'unpublish', volume, target })],
      [3, () => ({ do: 'unstage', volume, slot })],
      [2, () => ({ do: 'stats', volume, at: random() < 0.3 ? slot : target })]
    ]
    let at = random() * kinds.reduce((sum, [weight]) => sum + weight, 0)
    return (kinds.find(([weight]) => (at -= weight) < 0) ?? kinds[0])?.[1]() ?? { do: 'unstage', volume, slot }
  }
  const batch = (): Batch => {
    const first = call(pick(['v0', 'v0', 'v1', 'v1', 'v2'] as const))
    const calls = [first]
    const more = random() < 0.4 ? 1 + Math.floor(random() * 3) : 0
    // A repeat at once, another call for the same volume, or anything.
    for (let n = 0; n < more; n++) {
      calls.push(random() < 0.2 ? { ...first } : call(random() < 0.5 ? first.volume : pick(volumes)))
    }
    return random() < kills ? { calls, killAfterMs: Math.floor(random() * random() * 400) } : { calls }
  }
  return Array.from({ length }, batch)
}
