/**
 * CSI requests as arguments of the engine: the only place of this door that says INVALID_ARGUMENT, always with the
 * field's name.
 *
 * Owns what each field must look like. Does not know what a volume attribute means (`agent/volumes/spec.ts`) or whether
 * a volume exists.
 */
import { parseAbsolutePath, toVolumeId } from '../base/brands.ts'
import type { AbsolutePath, VolumeId } from '../base/brands.ts'
import { VolumeError, messageOf } from '../base/errors.ts'
import type { VolumeSpec } from '../base/volume-spec.ts'
import { isBelow } from '../volumes/door-folder.ts'
import type { Door, PublishRequest, StageRequest } from '../volumes/operations.ts'
import type {
  AccessMode, NodeExpandVolumeRequest, NodeGetVolumeHealthRequest, NodeGetVolumeStatsRequest, NodePublishVolumeRequest,
  NodeStageVolumeRequest,
  NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, StringMap, VolumeCapability
} from '../../proto/csi/types.ts'

/** What of a request beside its attributes says how the volume is to be mounted. */
export interface SpecExtras {
  readonly mountFlags: readonly string[]
  readonly mountGroup: number | undefined
}
/** Turns attributes into a volume. @throws VolumeError INVALID naming the attribute. */
export type ParseSpec = (attributes: StringMap, extras: SpecExtras) => VolumeSpec

/** Ids go into journal, log lines and file names' hashes. CSI asks for 128 bytes; csi-driver-nfs's handles are
 * longer. */
export const volumeIdBytesMax = 1024

/** Whether a mount of that mode may be written to. NFS serves every combination of nodes; who may write is the bind's
 * property. */
const isReadOnlyMode = {
  SINGLE_NODE_WRITER: false,
  SINGLE_NODE_READER_ONLY: true,
  MULTI_NODE_READER_ONLY: true,
  MULTI_NODE_SINGLE_WRITER: false,
  MULTI_NODE_MULTI_WRITER: false,
  SINGLE_NODE_SINGLE_WRITER: false,
  SINGLE_NODE_MULTI_WRITER: false
} as const satisfies Record<Exclude<AccessMode, 'UNKNOWN'>, boolean>

function refuse (field: string, why: string, remedy?: string): never {
  throw new VolumeError('INVALID', `${field} ${why}`, remedy === undefined ? { field } : { field, remedy })
}

export function decodeVolumeId (text: string): VolumeId {
  const field = 'volume_id'
  if (text === '') refuse(field, 'is missing')
  if (Buffer.byteLength(text) > volumeIdBytesMax) {
    refuse(field, `has ${Buffer.byteLength(text)} bytes, at most ${volumeIdBytesMax} are allowed`)
  }
  if (/[\p{Cc}]/u.test(text)) refuse(field, `${JSON.stringify(text.slice(0, 100))} contains a control character`)
  return toVolumeId(text)
}

export function decodePath (text: string, field: string): AbsolutePath {
  if (text === '') refuse(field, 'is missing')
  const parsed = parseAbsolutePath(text, field)
  if (parsed === '/') refuse(field, 'is the root folder')
  return parsed
}

/**
 * kubelet gives no other paths. One that lies elsewhere means that the agent was told another kubelet folder, or that
 * the caller is none. Words alone: the engine compares what they lead to (`agent/volumes/door-folder.ts`).
 */
export function requireWithin (folders: readonly string[], path: AbsolutePath, field: string): void {
  if (folders.some((folder) => isBelow(path, folder))) return
  refuse(
    field,
    `${JSON.stringify(path)} is not in kubelet's folder ${folders.join(', ')}`,
    'start the agent with kubelet\'s --root-dir as --kubelet-dir'
  )
}

/** Other NFS drivers want `nfs` written there; kubelet passes on what the volume says (k8s pkg/volume/csi). */
const fileSystemTypes: ReadonlySet<string> = new Set(['', 'nfs'])

function checkFileSystemType (text: string): void {
  if (fileSystemTypes.has(text)) return
  refuse(
    'volume_capability.mount.fs_type',
    `${JSON.stringify(text.slice(0, 100))} is not a file system of this driver, which mounts what an NFS server exports`,
    'leave fsType out'
  )
}

interface DecodedCapability extends SpecExtras { readonly readOnly: boolean, readonly exclusive: boolean }

function decodeMountGroup (text: string): number | undefined {
  if (text === '') return undefined
  const group = Number(text)
  if (!/^\d{1,10}$/.test(text) || group > 0xfffffffe) {
    refuse('volume_capability.mount.volume_mount_group', `${JSON.stringify(text.slice(0, 100))} is not a group id`)
  }
  return group
}

export function decodeCapability (capability: VolumeCapability | null): DecodedCapability {
  const field = 'volume_capability'
  if (capability === null) return refuse(field, 'is missing')
  if (capability.block !== undefined && capability.block !== null) {
    return refuse(
      `${field}.block`,
      'asks for a block device, and an NFS share is a file system',
      'use volumeMode: Filesystem'
    )
  }
  if (capability.mount === undefined || capability.mount === null) {
    return refuse(field, 'has no access type', 'set mount')
  }
  checkFileSystemType(capability.mount.fsType)
  const mode = capability.accessMode?.mode ?? 'UNKNOWN'
  const readOnly = (isReadOnlyMode as Readonly<Record<string, boolean>>)[mode]
  if (readOnly === undefined) {
    return refuse(
      `${field}.access_mode`,
      mode === 'UNKNOWN' ? 'is missing' : `${String(mode)} is not known to this driver`
    )
  }
  return {
    mountFlags: capability.mount.mountFlags, mountGroup: decodeMountGroup(capability.mount.volumeMountGroup), readOnly,
    exclusive: mode === 'SINGLE_NODE_SINGLE_WRITER'
  }
}

/** Shown on terminals, and through Flex whoever writes the options chooses it. */
function decodeOwner (context: StringMap): string | undefined {
  const name = context['csi.storage.k8s.io/pod.name']
  const namespace = context['csi.storage.k8s.io/pod.namespace']
  return name === undefined || namespace === undefined
    ? undefined
    : `${namespace}/${name}`.slice(0, 512).replaceAll(/\p{Cc}/gu, '?')
}

export function decodeStage (request: NodeStageVolumeRequest, door: Door, parseSpec: ParseSpec): StageRequest {
  const volume = decodeVolumeId(request.volumeId)
  const staging = decodePath(request.stagingTargetPath, 'staging_target_path')
  const { mountFlags, mountGroup } = decodeCapability(request.volumeCapability)
  return { volume, staging, door, spec: parseSpec(request.volumeContext, { mountFlags, mountGroup }) }
}

export function decodeUnstage (request: NodeUnstageVolumeRequest): { volume: VolumeId, staging: AbsolutePath } {
  return {
    volume: decodeVolumeId(request.volumeId), staging: decodePath(request.stagingTargetPath, 'staging_target_path')
  }
}

/** CSI: whoever claims STAGE_UNSTAGE_VOLUME is staged first. Only an inline volume, which kubelet marks, has no staging
 * path. */
function requireStaging (request: NodePublishVolumeRequest): void {
  if (request.stagingTargetPath !== '' || request.volumeContext['csi.storage.k8s.io/ephemeral'] === 'true') return
  throw new VolumeError('PRECONDITION', 'staging_target_path is missing', {
    field: 'staging_target_path',
    remedy:
      'stage the volume first; for inline volumes set podInfoOnMount: true in the CSIDriver object, by which kubelet marks them'
  })
}

/** An inline volume, a Flex call and a mount by hand come without a staging path: then publishing does both. */
export function decodePublish (request: NodePublishVolumeRequest, door: Door, parseSpec: ParseSpec): PublishRequest {
  const volume = decodeVolumeId(request.volumeId)
  const target = decodePath(request.targetPath, 'target_path')
  const staging = request.stagingTargetPath === ''
    ? undefined
    : decodePath(request.stagingTargetPath, 'staging_target_path')
  const { mountFlags, mountGroup, readOnly, exclusive } = decodeCapability(request.volumeCapability)
  const spec = parseSpec(request.volumeContext, { mountFlags, mountGroup })
  if (door === 'csi') requireStaging(request)
  return {
    volume, spec, target, staging, door, exclusive,
    readOnly: request.readonly || readOnly || spec.flags.readOnly,
    owner: decodeOwner(request.volumeContext)
  }
}

export function decodeUnpublish (request: NodeUnpublishVolumeRequest): { volume: VolumeId, target: AbsolutePath } {
  return { volume: decodeVolumeId(request.volumeId), target: decodePath(request.targetPath, 'target_path') }
}

/** kubelet calls statfs(2) on a Flex mount itself, without a deadline (k8s MetricsStatFS), and `hard` is a promise to
 * wait. */
export function requireMeasurable ({ client, target }: VolumeSpec): void {
  if (client !== 'kernel' || target.options.recovery !== 'hard') return
  refuse(
    'client',
    '"kernel" with hard would hold up kubelet\'s statistics for as long as the server is away',
    'use the Flex driver of the same name with "-kernel" (`volbridge flex-install --kernel`), or soft in mountOptions, or client=fuse'
  )
}

/** A path that only says where to look: one that can't be (csi-sanity gives a relative one) holds no volume, which is
 * NOT_FOUND. */
function decodeLookedAt (text: string, field: string): AbsolutePath {
  if (text === '') refuse(field, 'is missing')
  try {
    return decodePath(text, field)
  } catch (error) {
    throw new VolumeError('NOT_FOUND', messageOf(error), { field, cause: error })
  }
}

/** It says nothing that the volume's path does not, and kubelet leaves it out; a wrong one is a caller's mistake all
 * the same. */
function checkStaging (text: string): void {
  if (text !== '') decodePath(text, 'staging_target_path')
}

export function decodeStatistics (request: NodeGetVolumeStatsRequest): { volume: VolumeId, path: AbsolutePath } {
  const found = { volume: decodeVolumeId(request.volumeId), path: decodeLookedAt(request.volumePath, 'volume_path') }
  checkStaging(request.stagingTargetPath)
  return found
}

/** Both paths are optional: the volume may only have been tried there. */
export function decodeVolumeHealth (request: NodeGetVolumeHealthRequest): {
  volume: VolumeId
  paths: readonly AbsolutePath[]
} {
  const volume = decodeVolumeId(request.volumeId)
  const given = [['volume_publish_path', request.volumePublishPath], [
    'staging_target_path', request.stagingTargetPath
  ]] as const
  return { volume, paths: given.filter(([, text]) => text !== '').map(([field, text]) => decodePath(text, field)) }
}

/** CSI: neither bound may be negative, and 0 is none. */
function decodeCapacity ({ requiredBytes, limitBytes }: NonNullable<NodeExpandVolumeRequest['capacityRange']>): bigint {
  const [required, limit] = [BigInt(requiredBytes), BigInt(limitBytes)]
  if (required < 0n) refuse('capacity_range.required_bytes', `is negative (${required})`)
  if (limit < 0n) refuse('capacity_range.limit_bytes', `is negative (${limit})`)
  if (limit > 0n && limit < required) {
    refuse('capacity_range', `asks for at least ${required} bytes and at most ${limit}`)
  }
  return required
}

export function decodeExpand (request: NodeExpandVolumeRequest): {
  volume: VolumeId
  path: AbsolutePath
  requiredBytes: bigint
} {
  const found = { volume: decodeVolumeId(request.volumeId), path: decodeLookedAt(request.volumePath, 'volume_path') }
  checkStaging(request.stagingTargetPath)
  if (request.volumeCapability !== null) decodeCapability(request.volumeCapability)
  return { ...found, requiredBytes: request.capacityRange === null ? 0n : decodeCapacity(request.capacityRange) }
}
