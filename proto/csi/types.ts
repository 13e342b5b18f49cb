/**
 * The messages of csi.proto, registration.proto and agent.proto as they are after decoding, and the table of calls.
 *
 * Owns the TypeScript shapes; the .proto files beside it own names and numbers. int64 comes as decimal text, enums as
 * their names, absent scalars as their defaults, absent messages as null. Does not know sockets or who serves a call.
 */

export type StringMap = Readonly<Record<string, string>>
/** int64 as decimal text: JavaScript numbers end at 2^53. */
export type Int64 = string

export type AccessMode =
  | 'UNKNOWN' | 'SINGLE_NODE_WRITER' | 'SINGLE_NODE_READER_ONLY' | 'MULTI_NODE_READER_ONLY'
  | 'MULTI_NODE_SINGLE_WRITER'
  | 'MULTI_NODE_MULTI_WRITER' | 'SINGLE_NODE_SINGLE_WRITER' | 'SINGLE_NODE_MULTI_WRITER'

export interface MountAccess {
  readonly fsType: string
  readonly mountFlags: readonly string[]
  readonly volumeMountGroup: string
}
export interface VolumeCapability {
  readonly block?: Readonly<Record<string, never>> | null
  readonly mount?: MountAccess | null
  /** A number when the peer knows a mode that we don't. */
  readonly accessMode: { readonly mode: AccessMode | number } | null
}

export type PluginCapability =
  | { readonly service: { readonly type: 'CONTROLLER_SERVICE' | 'VOLUME_ACCESSIBILITY_CONSTRAINTS' } }
  | { readonly volumeExpansion: { readonly type: 'ONLINE' | 'OFFLINE' } }
export type NodeCapabilityType =
  | 'STAGE_UNSTAGE_VOLUME' | 'GET_VOLUME_STATS' | 'EXPAND_VOLUME' | 'VOLUME_CONDITION' | 'SINGLE_NODE_MULTI_WRITER'
  | 'VOLUME_MOUNT_GROUP' | 'GET_VOLUME_HEALTH' | 'GET_STORAGE_HEALTH'

export type Empty = Readonly<Record<string, never>>

export interface NodeStageVolumeRequest {
  readonly volumeId: string
  readonly publishContext: StringMap
  readonly stagingTargetPath: string
  readonly volumeCapability: VolumeCapability | null
  readonly secrets: StringMap
  readonly volumeContext: StringMap
}
export interface NodeUnstageVolumeRequest { readonly volumeId: string, readonly stagingTargetPath: string }
export interface NodePublishVolumeRequest extends NodeStageVolumeRequest {
  readonly targetPath: string
  readonly readonly: boolean
}
export interface NodeUnpublishVolumeRequest { readonly volumeId: string, readonly targetPath: string }
export interface NodeGetVolumeStatsRequest {
  readonly volumeId: string
  readonly volumePath: string
  readonly stagingTargetPath: string
}
export interface VolumeUsage {
  readonly available: Int64
  readonly total: Int64
  readonly used: Int64
  readonly unit: 'UNKNOWN' | 'BYTES' | 'INODES'
}
export interface NodeGetVolumeStatsResponse {
  readonly usage: readonly VolumeUsage[]
  readonly volumeCondition: { readonly abnormal: boolean, readonly message: string } | null
}
export interface NodeExpandVolumeRequest {
  readonly volumeId: string
  readonly volumePath: string
  readonly capacityRange: { readonly requiredBytes: Int64, readonly limitBytes: Int64 } | null
  readonly stagingTargetPath: string
  readonly volumeCapability: VolumeCapability | null
  readonly secrets: StringMap
}
export interface NodeGetInfoResponse {
  readonly nodeId: string
  readonly maxVolumesPerNode: Int64
  readonly accessibleTopology: { readonly segments: StringMap } | null
}
export interface VolumeHealthEntry {
  readonly status: 'UNKNOWN_VOLUME_HEALTH_TYPE' | 'DEGRADED' | 'INACCESSIBLE' | 'DATA_LOSS'
  readonly reason: string
  readonly message: string
}
export interface NodeGetVolumeHealthRequest {
  readonly volumeId: string
  readonly volumePublishPath: string
  readonly stagingTargetPath: string
}
export interface StorageBackendHealth {
  readonly status: 'UNKNOWN_STORAGE_HEALTH_ERROR_TYPE' | 'STORAGE_DEGRADED' | 'STORAGE_UNREACHABLE'
  readonly reason: string
  readonly message: string
  readonly volumeCapability: VolumeCapability | null
}

export interface PluginInfo {
  readonly type: string
  readonly name: string
  readonly endpoint: string
  readonly supportedVersions: readonly string[]
}
export interface RegistrationStatus { readonly pluginRegistered: boolean, readonly error: string }

export interface StatusTarget {
  readonly path: string
  readonly readOnly: boolean
  readonly owner: string
  readonly problem: string
  readonly unprotected: string
}
export interface StatusLatency {
  readonly count: Int64
  readonly sumSeconds: number
  readonly buckets: readonly { readonly upToSeconds: number, readonly count: Int64 }[]
}
export interface StatusUsage {
  readonly totalBytes: Int64
  readonly usedBytes: Int64
  readonly availableBytes: Int64
  readonly totalInodes: Int64
  readonly usedInodes: Int64
  readonly availableInodes: Int64
  readonly stale: boolean
}
export interface StatusVolume {
  readonly volumeId: string
  readonly door: string
  readonly source: string
  readonly client: string
  readonly clientReason: string
  readonly state: string
  readonly staging: string
  readonly targets: readonly StatusTarget[]
  readonly health: string
  readonly healthReason: string
  readonly locks: string
  readonly sessionPid: number
  readonly counters: Readonly<Record<string, number>>
  readonly gauges: Readonly<Record<string, number>>
  readonly usage: StatusUsage | null
  readonly key: string
  readonly latency: Readonly<Record<string, StatusLatency>>
  readonly exclusive: boolean
  readonly heals: number
  readonly notes: readonly string[]
  /** What metrics call it. */
  readonly metricLabel: string
}
export interface StatusLoss { readonly source: string, readonly bytes: Int64, readonly at: string }
export interface StatusResponse {
  readonly version: string
  readonly pid: number
  readonly driverName: string
  readonly nodeId: string
  readonly uptimeMs: Int64
  readonly registration: string
  readonly registrationError: string
  readonly volumes: readonly StatusVolume[]
  readonly timeMs: Int64
  readonly trends: readonly StatusTrend[]
  readonly troubles: readonly StatusTrouble[]
  readonly losses: readonly StatusLoss[]
  /** Where HTTP is served or should be; empty when nobody wants it. */
  readonly http: string
  /** Why it is not served there. */
  readonly httpError: string
}
/** One session at even distances, oldest first; NaN where nothing is known. */
export interface StatusTrend {
  readonly key: string
  readonly intervalMs: number
  readonly timeMs: Int64
  readonly readBytesPerSecond: readonly number[]
  readonly writtenBytesPerSecond: readonly number[]
  readonly requestsPerSecond: readonly number[]
  readonly medianSeconds: readonly number[]
  readonly p99Seconds: readonly number[]
  readonly health: readonly { readonly timeMs: Int64, readonly health: string }[]
}
export interface StatusTrouble {
  readonly timeMs: Int64
  readonly count: number
  readonly level: string
  readonly operation: string
  readonly subject: string
  readonly message: string
  readonly remedy: string
}

/** Calls by service and method: what goes in and what comes out. Servers, clients, metrics and tests all iterate it. */
export interface Calls {
  Identity: {
    GetPluginInfo: {
      request: Empty
      response: { readonly name: string, readonly vendorVersion: string, readonly manifest: StringMap }
    }
    GetPluginCapabilities: { request: Empty, response: { readonly capabilities: readonly PluginCapability[] } }
    Probe: { request: Empty, response: { readonly ready: { readonly value: boolean } | null } }
  }
  Node: {
    NodeStageVolume: { request: NodeStageVolumeRequest, response: Empty }
    NodeUnstageVolume: { request: NodeUnstageVolumeRequest, response: Empty }
    NodePublishVolume: { request: NodePublishVolumeRequest, response: Empty }
    NodeUnpublishVolume: { request: NodeUnpublishVolumeRequest, response: Empty }
    NodeGetVolumeStats: { request: NodeGetVolumeStatsRequest, response: NodeGetVolumeStatsResponse }
    NodeExpandVolume: { request: NodeExpandVolumeRequest, response: { readonly capacityBytes: Int64 } }
    NodeGetCapabilities: {
      request: Empty
      response: { readonly capabilities: readonly { readonly rpc: { readonly type: NodeCapabilityType } }[] }
    }
    NodeGetInfo: { request: Empty, response: NodeGetInfoResponse }
    NodeGetVolumeHealth: {
      request: NodeGetVolumeHealthRequest
      response: {
        readonly volumeHealth:
          | { readonly volumeId: string, readonly healthStatuses: readonly VolumeHealthEntry[] }
          | null
      }
    }
    NodeGetStorageHealth: {
      request: { readonly secrets: StringMap }
      response: { readonly backendHealth: readonly StorageBackendHealth[] }
    }
  }
  Registration: {
    GetInfo: { request: Empty, response: PluginInfo }
    NotifyRegistrationStatus: { request: RegistrationStatus, response: Empty }
  }
  Agent: {
    Status: { request: Empty, response: StatusResponse }
    Ready: {
      request: Empty
      response: {
        readonly ready: boolean
        readonly reason: string
        readonly http: string
        readonly httpError: string
      }
    }
    HandOver: {
      request: { readonly version: string, readonly stays: boolean }
      response: { readonly accepted: boolean, readonly version: string, readonly pid: number }
    }
    Unmount: {
      request: { readonly targetPath: string, readonly force: boolean }
      response: { readonly lostBytes: Int64 }
    }
  }
}
export type ServiceName = keyof Calls
export type MethodName<S extends ServiceName> = keyof Calls[S] & string
export type RequestOf<S extends ServiceName, M extends MethodName<S>> = Calls[S][M] extends { request: infer R } ? R
  : never
export type ResponseOf<S extends ServiceName, M extends MethodName<S>> = Calls[S][M] extends { response: infer R } ? R
  : never
