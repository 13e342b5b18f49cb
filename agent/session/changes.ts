/**
 * SETATTR as a change of attributes.
 *
 * Owns what the fields of the request mean, also from a kernel with a write-back cache, which fills in times by its own
 * clock. Does not know what a change does.
 */
import { Errno } from '../base/errno.ts'
import type { AttributeChanges, TimeChange } from '../fs/backend.ts'
import type { FilesystemOperations, NodeAttributes } from '../fs/operations.ts'
import type { FuseTime, SetattrIn } from '../../proto/fuse/attributes.ts'
import type { Call } from './call.ts'

const timeOf = (time: FuseTime): TimeChange => time === 'now' ? 'server' : time

/** Set-id bits are dropped by the server itself when a file is written, truncated or given away. */
export function changesOf ({ mode, uid, gid, sizeBytes, atime, mtime }: SetattrIn): AttributeChanges {
  return {
    ...(mode === undefined ? undefined : { mode }),
    ...(uid === undefined ? undefined : { uid }),
    ...(gid === undefined ? undefined : { gid }),
    ...(sizeBytes === undefined ? undefined : { sizeBytes }),
    ...(atime === undefined ? undefined : { atime: timeOf(atime) }),
    ...(mtime === undefined ? undefined : { mtime: timeOf(mtime) })
  }
}

const isSame = (a: FuseTime | undefined, b: FuseTime | undefined): boolean =>
  typeof a === 'object' && typeof b === 'object' && a.seconds === b.seconds && a.nanoseconds === b.nanoseconds

/**
 * A kernel with a write-back cache sends the present time as a value (kernel fs/fuse/dir.c, iattr_to_fattr), which only
 * the owner may set. What a program asked for as "now" is told by the ctime of the same value; a truncation moves mtime
 * by itself.
 */
function withoutKernelClock (request: SetattrIn): SetattrIn {
  const { mtime, ctime, ...rest } = request
  if (!isSame(mtime, ctime)) return mtime === undefined ? rest : { ...rest, mtime }
  return rest.sizeBytes === undefined ? { ...rest, mtime: 'now' } : rest
}

/** Times of pages that were written back, sent with a descriptor before fsync and close (kernel fs/fuse/dir.c,
 * fuse_flush_times). */
const isTimesOfWrites = ({ fh, mtime, atime, sizeBytes, mode, uid, gid }: SetattrIn): boolean =>
  fh !== undefined && mtime !== undefined && atime === undefined && sizeBytes === undefined && mode === undefined &&
  uid === undefined && gid === undefined

/** SETATTR of a kernel with a write-back cache. */
export async function soloWriterSetattr (
  operations: FilesystemOperations,
  request: SetattrIn,
  call: Call
): Promise<NodeAttributes | Errno> {
  if (!isTimesOfWrites(request)) {
    return await operations.setattr(call.nodeid, request.fh, changesOf(withoutKernelClock(request)), call)
  }
  const answer = await operations.setattr(call.nodeid, request.fh, changesOf(request), call)
  // Who may write a file but does not own it can't set its times: then those that the server gave the WRITEs stay, and
  // close(2) is no failure.
  if (answer !== Errno.EPERM && answer !== Errno.EACCES) return answer
  return await operations.getattr(call.nodeid, request.fh, call)
}
