/**
 * What the parts of the file system share. Owns the type only. Does not know what each part does with it.
 */
import type { AccessCache } from './beliefs/access.ts'
import type { AttributeCache } from './beliefs/attributes.ts'
import type { Budget } from './objects/budget.ts'
import type { Clock } from '../base/clock.ts'
import type { NameCache } from './beliefs/entries.ts'
import type { BackendGate } from './gate.ts'
import type { HandleTable } from './objects/handles.ts'
import type { InodeTable } from './objects/inodes.ts'
import type { Invalidator } from './operations.ts'
import type { FilesystemOptions } from './options.ts'
import type { SearchRights } from './beliefs/search.ts'
import type { SpecialFiles } from './beliefs/special-files.ts'
import type { SoloWriter } from './beliefs/solo-writer.ts'
import type { SoftRevalidation } from './beliefs/soft-revalidation.ts'
import type { State } from './objects/state.ts'
import type { Writeback } from './written/writeback.ts'

export interface Core {
  readonly backend: BackendGate
  readonly state: State
  readonly clock: Clock
  readonly options: FilesystemOptions
  readonly invalidator: Invalidator
  readonly inodes: InodeTable
  readonly attributes: AttributeCache
  readonly names: NameCache
  readonly access: AccessCache
  readonly search: SearchRights
  readonly special: SpecialFiles
  readonly handles: HandleTable
  /** What open listings may keep together. */
  readonly listings: Budget
  readonly writeback: Writeback
  readonly soft: SoftRevalidation
  /** With consistency=solowriter. */
  readonly solo: SoloWriter | undefined
}
