/**
 * Set-id programs on a volume whose set-id bits are to give nobody rights (`nosuid`).
 *
 * Owns the rule for mounts that have lost their flag: a container's runtime binds a volume anew, read-only, and may
 * leave `nosuid` out (runc's remount; mount(2): MS_REMOUNT | MS_BIND sets all flags anew). FUSE has no such flag for
 * the whole file system, so execve(2) is refused to who would gain rights by it. Bits are shown as they are; only
 * while a program is run from the file the kernel is not shown what came later, because it looks at them after the
 * open (kernel fs/exec.c, bprm_fill_uid). Does not know mounts.
 */
import type { Attributes, Credential } from '../backend.ts'
import type { Inode } from '../objects/inode.ts'

/** inode(7) */
const S_ISUID = 0o4000
const S_ISGID = 0o2000
const S_IXGRP = 0o010

const setIdBits = S_ISUID | S_ISGID

/** The mode to show the kernel now, noted. Set-group-id of a folder is another thing. */
export function shownMode (inode: Inode, { mode, uid, gid }: Attributes): number {
  if (inode.kind !== 'file') return mode
  const { running } = inode
  const known = running === undefined || running.uid !== uid || running.gid !== gid ? 0 : running.setIdBits
  const shown = running === undefined ? mode : mode & (~setIdBits | known)
  inode.shownSetId = shown & setIdBits
  return shown
}

/** A program is let run: in the tick of the question whether it may. */
export function beginRun (inode: Inode): void {
  const { mode = 0, uid = 0, gid = 0 } = inode.cached.attributes ?? {}
  inode.running ??= { count: 0, setIdBits: mode & setIdBits, uid, gid }
  inode.running.count += 1
  inode.running.setIdBits &= mode
}

export function endRun (inode: Inode): void {
  if (inode.running === undefined) return
  inode.running.count -= 1
  if (inode.running.count === 0) inode.running = undefined
}

/** Whether the program would run with more rights than its caller has, by the bits that are or that the kernel was
 * shown. */
export function gainsRights (inode: Inode, { uid, gid, groups }: Credential): boolean {
  const known = inode.cached.attributes
  if (known === undefined || uid === 0) return false
  const bits = known.mode | inode.shownSetId
  if ((bits & S_ISUID) !== 0 && known.uid !== uid) return true
  // Without the group's execute bit set-group-id is no such thing (it once meant mandatory locks).
  const isSetGid = (bits & S_ISGID) !== 0 && (known.mode & S_IXGRP) !== 0
  return isSetGid && known.gid !== gid && !groups.includes(known.gid)
}
