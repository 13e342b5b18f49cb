/**
 * A pod's fsGroup gets the volume, as kubelet's SetVolumeOwnership would give it: all objects below the root, and the
 * root last, so that a walk that was cut short is gone on with by whoever comes next.
 *
 * Owns when there is a walk at all, that two pods wait for the same one, and what is said of it. A refusal is no reason
 * not to mount, because mode bits or an ACL may let the group in all the same; it is none to kubelet either.
 * New objects are `agent/fs/names/creations.ts`.
 */
import { showName } from '../base/brands.ts'
import { monotonicMs, within } from '../base/deadline.ts'
import { Errno, errnoName, isErrno } from '../base/errno.ts'
import { VolumeError, harmless } from '../base/errors.ts'
import type { Attributes, Backend, Credential } from '../fs/backend.ts'
import type { Filesystem } from '../fs/filesystem.ts'
import { groupChanges, type GroupProgress, type GroupWalk } from '../fs/ownership/group-changes.ts'
import { rootNodeid } from '../fs/operations.ts'
import { clientCredential } from '../nfs/credentials.ts'
import type { NfsLog } from '../nfs/transport-log.ts'
import type { GroupGift, GroupState } from '../session/control.ts'

const askMs = 10_000
/** kubelet repeats a call after two minutes at most. */
const comesBackMs = 300_000

export interface MountGroupParts {
  readonly filesystem: Pick<Filesystem, 'setattr' | 'giveTree'>
  readonly backend: Pick<Backend, 'root' | 'getattr'>
  /** Who asks the server for it. */
  readonly credential: Credential
  /** False: the volume's words may be a pod's author's, who would choose the folder and its new group. */
  readonly mayChange: boolean
  /** The root's mode is said by the volume (`mountPermissions`): the group gets no more than that. */
  readonly keepsRootMode: boolean
  readonly log: NfsLog
}

/** One gift, from the look at the root to its change. */
interface Run {
  readonly gift: GroupGift
  readonly work: Promise<void>
  walk: GroupWalk | undefined
  isOver: boolean
  overMs: number
  /** Somebody was told of its end. */
  isTold: boolean
}

export class MountGroup {
  readonly #parts: MountGroupParts
  #run: Run | undefined
  #isClosed = false
  #note: string | undefined

  constructor (parts: MountGroupParts) { this.#parts = parts }

  /**
   * Gives the volume to the group, or says how far it is at the deadline; then it goes on, and whoever asks next finds
   * it under way or done. @throws VolumeError UNAVAILABLE when the server does not answer.
   */
  async give (gift: GroupGift, deadlineMs: number): Promise<GroupState> {
    const endMs = monotonicMs() + deadlineMs
    for (;;) {
      const run = this.#running(gift)
      const isOurs = isSameGift(run.gift, gift)
      const over = isOurs ? run.work.then(() => true) : run.work.then(() => true, () => true)
      const isOver = await within(Math.max(1, endMs - monotonicMs()), over, () => false)
      if (!isOver) return { isDone: false, progress: progressOf(run) }
      if (!isOurs) continue
      run.isTold = true
      return { isDone: true, progress: progressOf(run) }
    }
  }

  /** What an operator should know: how far a walk is, and what the server has refused. */
  notes (): readonly string[] {
    const run = this.#run
    if (run?.isOver === false && run.walk !== undefined) return [progressOf(run)]
    return this.#note === undefined ? [] : [this.#note]
  }

  /** Nothing more is begun. */
  close (): void {
    this.#isClosed = true
    this.#run?.walk?.stop()
  }

  /** The gift that is under way, whoever's it is, or one that has come to its end unheard, or a new one. */
  #running (gift: GroupGift): Run {
    const last = this.#run
    if (last?.isOver === false || (last !== undefined && isAwaited(last, gift))) return last
    const run: { -readonly [K in keyof Run]: Run[K] } = {
      gift, walk: undefined, isOver: false, overMs: 0, isTold: false, work: Promise.resolve()
    }
    run.work = this.#give(run).finally(() => {
      run.isOver = true
      run.overMs = monotonicMs()
    })
    // Whoever waits is told, and begins anew; what it may not swallow is not swallowed here either.
    void run.work.catch((error: unknown) => {
      run.isTold = true
      harmless(error)
    })
    this.#run = run
    return run
  }

  async #give (run: Run): Promise<void> {
    const { gift } = run
    const { group, contents } = gift
    const root = await this.#root()
    const isGiven = !isErrno(root) && this.#isGiven(gift, root)
    if (isGiven && (contents !== 'always' || !this.#parts.mayChange)) return
    this.#note = undefined
    if (root === Errno.ETIMEDOUT) throw interrupted(group, silence)
    if (isErrno(root)) return this.#say(group, `the volume's root could not be read (${errnoName(root)})`)
    if (!this.#parts.mayChange) return this.#say(group, restrained, restrainedRemedy(group))
    if (contents !== 'never') await this.#walk(run, root)
    if (!isGiven) await this.#giveRoot(gift, root)
  }

  async #walk (run: Run, attributes: Attributes): Promise<void> {
    const { gift } = run
    const { group } = gift
    const { filesystem, backend, credential, log } = this.#parts
    const startMs = monotonicMs()
    if (this.#isClosed) throw interrupted(group, 'the volume is being unmounted')
    const walk = filesystem.giveTree({ handle: backend.root.handle, attributes }, gift, credential)
    run.walk = walk
    const end = await walk.ended
    const facts = { ...walk.progress(), firstRefusal: undefined, ms: Math.round(monotonicMs() - startMs) }
    log.info({ op: 'mount-group', outcome: end, group, ...facts }, progressOf(run))
    if (end === 'stopped') throw interrupted(group, 'the volume is being unmounted')
    if (end === 'silent') throw interrupted(group, silence)
    if (end === 'gone') throw interrupted(group, 'the volume\'s root is not there any more')
    const { firstRefusal, refused, seen } = walk.progress()
    if (firstRefusal === undefined) return
    const { name, errno } = firstRefusal
    const of = end === 'refused' ? `all of the first ${refused}` : `${count(refused)} of ${count(seen)}`
    this.#say(
      group,
      `the server refuses to give it ${of} objects (${JSON.stringify(showName(name))}: ${errnoName(errno)}); they stay as they are`
    )
  }

  async #giveRoot (gift: GroupGift, root: Attributes): Promise<void> {
    const { filesystem, credential } = this.#parts
    const caller = { uid: credential.uid, gid: credential.gid, pid: 0, credential }
    const changes = this.#rootChanges(gift, root)
    const answer = await within(
      askMs,
      Promise.resolve(filesystem.setattr(rootNodeid, undefined, changes, caller)),
      () => Errno.ETIMEDOUT
    )
    if (answer === Errno.ETIMEDOUT) throw interrupted(gift.group, silence)
    if (isErrno(answer)) {
      this.#say(
        gift.group,
        `the volume's root was not given to it: the server refuses to give it away (${errnoName(answer)})`
      )
    }
  }

  async #root (): Promise<Attributes | Errno> {
    const { backend } = this.#parts
    return await within(askMs, backend.getattr(backend.root.handle, clientCredential), () => Errno.ETIMEDOUT)
  }

  /** kubelet's OnRootMismatch. */
  #isGiven (gift: GroupGift, root: Attributes): boolean {
    const { gid, mode } = this.#rootChanges(gift, root)
    return gid === root.gid && mode === (root.mode & 0o7777)
  }

  #rootChanges (gift: GroupGift, { mode, gid }: Attributes): { readonly gid: number, readonly mode: number } {
    const all = groupChanges(gift, { kind: 'directory', mode: mode & 0o7777, gid }).reduce(
      (sum, change) => ({ ...sum, ...change }),
      {}
    )
    const wanted = all.mode ?? mode & 0o7777
    return { gid: gift.group, mode: this.#parts.keepsRootMode ? (mode & 0o7777) | (wanted & 0o2000) : wanted }
  }

  #say (
    group: number,
    why: string,
    remedy = `export with no_root_squash, or run chgrp -R ${group} and chmod -R g+rwX on the server`
  ): void {
    const text = `mount group ${group}: ${why}; ${remedy}`
    // The first is the reason for what comes after it.
    this.#note ??= text
    this.#parts.log.warn({ op: 'mount-group' }, text)
  }
}

const silence = 'the server does not answer'
const restrained = 'the volume\'s root is left as it is, because the volume may be a pod\'s own'
const restrainedRemedy = (group: number): string =>
  `run chgrp ${group} and chmod g+rwxs on the server, or use a CSI PersistentVolume`

function interrupted (group: number, why: string): VolumeError {
  return new VolumeError('UNAVAILABLE', `fsGroup ${group}: the volume was not given to it: ${why}`, {
    field: 'fsGroup', remedy: 'repeat the call: what has got the group is passed over'
  })
}

const count = (value: number): string => `${value}`.replaceAll(/\B(?=(\d{3})+$)/g, ',')

function progressOf ({ gift, walk, isOver }: Run): string {
  const { seen, changed, refused, elsewhere, excepted }: GroupProgress = walk?.progress() ??
    { seen: 0, changed: 0, refused: 0, elsewhere: 0, excepted: 0, firstRefusal: undefined }
  const more = [
    ...refused === 0 ? [] : [`${count(refused)} refused by the server`],
    ...elsewhere === 0 ? [] : [`${count(elsewhere)} on other file systems left alone`],
    ...excepted === 0 ? [] : [`${count(excepted)} folders of other volumes left alone`]
  ]
  return [
    `fsGroup ${gift.group}: ${count(seen)} objects seen, ${count(changed)} changed${isOver ? '' : ' so far'}`, ...more
  ]
    .join(', ')
}

/** Whoever asked for a walk each time comes back for its end, and does not begin another one. */
function isAwaited ({ gift, isTold, overMs }: Run, wanted: GroupGift): boolean {
  return gift.contents === 'always' && !isTold && isSameGift(gift, wanted) && monotonicMs() - overMs < comesBackMs
}

const isSameGift = (one: GroupGift, other: GroupGift): boolean =>
  one.group === other.group && one.readOnly === other.readOnly && one.contents === other.contents
