/**
 * All cases on one driver, one after the other.
 *
 * Owns the order and what a missing need means. Does not know how results are shown.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import path from 'node:path'
import { cases as calls } from './cases/calls.ts'
import { cases as mounting } from './cases/mounting.ts'
import { cases as probing } from './cases/probing.ts'
import type { Bench, Case } from './judge.ts'
import { Plugin, type Options } from './kubelet.ts'

export interface KitOptions {
  /** `…/vendor~driver/driver`. */
  readonly driver: string
  /** Where kubelet's root folder and everything else of the run is made. */
  readonly folder: string
  readonly env?: Readonly<Record<string, string>>
  readonly options?: Options
  readonly failing?: Options
  readonly install?: (folder: string) => Promise<void>
  /** Pods at once: 20, or as many as a slow machine can start before kubelet's patience ends. */
  readonly crowd?: number
}

export interface Result {
  readonly title: string
  readonly verdict: 'passed' | 'failed' | 'skipped'
  readonly reason: string
  readonly ms: number
}

export const allCases: readonly Case[] = [...calls, ...mounting, ...probing]

export async function runCase (
  each: Case,
  { driver, folder, env, options, failing, install, crowd = 20 }: KitOptions
): Promise<Result> {
  const { title } = each
  const given = { options, failing, install }
  const missing = each.needs.filter((need) => given[need] === undefined)
  if (missing.length > 0) return { title, verdict: 'skipped', reason: `not given: ${missing.join(', ')}`, ms: 0 }
  const begun = performance.now()
  mkdirSync(folder, { recursive: true })
  const scratch = mkdtempSync(path.join(folder, 'case-'))
  const bench: Bench = {
    plugin: new Plugin(driver, path.join(scratch, 'kubelet'), env), scratch, options, failing, install, crowd
  }
  try {
    await each.run(bench)
    rmSync(path.join(scratch, 'kubelet'), { recursive: true, force: true })
    return { title, verdict: 'passed', reason: '', ms: performance.now() - begun }
  } catch (error) {
    return {
      title, verdict: 'failed',
      reason: error instanceof Error
        ? error.name === 'Refusal' ? error.message : error.stack ?? error.message
        : String(error),
      ms: performance.now() - begun
    }
  }
}
