/**
 * Binding a shared mount to a path and taking it away again: the one procedure behind staging and publishing.
 * Owns its steps, their undoing, and what a path must be. Does not know which call asked, beyond the role and the door.
 *
 * attach                                              a repeat finds
 *   1. look at the path: a folder, or (CSI) missing     the same
 *   2. look at what is mounted there                    our live bind with the same key and mode: record it, done
 *   3. journal: attaching                               an intent that recovery takes back
 *   4. the shared mount of the key                      running: shared
 *      its files get the pod's fsGroup (target)         under way, or what is left
 *   5. make the folder (CSI target)                     there
 *      make it immutable (Flex target)                  the same
 *   6. bind (target)                                    (2)
 *   7. journal: attached                                (2)
 *
 * Staging mounts nothing at its path, it holds the shared mount by its record: kubelet does not call NodeUnstageVolume
 * as long as what is mounted at the staging path is mounted anywhere else as well (k8s pkg/volume/util HasMountRefs),
 * and ours always is.
 */
import type { AbsolutePath, DeviceNumber, StageKey, VolumeId } from '../base/brands.ts'
import { monotonicMs } from '../base/deadline.ts'
import { VolumeError, messageOf } from '../base/errors.ts'
import { defaultFsGroupContents, type VolumeSpec } from '../base/volume-spec.ts'
import { mountsAt, topMountAt, type MountEntry } from '../host/mountinfo.ts'
import { mountFlagBits, type PathFacts } from '../host/mounts.ts'
import { UndoStack } from './locks.ts'
import { nestedIn } from './nested.ts'
import { isProtected, protect, unprotect } from './mount-point.ts'
import type { LiveMount } from './mounter.ts'
import type { Door } from './operations.ts'
import type { BindRecord, BindRole } from './records/records.ts'
import type { EngineParts } from './parts.ts'

export interface AttachRequest {
  readonly role: BindRole
  readonly volume: VolumeId
  readonly spec: VolumeSpec
  readonly key: StageKey
  readonly path: AbsolutePath
  readonly readOnly: boolean
  readonly door: Door
  readonly owner: string | undefined
  readonly exclusive?: boolean | undefined
}

export interface DetachRequest {
  readonly role: BindRole
  readonly volume: VolumeId
  readonly path: AbsolutePath
  readonly door: Door
}

/** kubelet gives a call 120 s and we answer at 110 s: what is left after the start is for a pod's fsGroup. */
const attachMs = 90_000
/** But so long at least. */
const groupMs = 5_000
/** kubelet makes the folder above with 0750 as well. */
const targetMode = 0o750
/** More mounts of ours than this at one path are no accident but a loop. */
const stackMax = 32
const fieldOf = { staging: 'staging_target_path', target: 'target_path' } as const satisfies Record<BindRole, string>

export class Attaching {
  readonly #parts: EngineParts

  constructor (parts: EngineParts) {
    this.#parts = parts
  }

  async attach (request: AttachRequest): Promise<void> {
    const { table } = this.#parts
    await this.#parts.shared.mounterOf(request.spec).check?.()
    const facts = await this.#lookAtPath(request)
    if (await this.#isDone(request, facts)) {
      const record = table.bind(request.path)
      if (record?.phase !== 'attached') {
        await table.put({
          ...this.#recordOf(request, facts, 'attached', record?.madeFolder ?? false),
          ...await this.#protect(request, facts, new UndoStack())
        })
      }
      return
    }
    if (facts.kind === 'folder' && request.door !== 'csi' && !await this.#parts.host.isEmpty(facts.path)) {
      throw new VolumeError('INVALID', `${fieldOf[request.role]}: "${request.path}" is not empty`, {
        field: fieldOf[request.role], remedy: 'empty it or mount on another folder: a mount would hide what is in it'
      })
    }
    const before = table.bind(request.path)
    await this.#attachNow(request, facts)
    if (before !== undefined && before.key !== request.key) await this.#parts.shared.releaseIfUnused(before.key)
  }

  async #attachNow (request: AttachRequest, facts: PathFacts): Promise<void> {
    const { table, host, shared } = this.#parts
    const madeFolder = facts.kind === 'missing'
    const endMs = monotonicMs() + attachMs
    const undo = new UndoStack()
    await table.put(this.#recordOf(request, facts, 'attaching', madeFolder))
    try {
      await this.#giveGroup(request, await shared.ensure(request.key, request.spec), endMs)
      const source = table.mount(request.key)?.mountPoint
      if (source === undefined) {
        throw new VolumeError('UNAVAILABLE', 'the mount ended while it was being bound', { remedy: 'repeat the call' })
      }
      if (madeFolder) {
        await host.makeFolder(facts.path, targetMode)
        undo.add(async () => { await host.removeFolder(facts.path) })
      }
      const protection = await this.#protect(request, facts, undo)
      if (request.role === 'target') {
        await host.bind({
          source, target: facts.path, flags: mountFlagBits(request.spec.flags), readOnly: request.readOnly
        })
        undo.add(async () => { await host.detachBind(facts.path) })
      }
      await table.put({ ...this.#recordOf(request, facts, 'attached', madeFolder), ...protection })
    } catch (error) {
      await this.#takeBack(this.#recordOf(request, facts, 'detaching', madeFolder), undo)
      throw error
    }
  }

  /** For each pod, as kubelet does: another one may have taken it since. A staging path shows it to nobody. */
  async #giveGroup ({ role, spec, readOnly }: AttachRequest, live: LiveMount, endMs: number): Promise<void> {
    const { mountGroup: group, fsGroupContents: contents = defaultFsGroupContents } = spec
    // Not even root changes a file of a read-only mount.
    if (role !== 'target' || group === undefined || spec.flags.readOnly) return
    const except = nestedIn(spec, this.#parts.table.mounts().map((mount) => mount.spec))
    await live.giveGroup?.({ group, contents, readOnly, except }, Math.max(groupMs, endMs - monotonicMs()))
  }

  async #protect (request: AttachRequest, facts: PathFacts, undo: UndoStack): Promise<Pick<BindRecord, 'protection'>> {
    if (!isProtected(request)) return {}
    const { host } = this.#parts
    const record = this.#recordOf(request, facts, 'detaching', false)
    undo.add(async () => { await unprotect(host, facts.path, record) })
    return { protection: await protect(host, facts.path) }
  }

  /** What cannot be taken back now stays on record and is gone on with. */
  async #takeBack (record: BindRecord, undo: UndoStack): Promise<void> {
    const { shared, events } = this.#parts
    try {
      const problem = await undo.run()
      await this.#intend(record)
      if (problem !== undefined) throw problem instanceof Error ? problem : new Error(String(problem))
      await shared.releaseIfUnused(record.key)
      await this.forget(record.path)
    } catch (problem) {
      events({ kind: 'undo-failed', volume: record.volume, path: record.path, reason: messageOf(problem) })
      shared.tellUnfinished()
    }
  }

  /**
   * Takes every mount of ours at the path away, then the folder if it is ours to remove. The record stays, as
   * `detaching`, until the caller has seen to the shared mount and says `forget`.
   */
  async detach (request: DetachRequest): Promise<StageKey | undefined> {
    const { host } = this.#parts
    const known = this.#parts.table.bind(request.path)
    const path = await this.#resolved(request, known)
    const stack = mountsAt(await host.mountinfo(), path)
    const top = stack.at(-1)
    const record = known ?? this.#recordOfFound(request, path, top)
    if (top !== undefined && !this.#isOurs(top, record)) {
      throw new VolumeError(
        'CONFLICT',
        `${fieldOf[request.role]}: "${request.path}" holds a mount of type ${top.type} from ${JSON.stringify(top.source)}, which is not ours`,
        {
          field: fieldOf[request.role], remedy: 'unmount it by hand if nothing needs it, then repeat'
        }
      )
    }
    if (record !== undefined && (known === undefined || known.phase !== 'detaching')) await this.#intend(record)
    await this.detachStack(path, record)
    if (isProtected(record ?? request)) await unprotect(host, path, record)
    if (request.role === 'target' && (request.door === 'csi' || record?.madeFolder === true)) {
      await this.#removeTarget(path, request.path)
    }
    return record?.key
  }

  /** Nothing is left of a bind that was taken away, nor of its mount if it was the last. A bind made anew is kept. */
  async forget (path: AbsolutePath): Promise<void> {
    const { table } = this.#parts
    if (table.bind(path)?.phase === 'detaching') await table.dropBind(path)
  }

  /** A bind that nobody recorded: it gets a record on its way out, so that a repeat knows as much as the first call. */
  #recordOfFound (request: DetachRequest, resolved: string, top: MountEntry | undefined): BindRecord | undefined {
    const key = top === undefined ? undefined : this.#keyOfDevice(top.device)
    if (key === undefined) return undefined
    return {
      ...request, kind: 'bind', phase: 'detaching', key, resolved, readOnly: false, owner: undefined,
      madeFolder: false, bootId: this.#parts.bootId
    }
  }

  /** A full state disk must not keep a pod's mount: without the intent a crash leaves a record that recovery or a
   * repeat clears. */
  async #intend (record: BindRecord): Promise<void> {
    try {
      await this.#parts.table.intendEnd({ ...record, phase: 'detaching' })
    } catch (error) {
      this.#parts.events({
        kind: 'note', key: record.key,
        text: `the journal cannot be written (${messageOf(error)}); ${record.path} is detached all the same`
      })
    }
  }

  /**
   * Where it was bound. The name may lead elsewhere by now, for whoever may put a link on the way to it, and then to
   * somebody else's mount; only where nothing is left of the bind is the name asked again.
   */
  async #resolved (request: DetachRequest, record: BindRecord | undefined): Promise<string> {
    if (record !== undefined && topMountAt(await this.#parts.host.mountinfo(), record.resolved) !== undefined) {
      return record.resolved
    }
    return await this.#resolvedNow(request, record)
  }

  /** A path that is gone, or that the kernel does not resolve in time, is known from when it was bound. */
  async #resolvedNow (request: DetachRequest, record: BindRecord | undefined): Promise<string> {
    try {
      const facts = await this.#parts.host.inspect(request.path)
      if (facts.kind === 'orphan') return record?.resolved ?? request.path
      await this.#requireWithin(request, facts.path)
      return facts.path
    } catch (error) {
      if (record === undefined) throw error
      return record.resolved
    }
  }

  async #requireWithin (
    { door, path, role }: Pick<DetachRequest, 'door' | 'path' | 'role'>,
    resolved: string
  ): Promise<void> {
    if (door === 'csi') await this.#parts.csiFolder?.require(resolved, path, fieldOf[role])
  }

  /** Takes every mount of ours at the path away, from the top, down to the first that is somebody else's. */
  async detachStack (path: string, record: BindRecord | undefined): Promise<void> {
    const { host } = this.#parts
    for (let n = 0; n < stackMax; n++) {
      const top = topMountAt(await host.mountinfo(), path)
      if (top === undefined || !this.#isOurs(top, record)) return
      await host.detachBind(path)
    }
    throw new VolumeError('INTERNAL', `"${path}" is still mounted after ${stackMax} unmounts`, {
      remedy: 'look at /proc/self/mountinfo for who mounts it again'
    })
  }

  async #removeTarget (path: string, shown: string): Promise<void> {
    try {
      await this.#parts.host.removeFolder(path)
    } catch (error) {
      if (error instanceof Error && 'code' in error && (error.code === 'ENOTDIR' || error.code === 'EINVAL')) return
      throw new VolumeError(
        'INTERNAL',
        `the folder "${shown}" is unmounted but cannot be removed: ${messageOf(error)}`,
        {
          cause: error,
          remedy: 'look into it: files were written there while nothing was mounted, and they are never deleted by us'
        }
      )
    }
  }

  async #lookAtPath (request: AttachRequest): Promise<PathFacts> {
    const facts = await this.#parts.host.inspect(request.path)
    const field = fieldOf[request.role]
    const mayMake = request.role === 'target' && request.door === 'csi'
    const refuse = (code: 'INVALID' | 'NOT_FOUND', why: string, remedy: string): never => {
      throw new VolumeError(code, `${field}: "${request.path}" ${why}`, { field, remedy })
    }
    const verdicts = {
      folder: () => facts,
      missing: () => mayMake ? facts : refuse('NOT_FOUND', 'does not exist', 'make the folder first'),
      orphan: () => refuse('NOT_FOUND', 'has no parent folder', 'make the folder above it first'),
      file: () => refuse('INVALID', 'is a file', 'give a folder'),
      symlink: () => refuse('INVALID', 'is a symbolic link', 'give the folder itself'),
      other: () => refuse('INVALID', 'is not a folder', 'give a folder')
    } as const satisfies Record<PathFacts['kind'], () => PathFacts>
    const verdict = verdicts[facts.kind]()
    await this.#requireWithin(request, facts.path)
    return verdict
  }

  /** Another spec, mode or volume recorded for the path contradicts the request as long as it is served there. */
  #refuseOtherSpec (request: AttachRequest, record: BindRecord | undefined): void {
    if (record === undefined || record.phase !== 'attached') return
    const field = fieldOf[request.role]
    const conflict = (why: string): never => {
      throw new VolumeError('CONFLICT', `${field}: "${request.path}" ${why}`, { field, remedy: 'unpublish it first' })
    }
    if (record.volume !== request.volume) conflict(`already holds the volume "${record.volume}"`)
    if (record.key !== request.key) conflict('already holds this volume with other attributes')
    if (record.readOnly !== request.readOnly) {
      conflict(`already holds this volume ${record.readOnly ? 'read-only' : 'writable'}`)
    }
  }

  /** True when our live bind is there already. A dead one of ours is taken away; anything else is a conflict. */
  async #isDone (request: AttachRequest, facts: PathFacts): Promise<boolean> {
    const { table, host, shared } = this.#parts
    const record = table.bind(request.path)
    const top = topMountAt(await host.mountinfo(), facts.path)
    if (top === undefined) return request.role === 'staging' && this.#isStaged(request, record)
    const field = fieldOf[request.role]
    if (!this.#isOurs(top, record)) {
      throw new VolumeError(
        'CONFLICT',
        `${field}: "${request.path}" is already a mount of type ${top.type} from ${JSON.stringify(top.source)}`,
        {
          field, remedy: 'unmount it, or use another folder'
        }
      )
    }
    const holder = this.#keyOfDevice(top.device)
    if (holder !== undefined && shared.live(holder) !== undefined) {
      this.#refuseOtherSpec(request, record)
      const isReadOnly = top.options.includes('ro')
      if (holder === request.key && isReadOnly === request.readOnly && request.role === 'target') return true
      if (record === undefined) {
        throw new VolumeError(
          'CONFLICT',
          `${field}: "${request.path}" already holds ${showHeld(holder === request.key, isReadOnly)}`,
          {
            field, remedy: 'unpublish it first'
          }
        )
      }
    }
    await this.detachStack(facts.path, record)
    return false
  }

  #isStaged (request: AttachRequest, record: BindRecord | undefined): boolean {
    if (record === undefined || this.#parts.shared.live(record.key) === undefined) return false
    this.#refuseOtherSpec(request, record)
    return record.phase === 'attached'
  }

  #isOurs (entry: MountEntry, record: BindRecord | undefined): boolean {
    if (this.#parts.isOurType(entry.type)) return true
    const device = record === undefined ? undefined : this.#parts.table.mount(record.key)?.facts.device
    return device !== undefined && entry.device === device
  }

  #keyOfDevice (device: DeviceNumber): StageKey | undefined {
    return this.#parts.table.mounts().find((mount) => mount.facts.device === device)?.key
  }

  #recordOf (request: AttachRequest, facts: PathFacts, phase: BindRecord['phase'], madeFolder: boolean): BindRecord {
    const { role, volume, key, path, readOnly, door, owner, exclusive } = request
    return {
      kind: 'bind', role, phase, volume, key, path, resolved: facts.path, readOnly, door, owner, exclusive, madeFolder,
      bootId: this.#parts.bootId,
      ...isProtected(request) ? { protection: 'immutable' as const } : {}
    }
  }
}

function showHeld (isSame: boolean, isReadOnly: boolean): string {
  return isSame
    ? `this volume ${isReadOnly ? 'read-only' : 'writable'}`
    : 'another volume, or this one with other attributes'
}
