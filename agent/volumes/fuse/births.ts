/**
 * What a session gets before its first instruction: cgroups of its own with limits, and its place in the kernel's
 * choice when memory ends. Owns which, and the sentences about what was refused. Does not know what a session does.
 */
import { basename } from 'node:path'
import { sessionMemoryBytesMax, sessionTasksMax } from '../../base/limits.ts'
import {
  birthSteps,
  judgeBirth,
  otherGroups,
  removeGroup,
  type BirthReport,
  type GroupName
} from '../../host/birth-group.ts'
import { capabilitiesAtBirth, hidesProcesses } from '../../host/confine.ts'
import { ownFiles, type CgroupFiles } from '../../host/cgroups.ts'
import { launch, type PreparationFailure } from '../../host/launch.ts'
import type { NodeNamespaces } from '../../host/namespaces.ts'
import type { StartedProcess, LaunchRequest } from '../../host/processes.ts'
import { sessionView, type ViewRequest } from '../../host/view.ts'

export interface BirthPlace {
  /** Name of the cgroup in which each session has one of its own, or undefined to leave them in ours. */
  readonly cgroup: string | undefined
  /** Where sessions run when that is not where we are: they outlive the container of an agent. */
  readonly node?: { readonly namespaces: NodeNamespaces, readonly cgroups: CgroupFiles }
}

/** What became of it. */
export interface BirthCertificate {
  readonly cgroups: BirthReport | undefined
  /** Refused beside cgroups. */
  readonly refused: readonly PreparationFailure[]
  readonly unconfined: readonly string[]
}

/**
 * For the kernel's choice when the node's memory ends. Not the agent's (-997 in a critical DaemonSet): what pods can
 * make large is not beyond reach. Behind every ordinary pod (2 to 1000): a session has a limit of its own, so its end
 * frees little, and takes what is not written yet from every pod of its share. Before kubelet (-999), the agent and
 * guaranteed pods (-997).
 */
export const sessionOomScore = -500
const oomScore = { path: '/proc/self/oom_score_adj', text: `${sessionOomScore}` } as const
/** landlock(7) keeps a process from what ptrace(2) would be asked for, and such a /proc asks that of who looks. */
const seesAll =
  'can name every file and port that its user may: with a limit it would not see callers\' groups in a /proc with hidepid'
const limits = { memoryBytes: sessionMemoryBytesMax, tasks: sessionTasksMax } as const

export class Births {
  readonly #place: BirthPlace

  constructor (place: BirthPlace) {
    this.#place = place
  }

  /** The socket tells this session from all others. @throws HostError when the program cannot be started. */
  async launch (
    program: LaunchRequest,
    needs: ViewRequest
  ): Promise<{ child: StartedProcess, birth: BirthCertificate }> {
    const group = this.#groupOf(needs.socketPath)
    const mounts = await this.#cgroupFiles.mountinfo()
    const steps = group === undefined ? [] : birthSteps(mounts, group, limits)
    const child = await launch({
      ...program, preparations: [oomScore, ...steps], capabilities: capabilitiesAtBirth(mounts),
      ...hidesProcesses(mounts) ? {} : { view: sessionView(needs) }
    }, this.#place.node?.namespaces)
    const cgroups = group === undefined ? undefined : judgeBirth(steps, child.unprepared)
    const refused = child.unprepared.filter(({ path }) => path === oomScore.path)
    const unconfined = [...child.unconfined, ...hidesProcesses(mounts) ? [seesAll] : []]
    return { child, birth: { cgroups, refused, unconfined } }
  }

  /** The session is gone: so is its cgroup. */
  async forget (socketPath: string): Promise<void> {
    const group = this.#groupOf(socketPath)
    if (group !== undefined) await removeGroup(group, this.#cgroupFiles)
  }

  /**
   * Groups of sessions that nobody knows: an agent died between making one and noting it, or one of an earlier version,
   * which knows of no groups, ended the session.
   */
  async strangers (socketPaths: readonly string[]): Promise<readonly string[]> {
    const { cgroup } = this.#place
    if (cgroup === undefined) return []
    return await otherGroups(cgroup, new Set(socketPaths.map((path) => basename(path, '.sock'))), this.#cgroupFiles)
  }

  /** Those that are empty; one that somebody is in refuses, and is another agent's. */
  async removeEmpty (groups: readonly string[]): Promise<void> {
    for (const group of groups) await this.#cgroupFiles.removeFolders([group]).catch(() => undefined)
  }

  get #cgroupFiles (): CgroupFiles { return this.#place.node?.cgroups ?? ownFiles }

  /** Named like the socket: both are one session's. */
  #groupOf (socketPath: string): GroupName | undefined {
    const { cgroup } = this.#place
    return cgroup === undefined ? undefined : { parent: cgroup, name: basename(socketPath, '.sock') }
  }
}

/** Sentences for an operator about what could not be had. */
export function birthNotes ({ cgroups, refused, unconfined }: BirthCertificate): readonly string[] {
  const lacking = cgroups?.unlimited ?? []
  return [
    ...(cgroups?.failed ?? []).map(({ path, reason }) =>
      `the session stays in its starter's cgroup (${path}: ${reason}): it ends with it, and its memory counts there`
    ),
    ...lacking.length === 0
      ? []
      : [`the session has no limit of its own for ${lacking.join(' and ')}: the node's cgroups offer none`],
    ...refused.map(({ path, text, code }) =>
      `the session keeps its starter's ${basename(path)}; ${text} was refused: ${code}`
    ),
    ...unconfined.map((what) => `the session ${what}`)
  ]
}
