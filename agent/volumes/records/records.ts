/**
 * What the journal says. Owns the record types and their ids. Does not know files or mounts.
 * A record says what we meant; whether it is so, only mountinfo says.
 */
import { createHash } from 'node:crypto'
import type { AbsolutePath, DeviceNumber, StageKey, VolumeId } from '../../base/brands.ts'
import type { VolumeSpec } from '../../base/volume-spec.ts'
import type { ProcessId } from '../../host/processes.ts'
import type { DataLoss, Door } from '../operations.ts'
import type { BindPhase, MountPhase } from './states.ts'

/** How a mount can be found again. Filled in as a start proceeds. */
export interface MountFacts {
  readonly socketPath: string | undefined
  readonly process: ProcessId | undefined
  readonly device: DeviceNumber | undefined
  /** As mountinfo spells it, where a bind of a part shows another one (NFS of the kernel, whose `root` is always
   * `/`). */
  readonly source?: string
}

export interface MountRecord {
  readonly kind: 'mount'
  readonly key: StageKey
  readonly phase: MountPhase
  readonly spec: VolumeSpec
  readonly mountPoint: string
  readonly facts: MountFacts
  /** Of the mounts of one volume, which is served by the last; absent is 1. There are several when its folder was made
   * anew on the server while pods had it. */
  readonly generation?: number | undefined
  /** Of the boot in which it was written: under another one nothing of it exists any more. */
  readonly bootId: string
}

export type BindRole = 'staging' | 'target'
export interface BindRecord {
  readonly kind: 'bind'
  readonly role: BindRole
  readonly phase: BindPhase
  readonly volume: VolumeId
  readonly key: StageKey
  /** As the caller spells it. */
  readonly path: AbsolutePath
  /** As mountinfo spells it. */
  readonly resolved: string
  readonly readOnly: boolean
  readonly door: Door
  readonly owner: string | undefined
  /** The volume may be at no other target while it is at this one; for `status`. */
  readonly exclusive?: boolean | undefined
  /** We made the folder and take it away again. */
  readonly madeFolder: boolean
  readonly bootId: string
  /** Flex only: the bare folder is, or is about to be, immutable, and must be made plain again; or why it could not
   * be. */
  readonly protection?: 'immutable' | { readonly unprotected: string }
}

/** Survives the mount it tells of. */
export interface LossRecord extends DataLoss {
  readonly kind: 'loss'
  readonly phase: 'lost'
}

export type JournalRecord = MountRecord | BindRecord | LossRecord

/** One file name per thing, so that a repeat replaces. */
export function recordId (record: JournalRecord): string {
  const ids = {
    mount: ({ key }: MountRecord) => mountRecordId(key),
    bind: ({ path }: BindRecord) => bindRecordId(path),
    loss: ({ key }: LossRecord) => lossRecordId(key)
  }
  return (ids[record.kind] as (record: JournalRecord) => string)(record)
}
export const mountRecordId = (key: StageKey): string => `mount-${key}`
export const lossRecordId = (key: StageKey): string => `loss-${key}`
export const bindRecordId = (path: AbsolutePath): string => `bind-${createHash('sha256').update(path).digest('hex')}`
