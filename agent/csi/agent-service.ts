/**
 * What our own command line asks of the agent beside the Node service.
 *
 * Owns the answers of `status` and `unmount`. Does not know how they are printed.
 */
import type { StatusResponse, StatusTrend, StatusTrouble, StatusUsage, StatusVolume } from '../../proto/csi/types.ts'
import { VolumeError } from '../base/errors.ts'
import { volumeLabel } from '../base/metric-labels.ts'
import { inSlices } from '../base/slices.ts'
import { parseAbsolutePath } from '../base/brands.ts'
import type { AbsolutePath } from '../base/brands.ts'
import type { VolumeOperations, VolumeView } from '../volumes/operations.ts'
import { decodePath } from './decode.ts'
import { sliceItems } from './large-answer.ts'
import { statisticsMs } from './node.ts'
import type { RegistrationState } from './registration.ts'
import type { Implementation } from './unary.ts'

export interface AgentOptions {
  readonly volumes: VolumeOperations
  readonly version: string
  readonly driverName: string
  readonly nodeId: string
  readonly uptimeMs: () => number
  /** Undefined when no kubelet is served. */
  readonly registration: () => RegistrationState | undefined
  /** Whether a kubelet could use us, with the reason why not. */
  readonly readiness?: () => { readonly ready: boolean, readonly reason: string }
  /** The HTTP port: where it is, or why it is not there; empty when nobody wants it. */
  readonly http?: () => { readonly address: string, readonly error: string }
  /** What is remembered of the last minutes, and of what went wrong. */
  readonly trends?: () => readonly StatusTrend[]
  readonly troubles?: () => readonly StatusTrouble[]
  /** Whether this agent ends in favour of one that starts; without it none is. */
  readonly handOver?: (newcomer: { readonly version: string, readonly stays: boolean }) => boolean
}

/** Volumes of one key share one file system: it is asked once, through the first of them that has a mount. */
async function usagesOf (
  volumes: VolumeOperations,
  views: readonly VolumeView[]
): Promise<ReadonlyMap<string, StatusUsage | null>> {
  const leads = new Map(
    views.toReversed().toSorted((one, other) => Number(isSomewhere(one)) - Number(isSomewhere(other))).map(
      (view) => [view.key, view]
    )
  )
  return new Map(await Promise.all([...leads].map(async ([key, view]) => [key, await usageOf(volumes, view)] as const)))
}

const isSomewhere = ({ targets, staging }: VolumeView): boolean =>
  staging !== undefined || targets.some(({ problem }) => problem === '')

/** Usage of one volume, or null when it has no mount to ask about: one bad volume must not spoil the page. */
async function usageOf (volumes: VolumeOperations, view: VolumeView): Promise<StatusUsage | null> {
  const mounted = view.targets.find(({ problem }) => problem === '')?.path ?? view.staging ?? view.targets[0]?.path
  if (mounted === undefined) return null
  try {
    const found = await volumes.statistics({
      volume: view.volume, path: parseAbsolutePath(mounted, 'path'), deadlineMs: statisticsMs
    })
    return {
      totalBytes: `${found.totalBytes}`, usedBytes: `${found.usedBytes}`, availableBytes: `${found.availableBytes}`,
      totalInodes: `${found.totalInodes}`, usedInodes: `${found.usedInodes}`,
      availableInodes: `${found.availableInodes}`,
      stale: found.stale
    }
  } catch {
    return null
  }
}

function encodeLatency (latency: VolumeView['latency']): StatusVolume['latency'] {
  return Object.fromEntries(
    Object.entries(latency).map(
      ([operation, { count, sumSeconds, buckets }]) => [operation, {
        count: `${count}`, sumSeconds,
        buckets: buckets.map((bucket) => ({ upToSeconds: bucket.upToSeconds, count: `${bucket.count}` }))
      }]
    )
  )
}

function encodeVolume (view: VolumeView, usage: StatusUsage | null): StatusVolume {
  return {
    volumeId: view.volume,
    door: view.door,
    source: view.source,
    client: view.client,
    clientReason: view.clientReason,
    state: view.state,
    staging: view.staging ?? '',
    targets: view.targets.map(({ path, readOnly, owner, problem, unprotected }) => ({
      path, readOnly, owner: owner ?? '', problem, unprotected
    })),
    health: view.health.state,
    healthReason: view.health.reason,
    locks: view.locks,
    sessionPid: view.sessionPid ?? 0,
    counters: view.counters,
    gauges: view.gauges,
    usage,
    key: view.key,
    latency: encodeLatency(view.latency),
    exclusive: view.exclusive,
    heals: view.heals,
    notes: view.notes,
    metricLabel: volumeLabel(view.volume)
  }
}

/** As it was spelled when it was mounted, or as the kernel spells it. */
const spelledAt = (view: VolumeView, target: AbsolutePath): string | undefined =>
  view.targets.find(({ path, resolved }) => path === target || resolved === target)?.path

async function unmount (
  volumes: VolumeOperations,
  target: AbsolutePath,
  force: boolean
): Promise<{ lostBytes: string }> {
  const view = (await volumes.list()).find((candidate) => spelledAt(candidate, target) !== undefined)
  const spelled = view === undefined ? undefined : spelledAt(view, target)
  if (view === undefined || spelled === undefined) {
    throw new VolumeError('NOT_FOUND', `${target}: no volume of this agent is mounted there`, {
      field: 'target_path', remedy: '`volbridge status` lists them'
    })
  }
  if (view.door !== 'hand' && !force) {
    throw new VolumeError('INVALID', `${target} belongs to a pod (mounted through ${view.door})`, {
      field: 'target_path', remedy: 'delete the pod, or use --force if kubelet has forgotten it'
    })
  }
  const { lostBytes } = await volumes.unpublish({
    volume: view.volume, target: parseAbsolutePath(spelled, 'target_path'), door: view.door, force
  })
  return { lostBytes: `${lostBytes}` }
}

function httpOf ({ http }: AgentOptions): Pick<StatusResponse, 'http' | 'httpError'> {
  const { address, error } = http?.() ?? { address: '', error: '' }
  return { http: address, httpError: error }
}

/** What `volbridge status` and the agent's page tell: one report for both. */
export async function statusReport (options: AgentOptions): Promise<StatusResponse> {
  const { volumes, version, driverName, nodeId, uptimeMs, registration, trends, troubles } = options
  const asked = await volumes.list()
  const usages = await usagesOf(volumes, asked)
  // Looked at again: a server that has just left that question open is not healthy.
  const views = await volumes.list()
  const registered = registration()
  const encoded: StatusVolume[] = []
  await inSlices(views, sliceItems, (slice) => {
    for (const view of slice) encoded.push(encodeVolume(view, usages.get(view.key) ?? null))
  })
  return {
    version, driverName, nodeId,
    pid: process.pid,
    uptimeMs: `${Math.round(uptimeMs())}`,
    registration: registered?.phase ?? '',
    registrationError: registered?.error ?? '',
    volumes: encoded,
    timeMs: `${Date.now()}`,
    trends: trends?.() ?? [],
    troubles: troubles?.() ?? [],
    losses: volumes.losses().map(({ source, bytes, at }) => ({ source, bytes: `${bytes}`, at })),
    ...httpOf(options)
  }
}

export function agentService (options: AgentOptions): Implementation<'Agent'> {
  return {
    Status: async () => await statusReport(options),
    Ready: () => ({ ...options.readiness?.() ?? { ready: true, reason: '' }, ...httpOf(options) }),
    HandOver: (newcomer) => ({
      accepted: options.handOver?.(newcomer) ?? false, version: options.version, pid: process.pid
    }),
    Unmount: async ({ targetPath, force }) =>
      await unmount(options.volumes, decodePath(targetPath, 'target_path'), force)
  }
}
