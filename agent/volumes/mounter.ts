/**
 * What makes a shared mount. Owns the border between the engine and a client: own FUSE, kernel NFS, later a foreign
 * FUSE program. Does not know journals, binds or doors. The engine does not know sessions.
 */
import type { StageKey } from '../base/brands.ts'
import { usageOf, type Usage } from '../base/usage.ts'
import type { VolumeSpec } from '../base/volume-spec.ts'
import type { GroupGift } from '../session/control.ts'
import type { LatencyView, VolumeHealth } from './operations.ts'
import type { MountFacts, MountRecord } from './records/records.ts'

export interface StartRequest {
  readonly key: StageKey
  readonly spec: VolumeSpec
  /** An empty folder of ours. */
  readonly mountPoint: string
  readonly facts: MountFacts
  /** Called with more facts before each step that leaves something behind; the step waits until they are durable. */
  readonly note: (facts: MountFacts) => Promise<void>
  readonly deadlineMs: number
}

/** Figures of bytes and of inodes, each made to add up. */
export function toRawStatistics (bytes: Usage, inodes: Usage, stale: boolean): RawStatistics {
  const [ofBytes, ofInodes] = [usageOf(bytes), usageOf(inodes)]
  return {
    totalBytes: ofBytes.total, usedBytes: ofBytes.used, availableBytes: ofBytes.available,
    totalInodes: ofInodes.total, usedInodes: ofInodes.used, availableInodes: ofInodes.available,
    stale
  }
}

export interface RawStatistics {
  readonly totalBytes: bigint
  readonly usedBytes: bigint
  readonly availableBytes: bigint
  readonly totalInodes: bigint
  readonly usedInodes: bigint
  readonly availableInodes: bigint
  readonly stale: boolean
}

export interface MountReport {
  readonly health: VolumeHealth
  readonly locks: string
  /** What else an operator wants to know of how it is mounted. */
  readonly detail?: string
  readonly notes: readonly string[]
  readonly pid: number | undefined
  readonly counters: Readonly<Record<string, number>>
  readonly gauges: Readonly<Record<string, number>>
  readonly latency: Readonly<Record<string, LatencyView>>
}

/** A mount that is served now. */
export interface LiveMount {
  readonly facts: MountFacts
  /** Settles with the reason when it is served no more. Never rejects. */
  readonly ended: Promise<string>
  /** @throws VolumeError TIMED_OUT or UNAVAILABLE when there is no answer by then. */
  statistics (deadlineMs: number): Promise<RawStatistics>
  report (deadlineMs: number): Promise<MountReport>
  probe (deadlineMs: number): Promise<VolumeHealth>
  /**
   * Whether a mount that is made now would show the same folder: it may have been made anew on the server. What cannot
   * be found out in time is yes. Never rejects.
   */
  checkRoot (deadlineMs: number): Promise<{ readonly isCurrent: boolean, readonly reason: string }>
  /**
   * Gives the volume, with all that is in it, to a pod's group. @throws VolumeError TIMED_OUT when the deadline comes
   * first: then it goes on as long as the mount is served. Absent: a start has done what there is to do.
   */
  giveGroup? (gift: GroupGift, deadlineMs: number): Promise<void>
  /** Writes back what is dirty. What is still dirty at the deadline is counted. */
  drain (deadlineMs: number): Promise<{ readonly lostBytes: number }>
}

export interface Mounter {
  /** Whether this node has what it takes, before anything is made. @throws VolumeError UNSUPPORTED */
  check? (): Promise<void>
  /** Names that a start will use, chosen before anything happens so that the journal can hold them. */
  plan (key: StageKey): MountFacts
  /** Ends with a served mount at `mountPoint`, or throws and has left nothing behind. @throws VolumeError */
  start (request: StartRequest): Promise<LiveMount>
  /** A mount made by an earlier agent, if it is served. */
  find (record: MountRecord): Promise<LiveMount | undefined>
  /**
   * Takes away the mount and whatever serves it, also half-made ones, by force if need be. The caller has seen that
   * nobody else shares the file system. Afterwards nothing more is sent to the server.
   */
  end (record: MountRecord): Promise<void>
}
