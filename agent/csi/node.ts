/**
 * The CSI Node service: decode → engine → encode, nothing more.
 *
 * Owns the capabilities we claim and the form of the answers. Serves every door: kubelet on the CSI socket, Flex and
 * the command line on the agent's own. Does not know mounts, sessions or locks.
 */
import { status } from '@grpc/grpc-js'
import type { NodeCapabilityType, NodeGetVolumeStatsResponse } from '../../proto/csi/types.ts'
import type { AbsolutePath } from '../base/brands.ts'
import { noLimit } from '../base/usage.ts'
import type { Door, PublishRequest, StageRequest, VolumeOperations, VolumeStatistics } from '../volumes/operations.ts'
import { Admission } from './admission.ts'
import type { AdmissionParts } from './admission.ts'
import { askerOf, podOf, stagerOf } from './asking.ts'
import {
  decodeExpand,
  decodePublish,
  decodeStage,
  decodeStatistics,
  decodeUnpublish,
  decodeUnstage,
  requireMeasurable,
  requireWithin
} from './decode.ts'
import type { ParseSpec } from './decode.ts'
import { storageHealth, volumeHealth } from './health.ts'
import { CsiRefusal } from './grpc-status.ts'
import type { Implementation } from './unary.ts'

export interface NodeOptions {
  readonly volumes: VolumeOperations
  readonly parseSpec: ParseSpec
  readonly nodeId: string
  /** Volumes that this node takes, for the scheduler. */
  readonly volumesMax: number
  readonly admission: AdmissionParts
  /** Names of kubelet's folder: calls through the CSI door that mount or unmount elsewhere are refused. Absent: no
   * kubelet is served. */
  readonly kubeletFolders?: readonly string[]
  /** Whether the health calls of CSI 1.13 are served: tools built on an older version fail on capabilities they don't
   * know. */
  readonly health?: boolean
}

export const nodeCapabilities = [
  'STAGE_UNSTAGE_VOLUME', 'GET_VOLUME_STATS', 'VOLUME_CONDITION', 'SINGLE_NODE_MULTI_WRITER', 'VOLUME_MOUNT_GROUP'
] as const satisfies readonly NodeCapabilityType[]
const healthCapabilities = ['GET_VOLUME_HEALTH', 'GET_STORAGE_HEALTH'] as const satisfies readonly NodeCapabilityType[]

/** kubelet asks for statistics volume after volume in one loop: a dead server must not hold up the others. */
export const statisticsMs = 800

export function encodeStatistics (statistics: VolumeStatistics): NodeGetVolumeStatsResponse {
  const { health } = statistics
  return {
    usage: [
      {
        unit: 'BYTES', total: `${statistics.totalBytes}`, used: `${statistics.usedBytes}`,
        available: `${statistics.availableBytes}`
      },
      {
        unit: 'INODES', total: `${statistics.totalInodes}`, used: `${statistics.usedInodes}`,
        available: `${statistics.availableInodes}`
      }
    ],
    volumeCondition: {
      // Last known figures mean that the server was asked just now and did not answer, whatever it said a moment ago.
      abnormal: health.state !== 'healthy' || statistics.stale,
      message: [
        health.state === 'healthy'
          ? 'healthy'
          : health.reason === health.lost
          ? `data loss: ${health.reason}`
          : `${health.state}: ${health.reason}`,
        ...(health.lost === undefined || health.reason === health.lost ? [] : [`data loss: ${health.lost}`]),
        // Why there is none that is newer the health has said, unless it was all well a moment ago.
        ...(statistics.stale
          ? [`usage is the last known one${health.state === 'healthy' ? ', the server did not answer in time' : ''}`]
          : [])
      ].join('; ')
    }
  }
}

function healthCalls (volumes: VolumeOperations): Implementation<'Node'> {
  return {
    NodeGetVolumeHealth: async (request) => ({
      volumeHealth: { volumeId: request.volumeId, healthStatuses: await volumeHealth(volumes, request, statisticsMs) }
    }),
    NodeGetStorageHealth: async () => ({ backendHealth: await storageHealth(volumes) })
  }
}

export function nodeService (options: NodeOptions): Implementation<'Node'> {
  const { volumes, parseSpec, nodeId, volumesMax, kubeletFolders, health = false } = options
  const admission = new Admission(options.admission)
  const requireKubelets = (door: Door, path: AbsolutePath, field: string): void => {
    if (door === 'csi' && kubeletFolders !== undefined) requireWithin(kubeletFolders, path, field)
  }
  const capabilities = [...nodeCapabilities, ...health ? healthCapabilities : []]
  return {
    ...health ? healthCalls(volumes) : {},
    NodeStageVolume: async (request, { door }) => {
      const { volumeId: volume, stagingTargetPath: path, volumeContext } = request
      const decode = (): StageRequest => {
        const stage = decodeStage(request, door, parseSpec)
        requireKubelets(door, stage.staging, 'staging_target_path')
        return stage
      }
      const who = { asker: stagerOf(door), pod: podOf(volumeContext, path, door) }
      const isThere = async ({ staging, spec, ...stage }: StageRequest): Promise<boolean> =>
        await volumes.shows({ volume: stage.volume, path: staging, spec, readOnly: spec.flags.readOnly })
      await admission.admit({ call: 'stage', door, ...who, volume, path, decode, isThere }, async (stage) => {
        await volumes.stage(stage)
      })
      return {}
    },
    NodeUnstageVolume: async (request, { door }) => {
      const unstage = decodeUnstage(request)
      requireKubelets(door, unstage.staging, 'staging_target_path')
      await volumes.unstage(unstage)
      return {}
    },
    NodePublishVolume: async (request, { door, unmeasured }) => {
      const { volumeId: volume, targetPath: path, volumeContext } = request
      const decode = (): PublishRequest => {
        const publish = decodePublish(request, door, parseSpec)
        if (door === 'flex' && !unmeasured) requireMeasurable(publish.spec)
        requireKubelets(door, publish.target, 'target_path')
        return publish
      }
      const who = { asker: askerOf(door, request), pod: podOf(volumeContext, path, door) }
      const isThere = async ({ target, spec, readOnly, ...publish }: PublishRequest): Promise<boolean> =>
        await volumes.shows({ volume: publish.volume, path: target, spec, readOnly })
      await admission.admit({ call: 'publish', door, ...who, volume, path, decode, isThere }, async (publish) => {
        await volumes.publish(publish)
      })
      return {}
    },
    NodeUnpublishVolume: async (request, { door }) => {
      const unpublish = decodeUnpublish(request)
      requireKubelets(door, unpublish.target, 'target_path')
      await volumes.unpublish({ ...unpublish, door })
      return {}
    },
    NodeGetVolumeStats: async (request) =>
      encodeStatistics(await volumes.statistics({ ...decodeStatistics(request), deadlineMs: statisticsMs })),
    // A share has the size its server gives it. Nothing is there to grow on a node, so the answer is what there is.
    NodeExpandVolume: async (request) => {
      const { requiredBytes, ...where } = decodeExpand(request)
      const { totalBytes } = await volumes.statistics({ ...where, deadlineMs: statisticsMs })
      // No limit, or one that the server does not tell: nothing says that it is less than what is asked for.
      if (totalBytes === noLimit || totalBytes === 0n) return { capacityBytes: `${requiredBytes}` }
      if (totalBytes >= requiredBytes) return { capacityBytes: `${totalBytes}` }
      throw new CsiRefusal(
        status.OUT_OF_RANGE,
        `capacity_range.required_bytes: ${requiredBytes} bytes are asked for and the server's file system has ${totalBytes}; enlarge it on the server`
      )
    },
    NodeGetCapabilities: () => ({ capabilities: capabilities.map((type) => ({ rpc: { type } })) }),
    NodeGetInfo: () => ({ nodeId, maxVolumesPerNode: `${volumesMax}`, accessibleTopology: null })
  }
}
