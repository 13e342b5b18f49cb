/**
 * The node as the engine sees it: the few deeds it needs, each with a deadline of its own.
 * Owns those deadlines and the order of unmounting a bind. Does not know volumes. A call that hangs in the kernel is
 * charged to its path:
 * a dead volume must not use up what another needs.
 */
import { HostError } from '../base/errors.ts'
import type { Mountinfo } from '../host/mountinfo.ts'
import type { Mounts, PathFacts } from '../host/mounts.ts'

export interface BindRequest {
  readonly source: string
  readonly target: string
  readonly flags: number
  readonly readOnly: boolean
  /** The source's own flags are not taken over: it is a bind that was made for somebody else. */
  readonly anew?: boolean
  /** A folder or file below `source`, reached through no link. ENOSYS on kernels before 5.2. */
  readonly beneath?: string
}

export interface VolumeHost {
  mountinfo (): Promise<Mountinfo>
  inspect (path: string): Promise<PathFacts>
  isEmpty (path: string): Promise<boolean>
  makeFolder (path: string, mode: number): Promise<void>
  /** Missing is fine. */
  removeFolder (path: string): Promise<void>
  /** The folder itself, beneath whatever is mounted on it. */
  setImmutable (path: string, immutable: boolean): Promise<void>
  bind (request: BindRequest): Promise<void>
  /** Takes away the topmost mount at `path` without harm to other mounts of its file system. Not mounted is fine. */
  detachBind (path: string): Promise<void>
}

/** Together well below the 10 s in which an unpublish must answer. */
const lookMs = 1500
const unmountMs = 1000

export class NodeVolumeHost implements VolumeHost {
  readonly #mounts: Mounts

  constructor (mounts: Mounts) {
    this.#mounts = mounts
  }

  async mountinfo (): Promise<Mountinfo> {
    return await this.#mounts.mountinfo()
  }

  async inspect (path: string): Promise<PathFacts> {
    return await this.#mounts.inspect(path, { deadlineMs: lookMs, key: path })
  }

  async isEmpty (path: string): Promise<boolean> {
    return await this.#mounts.isEmpty(path, { deadlineMs: lookMs, key: path })
  }

  async makeFolder (path: string, mode: number): Promise<void> {
    await this.#mounts.makeFolder(path, mode, { deadlineMs: lookMs, key: path })
  }

  async removeFolder (path: string): Promise<void> {
    try {
      await this.#mounts.removeFolder(path, { deadlineMs: lookMs, key: path })
    } catch (error) {
      if (!(error instanceof HostError && error.code === 'ENOENT')) throw error
    }
  }

  async setImmutable (path: string, immutable: boolean): Promise<void> {
    await this.#mounts.setImmutable(path, immutable, { deadlineMs: lookMs, key: path })
  }

  async bind (request: BindRequest): Promise<void> {
    await this.#mounts.bind(request, { deadlineMs: lookMs, key: request.target })
  }

  /**
   * A plain umount first; when a process still has the mount open (EBUSY) or the kernel does not answer, MNT_DETACH.
   * Never MNT_FORCE: it aborts the connection that other pods use.
   */
  async detachBind (path: string): Promise<void> {
    try {
      await this.#mounts.unmount(path, {}, { deadlineMs: unmountMs, key: path })
    } catch (error) {
      /* EINVAL: not a mount point. ENOENT: no such path. */
      if (error instanceof HostError && (error.code === 'EINVAL' || error.code === 'ENOENT')) return
      await this.#mounts.unmount(path, { detach: true }, { deadlineMs: unmountMs, key: path })
    }
  }
}
