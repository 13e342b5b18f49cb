/**
 * The cgroup that a session is born in: its own, with limits, in every hierarchy.
 *
 * Owns which folders are made, what is written to which control file and in which order, on cgroup v1, hybrid and v2,
 * and what it means when some of it is refused. Does not carry it out: `launch.ts` does, in the child that becomes the
 * session.
 */
import { join } from 'node:path'
import { pause } from '../base/deadline.ts'
import { cgroupRoots, isLeftAlone, matters, ownFiles, type CgroupFiles, type CgroupReport } from './cgroups.ts'
import { isCode } from './files.ts'
import type { Preparation, PreparationFailure } from './launch.ts'
import type { MountEntry, Mountinfo } from './mountinfo.ts'

/** What one group may have; more of it ends a process in the group, or refuses it a thread. */
export interface GroupLimits {
  readonly memoryBytes: number
  /** Processes and threads. */
  readonly tasks: number
}

/** A group below a common parent, which goes with the last one. Both are one folder name. */
export interface GroupName {
  readonly parent: string
  readonly name: string
}

interface Step extends Preparation {
  readonly kind: 'folder' | 'enable' | 'limit' | 'enter' | 'leave'
  /** The hierarchy's mount point. */
  readonly root: string
  readonly resource?: Resource
}

const resources = ['memory', 'pids'] as const
export type Resource = typeof resources[number]

export interface BirthReport extends CgroupReport {
  /** What has no limit of its own here. */
  readonly unlimited: readonly Resource[]
}

/** Control files of a limit by hierarchy: cgroup-v1/memory.rst, cgroup-v1/pids.rst, cgroup-v2.rst. */
const limitFiles = {
  memory: { v1: 'memory.limit_in_bytes', v2: 'memory.max', of: (limits: GroupLimits) => limits.memoryBytes },
  pids: { v1: 'pids.max', v2: 'pids.max', of: (limits: GroupLimits) => limits.tasks }
} as const satisfies Record<Resource, { v1: string, v2: string, of: (limits: GroupLimits) => number }>

/** The threads of a process that counts as ended may take a moment to be gone. */
const removeTries = 10
const removePauseMs = 30

/** The process that writes it is the one that moves. */
const self = '0'

/** What the child has to do, in order. */
export function birthSteps (mounts: Mountinfo, group: GroupName, limits: GroupLimits): readonly Step[] {
  return onceEach(mounts).flatMap((mount): readonly Step[] => {
    if (matters(mount)) return stepsIn(mount, group, limits)
    const root = mount.mountPoint
    return isLeftAlone(mount) ? [{ kind: 'leave', root, path: join(root, 'cgroup.procs'), text: self }] : []
  })
}

const onceEach =
  (mounts: Mountinfo): Mountinfo => [...new Map(mounts.map((mount) => [mount.mountPoint, mount])).values()]

function stepsIn (mount: MountEntry, { parent, name }: GroupName, limits: GroupLimits): readonly Step[] {
  const root = mount.mountPoint
  const version = mount.type === 'cgroup2' ? 'v2' : 'v1'
  const here = resources.filter((resource) => version === 'v2' || mount.superOptions.includes(resource))
  const [above, own] = [join(root, parent), join(root, parent, name)]
  /* A controller is there for a group when all above it have handed it down; the root usually has. */
  const enable = (folder: string): readonly Step[] =>
    version === 'v1' ?
      [] :
      here.map((resource) => ({
        kind: 'enable', root, path: join(folder, 'cgroup.subtree_control'), text: `+${resource}`, resource
      }))
  return [
    ...enable(root),
    { kind: 'folder', root, path: above, text: '' },
    { kind: 'folder', root, path: own, text: '' },
    ...enable(above),
    ...here.map((resource): Step => ({
      kind: 'limit', root, resource, path: join(own, limitFiles[resource][version]),
      text: `${limitFiles[resource].of(limits)}`
    })),
    { kind: 'enter', root, path: join(own, 'cgroup.procs'), text: self }
  ]
}

/** Removes the group where it is empty, and the parent with the last one. */
export async function removeGroup ({ parent, name }: GroupName, files: CgroupFiles = ownFiles): Promise<void> {
  for (const root of cgroupRoots(await files.mountinfo())) {
    const own = join(root, parent, name)
    for (let tries = 0; tries < removeTries; tries++) {
      if (await removed(files, [own, join(root, parent)])) break
      await pause(removePauseMs)
    }
  }
}

/** Paths of the groups below `parent` with other names than these. */
export async function otherGroups (
  parent: string,
  names: ReadonlySet<string>,
  files: CgroupFiles = ownFiles
): Promise<readonly string[]> {
  const found: string[] = []
  for (const root of cgroupRoots(await files.mountinfo())) {
    const others = (await files.foldersIn(join(root, parent))).filter((name) => !names.has(name))
    found.push(...others.map((name) => join(root, parent, name)))
  }
  return found
}

/** False while somebody is in the first; the second may have others below it. */
async function removed (files: CgroupFiles, [own, parent]: readonly [own: string, parent: string]): Promise<boolean> {
  try {
    await files.removeFolders([own, parent])
    return true
  } catch (error) {
    if (!isCode(error, 'EBUSY')) return true
    /* Whose refusal it was only a repeat tells: what is gone already is ENOENT. */
    return await files.removeFolders([own]).then(() => true, (again: unknown) => !isCode(again, 'EBUSY'))
  }
}

/** What came of it. `failures` are those of these steps. */
export function judgeBirth (steps: readonly Step[], failures: readonly PreparationFailure[]): BirthReport {
  const why = new Map(failures.map(({ path, text, code }) => [`${path}\n${text}`, code]))
  const reasonOf = (step: Step): string | undefined => why.get(`${step.path}\n${step.text}`)
  const entries = steps.filter(({ kind }) => kind === 'enter' || kind === 'leave')
  const entered = new Set(entries.filter((step) => reasonOf(step) === undefined).map(({ root }) => root))
  const holds = (resource: Resource): boolean =>
    steps.some((step) =>
      step.kind === 'limit' && step.resource === resource && reasonOf(step) === undefined && entered.has(step.root)
    )
  return {
    moved: steps.filter(({ kind, root }) => kind === 'enter' && entered.has(root)).map(({ path }) =>
      path.slice(0, -'/cgroup.procs'.length)
    ),
    failed: entries.flatMap((step) => {
      const reason = reasonOf(step)
      return reason === undefined ? [] : [{ path: step.path, reason }]
    }),
    unlimited: resources.filter((resource) => !holds(resource))
  }
}
