/**
 * Which mount a volume is served by. Owns that a mount keeps the key it was made with: the key of a spec names a mount
 * that is made now, and one that is there is found by what it is.
 */
import type { StageKey } from '../base/brands.ts'
import type { VolumeSpec } from '../base/volume-spec.ts'
import type { MountRecord } from './records/records.ts'
import type { VolumeTable } from './records/table.ts'
import { stageKeyOf } from './spec/key.ts'

/** The mount of this very volume, whatever its key: a version before may have named it otherwise. */
export function mountOfVolume (table: VolumeTable, spec: VolumeSpec): MountRecord | undefined {
  const name = stageKeyOf(spec)
  return table.mounts().find((mount) => stageKeyOf(mount.spec) === name)
}

export function keyFor (table: VolumeTable, spec: VolumeSpec): StageKey {
  return mountOfVolume(table, spec)?.key ?? stageKeyOf(spec)
}
