/**
 * Identity of a volume. Owns the canonical form of a spec and its hash.
 * Does not know mounts: equal keys may share one because nothing that differs between them can be seen through it.
 *
 * Only what differs from the defaults is hashed, so that a version which knows one more option calls a volume that does
 * not use it by the same name as the version before. A mount keeps the key it was made with (`identity.ts`).
 */
import { createHash } from 'node:crypto'
import { toStageKey, type StageKey } from '../../base/brands.ts'
import type { VolumeSpec } from '../../base/volume-spec.ts'
import { defaultFacts, defaultFlags, defaultOptions } from './defaults.ts'

/** Specs are frozen and live as long as their records; a look at all volumes of a node asks for the key of each. */
const known = new WeakMap<VolumeSpec, StageKey>()

/**
 * SHA-256 of everything that makes the mounted file system what it is. Left out: read-only (a property of each bind),
 * the order of addresses (one server), why the client was chosen, notes on options, whose group the files get when
 * (each pod's asks anew), and how long the first attempt may take.
 */
export function stageKeyOf (spec: VolumeSpec): StageKey {
  const found = known.get(spec)
  if (found !== undefined) return found
  const key = toStageKey(createHash('sha256').update(canonicalJson(essenceOf(spec))).digest('hex'))
  known.set(spec, key)
  return key
}

function essenceOf (spec: VolumeSpec): object {
  const { target, flags, clientReason, optionNotes, fsGroupContents, ...facts } = spec
  const { servers, share, subDir, options, ...more } = target
  const { retryMs, ...asked } = options
  const { readOnly, ...mountFlags } = flags
  void [clientReason, optionNotes, fsGroupContents, retryMs, readOnly]
  return {
    ...different(facts, defaultFacts),
    ...more,
    servers: servers.toSorted(),
    share,
    subDir: subDir.length === 0 ? undefined : subDir,
    options: different(asked, defaultOptions(spec)),
    flags: different(mountFlags, defaultFlags)
  }
}

/** Absent means as by default: a record may be older than the option. Nothing at all is nothing in the hash either. */
function different (given: object, usual: object): object | undefined {
  const members = Object.entries(given).filter(([name, value]) => {
    return value !== undefined && value !== (usual as Readonly<Record<string, unknown>>)[name]
  })
  return members.length === 0 ? undefined : Object.fromEntries(members)
}

/** Whether two mounts show the same, but for whom new objects belong to. */
export function sameButGroup (one: VolumeSpec, other: VolumeSpec): boolean {
  return stageKeyOf({ ...one, mountGroup: undefined }) === stageKeyOf({ ...other, mountGroup: undefined })
}

/** JSON with sorted names; undefined members are left out, as JSON does. */
export function canonicalJson (value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0)
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`).join(',')}}`
}
