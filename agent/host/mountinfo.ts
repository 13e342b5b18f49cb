/**
 * /proc/self/mountinfo, proc(5). Owns its parser and the questions asked of it.
 * Does not know whose mounts they are. Reading it touches no mounted file system, so it is the one way to ask "is this
 * mounted?".
 */
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { toDeviceNumber, type DeviceNumber } from '../base/brands.ts'

export interface MountEntry {
  readonly id: number
  readonly parentId: number
  readonly device: DeviceNumber
  /** Root of the mount within its file system; a bind of a folder has another root than `/`. */
  readonly root: string
  readonly mountPoint: string
  /** Per-mount options: `ro`, `nosuid`, `noexec`, … */
  readonly options: readonly string[]
  /** `shared:N`, `master:N`, …: the propagation. */
  readonly tags: readonly string[]
  readonly type: string
  readonly source: string
  readonly superOptions: readonly string[]
}

/** In mount order: of two entries with one mount point the later is on top. */
export type Mountinfo = readonly MountEntry[]

export async function readMountinfo (path = '/proc/self/mountinfo'): Promise<Mountinfo> {
  return parseMountinfo(await readFile(path, 'utf8'))
}

export function readMountinfoSync (path = '/proc/self/mountinfo'): Mountinfo {
  return parseMountinfo(readFileSync(path, 'utf8'))
}

/** A line that is not understood is left out only if it is empty: anything else is an error, because "unreadable" must
 * not mean "not mounted". */
export function parseMountinfo (text: string): Mountinfo {
  return text.split('\n').filter((line) => line !== '').map(parseLine)
}

function parseLine (line: string): MountEntry {
  const fields = line.split(' ')
  const dash = fields.indexOf('-', 6)
  const [id, parentId, device, root, mountPoint, options] = fields
  const [type, source, superOptions] = fields.slice(dash + 1)
  if (
    dash < 0 || id === undefined || parentId === undefined || device === undefined || root === undefined ||
    mountPoint === undefined || options === undefined || type === undefined || !/^\d+$/.test(id) ||
    !/^\d+:\d+$/.test(device)
  ) {
    throw new Error(`mountinfo: ${JSON.stringify(line.slice(0, 200))} is not understood`)
  }
  return {
    id: Number(id),
    parentId: Number(parentId),
    device: toDeviceNumber(device),
    root: unescapeOctal(root),
    mountPoint: unescapeOctal(mountPoint),
    options: options.split(','),
    tags: fields.slice(6, dash),
    type: unescapeOctal(type),
    source: unescapeOctal(source ?? ''),
    superOptions: (superOptions ?? '').split(',')
  }
}

/** The kernel writes space, tab, newline, backslash and # as \ooo (fs/proc_namespace.c, mangle). */
function unescapeOctal (text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}

/** All mounts stacked at exactly this path, the topmost last. */
export function mountsAt (mounts: Mountinfo, path: string): readonly MountEntry[] {
  return mounts.filter((mount) => mount.mountPoint === path)
}

/** The mount that a process sees at exactly this path, or undefined when it is no mount point. */
export function topMountAt (mounts: Mountinfo, path: string): MountEntry | undefined {
  const stack = mountsAt(mounts, path)
  /* Of a stack, the top is the one that is nobody's parent at this path; mount order agrees but for moved mounts. */
  const parents = new Set(stack.map((mount) => mount.parentId))
  return stack.findLast((mount) => !parents.has(mount.id)) ?? stack.at(-1)
}

/** Every mount of one file system. */
export function mountsOfDevice (mounts: Mountinfo, device: DeviceNumber): readonly MountEntry[] {
  return mounts.filter((mount) => mount.device === device)
}

/**
 * Of several mounts of one file system one that shows all of it, a writable one if there is one: a subPath's bind shows
 * only a part. `source` is given where the part shows there and not in `root` (fs/nfs/super.c, nfs_show_path).
 */
export function wholeMountOf (entries: Mountinfo, source?: string): MountEntry | undefined {
  const whole = entries.filter((entry) => entry.root === '/' && (source === undefined || entry.source === source))
  return whole.find((entry) => !entry.options.includes('ro')) ?? whole[0]
}

/** The mount that holds `path`: the longest mount point that is a prefix of it. */
export function mountOf (mounts: Mountinfo, path: string): MountEntry | undefined {
  let best: MountEntry | undefined
  for (const mount of mounts) {
    const { mountPoint } = mount
    const holds = mountPoint === '/' || path === mountPoint || path.startsWith(`${mountPoint}/`)
    if (holds && (best === undefined || mountPoint.length >= best.mountPoint.length)) best = mount
  }
  return best
}
