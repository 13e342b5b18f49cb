/**
 * A node in memory for engine tests: mounts, folders, sessions and a journal that outlive the engine, and a crash at
 * any step. Every effect is a step; `crashAt` makes the engine's process "die" before that step, and nothing it does
 * afterwards has an effect.
 */
import { toDeviceNumber, toVolumeId, parseAbsolutePath, type StageKey } from '../../../../agent/base/brands.ts'
import { HostError, VolumeError } from '../../../../agent/base/errors.ts'
import type { MountEntry, Mountinfo } from '../../../../agent/host/mountinfo.ts'
import { topMountAt } from '../../../../agent/host/mountinfo.ts'
import type { PathFacts } from '../../../../agent/host/mounts.ts'
import type { GroupGift } from '../../../../agent/session/control.ts'
import { Attaching } from '../../../../agent/volumes/attaching.ts'
import { Endings } from '../../../../agent/volumes/recovery/ending.ts'
import type { VolumeEvent } from '../../../../agent/volumes/events.ts'
import { Healer } from '../../../../agent/volumes/recovery/healing.ts'
import type { Journal } from '../../../../agent/volumes/records/journal.ts'
import { NameLocks } from '../../../../agent/volumes/locks.ts'
import type { LiveMount, Mounter } from '../../../../agent/volumes/mounter.ts'
import {
  recordId,
  type JournalRecord,
  type MountFacts,
  type MountRecord
} from '../../../../agent/volumes/records/records.ts'
import { recover } from '../../../../agent/volumes/recovery/recovering.ts'
import type { RecoveryStep } from '../../../../agent/volumes/recovery/recovery.ts'
import { Reporting } from '../../../../agent/volumes/reporting.ts'
import { VolumeService } from '../../../../agent/volumes/service.ts'
import { SharedMounts } from '../../../../agent/volumes/shared-mounts.ts'
import { parseVolumeSpec } from '../../../../agent/volumes/spec/spec.ts'
import { VolumeTable } from '../../../../agent/volumes/records/table.ts'
import type { BindRequest, VolumeHost } from '../../../../agent/volumes/volume-host.ts'

export class Crash extends Error {
  override readonly name = 'Crash'
}

interface FakeSession {
  readonly key: StageKey
  readonly socketPath: string
  readonly device: string
  end: (reason: string) => void
  ended: Promise<string>
}

export const mountsFolder = '/state/mounts'
export const path = (text: string): ReturnType<typeof parseAbsolutePath> => parseAbsolutePath(text, 'test')
export const volume = toVolumeId
export const specOf = (share = '/export', extra: Record<string, string> = {}): ReturnType<typeof parseVolumeSpec> =>
  parseVolumeSpec({ server: 'nas', share, ...extra })

const parentOf = (name: string): string => name.slice(0, name.lastIndexOf('/')) || '/'

export class World {
  mounts: MountEntry[] = []
  readonly folders = new Set([
    '/', '/state', mountsFolder, '/pods', '/pods/a', '/pods/b', '/pods/c', '/staging', '/staging/v1', '/staging/v2'
  ])
  readonly files = new Set<string>()
  readonly symlinks = new Set<string>()
  readonly immutable = new Set<string>()
  readonly sessions = new Map<string, FakeSession>()
  readonly journal = new Map<string, JournalRecord>()
  readonly events: VolumeEvent[] = []
  readonly log: string[] = []
  bootId = 'boot-1'
  /** Fails the step of that name once, with this error. */
  fail: { readonly step: string, readonly error: Error } | undefined
  /** The step that many steps from now fails once, whatever it is. */
  failIn: { steps: number, readonly error: Error } | undefined
  /** Devices whose folder was made anew on the server after they were mounted. */
  readonly madeAnew = new Set<string>()
  /** What sessions were asked to give to a group. */
  readonly gifts: (GroupGift & { readonly key: StageKey })[] = []
  /** Bytes that a drain will not get rid of. */
  undrained = 0
  /** Holds a start until released. */
  gate: Promise<void> | undefined
  #nextId = 100
  #nextDevice = 40

  incarnation (crashAt = Number.POSITIVE_INFINITY): Incarnation {
    return new Incarnation(this, crashAt)
  }

  /** What the volume holds, as far as binds of a part ask. */
  readonly parts = new Set<string>()

  mount (
    mountPoint: string,
    device: string,
    type: string,
    source: string,
    { options = ['rw'], root = '/' }: { readonly options?: readonly string[], readonly root?: string } = {}
  ): void {
    const parent = topMountAt(this.mounts, mountPoint)
    this.mounts.push({
      id: this.#nextId++, parentId: parent?.id ?? 1, device: toDeviceNumber(device), root, mountPoint, options,
      tags: [], type, source, superOptions: ['rw']
    })
  }

  unmount (mountPoint: string): boolean {
    const top = topMountAt(this.mounts, mountPoint)
    this.mounts = this.mounts.filter((mount) => mount !== top)
    return top !== undefined
  }

  startSession (key: StageKey, socketPath: string): FakeSession {
    let end: (reason: string) => void = () => undefined
    const ended = new Promise<string>((resolve) => { end = resolve })
    const session: FakeSession = {
      key, socketPath, device: `0:${this.#nextDevice++}`, ended,
      end: (reason) => {
        this.sessions.delete(socketPath)
        end(reason)
      }
    }
    this.sessions.set(socketPath, session)
    return session
  }

  reboot (): void {
    this.bootId = `${this.bootId}+`
    this.mounts = []
    this.sessions.clear()
  }

  /** What an operator would see: mounts by path, live sessions, records. */
  summary (): { mounts: string[], sessions: number, records: string[], folders: string[] } {
    return {
      mounts: this.mounts.map((mount) => `${mount.mountPoint}${mount.options.includes('ro') ? ' ro' : ''}`).sort(),
      sessions: this.sessions.size,
      records: [...this.journal.values()].map((record) => `${record.kind} ${record.phase}`).sort(),
      folders: [...this.folders].filter((name) => name.startsWith('/pods/') && name.split('/').length > 3).sort()
    }
  }
}

/** One life of the engine's process. */
export class Incarnation implements VolumeHost, Mounter, Journal {
  readonly #world: World
  readonly #crashAt: number
  #steps = 0
  #dead = false
  readonly shared: SharedMounts
  readonly service: VolumeService
  readonly healer: Healer
  readonly endings: Endings
  readonly #attaching: Attaching
  readonly #locks: NameLocks
  readonly #parts: ConstructorParameters<typeof Attaching>[0]

  constructor (world: World, crashAt: number) {
    this.#world = world
    this.#crashAt = crashAt
    const table = new VolumeTable(this)
    const events = (event: VolumeEvent): void => { if (!this.#dead) world.events.push(event) }
    const { bootId } = world
    this.shared = new SharedMounts({
      table, host: this, mounters: { fuse: this, kernel: undefined }, events, bootId, mountsFolder
    })
    this.#parts = {
      table, host: this, shared: this.shared, events, bootId, isOurType: (type) => type === 'fuse.volbridge'
    }
    this.#attaching = new Attaching(this.#parts)
    this.#locks = new NameLocks()
    this.healer = new Healer(this.#parts, this.#attaching, this.#locks)
    this.endings = new Endings(this.#parts, this.#attaching, this.#locks)
    this.shared.whenUnfinished(() => { this.endings.goOn() })
    const reporting = new Reporting(this.#parts, { endings: this.endings, heals: this.healer })
    this.service = new VolumeService(this.#parts, {
      attaching: this.#attaching, endings: this.endings, locks: this.#locks, reporting,
      limits: { volumesMax: 1000, ephemeralMax: 1000 }
    })
    this.shared.whenEnded((key) => { for (const each of [this.healer, this.endings, reporting]) each.forget(key) })
  }

  get crashed (): boolean { return this.#dead }
  get steps (): number { return this.#steps }

  async recover (): Promise<readonly RecoveryStep[]> {
    return await recover({ ...this.#parts, journal: this, mountsFolder }, new Attaching(this.#parts))
  }

  async #step (name: string): Promise<void> {
    await Promise.resolve()
    if (!this.#dead && this.#steps++ === this.#crashAt) this.#dead = true
    if (this.#dead) throw new Crash(`crashed before ${name}`)
    this.#world.log.push(name)
    const { fail, failIn } = this.#world
    if (failIn !== undefined && failIn.steps-- === 0) throw failIn.error
    if (fail?.step === name) {
      this.#world.fail = undefined
      throw fail.error
    }
  }

  #look (): void {
    if (this.#dead) throw new Crash('crashed')
  }

  /* Journal */
  async put (record: JournalRecord): Promise<void> {
    await this.#step(`put ${record.kind} ${record.phase}`)
    this.#world.journal.set(recordId(record), JSON.parse(JSON.stringify(record)) as JournalRecord)
  }

  async drop (id: string): Promise<void> {
    await this.#step(`drop ${id.split('-')[0] ?? ''}`)
    this.#world.journal.delete(id)
  }

  async load (): Promise<{ records: JournalRecord[], damaged: never[] }> {
    return { records: [...this.#world.journal.values()], damaged: [] }
  }

  /* VolumeHost */
  async mountinfo (): Promise<Mountinfo> {
    this.#look()
    return [...this.#world.mounts]
  }

  async inspect (name: string): Promise<PathFacts> {
    this.#look()
    const { folders, files, symlinks } = this.#world
    if (folders.has(name)) return { kind: 'folder', path: name }
    if (files.has(name)) return { kind: 'file', path: name }
    if (symlinks.has(name)) return { kind: 'symlink', path: name }
    return { kind: folders.has(parentOf(name)) ? 'missing' : 'orphan', path: name }
  }

  async isEmpty (name: string): Promise<boolean> {
    this.#look()
    return ![...this.#world.folders, ...this.#world.files].some((other) => other !== name && parentOf(other) === name)
  }

  async makeFolder (name: string): Promise<void> {
    await this.#step('make folder')
    this.#world.folders.add(name)
  }

  async removeFolder (name: string): Promise<void> {
    await this.#step('remove folder')
    if (this.#world.mounts.some((mount) => mount.mountPoint === name)) {
      throw new HostError({ code: 'EBUSY', errno: 16, call: `rmdir ${name}` })
    }
    if (!await this.isEmpty(name)) throw new HostError({ code: 'ENOTEMPTY', errno: 39, call: `rmdir ${name}` })
    if (this.#world.immutable.has(name)) throw new HostError({ code: 'EPERM', errno: 1, call: `rmdir ${name}` })
    this.#world.folders.delete(name)
  }

  async setImmutable (name: string, immutable: boolean): Promise<void> {
    await this.#step(immutable ? 'make immutable' : 'make plain')
    if (!this.#world.folders.has(name)) throw new HostError({ code: 'ENOENT', errno: 2, call: `opening ${name}` })
    if (immutable) this.#world.immutable.add(name)
    else this.#world.immutable.delete(name)
  }

  async bind ({ source, target, readOnly, beneath = '' }: BindRequest): Promise<void> {
    await this.#step('bind')
    const from = topMountAt(this.#world.mounts, source)
    if (from === undefined) throw new HostError({ code: 'EINVAL', errno: 22, call: `mount ${target}` })
    if (beneath !== '' && !this.#world.parts.has(beneath)) {
      throw new HostError({ code: 'ENOENT', errno: 2, call: `entering ${beneath}` })
    }
    this.#world.mount(target, from.device, from.type, from.source, {
      options: [readOnly ? 'ro' : 'rw'], root: `/${beneath}`
    })
  }

  async detachBind (name: string): Promise<void> {
    await this.#step('detach')
    this.#world.unmount(name)
  }

  /* Mounter */
  plan (key: StageKey): MountFacts {
    return {
      socketPath: `/run/${key.slice(0, 8)}-${this.#world.journal.size}-${this.#steps}`, process: undefined,
      device: undefined
    }
  }

  async start (request: Parameters<Mounter['start']>[0]): Promise<LiveMount> {
    await this.#step('start session')
    const session = this.#world.startSession(request.key, request.facts.socketPath ?? '')
    await request.note({ ...request.facts, process: { pid: 1, startTicks: '1' } })
    await this.#world.gate
    await this.#step('configure')
    await this.#step('mount')
    this.#world.mount(request.mountPoint, session.device, 'fuse.volbridge', 'nas:/export')
    await request.note({ ...request.facts, device: toDeviceNumber(session.device) })
    await this.#step('serve')
    return this.#live(session)
  }

  #live (session: FakeSession): LiveMount {
    const world = this.#world
    return {
      facts: { socketPath: session.socketPath, process: undefined, device: toDeviceNumber(session.device) },
      ended: session.ended,
      statistics: async () => {
        if (!world.sessions.has(session.socketPath)) throw new VolumeError('UNAVAILABLE', 'gone')
        return {
          totalBytes: 100n, usedBytes: 40n, availableBytes: 60n, totalInodes: 10n, usedInodes: 4n, availableInodes: 6n,
          stale: false
        }
      },
      report: async () => ({
        health: { state: 'healthy', reason: '' }, locks: 'node-local', notes: [], pid: 1, counters: {}, gauges: {},
        latency: {}
      }),
      probe: async () => ({ state: 'healthy', reason: '' }),
      checkRoot: async () =>
        world.madeAnew.has(session.device)
          ? { isCurrent: false, reason: 'made anew' }
          : { isCurrent: true, reason: '' },
      giveGroup: async (gift) => {
        await this.#step('give group')
        world.gifts.push({ key: session.key, ...gift })
      },
      drain: async () => {
        await this.#step('drain')
        return { lostBytes: world.undrained }
      }
    }
  }

  async find (record: MountRecord): Promise<LiveMount | undefined> {
    const session = this.#world.sessions.get(record.facts.socketPath ?? '')
    return session?.key === record.key ? this.#live(session) : undefined
  }

  async end (record: MountRecord): Promise<void> {
    await this.#step('end mount')
    while (this.#world.unmount(record.mountPoint)) { /* the whole stack */ }
    await this.#step('end session')
    this.#world.sessions.get(record.facts.socketPath ?? '')?.end('ended')
  }
}
