/**
 * Which mount a volume is served by.
 *
 * Owns two rules. A mount keeps the key it was made with: the key of a spec names a mount that is made now, and one
 * that is there is found by what it is. And a mount whose folder was made anew on the server is not given to new pods:
 * they get one of their own, of the next generation, while the old one goes on for those that have it.
 */
import { createHash } from 'node:crypto'
import { toStageKey, type StageKey } from '../base/brands.ts'
import { showSource, type VolumeSpec } from '../base/volume-spec.ts'
import type { VolumeEvents } from './events.ts'
import type { LiveMount } from './mounter.ts'
import type { MountRecord } from './records/records.ts'
import type { VolumeTable } from './records/table.ts'
import { stageKeyOf } from './spec/key.ts'

/** A server that does not answer keeps a pod of a volume that is there waiting for no longer. */
const rootMs = 2000

export interface IdentityParts {
  readonly table: VolumeTable
  readonly shared: { live (key: StageKey): LiveMount | undefined }
  readonly events: VolumeEvents
}

/** The key of the mount for a new user of the volume. Asks the server, if that mount is there already. */
export async function keyFor ({ table, shared, events }: IdentityParts, spec: VolumeSpec): Promise<StageKey> {
  const current = newestOf(table, spec)
  if (current === undefined) return stageKeyOf(spec)
  const live = shared.live(current.key)
  if (live === undefined) return current.key
  const { isCurrent, reason } = await live.checkRoot(rootMs)
  if (isCurrent) return current.key
  events({ kind: 'root-changed', key: current.key, source: showSource(spec), reason })
  return keyOfGeneration(spec, nextGeneration(table, spec))
}

/** Mounts of this very volume, whatever their keys: a version before may have named them otherwise. */
export function mountsOfVolume (table: VolumeTable, spec: VolumeSpec): readonly MountRecord[] {
  const name = stageKeyOf(spec)
  return table.mounts().filter((mount) => stageKeyOf(mount.spec) === name)
}

/** The one that was made last. */
function newestOf (table: VolumeTable, spec: VolumeSpec): MountRecord | undefined {
  return mountsOfVolume(table, spec).toSorted((a, b) => generationOf(b) - generationOf(a))[0]
}

const generationOf = ({ generation }: MountRecord): number => generation ?? 1

/** For a mount that is made now beside those of the volume that are there. */
export function nextGeneration (table: VolumeTable, spec: VolumeSpec): number {
  return Math.max(0, ...mountsOfVolume(table, spec).map(generationOf)) + 1
}

/** Whoever finds the same mounts comes to the same key: of several pods that start at once none is ahead. */
function keyOfGeneration (spec: VolumeSpec, generation: number): StageKey {
  return toStageKey(createHash('sha256').update(`${stageKeyOf(spec)} ${generation}`).digest('hex'))
}
