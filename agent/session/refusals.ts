/**
 * Operations that are not served, and the errno that makes the kernel do the honest thing without them.
 * Owns the table; every operation of `proto/fuse` is either here, or served, or the dispatcher's own.
 */
import { Errno } from '../base/errno.ts'

export const refusals = {
  // NFSv3 has no extended attributes. The first ENOSYS is remembered by the kernel, which from then on answers
  // EOPNOTSUPP itself and no longer asks for security.capability before each write (kernel fs/fuse/xattr.c, no_getxattr
  // and its sisters).
  SETXATTR: Errno.ENOSYS,
  GETXATTR: Errno.ENOSYS,
  LISTXATTR: Errno.ENOSYS,
  REMOVEXATTR: Errno.ENOSYS,
  // Never asked: POSIX_LOCKS and FLOCK_LOCKS are not negotiated, so the kernel keeps the locks of this node.
  GETLK: Errno.ENOSYS,
  SETLK: Errno.ENOSYS,
  SETLKW: Errno.ENOSYS,
  BMAP: Errno.ENOSYS,
  // Every ioctl is "inappropriate for this file", as on any file system without ioctls of its own.
  IOCTL: Errno.ENOTTY,
  // Regular files are always ready; the kernel says so itself after the first ENOSYS.
  POLL: Errno.ENOSYS,
  // EOPNOTSUPP to the caller from then on; posix_fallocate(3) writes zeros instead.
  FALLOCATE: Errno.ENOSYS,
  // SEEK_DATA and SEEK_HOLE then see one piece of data that ends with the file: allowed, and true for all NFSv3 can
  // say.
  LSEEK: Errno.ENOSYS,
  // The kernel copies through the page cache instead.
  COPY_FILE_RANGE: Errno.ENOSYS,
  COPY_FILE_RANGE_64: Errno.ENOSYS,
  // DAX and virtiofs only.
  SETUPMAPPING: Errno.ENOSYS,
  REMOVEMAPPING: Errno.ENOSYS,
  SYNCFS: Errno.ENOSYS,
  // open(2) with O_TMPFILE says EOPNOTSUPP, as the kernel's NFS client does.
  TMPFILE: Errno.ENOSYS,
  // Only birth times are more than GETATTR, and NFSv3 has none; the kernel falls back to GETATTR.
  STATX: Errno.ENOSYS
} as const satisfies Record<string, Errno>

export type RefusedName = keyof typeof refusals
