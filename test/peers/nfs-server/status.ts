/**
 * nfsstat3, RFC 1813 section 2.6, and how the operating system's answers become one.
 * Owns both tables. They are the peer's own, so that a wrong number in the product's table is seen.
 */
export const nfsStatus = {
  OK: 0,
  PERM: 1,
  NOENT: 2,
  IO: 5,
  NXIO: 6,
  ACCES: 13,
  EXIST: 17,
  XDEV: 18,
  NODEV: 19,
  NOTDIR: 20,
  ISDIR: 21,
  INVAL: 22,
  FBIG: 27,
  NOSPC: 28,
  ROFS: 30,
  MLINK: 31,
  NAMETOOLONG: 63,
  NOTEMPTY: 66,
  DQUOT: 69,
  STALE: 70,
  REMOTE: 71,
  BADHANDLE: 10001,
  NOT_SYNC: 10002,
  BAD_COOKIE: 10003,
  NOTSUPP: 10004,
  TOOSMALL: 10005,
  SERVERFAULT: 10006,
  BADTYPE: 10007,
  JUKEBOX: 10008
} as const

export type NfsStatus = keyof typeof nfsStatus

const statusByErrno: Readonly<Record<string, NfsStatus>> = {
  EPERM: 'PERM',
  ENOENT: 'NOENT',
  EIO: 'IO',
  ENXIO: 'NXIO',
  EACCES: 'ACCES',
  EEXIST: 'EXIST',
  EXDEV: 'XDEV',
  ENODEV: 'NODEV',
  ENOTDIR: 'NOTDIR',
  EISDIR: 'ISDIR',
  EINVAL: 'INVAL',
  EFBIG: 'FBIG',
  ENOSPC: 'NOSPC',
  EROFS: 'ROFS',
  EMLINK: 'MLINK',
  ENAMETOOLONG: 'NAMETOOLONG',
  ENOTEMPTY: 'NOTEMPTY',
  EDQUOT: 'DQUOT',
  ESTALE: 'STALE',
  ELOOP: 'STALE'
}

/** A procedure's failure. It is thrown inside the server only and becomes the reply's status. */
export class NfsFailure extends Error {
  override readonly name = 'NfsFailure'
  readonly status: NfsStatus
  constructor (status: NfsStatus) {
    super(status)
    this.status = status
  }
}

/** The status for anything a procedure threw. */
export function statusOf (thrown: unknown): NfsStatus {
  if (thrown instanceof NfsFailure) return thrown.status
  const code = (thrown as { code?: unknown } | null)?.code
  return (typeof code === 'string' ? statusByErrno[code] : undefined) ?? 'SERVERFAULT'
}
