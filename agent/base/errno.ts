/**
 * Linux error numbers as values.
 *
 * Owns the table of errno names used anywhere in the project (asm-generic/errno*.h).
 * Does not know who produced them: NFS status, FUSE reply and host call each translate with a table of their own.
 */

declare const errnoBrand: unique symbol
/** A positive Linux error number. An expected outcome of a file operation, returned, never thrown. */
export type Errno = number & { readonly [errnoBrand]: true }

const errno = (value: number): Errno => value as Errno

export const Errno = {
  EPERM: errno(1),
  ENOENT: errno(2),
  EINTR: errno(4),
  EIO: errno(5),
  ENXIO: errno(6),
  E2BIG: errno(7),
  EBADF: errno(9),
  EAGAIN: errno(11),
  ENOMEM: errno(12),
  EACCES: errno(13),
  EFAULT: errno(14),
  EBUSY: errno(16),
  EEXIST: errno(17),
  EXDEV: errno(18),
  ENODEV: errno(19),
  ENOTDIR: errno(20),
  EISDIR: errno(21),
  EINVAL: errno(22),
  ENFILE: errno(23),
  EMFILE: errno(24),
  ENOTTY: errno(25),
  EFBIG: errno(27),
  ENOSPC: errno(28),
  ESPIPE: errno(29),
  EROFS: errno(30),
  EMLINK: errno(31),
  ERANGE: errno(34),
  EDEADLK: errno(35),
  ENAMETOOLONG: errno(36),
  ENOLCK: errno(37),
  ENOSYS: errno(38),
  ENOTEMPTY: errno(39),
  ELOOP: errno(40),
  ENODATA: errno(61),
  EREMOTE: errno(66),
  EPROTO: errno(71),
  EOVERFLOW: errno(75),
  EOPNOTSUPP: errno(95),
  ECONNABORTED: errno(103),
  ECONNRESET: errno(104),
  ENOTCONN: errno(107),
  ETIMEDOUT: errno(110),
  ECONNREFUSED: errno(111),
  EHOSTUNREACH: errno(113),
  ESTALE: errno(116),
  EREMOTEIO: errno(121),
  EDQUOT: errno(122)
} as const

const names = new Map<number, string>(Object.entries(Errno).map(([name, value]) => [value, name]))

/** The symbolic name (`ENOENT`), or `errno N` for a number outside the table. */
export function errnoName (value: number): string {
  return names.get(value) ?? `errno ${value}`
}

/** Tells an errno from any object or bigint result. Results of file operations are therefore never plain numbers. */
export function isErrno (value: unknown): value is Errno {
  return typeof value === 'number'
}
