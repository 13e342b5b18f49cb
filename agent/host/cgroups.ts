/**
 * A cgroup of its own for a process that must survive its starter's. Owns cgroup v1, hybrid and v2 paths.
 * Does not know systemd: on a node without it, or in a container, moving the pid is all there is.
 *
 * Best effort by nature: a read-only cgroup file system or a missing controller is reported, not thrown, because a
 * session in kubelet's cgroup still works, it only dies with kubelet's unit.
 */
import { mkdir, readFile, readdir, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf } from '../base/errors.ts'
import { isCode } from './files.ts'
import { readMountinfo, type MountEntry, type Mountinfo } from './mountinfo.ts'

export interface CgroupReport {
  /** Folders the process is in now. */
  readonly moved: readonly string[]
  /** Hierarchies where that failed, with the reason. */
  readonly failed: readonly { readonly path: string, readonly reason: string }[]
}

/**
 * Hierarchies by which a service manager or a runtime ends processes: v2 (unified) and systemd's own named v1
 * hierarchy, and those v1 controllers through which a group is limited, frozen or counted to death with its pod.
 */
const v1Controllers = ['name=systemd', 'memory', 'freezer', 'pids', 'cpu', 'devices']

export const matters = (mount: MountEntry): boolean =>
  mount.type === 'cgroup2' ||
  (mount.type === 'cgroup' && mount.superOptions.some((option) => v1Controllers.includes(option)))

/** Mount points of the hierarchies that matter on this node. */
export function cgroupRoots (mounts: Mountinfo): readonly string[] {
  return [...new Set(mounts.filter(matters).map((mount) => mount.mountPoint))]
}

/** The other v1 hierarchies: a process that stayed there would keep its starter's group, and a pod's removal waits for
 * that. */
export const isLeftAlone = (mount: MountEntry): boolean => mount.type === 'cgroup' && !matters(mount)

function otherRoots (mounts: Mountinfo): readonly string[] {
  return [...new Set(mounts.filter(isLeftAlone).map((mount) => mount.mountPoint))]
}

/** How the hierarchies are changed: by ourselves, or by `Mounts` in the node's namespaces. */
export interface CgroupFiles {
  mountinfo (): Promise<Mountinfo>
  makeFolder (path: string, mode: number): Promise<void>
  writeControl (path: string, text: string): Promise<void>
  /** Names of the folders in one; none when it is not there. */
  foldersIn (path: string): Promise<readonly string[]>
  /** One after the other, until one refuses. */
  removeFolders (paths: readonly string[]): Promise<void>
}

/** Nothing of these file systems ever waits. */
export async function listFolders (path: string): Promise<readonly string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => [])
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
}

export const ownFiles: CgroupFiles = {
  mountinfo: async () => await readMountinfo(),
  makeFolder: async (path, mode) => { await mkdir(path, { mode }) },
  writeControl: async (path, text) => { await writeFile(path, text) },
  foldersIn: listFolders,
  removeFolders: async (paths) => { for (const path of paths) await rmdir(path) }
}

/** Moves `pid` into `<hierarchy>/<group>` in every hierarchy that matters, and to the top of the others. `group` is one
 * folder name. */
export async function moveToOwnCgroup (
  pid: number,
  group: string,
  files: CgroupFiles = ownFiles
): Promise<CgroupReport> {
  const moved: string[] = []
  const failed: { path: string, reason: string }[] = []
  const mounts = await files.mountinfo()
  for (const root of otherRoots(mounts)) {
    try {
      await files.writeControl(join(root, 'cgroup.procs'), `${pid}\n`)
    } catch (error) {
      failed.push({ path: root, reason: messageOf(error) })
    }
  }
  for (const root of cgroupRoots(mounts)) {
    const path = join(root, group)
    try {
      await enter(path, pid, files).catch(async (error: unknown) => {
        /* The group was removed as empty in between. */
        if (!isCode(error, 'ENOENT')) throw error
        await enter(path, pid, files)
      })
      moved.push(path)
    } catch (error) {
      failed.push({ path, reason: messageOf(error) })
      /* An empty group of ours must not stay behind; one with processes refuses to go. */
      await files.removeFolders([path]).catch(() => undefined)
    }
  }
  return { moved, failed }
}

async function enter (path: string, pid: number, files: CgroupFiles): Promise<void> {
  await files.makeFolder(path, 0o755).catch((error: unknown) => { if (!isCode(error, 'EEXIST')) throw error })
  await files.writeControl(join(path, 'cgroup.procs'), `${pid}\n`)
}

/**
 * For a process that ends: a group cannot be removed with its last process in it, so that one goes to the top first.
 * A group that others are still in stays; so does ours where the top takes no processes (a container's own hierarchy).
 */
export async function leaveOwnCgroup (pid: number, group: string): Promise<void> {
  for (const root of cgroupRoots(await readMountinfo())) {
    const here = await readFile(join(root, group, 'cgroup.procs'), 'utf8').catch(() => '')
    if (here.split('\n').includes(`${pid}`)) {
      await writeFile(join(root, 'cgroup.procs'), `${pid}\n`).catch(() => undefined)
    }
    await rmdir(join(root, group)).catch(() => undefined)
  }
}

/** Removes the group where it is empty. */
export async function removeOwnCgroup (group: string, files: CgroupFiles = ownFiles): Promise<void> {
  for (const root of cgroupRoots(await files.mountinfo())) {
    await files.removeFolders([join(root, group)]).catch(() => undefined)
  }
}

/** `hierarchy path` lines of /proc/PID/cgroup, for `doctor` and tests. */
export async function cgroupsOf (pid: number): Promise<
  readonly { readonly controllers: string, readonly path: string }[]
> {
  const text = await readFile(`/proc/${pid}/cgroup`, 'utf8')
  return text.split('\n').filter((line) => line !== '').map((line) => {
    const [, controllers = '', ...path] = line.split(':')
    return { controllers, path: path.join(':') }
  })
}
