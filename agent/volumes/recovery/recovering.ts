/**
 * Start-up: reads the journal, finds live mounts again, and carries out the recovery plan.
 * Owns the execution and its order. Does not decide: `recovery.ts` does.
 */
import type { AbsolutePath, StageKey } from '../../base/brands.ts'
import { messageOf } from '../../base/errors.ts'
import { mountsAt } from '../../host/mountinfo.ts'
import type { Attaching, AttachingParts } from '../attaching.ts'
import type { Journal } from '../records/journal.ts'
import { isProtected, unprotect } from '../mount-point.ts'
import type { LiveMount } from '../mounter.ts'
import type { MountRecord } from '../records/records.ts'
import { planRecovery, type RecoveryStep } from './recovery.ts'

export interface RecoveringParts extends AttachingParts {
  readonly journal: Journal
  readonly mountsFolder: string
}

/** Must have ended before the first call is taken. One step that fails is told and does not stop the others. */
export async function recover (parts: RecoveringParts, attaching: Attaching): Promise<readonly RecoveryStep[]> {
  const { journal, table, events } = parts
  const { records, damaged } = await journal.load()
  for (const { file, reason } of damaged) events({ kind: 'journal-damaged', file, reason })
  table.fill(records)
  const live = await findLive(parts)
  const plan = planRecovery({
    records, live: new Set(live.keys()), mounts: await parts.host.mountinfo(),
    bootId: parts.bootId, mountsFolder: parts.mountsFolder, isOurType: parts.isOurType
  })
  const runner = new StepRunner(parts, attaching, live)
  for (const step of plan) await runner.run(step)
  for (const key of live.keys()) await parts.shared.releaseIfUnused(key).catch(() => undefined)
  return plan
}

async function findLive ({ table, shared, bootId }: RecoveringParts): Promise<Map<StageKey, LiveMount>> {
  const found = await Promise.all(
    table.mounts()
      .filter((record) => record.bootId === bootId && record.phase !== 'starting')
      .map(async (record) => [record.key, await find(record)] as const)
  )
  return new Map(found.flatMap(([key, live]) => live === undefined ? [] : [[key, live] as const]))

  async function find (record: MountRecord): Promise<LiveMount | undefined> {
    try {
      return await shared.mounterOf(record.spec).find(record)
    } catch {
      return undefined
    }
  }
}

class StepRunner {
  readonly #parts: RecoveringParts
  readonly #attaching: Attaching
  readonly #live: ReadonlyMap<StageKey, LiveMount>

  constructor (parts: RecoveringParts, attaching: Attaching, live: ReadonlyMap<StageKey, LiveMount>) {
    this.#parts = parts
    this.#attaching = attaching
    this.#live = live
  }

  async run (step: RecoveryStep): Promise<void> {
    const { events } = this.#parts
    const place = { key: 'key' in step ? step.key : undefined, path: 'path' in step ? step.path : undefined }
    try {
      await this.#do(step)
      if (step.do !== 'keepBind') events({ kind: 'recovered', ...place, deed: step.do, reason: step.why })
    } catch (error) {
      events({ kind: 'recovered', ...place, deed: `${step.do} failed`, reason: messageOf(error) })
    }
  }

  async #do (step: RecoveryStep): Promise<void> {
    const { table, shared, host } = this.#parts
    const deeds: { readonly [D in RecoveryStep['do']]: (step: Extract<RecoveryStep, { do: D }>) => Promise<void> } = {
      keepBind: async () => undefined,
      endBind: async ({ path }) => { await this.#endBind(path) },
      forgetBind: async ({ path }) => {
        const record = table.bind(path)
        if (record !== undefined && isProtected(record)) await unprotect(host, record.resolved, record)
        await table.dropBind(path)
      },
      adoptMount: async ({ key }) => { this.#adopt(key) },
      restoreMount: async ({ key, from }) => {
        const record = table.mount(key)
        if (record === undefined) return
        await shared.restore(record, from)
        this.#adopt(key)
      },
      keepDeadMount: async () => undefined,
      endMount: async ({ key }) => {
        const record = table.mount(key)
        await shared.clear(key, this.#live.get(key))
        /* A start that was to bring a dead mount back was cut short: its folders still want it. */
        if (record !== undefined && table.bindsOfKey(key).length > 0) await shared.keepDead(record)
      },
      forgetMount: async ({ key }) => {
        const record = table.mount(key)
        await table.dropMount(key)
        if (record !== undefined) await host.removeFolder(record.mountPoint)
      },
      detachOrphan: async ({ mountPoint }) => {
        while (mountsAt(await host.mountinfo(), mountPoint).length > 0) await host.detachBind(mountPoint)
        await host.removeFolder(mountPoint)
      }
    }
    await (deeds[step.do] as (step: RecoveryStep) => Promise<void>)(step)
  }

  #adopt (key: StageKey): void {
    const live = this.#live.get(key)
    if (live !== undefined) this.#parts.shared.adopt(key, live)
  }

  async #endBind (path: AbsolutePath): Promise<void> {
    const record = this.#parts.table.bind(path)
    if (record !== undefined) await this.#attaching.detach({ path, role: record.role, door: record.door })
  }
}
