/** Status reports as an agent makes them, with what a test wants changed. */
import type { StatusResponse, StatusTrend, StatusVolume } from '../../../../proto/csi/types.ts'

export const atMs = Date.UTC(2026, 10, 21, 12, 0, 0)

export const volumeOf = (changes: Partial<StatusVolume> = {}): StatusVolume => ({
  volumeId: 'v1', door: 'csi', source: 'nas:/x', client: 'fuse', clientReason: 'auto', state: 'published',
  staging: '/s', health: 'healthy', healthReason: '',
  targets: [{ path: '/t', readOnly: false, owner: 'shop/web', problem: '', unprotected: '' }], locks: 'node-local',
  sessionPid: 9, counters: { fuseReadBytes: 2048 }, exclusive: false, heals: 0, notes: [],
  metricLabel: '3bfc269594ef6492',
  gauges: {}, key: 'k', latency: {},
  usage: {
    totalBytes: '1024', usedBytes: '512', availableBytes: '512', totalInodes: '9', usedInodes: '1',
    availableInodes: '8', stale: false
  },
  ...changes
})

export const trendOf = (changes: Partial<StatusTrend> = {}): StatusTrend => ({
  key: 'k', intervalMs: 5000, timeMs: `${atMs}`, readBytesPerSecond: [Number.NaN, 1024, 3072],
  writtenBytesPerSecond: [Number.NaN, 0, 0],
  requestsPerSecond: [Number.NaN, 10, 30], medianSeconds: [Number.NaN, 0.001, 0.003],
  p99Seconds: [Number.NaN, 0.01, 0.02],
  health: [{ timeMs: `${atMs - 600_000}`, health: 'healthy' }], ...changes
})

export const statusOf = (changes: Partial<StatusResponse> = {}): StatusResponse => ({
  version: '1.2.3', pid: 7, driverName: 'd', nodeId: 'node-a', uptimeMs: '120000', registration: 'registered',
  registrationError: '',
  volumes: [volumeOf()], timeMs: `${atMs}`, trends: [trendOf()], troubles: [], losses: [], http: '', httpError: '',
  ...changes
})
