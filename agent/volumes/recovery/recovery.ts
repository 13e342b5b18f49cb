/**
 * What to do at agent start. Owns one pure function: journal, mountinfo and live sessions in, steps out.
 * Does not do anything, so every crash point is a table test.
 *
 * Rules: mountinfo is the truth. An intent that was not finished is taken back (its caller repeats it). What stands is
 * kept, also when it is dead, because a pod may still use it and only an unpublish may take it away. Binds are judged
 * before the mounts they come from.
 */
import type { AbsolutePath, StageKey } from '../../base/brands.ts'
import { mountsAt, mountsOfDevice, wholeMountOf, type MountEntry, type Mountinfo } from '../../host/mountinfo.ts'
import { kernelTypes } from '../kernel/kernel-mount.ts'
import type { BindRecord, JournalRecord, MountRecord } from '../records/records.ts'
import { bindPhases, mountPhases } from '../records/states.ts'

export interface RecoveryInput {
  readonly records: readonly JournalRecord[]
  readonly mounts: Mountinfo
  /** Keys whose recorded mount is served. */
  readonly live: ReadonlySet<StageKey>
  readonly bootId: string
  /** Folder of our shared mounts, as mountinfo spells it. */
  readonly mountsFolder: string
  readonly isOurType: (type: string) => boolean
}

export type RecoveryStep =
  /** The bind stands. */
  | { readonly do: 'keepBind', readonly path: AbsolutePath, readonly why: string }
  /** Take every mount of ours at the path away, then the folder if we made it, then the record. */
  | { readonly do: 'endBind', readonly path: AbsolutePath, readonly why: string }
  /** Nothing is mounted there: only the record goes. */
  | { readonly do: 'forgetBind', readonly path: AbsolutePath, readonly why: string }
  /** Served and mounted: take it on. */
  | { readonly do: 'adoptMount', readonly key: StageKey, readonly why: string }
  /** Served and still bound somewhere, but the shared mount point is bare: bind it back, then take it on. */
  | { readonly do: 'restoreMount', readonly key: StageKey, readonly from: string, readonly why: string }
  /** Not served, but pods still have it: report it as dead. */
  | { readonly do: 'keepDeadMount', readonly key: StageKey, readonly why: string }
  | { readonly do: 'endMount', readonly key: StageKey, readonly why: string }
  | { readonly do: 'forgetMount', readonly key: StageKey, readonly why: string }
  /** In our folder, without a record and used nowhere else. */
  | { readonly do: 'detachOrphan', readonly mountPoint: string, readonly why: string }

export function planRecovery (input: RecoveryInput): readonly RecoveryStep[] {
  const mounts = input.records.filter((record) => record.kind === 'mount')
  const binds = input.records.filter((record) => record.kind === 'bind')
  const bindSteps = binds.map((bind) => planBind(bind, mounts.find((mount) => mount.key === bind.key), input))
  const kept = new Set(bindSteps.filter((step) => step.do === 'keepBind').map((step) => step.path))
  const users = binds.filter((bind) => kept.has(bind.path))
  return [
    ...bindSteps,
    ...mounts.map((mount) => planMount(mount, users.filter((bind) => bind.key === mount.key), input)),
    ...planOrphans(mounts, input)
  ]
}

function planBind (
  bind: BindRecord,
  mount: MountRecord | undefined,
  input: RecoveryInput
): RecoveryStep & { path: AbsolutePath } {
  const { path } = bind
  if (bind.bootId !== input.bootId) return { do: 'forgetBind', path, why: 'the node was rebooted' }
  if (bindPhases[bind.phase].afterCrash === 'end') {
    return { do: 'endBind', path, why: `the agent ended while ${bind.phase}` }
  }
  if (bind.role === 'staging') {
    return mount === undefined
      ? { do: 'forgetBind', path, why: 'there is no mount that it holds' }
      : { do: 'keepBind', path, why: 'it is staged' }
  }
  const stack = mountsAt(input.mounts, bind.resolved)
  if (stack.length === 0) return { do: 'forgetBind', path, why: 'somebody else unmounted it' }
  if (!stack.some((entry) => isOurs(entry, mount, input))) {
    return { do: 'forgetBind', path, why: 'a mount of somebody else took its place' }
  }
  return { do: 'keepBind', path, why: 'it is mounted' }
}

function isOurs (entry: MountEntry, mount: MountRecord | undefined, input: RecoveryInput): boolean {
  return input.isOurType(entry.type) || (mount?.facts.device !== undefined && entry.device === mount.facts.device)
}

function planMount (mount: MountRecord, users: readonly BindRecord[], input: RecoveryInput): RecoveryStep {
  const { key } = mount
  if (mount.bootId !== input.bootId) return { do: 'forgetMount', key, why: 'the node was rebooted' }
  if (mountPhases[mount.phase].afterCrash === 'end') {
    return { do: 'endMount', key, why: `the agent ended while ${mount.phase}` }
  }
  const { device } = mount.facts
  const own = mountsAt(input.mounts, mount.mountPoint).some((entry) => entry.device === device)
  if (!input.live.has(key)) {
    if (users.length > 0) return { do: 'keepDeadMount', key, why: 'its session is gone' }
    return { do: 'endMount', key, why: 'its session is gone and nobody uses it' }
  }
  if (own) return { do: 'adoptMount', key, why: 'it is served' }
  const elsewhere = device === undefined ? [] : mountsOfDevice(input.mounts, device)
  if (elsewhere.length === 0) return { do: 'endMount', key, why: 'it is mounted nowhere' }
  const whole = wholeMountOf(elsewhere, mount.facts.source)
  if (whole === undefined) return { do: 'adoptMount', key, why: 'it is served, but only parts of it are mounted' }
  return { do: 'restoreMount', key, from: whole.mountPoint, why: 'the shared mount point is bare' }
}

function planOrphans (records: readonly MountRecord[], input: RecoveryInput): readonly RecoveryStep[] {
  const known = new Set(records.map((record) => record.mountPoint))
  const inFolder = input.mounts.filter((entry) =>
    entry.mountPoint.startsWith(`${input.mountsFolder}/`) && !known.has(entry.mountPoint)
  )
  return inFolder
    .filter((entry) => input.isOurType(entry.type) || kernelTypes.has(entry.type))
    .filter((entry) => mountsOfDevice(input.mounts, entry.device).every((other) => inFolder.includes(other)))
    .map(({ mountPoint }) => ({ do: 'detachOrphan', mountPoint, why: 'no record names it and nobody uses it' }))
}
