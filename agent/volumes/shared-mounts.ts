/**
 * The shared mounts: at most one per key, started when first needed, ended when last used.
 * Owns their life and their records. Does not know binds beyond asking the table whether a key still has any.
 *
 * Everything that starts or ends a mount of one key runs in that key's queue, and a user's intent is in the table
 * before it asks for the mount; so an ending mount either sees its new user and stays, or is gone before the user's
 * start begins.
 */
import type { DeviceNumber, StageKey } from '../base/brands.ts'
import { VolumeError, messageOf } from '../base/errors.ts'
import { showSource, type ClientKind, type VolumeSpec } from '../base/volume-spec.ts'
import { mountsAt, mountsOfDevice, wholeMountOf } from '../host/mountinfo.ts'
import { mountFlagBits } from '../host/mounts.ts'
import type { VolumeEvents } from './events.ts'
import { nextGeneration } from './identity.ts'
import { forgetLoss, noteLoss } from './records/losses.ts'
import { KeyedQueue, SharedWork } from './locks.ts'
import type { LiveMount, Mounter } from './mounter.ts'
import type { MountFacts, MountRecord } from './records/records.ts'
import type { VolumeTable } from './records/table.ts'
import type { VolumeHost } from './volume-host.ts'

/** kubelet gives a call 120 s and we answer at 110 s; a start leaves room for the rest and for undoing it. */
const startMs = 90_000
/** Unpublish and unstage must be over within 10 s with a dead server; the unmount and the process take the rest. */
const drainMs = 3000
export interface SharedMountsParts {
  readonly table: VolumeTable
  readonly host: VolumeHost
  readonly mounters: Readonly<Record<ClientKind, Mounter | undefined>>
  readonly events: VolumeEvents
  readonly bootId: string
  readonly mountsFolder: string
}

interface Served {
  readonly live: LiveMount
  /** Why it is served no more. */
  dead: string | undefined
}

export class SharedMounts {
  readonly #parts: SharedMountsParts
  readonly #served = new Map<StageKey, Served>()
  readonly #queue = new KeyedQueue()
  #died: (key: StageKey) => void = () => undefined
  readonly #starts = new SharedWork<LiveMount>()
  #ended: (key: StageKey) => void = () => undefined
  #tellUnfinished: () => void = () => undefined
  /** Who else is at a mount that nobody uses, as last told. */
  readonly #lingering = new Map<StageKey, string>()
  /** What ends that were begun and are not over have lost. */
  readonly #lost = new Map<StageKey, number>()

  constructor (parts: SharedMountsParts) {
    this.#parts = parts
  }

  /** @throws VolumeError UNSUPPORTED when this version has no such client. */
  mounterOf (spec: VolumeSpec): Mounter {
    const mounter = this.#parts.mounters[spec.client]
    if (mounter !== undefined) return mounter
    throw new VolumeError(
      'UNSUPPORTED',
      `client: "${spec.client}" is not available in this version (${spec.clientReason})`,
      {
        field: 'client', remedy: 'use client=fuse with vers=3'
      }
    )
  }

  live (key: StageKey): LiveMount | undefined {
    const served = this.#served.get(key)
    return served?.dead === undefined ? served?.live : undefined
  }

  /** Why the mount of a key is not served, or undefined when it is. */
  deathOf (key: StageKey): string | undefined {
    const served = this.#served.get(key)
    return served === undefined ? 'its session is gone' : served.dead
  }

  /** The served mount of a key: the running one, the one that is being started, or a new one in place of a dead one. */
  async ensure (key: StageKey, spec: VolumeSpec): Promise<LiveMount> {
    return await this.#starts.run(
      key,
      async () => await this.#queue.run(key, async () => await this.#ensureNow(key, spec, startMs))
    )
  }

  /** Takes on a mount that was found again after a restart. */
  adopt (key: StageKey, live: LiveMount): void {
    const served: Served = { live, dead: undefined }
    this.#served.set(key, served)
    void live.ended.then((reason) => {
      served.dead = reason
      if (this.#served.get(key) !== served) return
      const record = this.#parts.table.mount(key)
      /* A mount that we end ourselves does not die. */
      if (record?.phase !== 'mounted') return
      this.#parts.events({ kind: 'mount-died', key, source: showSource(record.spec), reason })
      this.#died(key)
    })
  }

  /** Told of each death that nobody asked for. */
  whenDied (died: (key: StageKey) => void): void {
    this.#died = died
  }

  /** Told of each mount that is gone because nobody used it. */
  whenEnded (ended: (key: StageKey) => void): void {
    this.#ended = ended
  }

  /** Told that something is to be taken away and could not be yet; it is for `ending.ts` to go on. */
  whenUnfinished (tell: () => void): void {
    this.#tellUnfinished = tell
  }

  tellUnfinished (): void {
    this.#tellUnfinished()
  }

  /** Ends the mount of a key if nobody uses it any more. `hurry` skips writing back. */
  async releaseIfUnused (
    key: StageKey,
    how: { readonly hurry: boolean } = { hurry: false }
  ): Promise<{ readonly lostBytes: number }> {
    const { table } = this.#parts
    /* Whoever still has a bind releases after it. Not queued: a start that waits for a dead server would hold up an
     * unpublish. */
    if (table.usersOfKey(key).length > 0) return { lostBytes: 0 }
    return await this.#queue.run(key, async () => {
      const record = table.mount(key)
      if (record === undefined || table.usersOfKey(key).length > 0) return { lostBytes: 0 }
      const others = await this.#otherMounts(record)
      if (others.length > 0) {
        this.#linger(record, others)
        return { lostBytes: 0 }
      }
      return await this.#end(record, this.live(key), how.hurry ? 0 : drainMs)
    }).catch((error: unknown) => {
      this.#tellUnfinished()
      throw error
    })
  }

  /** Nobody tells us when the last foreign mount goes. A line only when there is something new to say, and none for a
   * bind that is on its way out. */
  #linger ({ key, spec }: MountRecord, others: readonly string[]): void {
    const leaving = new Set(this.#parts.table.bindsOfKey(key).map(({ resolved }) => resolved))
    const foreign = others.filter((path) => !leaving.has(path))
    const text = foreign.join()
    if (text !== '' && text !== this.#lingering.get(key)) {
      this.#parts.events({ kind: 'mount-lingers', key, source: showSource(spec), others: foreign })
    }
    this.#lingering.set(key, text)
    this.#tellUnfinished()
  }

  /** Ends whatever is left of a recorded mount: used by recovery. A session that still lives writes back first. */
  async clear (key: StageKey, live: LiveMount | undefined): Promise<void> {
    await this.#queue.run(key, async () => {
      const record = this.#parts.table.mount(key)
      if (record !== undefined) await this.#end(record, live, drainMs)
    })
  }

  async #ensureNow (key: StageKey, spec: VolumeSpec, deadlineMs: number): Promise<LiveMount> {
    const mounter = this.mounterOf(spec)
    const record = this.#parts.table.mount(key)
    const live = this.live(key)
    if (record !== undefined && live !== undefined && await this.#isInPlace(record, live.facts.device)) return live
    const served = this.#served.get(key)
    const generation = record === undefined ? nextGeneration(this.#parts.table, spec) : record.generation
    if (record !== undefined) await this.#takeAway(record)
    const startedAt = performance.now()
    try {
      const started = await this.#start({ key, spec, generation }, mounter, deadlineMs)
      this.#parts.events({
        kind: 'mount-started', key, source: showSource(spec), ms: Math.round(performance.now() - startedAt)
      })
      return started
    } catch (error) {
      if (record !== undefined && this.#hasAttached(key)) await this.keepDead(record, served)
      throw error
    }
  }

  #hasAttached (key: StageKey): boolean {
    return this.#parts.table.bindsOfKey(key).some((bind) => bind.phase === 'attached')
  }

  /** Nothing serves the share, but folders still show its dead mount: what it was stays on record, so that it can be
   * mounted anew. */
  async keepDead (record: MountRecord, served?: Served): Promise<void> {
    if (served !== undefined) this.#served.set(record.key, served)
    await this.#parts.table.put({
      ...record, phase: 'mounted', facts: { socketPath: undefined, process: undefined, device: record.facts.device }
    })
  }

  /** The served mount of a share that folders show, started anew if it died; undefined when there is nothing to bring
   * back. */
  async revive (key: StageKey, deadlineMs: number): Promise<LiveMount | undefined> {
    return await this.#queue.run(key, async () => {
      const record = this.#parts.table.mount(key)
      if (record === undefined || !this.#hasAttached(key)) return undefined
      return this.live(key) ?? await this.#ensureNow(key, record.spec, deadlineMs)
    })
  }

  /** Whether the served mount is where we made it. Somebody may have unmounted it there while pods go on using it: it
   * is bound back. */
  async #isInPlace (record: MountRecord, device: DeviceNumber | undefined): Promise<boolean> {
    const mounts = await this.#parts.host.mountinfo()
    if (device === undefined) return false
    if (mountsAt(mounts, record.mountPoint).some((entry) => entry.device === device)) return true
    const users = mountsOfDevice(mounts, device)
    if (users.length === 0) return false
    const whole = wholeMountOf(users, record.facts.source)
    if (whole === undefined) {
      throw new VolumeError(
        'CONFLICT',
        `${record.mountPoint} was unmounted by somebody else, and only parts of it are mounted now (${users.map((entry) => entry.mountPoint).join(', ')})`,
        {
          remedy: 'unmount those first: the session that serves them cannot be shared any more'
        }
      )
    }
    await this.restore(record, whole.mountPoint)
    return true
  }

  /** Binds a served file system back to its own folder. Its source may be a read-only bind; the shared mount never
   * is. */
  async restore (record: MountRecord, from: string): Promise<void> {
    const { host } = this.#parts
    if ((await host.inspect(record.mountPoint)).kind === 'missing') await host.makeFolder(record.mountPoint, 0o700)
    await host.bind({
      source: from, target: record.mountPoint, flags: mountFlagBits(record.spec.flags), readOnly: false, anew: true
    })
  }

  /** 1. intent; 2. folder, session, mount; 3. record. A failure takes everything back and is what the caller sees. */
  async #start (
    { key, spec, generation }: Pick<MountRecord, 'key' | 'spec' | 'generation'>,
    mounter: Mounter,
    deadlineMs: number
  ): Promise<LiveMount> {
    const { table, host, bootId, mountsFolder } = this.#parts
    const mountPoint = `${mountsFolder}/${key}`
    let record: MountRecord = {
      kind: 'mount', key, phase: 'starting', spec, mountPoint, facts: mounter.plan(key), generation, bootId
    }
    await table.put(record)
    const note = async (facts: MountFacts): Promise<void> => {
      record = { ...record, facts }
      await table.put(record)
    }
    try {
      if ((await host.inspect(mountPoint)).kind === 'missing') await host.makeFolder(mountPoint, 0o700)
      const live = await mounter.start({ key, spec, mountPoint, facts: record.facts, note, deadlineMs })
      await table.put({ ...record, phase: 'mounted', facts: live.facts })
      this.adopt(key, live)
      return live
    } catch (error) {
      await this.#takeAway(record).catch((problem: unknown) => {
        this.#parts.events({
          kind: 'note', key, text: `what a failed start left could not be taken away: ${messageOf(problem)}`
        })
        this.#tellUnfinished()
      })
      throw error
    }
  }

  /** A failure leaves the mount `ending`: a repeat of the call, the timer and the next agent begin here again. */
  async #end (
    record: MountRecord,
    live: LiveMount | undefined,
    saveMs: number
  ): Promise<{ readonly lostBytes: number }> {
    const { key, phase } = record
    /* A full state disk must not keep the mount; after a crash recovery finds it unused and ends it. */
    await this.#orSaid(
      this.#parts.table.intendEnd({ ...record, phase: 'ending' }),
      key,
      'the mount is ended all the same'
    )
    if (live !== undefined) await this.#save(record, live, saveMs)
    await this.#takeAway({ ...record, phase: 'ending' })
    const lostBytes = this.#lost.get(key)
    this.#lost.delete(key)
    this.#lingering.delete(key)
    if (lostBytes === 0) {
      await this.#orSaid(
        forgetLoss(this.#parts.table, key),
        key,
        'after a restart the loss before this one is told again'
      )
    }
    if (phase !== 'starting') this.#parts.events({ kind: 'mount-ended', key, source: showSource(record.spec) })
    this.#ended(key)
    return { lostBytes: lostBytes ?? 0 }
  }

  /** What is lost is known and told at once: should the rest of the end fail, a repeat finds no session to ask. */
  async #save ({ key, phase, spec }: MountRecord, live: LiveMount, saveMs: number): Promise<void> {
    const source = showSource(spec)
    const bytes = await drained(live, saveMs)
    if (bytes > 0 || phase === 'mounted') this.#lost.set(key, bytes)
    if (bytes === 0) return
    this.#parts.events({ kind: 'data-lost', key, source, lostBytes: bytes })
    await this.#orSaid(
      noteLoss(this.#parts.table, { key, source, bytes, at: new Date().toISOString() }),
      key,
      `after a restart nobody will know what was lost of ${source}`
    )
  }

  async #orSaid (writing: Promise<void>, key: StageKey, so: string): Promise<void> {
    await writing.catch((error: unknown) => {
      this.#parts.events({ kind: 'note', key, text: `the journal cannot be written (${messageOf(error)}); ${so}` })
    })
  }

  async #takeAway (record: MountRecord): Promise<void> {
    this.#served.delete(record.key)
    const mounter = this.mounterOf(record.spec)
    /* A dead mount that pods still have is only taken from under our own folder; the rest goes with each unpublish. */
    await mounter.end(record)
    await this.#parts.host.removeFolder(record.mountPoint)
    await this.#parts.table.dropMount(record.key)
  }

  async #otherMounts (record: MountRecord): Promise<readonly string[]> {
    const { device } = record.facts
    if (device === undefined) return []
    return mountsOfDevice(await this.#parts.host.mountinfo(), device)
      .map((entry) => entry.mountPoint)
      .filter((path) => path !== record.mountPoint)
  }
}

async function drained (live: LiveMount, deadlineMs: number): Promise<number> {
  try {
    return (await live.drain(deadlineMs)).lostBytes
  } catch {
    /* A session that does not even answer has lost what its last report said was dirty; it says so itself when it
     * can. */
    const report = await live.report(300).catch(() => undefined)
    return report?.gauges['dirtyBytes'] ?? 0
  }
}
