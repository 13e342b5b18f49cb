/** An engine that records what it was asked and answers as told. Owns nothing but the record. */
import type { DataLoss, VolumeOperations, VolumeStatistics, VolumeView } from '../../../../agent/volumes/operations.ts'
import { noConsents } from '../../../../agent/volumes/policy/policy.ts'
import { parseVolumeSpec } from '../../../../agent/volumes/spec/spec.ts'
import { toStageKey, toVolumeId } from '../../../../agent/base/brands.ts'

/** What every Node service of these tests has beside its engine: an operator who has agreed to nothing. */
export const nodeParts = {
  parseSpec: parseVolumeSpec, volumesMax: 256, admission: { consents: noConsents, audit: () => undefined }
} as const

export interface Asked { readonly deed: keyof VolumeOperations, readonly request: unknown }

export const statisticsOf = (changes: Partial<VolumeStatistics> = {}): VolumeStatistics => ({
  totalBytes: 2n ** 60n, usedBytes: 5n, availableBytes: 2n ** 60n - 5n, totalInodes: 100n, usedInodes: 1n,
  availableInodes: 99n,
  stale: false, health: { state: 'healthy', reason: '' }, ...changes
})

export const viewOf = (changes: Partial<VolumeView> = {}): VolumeView => ({
  volume: toVolumeId('v1'), door: 'hand', source: 'server:/export', client: 'fuse', clientReason: 'auto',
  key: toStageKey('ab'), state: 'mounted',
  staging: undefined,
  targets: [{ path: '/mnt/a', resolved: '/mnt/a', readOnly: false, owner: undefined, problem: '', unprotected: '' }],
  health: { state: 'healthy', reason: '' },
  locks: 'node-local', notes: [], sessionPid: 7, counters: { reads: 3 }, gauges: { dirtyBytes: 0 }, latency: {},
  heals: 0, exclusive: false, ...changes
})

export class ScriptedVolumes implements VolumeOperations {
  readonly asked: Asked[] = []
  /** What the next deeds do before they answer: throw, or wait. */
  before: () => void | Promise<void> = () => undefined
  statisticsAnswer = statisticsOf()
  views: VolumeView[] = []

  async #note (deed: keyof VolumeOperations, request: unknown): Promise<void> {
    this.asked.push({ deed, request })
    await this.before()
  }

  async stage (request: unknown): Promise<void> { await this.#note('stage', request) }
  async unstage (request: unknown): Promise<void> { await this.#note('unstage', request) }
  async publish (request: unknown): Promise<void> { await this.#note('publish', request) }
  async unpublish (request: unknown): Promise<{ lostBytes: number }> {
    await this.#note('unpublish', request)
    return { lostBytes: 0 }
  }

  async statistics (request: unknown): Promise<VolumeStatistics> {
    await this.#note('statistics', request)
    return this.statisticsAnswer
  }

  /** Paths that show what is asked for. */
  readonly shown = new Set<string>()
  async shows ({ path }: { readonly path: string }): Promise<boolean> {
    return await Promise.resolve(this.shown.has(path))
  }

  lost: readonly DataLoss[] = []
  losses (): readonly DataLoss[] { return this.lost }

  async list (): Promise<readonly VolumeView[]> { return await Promise.resolve(this.views) }
}
