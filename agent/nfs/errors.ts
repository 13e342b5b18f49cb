/**
 * What a failed NFSv3 call means to the file system: the border nfs → fs.
 *
 * Owns the total table nfsstat3 → errno and the translation of transport faults. Does not decide what is repeated.
 */
import { Errno } from '../base/errno.ts'
import { TransportError, WireError } from '../base/errors.ts'
import type { Recovery } from '../base/volume-spec.ts'
import { RejectedError } from '../rpc/call.ts'
import type { Nfs3Failure } from '../../proto/nfs3/nfsstat.ts'
import type { RejectionKind } from '../../proto/rpc/reply.ts'

export const errnoOf = {
  NFS3ERR_PERM: Errno.EPERM,
  NFS3ERR_NOENT: Errno.ENOENT,
  NFS3ERR_IO: Errno.EIO,
  NFS3ERR_NXIO: Errno.ENXIO,
  NFS3ERR_ACCES: Errno.EACCES,
  NFS3ERR_EXIST: Errno.EEXIST,
  NFS3ERR_XDEV: Errno.EXDEV,
  NFS3ERR_NODEV: Errno.ENODEV,
  NFS3ERR_NOTDIR: Errno.ENOTDIR,
  NFS3ERR_ISDIR: Errno.EISDIR,
  NFS3ERR_INVAL: Errno.EINVAL,
  NFS3ERR_FBIG: Errno.EFBIG,
  NFS3ERR_NOSPC: Errno.ENOSPC,
  NFS3ERR_ROFS: Errno.EROFS,
  NFS3ERR_MLINK: Errno.EMLINK,
  NFS3ERR_NAMETOOLONG: Errno.ENAMETOOLONG,
  NFS3ERR_NOTEMPTY: Errno.ENOTEMPTY,
  NFS3ERR_DQUOT: Errno.EDQUOT,
  NFS3ERR_STALE: Errno.ESTALE,
  NFS3ERR_REMOTE: Errno.EREMOTE,
  // A handle we were given and the server no longer understands: for a program the same as stale (RFC 1813 section
  // 2.6).
  NFS3ERR_BADHANDLE: Errno.ESTALE,
  NFS3ERR_NOT_SYNC: Errno.EIO,
  NFS3ERR_BAD_COOKIE: Errno.EIO,
  NFS3ERR_NOTSUPP: Errno.EOPNOTSUPP,
  NFS3ERR_TOOSMALL: Errno.EIO,
  NFS3ERR_SERVERFAULT: Errno.EREMOTEIO,
  NFS3ERR_BADTYPE: Errno.EINVAL,
  // Repeated by the backend until it ends; seen only when the mount is shut down meanwhile.
  NFS3ERR_JUKEBOX: Errno.EIO
} as const satisfies Record<Nfs3Failure, Errno>

/** nfs(5): what a call answers when the server did not. `hard` never gets here but through a shutdown. */
const errnoOfTimeout = {
  hard: Errno.EIO,
  soft: Errno.EIO,
  softerr: Errno.ETIMEDOUT
} as const satisfies Record<Recovery, Errno>

const errnoOfRejection = {
  PROG_UNAVAIL: Errno.EOPNOTSUPP,
  PROG_MISMATCH: Errno.EOPNOTSUPP,
  PROC_UNAVAIL: Errno.EOPNOTSUPP,
  GARBAGE_ARGS: Errno.EIO,
  SYSTEM_ERR: Errno.EIO,
  RPC_MISMATCH: Errno.EIO,
  AUTH_BADCRED: Errno.EACCES,
  AUTH_REJECTEDCRED: Errno.EACCES,
  AUTH_BADVERF: Errno.EACCES,
  AUTH_REJECTEDVERF: Errno.EACCES,
  AUTH_TOOWEAK: Errno.EACCES,
  AUTH_INVALIDRESP: Errno.EACCES,
  AUTH_FAILED: Errno.EACCES,
  AUTH_KERB_GENERIC: Errno.EACCES,
  AUTH_TIMEEXPIRE: Errno.EACCES,
  AUTH_TKT_FILE: Errno.EACCES,
  AUTH_DECODE: Errno.EACCES,
  AUTH_NET_ADDR: Errno.EACCES,
  RPCSEC_GSS_CREDPROBLEM: Errno.EACCES,
  RPCSEC_GSS_CTXPROBLEM: Errno.EACCES
} as const satisfies Record<RejectionKind, Errno>

/** The errno for a call that has no answer. @throws what is not a fault of server or network: our own bugs. */
export function errnoOfFault (error: unknown, recovery: Recovery): Errno {
  if (error instanceof RejectedError) return errnoOfRejection[error.rejection.kind]
  if (error instanceof TransportError) return error.code === 'TIMED_OUT' ? errnoOfTimeout[recovery] : Errno.EIO
  if (error instanceof WireError) return Errno.EIO
  throw error
}
