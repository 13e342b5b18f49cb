/**
 * kubelet's prober, played (flexvolume/probe.go): every folder at start, then what the watcher of the plugin folder
 * reports.
 *
 * Owns which event leads to which probe, and that a probe that fails stays queued. Does not know who changes the
 * folder.
 */
import { existsSync, lstatSync, readdirSync, watch, type FSWatcher } from 'node:fs'
import path from 'node:path'
import { call, type Outcome } from './kubelet.ts'

export interface Probe {
  /** `vendor/driver`, as a pod must name it. */
  readonly name: string
  readonly outcome: Outcome
}

export class Prober {
  readonly #folder: string
  readonly #queue = new Set<string>()
  readonly #probes: Probe[] = []
  readonly #loaded = new Set<string>()
  readonly #watchers = new Map<string, FSWatcher>()

  constructor (folder: string) {
    this.#folder = folder
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      // The entry's own type counts: a symbolic link to a folder is none.
      if (entry.isDirectory() && !entry.name.startsWith('.')) this.#queue.add(entry.name)
    }
    this.#watch(folder)
  }

  /** Every probe so far. */
  get probes (): readonly Probe[] { return this.#probes }
  /** Names of drivers that are loaded now. */
  get loaded (): ReadonlySet<string> { return this.#loaded }

  close (): void {
    for (const watcher of this.#watchers.values()) watcher.close()
  }

  #watch (folder: string): void {
    if (this.#watchers.has(folder)) return
    const watcher = watch(folder, (_, name) => { this.#changed(folder, name) })
    watcher.on('error', () => { watcher.close(); this.#watchers.delete(folder) })
    this.#watchers.set(folder, watcher)
    if (folder !== this.#folder) return
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      if (entry.isDirectory() && !entry.name.startsWith('.')) this.#watch(path.join(folder, entry.name))
    }
  }

  /** Dot names are nobody's business; anything else in a driver's folder queues that driver. */
  #changed (folder: string, name: string | null): void {
    if (name === null || name.startsWith('.')) return
    const driver = folder === this.#folder ? name : path.basename(folder)
    if (driver.startsWith('.')) return
    const at = path.join(this.#folder, driver)
    if (lstatSync(at, { throwIfNoEntry: false })?.isDirectory() === true) {
      this.#watch(at)
      this.#queue.add(driver)
    } else {
      this.#watchers.get(at)?.close()
      this.#watchers.delete(at)
      this.#queue.delete(driver)
      this.#loaded.delete(driver.replace('~', '/'))
    }
  }

  /** What every look-up of a plugin does first. */
  async lookUp (): Promise<void> {
    for (const folder of [...this.#queue]) {
      const [vendor = '', driver] = folder.split('~')
      const executable = path.join(this.#folder, folder, driver ?? vendor)
      const name = folder.replace('~', '/')
      this.#queue.delete(folder)
      if (!existsSync(path.dirname(executable))) continue
      const outcome = await call(executable, ['init']).catch((error: unknown): Outcome => ({
        kind: 'driver bug', exitCode: null, signal: null, output: String(error), answer: undefined, ms: 0,
        argumentsLogged: true
      }))
      this.#probes.push({ name, outcome })
      if (outcome.kind === 'success') this.#loaded.add(name)
      else this.#queue.add(folder)
    }
  }
}
