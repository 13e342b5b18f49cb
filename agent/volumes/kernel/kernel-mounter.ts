/**
 * Shared mounts by the kernel's NFS client. Owns the order of a start and of an end, and the negotiation of the
 * version. Does not know the option text or the server's protocols (`KernelNfs` is given), nor journals and binds.
 *
 * start: the server is asked by our own calls → mount(2) in a child, newest version first → root's mode and group.
 * end:   umount → MNT_FORCE → MNT_DETACH, each only if the one before did not do it. No process serves the mount:
 *        it survives any agent.
 */
import { showName, type StageKey } from '../../base/brands.ts'
import { monotonicMs, pause } from '../../base/deadline.ts'
import { HostError, VolumeError, messageOf } from '../../base/errors.ts'
import type { KernelNfsVersion, MountedServer, NfsTarget, NfsVersion } from '../../base/volume-spec.ts'
import { mountsAt, mountsOfDevice, topMountAt, type MountEntry } from '../../host/mountinfo.ts'
import { mountFlagBits, type Mounts } from '../../host/mounts.ts'
import type { VolumeEvents } from '../events.ts'
import { KernelMount, kernelTypes, serverOfMount } from './kernel-mount.ts'
import { isOlderWorthTrying, toKernelError } from './kernel-errors.ts'
import type { LiveMount, Mounter, StartRequest } from '../mounter.ts'
import type { MountFacts, MountRecord } from '../records/records.ts'

/** The server's side, as `agent/nfs` has it. */
export interface KernelNfs {
  /** Finds the server and asks it. @throws VolumeError */
  prepare (target: NfsTarget, version: KernelNfsVersion): Promise<{ readonly source: string, readonly data: string }>
  /** Empty, or why there is no answer. */
  probe (server: MountedServer, deadlineMs: number): Promise<string>
}

export interface KernelMounterParts {
  readonly nfs: KernelNfs
  readonly mounts: Mounts
  readonly events: VolumeEvents
  /** A folder of ours, where a mount can be tried that nothing comes of. */
  readonly stateDir: string
}

/** The file system's name for mount(2) whatever the version. */
const mountType = 'nfs'

const unmountMs = 1500
const forceMs = 1000
const abortRounds = 10
const abortPauseMs = 100
const permissionsMs = 5000
const retryPauseMs = 2000
const stackMax = 8

/** What nfs(5) tries, in this order. */
const attemptsOf: Readonly<Record<NfsVersion | 'any', readonly KernelNfsVersion[]>> = {
  any: ['4.2', '4.1', '4.0', '3'],
  4: ['4.2', '4.1', '4.0'],
  4.2: ['4.2'],
  4.1: ['4.1'],
  '4.0': ['4.0'],
  3: ['3']
}

export class KernelMounter implements Mounter {
  readonly #parts: KernelMounterParts
  /** Keys whose data could not be written back before their end. */
  readonly #undrained = new Set<StageKey>()

  constructor (parts: KernelMounterParts) {
    this.#parts = parts
  }

  plan (): MountFacts {
    return { socketPath: undefined, process: undefined, device: undefined }
  }

  /** Asks the kernel, and nobody else, whether it has a client: a mount without options loads the module and is then
   * refused. */
  async check (): Promise<void> {
    try {
      await this.#parts.mounts.mount({
        source: 'none', target: this.#parts.stateDir, type: mountType, data: '', flags: 0
      })
    } catch (error) {
      if (error instanceof HostError && error.code === 'ENODEV') throw toKernelError(error, undefined)
    }
  }

  async start (request: StartRequest): Promise<LiveMount> {
    const untilMs = monotonicMs() + Math.min(request.spec.target.options.retryMs, request.deadlineMs)
    const endMs = monotonicMs() + request.deadlineMs
    for (;;) {
      try {
        await this.#mountNewest(request, endMs)
        break
      } catch (error) {
        if (!isUnavailable(error) || monotonicMs() + retryPauseMs > untilMs) throw error
        await pause(retryPauseMs)
      }
    }
    const entry = topMountAt(await this.#parts.mounts.mountinfo(), request.mountPoint)
    if (entry === undefined) {
      throw new VolumeError('INTERNAL', `${request.mountPoint} is not in mountinfo after it was mounted`)
    }
    const facts = { ...this.plan(), device: entry.device, source: entry.source }
    await request.note(facts)
    const remark = await this.#setPermissions(request)
    return this.#live({ key: request.key, spec: request.spec, facts, mountPoint: request.mountPoint, entry, remark })
  }

  /** The newest version that both sides speak. An answer about the share ends the search; of several failures the most
   * telling is thrown. */
  async #mountNewest (request: StartRequest, endMs: number): Promise<void> {
    let failure: VolumeError | undefined
    for (const version of attemptsOf[request.spec.target.options.version ?? 'any']) {
      if (failure !== undefined && !isOlderWorthTrying(failure, version)) continue
      try {
        await this.#mountAs(request, version, endMs)
        return
      } catch (error) {
        if (!(error instanceof VolumeError)) throw error
        if (failure === undefined || isUnavailable(failure) || failure.code === 'UNSUPPORTED') failure = error
      }
    }
    throw failure ?? new VolumeError('INTERNAL', 'no NFS version was tried')
  }

  async #mountAs ({ spec, mountPoint }: StartRequest, version: KernelNfsVersion, endMs: number): Promise<void> {
    const { mounts, nfs } = this.#parts
    const { source, data } = await nfs.prepare(spec.target, version)
    const mount = { source, target: mountPoint, type: mountType, data, flags: mountFlagBits(spec.flags) }
    const options = { deadlineMs: Math.max(1000, endMs - monotonicMs()), key: spec.target.servers.join(',') }
    const beneath = spec.target.subDir.map(showName).join('/')
    try {
      await (beneath === '' ? mounts.mount(mount, options) : mounts.mountFolder({ ...mount, beneath }, options))
    } catch (error) {
      if (!(error instanceof HostError)) throw error
      throw toKernelError(error, { spec, version, isAboutFolder: mounts.isAboutFolder(error) })
    }
  }

  /** Through the mount, in a child: the server judges. A refused mode is the volume's error, a refused group is
   * said. */
  async #setPermissions ({ key, spec, mountPoint }: StartRequest): Promise<string> {
    const { mounts, events } = this.#parts
    const options = { deadlineMs: permissionsMs, key: spec.target.servers.join(',') }
    if (spec.mountPermissions !== undefined) {
      try {
        await mounts.chmod(mountPoint, spec.mountPermissions, options)
      } catch (error) {
        throw new VolumeError(
          'DENIED',
          `mountPermissions: the server refuses mode ${spec.mountPermissions.toString(8)} (${messageOf(error)})`,
          {
            cause: error, field: 'mountPermissions',
            remedy: 'export with no_root_squash, set the mode on the server, or use mountPermissions=0'
          }
        )
      }
    }
    if (spec.mountGroup === undefined) return ''
    if (spec.restraint !== undefined) return unclaimedRoot(spec.mountGroup)
    try {
      const { mode, gid } = await mounts.rootOf(mountPoint, options)
      if (gid !== spec.mountGroup) await mounts.chgrp(mountPoint, spec.mountGroup, options)
      /* What kubelet itself gives a folder of a volume with fsGroup: rwx for the group, and set-group-id. */
      if (gid !== spec.mountGroup || (mode & 0o2070) !== 0o2070) await mounts.chmod(mountPoint, mode | 0o2070, options)
      return ''
    } catch (error) {
      const remark =
        `the root could not be given the group ${spec.mountGroup} (${messageOf(error)}): files get the group that the server chooses`
      events({ kind: 'note', key, text: remark })
      return remark
    }
  }

  async find (record: MountRecord): Promise<LiveMount | undefined> {
    const { device, source } = record.facts
    if (device === undefined || source === undefined) return undefined
    /* A device number is given out again: type and source tell whose it is. */
    const entry = mountsOfDevice(await this.#parts.mounts.mountinfo(), device)
      .find((found) =>
        kernelTypes.has(found.type) && (found.source === source || found.source.startsWith(`${source}/`))
      )
    return entry === undefined ? undefined : this.#live({ ...record, entry, remark: '' })
  }

  #live ({ key, spec, facts, mountPoint, entry, remark }: Pick<MountRecord, 'key' | 'spec' | 'facts' | 'mountPoint'> & {
    entry: MountEntry
    remark: string
  }): LiveMount {
    const { mounts, nfs, events } = this.#parts
    return new KernelMount({
      facts, server: serverOfMount(entry), spec, remark, mounts, mountPoint,
      probe: async (server, deadlineMs) => await nfs.probe(server, deadlineMs),
      undrained: (reason) => {
        this.#undrained.add(key)
        events({
          kind: 'note', key,
          text: `what programs wrote and did not close is dropped, because the server does not take it: ${reason}`
        })
      }
    })
  }

  async end (record: MountRecord): Promise<void> {
    const { key, mountPoint } = record
    if (this.#undrained.delete(key)) await this.#dropDirty(mountPoint)
    for (let unmounts = 0; unmounts < stackMax && await this.#depthAt(mountPoint) > 0; unmounts++) {
      await this.#unmount(mountPoint)
    }
  }

  /**
   * Pages that the server does not take would be sent when it comes back, though another node may own the volume by
   * then. Each abort fails the writes under way and the pages with them; the kernel then starts the next.
   */
  async #dropDirty (mountPoint: string): Promise<void> {
    const { mounts } = this.#parts
    let isClean = false
    const cleaning = mounts.sync(mountPoint, { deadlineMs: abortRounds * abortPauseMs, key: mountPoint }).then(() => {
      isClean = true
    }, () => undefined)
    for (let round = 0; round < abortRounds && !isClean; round++) {
      await pause(abortPauseMs)
      await mounts.abortRequests(mountPoint, { deadlineMs: forceMs, key: mountPoint }).catch(() => undefined)
    }
    await cleaning
  }

  async #depthAt (mountPoint: string): Promise<number> {
    return mountsAt(await this.#parts.mounts.mountinfo(), mountPoint).length
  }

  /** A deadline that passed may still have taken the name away: only mountinfo says. */
  async #unmount (mountPoint: string): Promise<void> {
    const { mounts } = this.#parts
    for (const [how, deadlineMs] of [[{}, unmountMs], [{ force: true }, forceMs], [
      { detach: true }, forceMs
    ]] as const) {
      const before = await this.#depthAt(mountPoint)
      try {
        await mounts.unmount(mountPoint, how, { deadlineMs, key: mountPoint })
        return
      } catch (error) {
        if (!(error instanceof HostError)) throw error
        if (await this.#depthAt(mountPoint) < before) return
        if ('detach' in how) throw error
      }
    }
  }
}

/** The same as of the own client's volumes (`agent/roles/mount-group.ts`): the words may be a pod's author's. */
const unclaimedRoot = (group: number): string =>
  `the root was not given the group ${group}, because the volume may be a pod's own: set it on the server, or use a CSI PersistentVolume`

function isUnavailable (error: unknown): boolean {
  return error instanceof VolumeError && error.code === 'UNAVAILABLE'
}
