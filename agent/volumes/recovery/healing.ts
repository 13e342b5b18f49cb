/**
 * Dead mounts brought back without being asked: kubelet never calls again for a folder that looks mounted.
 *
 * Owns when a death is answered (at once, then ever later while it fails or recurs) and what is put over what. Does not
 * know why a session died, nor how one is started.
 *
 * A dead folder gets the new mount on top of the dead one. A program that is in the old one keeps its ENOTCONN until it
 * opens anew; a container whose mount receives propagation (HostToContainer) gets the new mount inside, because it is
 * stacked on the mount that the container's is a slave of. Taking the dead one away first would leave such a container
 * with nothing, and every pod with the bare folder for a moment.
 */
import type { DeviceNumber, StageKey } from '../../base/brands.ts'
import { monotonicMs } from '../../base/deadline.ts'
import { messageOf } from '../../base/errors.ts'
import { mountsAt, mountsOfDevice, topMountAt, type MountEntry, type Mountinfo } from '../../host/mountinfo.ts'
import { mountFlagBits } from '../../host/mounts.ts'
import type { Attaching } from '../attaching.ts'
import type { EngineParts } from '../parts.ts'
import type { NameLocks } from '../locks.ts'
import type { LiveMount } from '../mounter.ts'
import type { BindRecord } from '../records/records.ts'
import { coverStray, straysOf, type Unhealed } from './strays.ts'

export interface HealFacts {
  /** How often the mount was brought back since the agent started. */
  readonly count: number
  readonly failures: number
  /** Why the last try failed; empty after a success. */
  readonly problem: string
  /** Mounts of the dead session, recorded by nobody, that still show it. */
  readonly unhealed: readonly Unhealed[]
}

interface Patient {
  count: number
  failures: number
  problem: string
  /** Tries without a quiet time between them. */
  recent: number
  healedAtMs: number
  nextMs: number
  unhealed: readonly Unhealed[]
  /** File systems whose sessions died and that may still be mounted, until nothing shows them. */
  readonly dead: Set<DeviceNumber>
  /** Ids of stray mounts that were covered. */
  readonly covered: Set<number>
}

const firstMs = 100
const waitMinMs = 500
const waitMaxMs = 60_000
/** A mount that lived so long is told apart from one that dies again and again. */
const quietMs = 60_000
/** An unpublish waits for a start of its share that runs, and must still answer within 10 s. */
const startMs = 5000
/** More dead mounts on top of each other are taken away: running containers lose them then. */
const stackMax = 8

const well: HealFacts = { count: 0, failures: 0, problem: '', unhealed: [] }

export class Healer {
  readonly #parts: EngineParts
  readonly #attaching: Attaching
  readonly #locks: NameLocks
  readonly #patients = new Map<StageKey, Patient>()
  readonly #suspects = new Set<StageKey>()
  #timer: NodeJS.Timeout | undefined
  #isStopped = false

  constructor (parts: EngineParts, attaching: Attaching, locks: NameLocks) {
    this.#parts = parts
    this.#attaching = attaching
    this.#locks = locks
  }

  factsOf (key: StageKey): HealFacts {
    return this.#patients.get(key) ?? well
  }

  /** The share is not mounted any more. */
  forget (key: StageKey): void {
    this.#suspects.delete(key)
    this.#patients.delete(key)
  }

  /** Something of this share has died, or may have while nobody looked. */
  suspect (key: StageKey): void {
    this.#suspects.add(key)
    const patient = this.#patientOf(key)
    if (monotonicMs() - patient.healedAtMs > quietMs) patient.recent = 0
    patient.nextMs = monotonicMs() + (patient.recent === 0 ? firstMs : waitOf(patient.recent))
    this.#schedule()
  }

  stop (): void {
    this.#isStopped = true
    clearTimeout(this.#timer)
  }

  #patientOf (key: StageKey): Patient {
    const known = this.#patients.get(key)
    if (known !== undefined) return known
    const fresh: Patient = {
      count: 0, failures: 0, problem: '', recent: 0, healedAtMs: Number.NEGATIVE_INFINITY, nextMs: 0,
      unhealed: [], dead: new Set(), covered: new Set()
    }
    this.#patients.set(key, fresh)
    return fresh
  }

  #schedule (): void {
    clearTimeout(this.#timer)
    if (this.#isStopped || this.#suspects.size === 0) return
    const next = Math.min(...[...this.#suspects].map((key) => this.#patientOf(key).nextMs))
    this.#timer = setTimeout(() => { void this.#round() }, Math.max(0, next - monotonicMs())).unref()
  }

  /** Shares do not wait for each other: one whose server is away takes seconds. */
  async #round (): Promise<void> {
    const due = [...this.#suspects].filter((key) => this.#patientOf(key).nextMs <= monotonicMs())
    for (const key of due) this.#patientOf(key).nextMs = Number.POSITIVE_INFINITY
    await Promise.all(due.map(async (key) => { await this.#treat(key) }))
    this.#schedule()
  }

  async #treat (key: StageKey): Promise<void> {
    const patient = this.#patientOf(key)
    try {
      const isWhole = await this.#heal(key, patient)
      patient.problem = ''
      if (isWhole) this.#suspects.delete(key)
    } catch (error) {
      patient.failures++
      patient.problem = messageOf(error)
      this.#parts.events({ kind: 'heal-failed', key, reason: patient.problem, tries: patient.recent + 1 })
    }
    patient.recent++
    patient.nextMs = monotonicMs() + waitOf(patient.recent)
    if (this.#parts.table.bindsOfKey(key).length === 0) this.forget(key)
  }

  /** False when a folder is being worked on by a call and has to be looked at again. */
  async #heal (key: StageKey, patient: Patient): Promise<boolean> {
    const { shared, host, table } = this.#parts
    /* Only a mount that a process serves dies with it. */
    if (table.mount(key)?.spec.client !== 'fuse') return true
    const hadDied = shared.live(key) === undefined
    const before = table.mount(key)?.facts.device
    if (hadDied && before !== undefined) patient.dead.add(before)
    const live = await shared.revive(key, startMs)
    if (live === undefined) return true
    if (hadDied) {
      patient.count++
      patient.healedAtMs = monotonicMs()
    }
    const mounts = await host.mountinfo()
    const dead = table.bindsOfKey(key).filter((bind) => this.#showsDead(bind, live, mounts))
    const done: boolean[] = []
    this.#noteDead(key, patient, mounts)
    for (const bind of dead) done.push(await this.#cover(bind, live))
    const isWhole = done.every((each) => each) && await this.#coverStrays(key, patient)
    if (isWhole) patient.dead.clear()
    return isWhole
  }

  /** The path holds a mount of ours that no session serves any more. What somebody else did there is left alone. */
  #showsDead (bind: BindRecord, live: LiveMount, mounts: Mountinfo): boolean {
    const top = topMountAt(mounts, bind.resolved)
    if (bind.phase !== 'attached' || top === undefined || top.device === live.facts.device) return false
    return this.#isDead(top)
  }

  #isDead ({ type, device }: MountEntry): boolean {
    const { table, shared, isOurType } = this.#parts
    if (!isOurType(type)) return false
    return !table.mounts().some((mount) => mount.facts.device === device && shared.live(mount.key) !== undefined)
  }

  /** Besides the one that just died, what lies in the stacks of our binds: earlier ones, also of an earlier agent. */
  #noteDead (key: StageKey, { dead }: Patient, mounts: Mountinfo): void {
    const stacks = this.#parts.table.bindsOfKey(key).filter(({ phase }) => phase === 'attached')
      .flatMap(({ resolved }) => mountsAt(mounts, resolved))
    for (const { device } of stacks) dead.add(device)
    for (const device of dead) {
      const shown = mountsOfDevice(mounts, device)[0]
      if (shown === undefined || !this.#isDead(shown)) dead.delete(device)
    }
  }

  /** False when one could not be covered: it is named by `status` and tried again. */
  async #coverStrays (key: StageKey, patient: Patient): Promise<boolean> {
    const { table, host, events } = this.#parts
    const known = new Set([
      ...table.binds().map(({ resolved }) => resolved), ...table.mounts().map((each) => each.mountPoint)
    ])
    const strays = async (): Promise<Mountinfo> =>
      straysOf(await host.mountinfo(), patient.dead, known).filter(({ id }) => !patient.covered.has(id))
    const unhealed: Unhealed[] = []
    const ids = new Set((await host.mountinfo()).map(({ id }) => id))
    for (const id of patient.covered) if (!ids.has(id)) patient.covered.delete(id)
    for (const { id, mountPoint } of await strays()) {
      /* One that is covered may have covered another, where mounts are propagated. */
      const stray = (await strays()).find((each) => each.id === id)
      const source = table.mount(key)?.mountPoint
      if (stray === undefined || source === undefined) continue
      if (mountsAt(await host.mountinfo(), mountPoint).length >= stackMax) {
        await this.#attaching.detachStack(mountPoint, undefined)
      }
      const failed = await coverStray(host, stray, source)
      if (failed === undefined) {
        patient.covered.add(id)
        events({ kind: 'healed', key, path: mountPoint })
      } else unhealed.push(failed)
    }
    this.#tell(key, patient, unhealed)
    return unhealed.length === 0
  }

  #tell (key: StageKey, patient: Patient, unhealed: readonly Unhealed[]): void {
    const told = new Set(patient.unhealed.map(({ path, reason }) => `${path} ${reason}`))
    patient.unhealed = unhealed
    for (const { path, reason } of unhealed.filter((each) => !told.has(`${each.path} ${each.reason}`))) {
      this.#parts.events({ kind: 'heal-failed', key, reason: `${path}: ${reason}`, tries: patient.recent + 1 })
    }
  }

  /**
   * No intent is written: "attached" already says that the bind is to be there, and a crash before or after the bind
   * leaves a folder that recovery keeps and the next agent looks at.
   */
  async #cover (bind: BindRecord, live: LiveMount): Promise<boolean> {
    const { table, host, events } = this.#parts
    const release = this.#locks.tryAcquire([`volume ${bind.volume}`, `path ${bind.path}`])
    if (release === undefined) return false
    try {
      const mounts = await host.mountinfo()
      const record = table.mount(bind.key)
      if (record === undefined || table.bind(bind.path) !== bind || !this.#showsDead(bind, live, mounts)) return true
      if (mountsAt(mounts, bind.resolved).length >= stackMax) await this.#attaching.detachStack(bind.resolved, bind)
      await host.bind({
        source: record.mountPoint, target: bind.resolved, flags: mountFlagBits(record.spec.flags),
        readOnly: bind.readOnly
      })
      events({ kind: 'healed', key: bind.key, path: bind.path })
      return true
    } finally {
      release()
    }
  }
}

const waitOf = (tries: number): number => Math.min(waitMaxMs, waitMinMs * 2 ** Math.min(tries - 1, 10))
