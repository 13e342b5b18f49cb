/**
 * Start-up: reads the journal, finds live mounts again, and carries out the recovery plan.
 * Owns the execution and its order. Does not decide: `recovery.ts` does.
 */
import type { AbsolutePath, StageKey } from '../../base/brands.ts'
import { VolumeError, messageOf } from '../../base/errors.ts'
import { mountsAt } from '../../host/mountinfo.ts'
import type { Attaching } from '../attaching.ts'
import type { EngineParts } from '../parts.ts'
import type { Journal } from '../records/journal.ts'
import { isProtected, unprotect } from '../mount-point.ts'
import type { LiveMount } from '../mounter.ts'
import type { MountRecord } from '../records/records.ts'
import { planRecovery, type RecoveryStep } from './recovery.ts'

/** More mounts of ours than this on top of each other were not made by us. */
const stackMax = 32

export interface RecoveringParts extends EngineParts {
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
  await runner.finish()
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
  /** Taken away; their records go when their mounts have been seen to. */
  readonly #detached: AbsolutePath[] = []

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

  /**
   * Mounts whose last bind was taken away go, then the records of those binds. What was tried in vain a moment ago is
   * not tried here again: it stays on record, for a repeat of the call and for `ending.ts`.
   */
  async finish (): Promise<void> {
    const { table, shared, events } = this.#parts
    const keys = new Set([...this.#live.keys(), ...this.#detached.map((path) => table.bind(path)?.key)])
    const unfinished = new Set<StageKey | undefined>()
    for (const key of keys) {
      if (key === undefined) continue
      try {
        if (table.mount(key)?.phase === 'mounted') await shared.releaseIfUnused(key)
      } catch (error) {
        events({ kind: 'recovered', key, path: undefined, deed: 'endMount failed', reason: messageOf(error) })
      }
      const phase = table.mount(key)?.phase
      if (phase !== undefined && phase !== 'mounted') unfinished.add(key)
    }
    for (const path of this.#detached) {
      if (!unfinished.has(table.bind(path)?.key)) await this.#attaching.forget(path)
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
        await this.#detachOrphans(mountPoint)
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
    if (record === undefined) return
    await this.#attaching.detach(record)
    this.#detached.push(path)
  }

  /** Where the name no longer leads to the mount (something lies over a folder above) that is said, not repeated. */
  async #detachOrphans (mountPoint: string): Promise<void> {
    const { host } = this.#parts
    for (let n = 0; n < stackMax; n++) {
      const before = mountsAt(await host.mountinfo(), mountPoint).length
      if (before === 0) return
      await host.detachBind(mountPoint)
      if (mountsAt(await host.mountinfo(), mountPoint).length >= before) break
    }
    throw new VolumeError('INTERNAL', `"${mountPoint}" cannot be unmounted by that name`, {
      remedy: 'look at /proc/self/mountinfo for what lies over it; the next start tries again'
    })
  }
}
