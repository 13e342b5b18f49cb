/**
 * What the engine's parts share. Owns the type only; `engine.ts` makes it. Does not know what each part does with it.
 */
import type { DoorFolder } from './door-folder.ts'
import type { VolumeEvents } from './events.ts'
import type { VolumeTable } from './records/table.ts'
import type { SharedMounts } from './shared-mounts.ts'
import type { VolumeHost } from './volume-host.ts'

export interface EngineParts {
  readonly table: VolumeTable
  readonly host: VolumeHost
  readonly shared: SharedMounts
  readonly events: VolumeEvents
  readonly bootId: string
  readonly isOurType: (type: string) => boolean
  /** Where everything lies that comes through CSI's door; without it nobody has said. */
  readonly csiFolder?: DoorFolder | undefined
}
