/**
 * The volume engine as its doors see it: one method per deed, the same for CSI, Flex and hand mounts.
 *
 * Owns the border between doors and engine. Knows no gRPC and no Flex. Failures are thrown as `VolumeError`.
 * Every method is idempotent: a repeat with equal arguments finds the deed done and does nothing; a repeat with other
 * arguments is CONFLICT; a call for a volume (or target) that another call is working on is IN_PROGRESS.
 */
import type { AbsolutePath, StageKey, VolumeId } from '../base/brands.ts'
import type { VolumeSpec } from '../base/volume-spec.ts'

export type Door = 'csi' | 'flex' | 'hand'

export interface StageRequest {
  readonly volume: VolumeId
  readonly spec: VolumeSpec
  /** Where the CO wants the staged mount to appear (a bind of the shared one). The folder exists. */
  readonly staging: AbsolutePath
  readonly door: Door
}

export interface PublishRequest {
  readonly volume: VolumeId
  readonly spec: VolumeSpec
  /** The pod's folder. CSI: the driver makes it, its parent exists. */
  readonly target: AbsolutePath
  /** Present when the CO staged the volume before; then it must have been staged there with the same spec. */
  readonly staging: AbsolutePath | undefined
  readonly readOnly: boolean
  /** The volume may be at no other target while it is at this one (ReadWriteOncePod). */
  readonly exclusive?: boolean
  readonly door: Door
  /** For `status` and logs only, never for a decision: namespace/name of the pod, if told. */
  readonly owner: string | undefined
}

export type VolumeHealthState = 'healthy' | 'degraded' | 'unreachable' | 'stale' | 'dead'
export interface VolumeHealth {
  readonly state: VolumeHealthState
  /** Empty when healthy, else one sentence with a remedy. */
  readonly reason: string
  /** What was lost of the volume before it was mounted this time, in a sentence. */
  readonly lost?: string
}

/** Bytes that write() had acknowledged and that an unmount could not save. */
export interface DataLoss {
  readonly key: StageKey
  readonly source: string
  readonly bytes: number
  /** ISO 8601. */
  readonly at: string
}

export interface VolumeStatistics {
  readonly totalBytes: bigint
  readonly usedBytes: bigint
  readonly availableBytes: bigint
  readonly totalInodes: bigint
  readonly usedInodes: bigint
  readonly availableInodes: bigint
  /** Last known values, because the server did not answer in time. */
  readonly stale: boolean
  readonly health: VolumeHealth
}

export interface TargetView {
  readonly path: string
  /** The same as mountinfo spells it. */
  readonly resolved: string
  readonly readOnly: boolean
  readonly owner: string | undefined
  /** Empty when the volume is to be seen there, else why not, with a remedy. */
  readonly problem: string
  /** Empty when nobody can write to the bare folder while the mount is missing, or when nobody is kept from it; else
   * why somebody could. */
  readonly unprotected: string
}

/** How long one kind of request took: cumulative counts by upper bound, as Prometheus has them. */
export interface LatencyView {
  readonly count: number
  readonly sumSeconds: number
  readonly buckets: readonly { readonly upToSeconds: number, readonly count: number }[]
}

/** One row of `volbridge status`. */
export interface VolumeView {
  readonly volume: VolumeId
  readonly door: Door
  readonly source: string
  readonly client: string
  readonly clientReason: string
  readonly key: StageKey
  readonly state: string
  readonly staging: string | undefined
  readonly targets: readonly TargetView[]
  readonly health: VolumeHealth
  readonly locks: string
  /** What an operator should know though the volume works. */
  readonly notes: readonly string[]
  readonly sessionPid: number | undefined
  /** Of the session; volumes with one key share it. */
  readonly counters: Readonly<Record<string, number>>
  readonly gauges: Readonly<Record<string, number>>
  readonly latency: Readonly<Record<string, LatencyView>>
  /** It is published for one pod alone. */
  readonly exclusive: boolean
  /** How often its mount has been brought back after its session died, since the agent started. */
  readonly heals: number
}

export interface VolumeOperations {
  stage (request: StageRequest): Promise<void>
  unstage (request: { readonly volume: VolumeId, readonly staging: AbsolutePath }): Promise<void>
  publish (request: PublishRequest): Promise<void>
  /** Detaches the bind at `target`; success when there is none. Removes the folder when the door is CSI. */
  unpublish (request: {
    readonly volume: VolumeId
    readonly target: AbsolutePath
    readonly door: Door
    readonly force?: boolean
  }): Promise<{ readonly lostBytes: number }>
  /** NOT_FOUND when the volume is not mounted at `path`. Answers within `deadlineMs` also when the server is dead. */
  statistics (request: {
    readonly volume: VolumeId
    readonly path: AbsolutePath
    readonly deadlineMs: number
  }): Promise<VolumeStatistics>
  /** Whether this very volume is at `path` already and served, whatever was held back of it when it was made. */
  shows (request: {
    readonly volume: VolumeId
    readonly path: AbsolutePath
    readonly spec: VolumeSpec
    readonly readOnly: boolean
  }): Promise<boolean>
  list (): Promise<readonly VolumeView[]>
  /** What the last unmount of each share could not save, whether it is mounted again or not. */
  losses (): readonly DataLoss[]
}
