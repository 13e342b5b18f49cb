/**
 * The health calls of CSI 1.13, from the same facts as the condition in NodeGetVolumeStats.
 *
 * Owns how a state is named for Kubernetes (status, CamelCase reason, sentence). Does not know how a state is found
 * out.
 */
import { VolumeError } from '../base/errors.ts'
import type { AbsolutePath } from '../base/brands.ts'
import type { NodeGetVolumeHealthRequest, StorageBackendHealth, VolumeHealthEntry } from '../../proto/csi/types.ts'
import type {
  VolumeHealth,
  VolumeHealthState,
  VolumeOperations,
  VolumeStatistics,
  VolumeView
} from '../volumes/operations.ts'
import { decodeVolumeHealth } from './decode.ts'

type Condition = Pick<VolumeStatistics, 'health' | 'stale'>

/** A pod whose server is silent, whose share is another one now, or whose mount is dead reads and writes nothing. */
const entryOf = {
  healthy: undefined,
  degraded: { status: 'DEGRADED', reason: 'Degraded' },
  unreachable: { status: 'INACCESSIBLE', reason: 'ServerUnreachable' },
  stale: { status: 'INACCESSIBLE', reason: 'ShareStale' },
  dead: { status: 'INACCESSIBLE', reason: 'MountDead' }
} as const satisfies Record<VolumeHealthState, Omit<VolumeHealthEntry, 'message'> | undefined>

/** Messages end in objects of the API server. */
const messageCharactersMax = 1000
const shortened = (text: string): string =>
  text.length <= messageCharactersMax ? text : `${text.slice(0, messageCharactersMax - 1)}…`

function encodeCondition ({ health, stale }: Condition): VolumeHealthEntry[] {
  const entry = entryOf[health.state]
  const lost = health.lost === undefined
    ? []
    : [{ status: 'DATA_LOSS', reason: 'UnsavedDataDropped', message: shortened(health.lost) } as const]
  if (entry !== undefined && health.reason !== health.lost) {
    return [...lost, { ...entry, message: shortened(health.reason) }]
  }
  if (lost.length > 0) return lost
  return stale
    ? [{
      status: 'DEGRADED', reason: 'ServerSlow',
      message: 'the server did not answer in time when it was asked for its usage'
    }]
    : []
}

/** Where the caller says it is, else where we know it to be. */
const pathsOf = (view: VolumeView): readonly string[] => [
  ...view.targets.map(({ path }) => path), ...view.staging === undefined ? [] : [view.staging]
]

/** The worst first: a volume with several mounts (its attributes were changed in between) is as well as the worst of
 * them. */
const worstFirst: readonly VolumeHealthState[] = ['dead', 'stale', 'unreachable', 'degraded', 'healthy']
const worst = (views: readonly VolumeView[]): VolumeHealth =>
  views.map(({ health }) => health)
    .toSorted((one, other) => worstFirst.indexOf(one.state) - worstFirst.indexOf(other.state))[0] ??
    { state: 'healthy', reason: '' }

async function conditionAt (
  volumes: VolumeOperations,
  view: VolumeView,
  path: AbsolutePath,
  deadlineMs: number
): Promise<Condition | undefined> {
  try {
    return await volumes.statistics({ volume: view.volume, path, deadlineMs })
  } catch {
    // Without figures nothing but the view's own state is known.
    return undefined
  }
}

/** @throws VolumeError NOT_FOUND for a volume that this node does not have. */
export async function volumeHealth (
  volumes: VolumeOperations,
  request: NodeGetVolumeHealthRequest,
  deadlineMs: number
): Promise<readonly VolumeHealthEntry[]> {
  const { volume, paths } = decodeVolumeHealth(request)
  const views = (await volumes.list()).filter((view) => view.volume === volume)
  if (views.length === 0) {
    throw new VolumeError('NOT_FOUND', `volume_id: the volume "${volume}" is not on this node`, { field: 'volume_id' })
  }
  for (const view of views) {
    const path = paths.find((candidate) => pathsOf(view).includes(candidate))
    const condition = path === undefined ? undefined : await conditionAt(volumes, view, path, deadlineMs)
    if (condition !== undefined) return encodeCondition(condition)
  }
  // No path, or one where kubelet only tried to mount it.
  return encodeCondition({ health: worst(views), stale: false })
}

/** One entry for all servers that are silent: the specification allows no second with the same status and reason. */
export async function storageHealth (volumes: VolumeOperations): Promise<readonly StorageBackendHealth[]> {
  const reasons = new Set(
    (await volumes.list()).filter(({ health }) => health.state === 'unreachable').map(({ health }) => health.reason)
  )
  if (reasons.size === 0) return []
  return [{
    status: 'STORAGE_UNREACHABLE', reason: 'ServerUnreachable', message: shortened([...reasons].join('; ')),
    volumeCapability: null
  }]
}
