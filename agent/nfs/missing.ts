/**
 * Servers without a procedure that RFC 1813 asks of all of them.
 *
 * Owns how that is recognised, and what is believed in the procedure's place. Does not ask anybody.
 */
import { Errno, isErrno } from '../base/errno.ts'
import { Access, type Attributes, type Credential } from '../fs/backend.ts'
import type { Nfs3Result } from '../../proto/nfs3/nfsstat.ts'

/** The server does not know the procedure (PROC_UNAVAIL), or knows it and does not have it (NFS3ERR_NOTSUPP). */
export function isMissing (result: Nfs3Result<unknown, unknown> | Errno): boolean {
  return isErrno(result) ? result === Errno.EOPNOTSUPP : !result.ok && result.status === 'NFS3ERR_NOTSUPP'
}

/** rwx of the mode bits for this caller. */
function rights ({ kind, mode, uid, gid }: Attributes, caller: Credential): number {
  if (caller.uid === 0) return kind === 'directory' || (mode & 0o111) !== 0 ? 7 : 6
  if (caller.uid === uid) return (mode >> 6) & 7
  return caller.gid === gid || caller.groups.includes(gid) ? (mode >> 3) & 7 : mode & 7
}

/** What ACCESS would grant if the server judged by mode bits; READ, WRITE and the rest still judge for themselves. */
export function accessByMode (attributes: Attributes, wanted: number, caller: Credential): number {
  const isFolder = attributes.kind === 'directory'
  const allowed = rights(attributes, caller)
  const read = (allowed & 4) === 0 ? 0 : Access.read
  const write = (allowed & 2) === 0 ? 0 : Access.modify | Access.extend | (isFolder ? Access.delete : 0)
  const search = (allowed & 1) === 0 ? 0 : isFolder ? Access.lookup : Access.execute
  return (read | write | search) & wanted
}
