/**
 * Mounts of a dead session that no record names: kubelet's own binds of a subPath, which a restarted container is given
 * again as they are, and binds that other tools have made.
 *
 * Owns which they are and how one is covered: by the same folder or file of the new mount, with the flags it had. Does
 * not know when. Each is covered once: on top again, somebody took the cover away, and is on the way to the rest.
 */
import type { DeviceNumber } from '../../base/brands.ts'
import { HostError, messageOf } from '../../base/errors.ts'
import { topMountAt, type MountEntry, type Mountinfo } from '../../host/mountinfo.ts'
import { flagBitsOf } from '../../host/mounts.ts'
import type { VolumeHost } from '../volume-host.ts'

export interface Unhealed {
  readonly path: string
  readonly device: DeviceNumber
  /** Why the new mount could not be put there. */
  readonly reason: string
}

/** Appended to `root` by the kernel when the folder was removed (fs/d_path.c). */
const removed = '//deleted'

/** Topmost mounts of `dead` file systems, but for those at `known` paths. */
export function straysOf (mounts: Mountinfo, dead: ReadonlySet<DeviceNumber>, known: ReadonlySet<string>): Mountinfo {
  return mounts.filter((entry) =>
    dead.has(entry.device) && !known.has(entry.mountPoint) && topMountAt(mounts, entry.mountPoint) === entry
  )
}

/** What `unhealed` still shows of them: an unmounted one is nobody's trouble any more. */
export function stillThere (unhealed: readonly Unhealed[], mounts: Mountinfo): readonly Unhealed[] {
  return unhealed.filter(({ path, device }) => topMountAt(mounts, path)?.device === device)
}

/** Binds what `stray` showed, from the whole mount at `source`. Answers why that is not possible, or undefined. */
export async function coverStray (host: VolumeHost, stray: MountEntry, source: string): Promise<Unhealed | undefined> {
  const { mountPoint: path, device, root, options } = stray
  if (root.endsWith(removed)) return { path, device, reason: 'what it showed was removed before the session died' }
  try {
    await host.bind({
      source, target: path, flags: flagBitsOf(stray), readOnly: options.includes('ro'), anew: true,
      beneath: root.slice(1)
    })
    return undefined
  } catch (error) {
    const code = error instanceof HostError ? error.code : ''
    return { path, device, reason: reasons[code]?.(root) ?? messageOf(error) }
  }
}

const reasons: Readonly<Record<string, (root: string) => string>> = {
  ENOENT: (root) => `the volume has no "${root}" any more`,
  ENOTDIR: (root) => `"${root}" of the volume is of another kind now`,
  ELOOP: (root) => `"${root}" of the volume is a symbolic link now, which is not followed`,
  ENOSYS: () => 'this kernel (before Linux 5.2) cannot bind a part of a mount safely'
}
