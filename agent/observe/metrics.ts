/**
 * Prometheus metrics: calls as they happen, volumes when somebody asks.
 *
 * Owns the names, with units, and their labels, all bounded by the number of volumes on the node. Does not know who
 * listens.
 */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import { sessionLabel, volumeLabel } from '../base/metric-labels.ts'
import { inSlices } from '../base/slices.ts'
import type { DataLoss, VolumeHealthState, VolumeView } from '../volumes/operations.ts'
import { histogramText } from './histogram-text.ts'

export interface CallMetrics {
  started (): void
  ended (method: string, code: string, door: string, seconds: number): void
}

export interface MetricsOptions {
  readonly version: string
  /** The volumes as they are now. */
  readonly list: () => Promise<readonly VolumeView[]>
  /** What unmounts could not save. */
  readonly losses: () => readonly DataLoss[]
  /** 1 registered, 0 waiting or refused, undefined when no kubelet is served. */
  readonly registered: () => boolean | undefined
}

export interface Metrics extends CallMetrics {
  /** The text that Prometheus scrapes. */
  text (): Promise<string>
  readonly contentType: string
}

const states = ['healthy', 'degraded', 'unreachable', 'stale', 'dead'] as const satisfies readonly VolumeHealthState[]

/** From a bind on a warm cache to a kubelet's two minutes. */
const callBucketsSeconds = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120]

function callMetrics (registers: Registry[]): CallMetrics {
  const calls = new Counter({
    name: 'volbridge_calls_total', help: 'Calls answered, by method, gRPC code and door.',
    labelNames: ['method', 'code', 'door'], registers
  })
  const duration = new Histogram({
    name: 'volbridge_call_duration_seconds', help: 'Time to answer a call.', labelNames: ['method'],
    buckets: callBucketsSeconds, registers
  })
  const running = new Gauge({ name: 'volbridge_calls_running', help: 'Calls being worked on.', registers })
  return {
    started: () => { running.inc() },
    ended: (method, code, door, seconds) => {
      running.dec()
      calls.inc({ method, code, door })
      duration.observe({ method }, seconds)
    }
  }
}

/** A scrape of many sessions takes a second, and calls come in between. */
const sliceSessions = 20
const sliceVolumes = 200

type LabelName = 'session' | 'operation' | 'errno' | 'name' | 'volume' | 'state' | 'door' | 'client'

function sessionCounters (registers: Registry[]): (view: VolumeView, session: string) => void {
  const counter = (name: string, help: string, ...labelNames: LabelName[]): Counter<LabelName> =>
    new Counter({ name: `volbridge_session_${name}_total`, help, labelNames: ['session', ...labelNames], registers })
  const read = counter('read_bytes', 'Bytes that programs have read.')
  const written = counter('written_bytes', 'Bytes that programs have written.')
  const requests = counter('requests', 'Requests of the kernel, by operation.', 'operation')
  const errors = counter('failed_requests', 'Requests answered with an error, by operation.', 'operation')
  const errnos = counter('errors', 'Requests answered with an error, by errno.', 'errno')
  const cached = counter(
    'cached_requests',
    'Requests answered from what was known, without asking the server, by operation.',
    'operation'
  )
  const heals = counter('heals', 'Times the mount was brought back after its session died.')
  const events = counter('events', 'Whatever else the session has counted, by name.', 'name')
  return ({ counters, heals: healed }, session) => {
    heals.inc({ session }, healed)
    for (const [name, value] of Object.entries(counters)) {
      if (value < 0) continue
      const [kind = '', operation = ''] = name.split(':', 2)
      if (kind === 'fuseReadBytes') read.inc({ session }, value)
      else if (kind === 'fuseWrittenBytes') written.inc({ session }, value)
      else if (kind === 'fuseRequests') requests.inc({ session, operation }, value)
      else if (kind === 'fuseErrors') errors.inc({ session, operation }, value)
      else if (kind === 'fuseErrnos') errnos.inc({ session, errno: operation }, value)
      else if (kind === 'fuseCached') cached.inc({ session, operation }, value)
      else events.inc({ session, name }, value)
    }
  }
}

/** Volumes of one key share a session: its figures appear once, under a label of its own, and `volbridge_volume_info`
 * joins the two. */
async function sessionMetrics (registers: Registry[], sessions: ReadonlyMap<string, VolumeView>): Promise<void> {
  const count = sessionCounters(registers)
  const level = new Gauge({
    name: 'volbridge_session_level', help: 'Current values of the session, by name.', labelNames: ['session', 'name'],
    registers
  })
  await inSlices([...sessions], sliceSessions, (slice) => {
    for (const [session, view] of slice) {
      count(view, session)
      for (const [name, value] of Object.entries(view.gauges)) level.set({ session, name }, value)
    }
  })
}

async function latencyText (sessions: ReadonlyMap<string, VolumeView>): Promise<string> {
  const rows = [...sessions].flatMap(([session, { latency }]) =>
    Object.entries(latency).map(([operation, times]) => ({ labels: { session, operation }, ...times }))
  )
  return await histogramText(
    'volbridge_session_request_duration_seconds',
    'Time to answer a request of the kernel, by operation.',
    rows
  )
}

const sessionOf = ({ key }: VolumeView): string => sessionLabel(key)

async function volumeMetrics (registers: Registry[], views: readonly VolumeView[]): Promise<void> {
  const health = new Gauge({
    name: 'volbridge_volume_health', help: '1 for the state the volume is in.', labelNames: ['volume', 'state'],
    registers
  })
  const info = new Gauge({
    name: 'volbridge_volume_info', help: 'One per volume; session names what serves it.',
    labelNames: ['volume', 'door', 'client', 'session'], registers
  })
  const targets = new Gauge({
    name: 'volbridge_volume_targets', help: 'Pod folders the volume is mounted at.', labelNames: ['volume'], registers
  })
  const mounts = new Gauge({
    name: 'volbridge_mounts', help: 'Volumes by door, client and state.', labelNames: ['door', 'client', 'state'],
    registers
  })
  await inSlices(views, sliceVolumes, (slice) => {
    for (const view of slice) {
      const { door, client } = view
      const volume = volumeLabel(view.volume)
      for (const each of states) health.set({ volume, state: each }, each === view.health.state ? 1 : 0)
      info.set({ volume, door, client, session: sessionOf(view) }, 1)
      targets.set({ volume }, view.targets.length)
      mounts.inc({ door, client, state: view.state })
    }
  })
}

/** Volumes come and go, and a session counts from its own start: each scrape begins from nothing and disturbs no
 * other. */
async function volumesText (views: readonly VolumeView[], losses: readonly DataLoss[]): Promise<string> {
  const registry = new Registry()
  const lost = new Gauge({
    name: 'volbridge_lost_bytes',
    help: 'Written bytes that the last unmount of a share could not save, by what would serve it.',
    labelNames: ['session'], registers: [registry]
  })
  for (const { key, bytes } of losses) lost.inc({ session: sessionLabel(key) }, bytes)
  const sessions = new Map(views.map((view) => [sessionOf(view), view]))
  await sessionMetrics([registry], sessions)
  await volumeMetrics([registry], views)
  return `${await registryText(registry)}\n${await latencyText(sessions)}`
}

/** As `registry.metrics()`, which makes all of it in one go. */
async function registryText (registry: Registry): Promise<string> {
  const texts: Promise<string>[] = []
  await inSlices(registry.getMetricsAsArray().map(({ name }) => name), 1, ([name = '']) => {
    texts.push(registry.getSingleMetricAsString(name))
  })
  return `${(await Promise.all(texts)).join('\n\n')}\n`
}

export function createMetrics ({ version, list, losses, registered }: MetricsOptions): Metrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry, prefix: 'volbridge_agent_' })
  new Gauge({ name: 'volbridge_build_info', help: 'One; the version is a label.', labelNames: ['version'], registers })
    .set({ version }, 1)
  const up = new Gauge({
    name: 'volbridge_kubelet_registered', help: '1 while kubelet has accepted our registration.', registers: []
  })
  if (registered() !== undefined) registry.registerMetric(up)
  const calls = callMetrics(registers)
  return {
    ...calls,
    contentType: registry.contentType,
    text: async () => {
      const views = await list()
      up.set(registered() === true ? 1 : 0)
      return `${await registry.metrics()}\n${await volumesText(views, losses())}`
    }
  }
}
