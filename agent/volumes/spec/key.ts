/**
 * Identity of a staged mount. Owns the canonical form of a spec and its hash.
 * Does not know mounts: equal keys may share one because nothing that differs between them can be seen through it.
 */
import { createHash } from 'node:crypto'
import { toStageKey, type StageKey } from '../../base/brands.ts'
import type { VolumeSpec } from '../../base/volume-spec.ts'

/**
 * SHA-256 of everything that makes the mounted file system what it is. Left out: read-only (a property of each bind),
 * the order of addresses (one server), why the client was chosen, and how long the first attempt may take.
 */
export function stageKeyOf (spec: VolumeSpec): StageKey {
  const { retryMs, ...options } = spec.target.options
  const { readOnly, ...flags } = spec.flags
  void retryMs
  void readOnly
  const essence = {
    type: spec.type,
    target: { ...spec.target, servers: [...spec.target.servers].sort(), options },
    client: spec.client,
    consistency: spec.consistency,
    flags,
    mountPermissions: spec.mountPermissions,
    mountGroup: spec.mountGroup
  }
  return toStageKey(createHash('sha256').update(canonicalJson(essence)).digest('hex'))
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
