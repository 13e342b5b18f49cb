/**
 * The volume engine put together for a real node. Owns which parts there are and the order of start-up.
 * Does not know the command line; `agent/main.ts` gives folders and the session's command.
 */
import { realpath, stat } from 'node:fs/promises'
import { VolumeError, messageOf } from '../base/errors.ts'
import {
  dirtySessionBytesMax, ephemeralVolumesPerNodeMax, sessionStartBytes, volumesPerNodeMax
} from '../base/limits.ts'
import { readBootId } from '../host/boot.ts'
import { makePrivateFolder } from '../host/files.ts'
import { ownFiles, removeOwnCgroup } from '../host/cgroups.ts'
import { fuseType } from '../host/fuse-connection.ts'
import { HostCalls } from '../host/host-calls.ts'
import { parallelWork } from '../host/memory.ts'
import { Mounts } from '../host/mounts.ts'
import type { NodeNamespaces } from '../host/namespaces.ts'
import { lockState, type StateLock } from '../host/state-lock.ts'
import { Attaching } from './attaching.ts'
import type { EngineParts } from './parts.ts'
import { Endings } from './recovery/ending.ts'
import { DoorFolder } from './door-folder.ts'
import type { VolumeEvents } from './events.ts'
import { FuseMounter } from './fuse/fuse-mounter.ts'
import { Healer } from './recovery/healing.ts'
import { FileJournal } from './records/journal.ts'
import { NameLocks } from './locks.ts'
import { KernelMounter, type KernelNfs } from './kernel/kernel-mounter.ts'
import type { NodeLimits } from './policy/quota.ts'
import type { RecoveryStep } from './recovery/recovery.ts'
import { recover } from './recovery/recovering.ts'
import { Reporting } from './reporting.ts'
import { VolumeService } from './service.ts'
import { SessionLogs } from './fuse/session-logs.ts'
import { Sessions, type SessionCommand } from './fuse/sessions.ts'
import { SharedMounts } from './shared-mounts.ts'
import { VolumeTable } from './records/table.ts'
import { NodeVolumeHost } from './volume-host.ts'

export interface EngineOptions {
  /** Journal, shared mounts and logs; survives a restart. */
  readonly stateDir: string
  /** Sockets. */
  readonly runDir: string
  /** Program and leading arguments of a session; what `Sessions` says is appended, and its descriptors are given. */
  readonly sessionCommand: SessionCommand
  readonly sessionEnv?: Readonly<Record<string, string>>
  /** Busy sessions may keep idle CPUs awake, on machines where that is worth it (`../host/cpu-latency.ts`); no unless
   * given. */
  readonly mayKeepCpusAwake?: boolean
  /** Cgroup in which sessions have theirs, `volbridge-sessions` unless given; `false` leaves them in ours. */
  readonly cgroup?: string | false
  /** `agent/base/limits.ts` has those that hold unless given. */
  readonly limits?: NodeLimits
  readonly events: VolumeEvents
  /** Where mounts and sessions are made when the agent lives in a container; its folders are the node's, under the same
   * paths. */
  readonly namespaces?: NodeNamespaces
  /** kubelet's folder, in which all paths of CSI lie; unknown unless given. */
  readonly csiFolder?: string | undefined
  /** The server's side of `client=kernel`; without it there is no such client. */
  readonly kernelNfs?: KernelNfs
}

const sessionsGroup = 'volbridge-sessions'
/** Sessions of all volumes were in it together. Stays while there are any. */
const groupOfEarlierVersions = 'volbridge'

export interface Engine {
  readonly service: VolumeService
  readonly hostCalls: HostCalls
  /** What recovery did. */
  readonly recovered: readonly RecoveryStep[]
  /** Gives the node's lock back. Mounts and sessions stay. */
  close (): void
}

/** @throws VolumeError CONFLICT when another agent has the state folder. */
export async function startEngine (options: EngineOptions): Promise<Engine> {
  const { events, namespaces } = options
  const [stateDir, runDir] = [
    await ownFolder(options.stateDir, 'state-dir'), await ownFolder(options.runDir, 'run-dir')
  ]
  const lock = takeLock(`${stateDir}/agent.lock`)
  try {
    const [mountsDir, logDir, sessionsDir] = [`${stateDir}/mounts`, `${stateDir}/log`, `${runDir}/sessions`]
    for (const folder of [mountsDir, logDir, sessionsDir]) await makePrivateFolder(folder)
    const hostCalls = new HostCalls()
    const mounts = new Mounts(hostCalls, namespaces)
    const mountsFolder = await sameOnNode(mounts, mountsDir, 'state-dir')
    await sameOnNode(mounts, sessionsDir, 'run-dir')
    const logs = new SessionLogs({ logDir, runDir: sessionsDir })
    const sessions = new Sessions({
      runDir: sessionsDir, logs, command: options.sessionCommand, env: options.sessionEnv ?? {},
      cgroup: options.cgroup === false ? undefined : options.cgroup ?? sessionsGroup,
      startsAtOnce: () => parallelWork(sessionStartBytes),
      ...namespaces === undefined ? {} : { node: { namespaces, cgroups: mounts } }
    })
    const fuse = new FuseMounter({
      sessions, mounts, events, dirtyBytesMax: dirtySessionBytesMax,
      mayKeepCpusAwake: options.mayKeepCpusAwake ?? false
    })
    const kernel = options.kernelNfs === undefined
      ? undefined
      : new KernelMounter({ nfs: options.kernelNfs, mounts, events, stateDir })
    const journal = new FileJournal(`${stateDir}/journal`)
    const table = new VolumeTable(journal)
    const host = new NodeVolumeHost(mounts)
    const bootId = await readBootId()
    const shared = new SharedMounts({ table, host, mounters: { fuse, kernel }, events, bootId, mountsFolder })
    const parts: EngineParts = {
      table, host, shared, events, bootId, isOurType: (type) => type === fuseType,
      csiFolder: options.csiFolder === undefined ? undefined : new DoorFolder(host, options.csiFolder)
    }
    const attaching = new Attaching(parts)
    if (options.cgroup !== false) {
      await removeOwnCgroup(groupOfEarlierVersions, namespaces === undefined ? ownFiles : mounts)
    }
    const recovered = await recover({ ...parts, journal, mountsFolder }, attaching)
    const callOffSweep = await sessions.sweep(
      table.mounts().flatMap(({ facts }) => facts.socketPath === undefined ? [] : [facts.socketPath])
    )
    const locks = new NameLocks()
    const healer = new Healer(parts, attaching, locks)
    shared.whenDied((key) => { healer.suspect(key) })
    /* What died while no agent ran. */
    for (const { key } of table.mounts()) healer.suspect(key)
    const endings = new Endings(parts, attaching, locks)
    shared.whenUnfinished(() => { endings.goOn() })
    /* What recovery could not end. */
    endings.goOn()
    const limits = options.limits ?? { volumesMax: volumesPerNodeMax, ephemeralMax: ephemeralVolumesPerNodeMax }
    const reporting = new Reporting(parts, { endings, heals: healer })
    const service = new VolumeService(parts, { attaching, endings, locks, reporting, limits })
    shared.whenEnded((key) => { for (const each of [healer, endings, reporting]) each.forget(key) })
    logs.watch()
    const close = (): void => {
      for (const each of [healer, endings]) each.stop()
      callOffSweep()
      logs.close()
      lock.release()
    }
    return { service, hostCalls, recovered, close }
  } catch (error) {
    lock.release()
    throw error
  }
}

async function ownFolder (path: string, option: string): Promise<string> {
  try {
    await makePrivateFolder(path)
    return await realpath(path)
  } catch (error) {
    throw new VolumeError('INVALID', `--${option}: ${messageOf(error)}`, {
      cause: error, field: `--${option}`, remedy: 'give a folder that root can make and write'
    })
  }
}

/** The folder as the node's mountinfo spells it. A container that has another folder under that path would mount where
 * nobody looks. */
async function sameOnNode (mounts: Mounts, folder: string, option: string): Promise<string> {
  const { kind, path } = await mounts.inspect(folder)
  const own = await stat(folder, { bigint: true })
  if (kind === 'folder' && await mounts.inodeOf(path) === own.ino) return path
  throw new VolumeError('INVALID', `--${option}: "${folder}" is not the same folder on the node as in this container`, {
    field: `--${option}`, remedy: 'give the container a hostPath volume for it, mounted under the same path'
  })
}

function takeLock (path: string): StateLock {
  const lock = lockState(path)
  if (typeof lock !== 'number') return lock
  throw new VolumeError(
    'CONFLICT',
    `another agent${lock === 0 ? '' : ` (pid ${lock})`} works with this state folder (${path})`,
    {
      remedy: 'one agent a node: stop the other, or give this one a --state-dir of its own'
    }
  )
}
