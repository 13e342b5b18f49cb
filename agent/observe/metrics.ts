/**
 * Prometheus metrics: calls as they happen, volumes when somebody asks.
 *
 * Owns the names, with units, and their labels, all bounded by the number of volumes on the node. Does not know who listens.
 */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import type { VolumeHealthState, VolumeView } from '../volumes/operations.ts'

export interface CallMetrics {
  started (): void
  ended (method: string, code: string, door: string, seconds: number): void
}

export interface MetricsOptions {
  readonly version: string
  /** The volumes as they are now. */
  readonly list: () => Promise<readonly VolumeView[]>
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
    name: 'volbridge_calls_total', help: 'Calls answered, by method, gRPC code and door.', labelNames: ['method', 'code', 'door'], registers
  })
  const duration = new Histogram({
    name: 'volbridge_call_duration_seconds', help: 'Time to answer a call.', labelNames: ['method'], buckets: callBucketsSeconds, registers
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

/** Sessions count by names of their own; they become a label, so that a new counter needs no change here. */
function volumeMetrics (registers: Registry[]): (views: readonly VolumeView[]) => void {
  const labelNames = ['volume', 'name']
  const counters = new Counter({ name: 'volbridge_volume_events_total', help: 'What the volume\'s session has counted, by name.', labelNames, registers })
  const gauges = new Gauge({ name: 'volbridge_volume_level', help: 'Current values of the volume\'s session, by name.', labelNames, registers })
  const health = new Gauge({ name: 'volbridge_volume_health', help: '1 for the state the volume is in.', labelNames: ['volume', 'state'], registers })
  const info = new Gauge({ name: 'volbridge_volume_info', help: 'One per volume.', labelNames: ['volume', 'door', 'client', 'source'], registers })
  const targets = new Gauge({ name: 'volbridge_volume_targets', help: 'Pod folders the volume is mounted at.', labelNames: ['volume'], registers })
  const mounts = new Gauge({ name: 'volbridge_mounts', help: 'Volumes by door, client and state.', labelNames: ['door', 'client', 'state'], registers })
  return (views) => {
    // Volumes come and go, and a session counts from its own start: each scrape begins from nothing.
    for (const metric of [counters, gauges, health, info, targets, mounts]) metric.reset()
    for (const { volume, door, client, source, health: { state }, ...view } of views) {
      for (const [name, value] of Object.entries(view.counters)) if (value >= 0) counters.inc({ volume, name }, value)
      for (const [name, value] of Object.entries(view.gauges)) gauges.set({ volume, name }, value)
      for (const each of states) health.set({ volume, state: each }, each === state ? 1 : 0)
      info.set({ volume, door, client, source }, 1)
      targets.set({ volume }, view.targets.length)
      mounts.inc({ door, client, state: view.state })
    }
  }
}

export function createMetrics ({ version, list, registered }: MetricsOptions): Metrics {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry, prefix: 'volbridge_agent_' })
  new Gauge({ name: 'volbridge_build_info', help: 'One; the version is a label.', labelNames: ['version'], registers }).set({ version }, 1)
  const up = new Gauge({ name: 'volbridge_kubelet_registered', help: '1 while kubelet has accepted our registration.', registers: [] })
  if (registered() !== undefined) registry.registerMetric(up)
  const calls = callMetrics(registers)
  const update = volumeMetrics(registers)
  return {
    ...calls,
    contentType: registry.contentType,
    text: async () => {
      update(await list())
      up.set(registered() === true ? 1 : 0)
      return await registry.metrics()
    }
  }
}
