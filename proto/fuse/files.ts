/*
 * Open files, kernel include/uapi/linux/fuse.h
 *   OPEN, OPENDIR in       => flags:u32 open_flags:u32          out => fh:u64 open_flags:u32 backing_id:s32
 *   READ, READDIR(PLUS) in => fh:u64 offset:u64 size:u32 read_flags:u32 lock_owner:u64 flags:u32 padding:u32
 *                             out => data
 *   WRITE in     => fh:u64 offset:u64 size:u32 write_flags:u32 lock_owner:u64 flags:u32 padding:u32 data
 *                             out => size:u32 padding:u32
 *   RELEASE(DIR) in => fh:u64 flags:u32 release_flags:u32 lock_owner:u64
 *   FLUSH in     => fh:u64 unused:u32 padding:u32 lock_owner:u64
 *   FSYNC(DIR) in => fh:u64 fsync_flags:u32 padding:u32
 *   LSEEK in     => fh:u64 offset:u64 whence:u32 padding:u32
 *   FALLOCATE in => fh:u64 offset:u64 length:u64 mode:u32 padding:u32
 */
import type { FuseReader } from './reader.ts'
import type { FuseWriter } from './writer.ts'

/** Flags of open(2) as Linux numbers them on x86-64 and, where it differs, on arm64. */
const O_ACCMODE = 0o3
const O_WRONLY = 0o1
const O_RDWR = 0o2
const O_EXCL = 0o200
const O_TRUNC = 0o1000
const O_APPEND = 0o2000
const O_DSYNC = 0o10000
const O_DIRECT = process.arch === 'arm64' ? 0o200000 : 0o40000
/** __FMODE_EXEC: opened by execve(2). The kernel passes it along with the flags. */
const FMODE_EXEC = 0x20
const FUSE_OPEN_KILL_SUIDGID = 1 << 0

const FOPEN = { DIRECT_IO: 1 << 0, KEEP_CACHE: 1 << 1, CACHE_DIR: 1 << 3, NOFLUSH: 1 << 5 } as const
const FUSE_WRITE_CACHE = 1 << 0
const FUSE_WRITE_KILL_SUIDGID = 1 << 2

export interface OpenIn {
  readonly read: boolean
  readonly write: boolean
  readonly append: boolean
  readonly truncate: boolean
  readonly exclusive: boolean
  readonly direct: boolean
  readonly sync: boolean
  readonly execute: boolean
  /** The server must drop set-id bits when it truncates (FUSE_OPEN_KILL_SUIDGID). */
  readonly killsSetid: boolean
}

export function decodeOpenFlags (flags: number, openFlags: number): OpenIn {
  const access = flags & O_ACCMODE
  return {
    // Mode 3 is "for ioctl only" on Linux; the kernel asks neither judge about it, so nothing is granted.
    read: access === 0 || access === O_RDWR,
    write: access === O_WRONLY || access === O_RDWR,
    append: (flags & O_APPEND) !== 0,
    truncate: (flags & O_TRUNC) !== 0,
    exclusive: (flags & O_EXCL) !== 0,
    direct: (flags & O_DIRECT) !== 0,
    sync: (flags & O_DSYNC) !== 0,
    execute: (flags & FMODE_EXEC) !== 0,
    killsSetid: (openFlags & FUSE_OPEN_KILL_SUIDGID) !== 0
  }
}

export function decodeOpen (input: FuseReader): OpenIn {
  const flags = input.uint32()
  const openFlags = input.uint32()
  input.end()
  return decodeOpenFlags(flags, openFlags)
}

export interface OpenOut {
  readonly handle: number
  /** FOPEN_KEEP_CACHE: pages (or the listing) of an earlier open may stay. */
  readonly keepCache: boolean
  /** FOPEN_DIRECT_IO: the page cache is bypassed, whatever open(2) said. */
  readonly bypassesCache?: boolean
  /** FOPEN_CACHE_DIR: the kernel may keep the listing. */
  readonly cacheListing?: boolean
  /** FOPEN_NOFLUSH: close(2) has nothing to wait for. Kernels before 5.16 ask all the same. */
  readonly closesSilently?: boolean
}

export function encodeOpenOut (
  out: FuseWriter,
  { handle, keepCache, bypassesCache, cacheListing, closesSilently }: OpenOut
): void {
  out.number64(handle)
  out.uint32(
    (bypassesCache === true ? FOPEN.DIRECT_IO : 0) | (keepCache ? FOPEN.KEEP_CACHE : 0) |
      (cacheListing === true ? FOPEN.CACHE_DIR : 0) | (closesSilently === true ? FOPEN.NOFLUSH : 0)
  )
  out.uint32(0)
}

export interface ReadIn { readonly fh: number, readonly offsetBytes: number, readonly sizeBytes: number }

export function decodeRead (input: FuseReader): ReadIn {
  const fh = input.number64()
  const offsetBytes = input.number64()
  const sizeBytes = input.uint32()
  input.skip(20)
  input.end()
  return { fh, offsetBytes, sizeBytes }
}

export interface WriteIn {
  readonly fh: number
  readonly offsetBytes: number
  /** Shares memory with the receive buffer. */
  readonly data: Buffer
  /** Written back from the page cache: handle and ids are the kernel's guess. */
  readonly fromPageCache: boolean
  readonly killsSetid: boolean
}

export function decodeWrite (input: FuseReader): WriteIn {
  const fh = input.number64()
  const offsetBytes = input.number64()
  const size = input.uint32()
  const flags = input.uint32()
  input.skip(16)
  const data = input.bytes(size)
  input.end()
  return {
    fh, offsetBytes, data, fromPageCache: (flags & FUSE_WRITE_CACHE) !== 0,
    killsSetid: (flags & FUSE_WRITE_KILL_SUIDGID) !== 0
  }
}

export interface WriteOut { readonly bytes: number }

export function encodeWrite (out: FuseWriter, { bytes }: WriteOut): void {
  out.uint32(bytes)
  out.uint32(0)
}

export interface HandleIn { readonly fh: number }

/** RELEASE, RELEASEDIR and FLUSH have the same shape; locks are the kernel's own, so the lock owner is of no
 * interest. */
export function decodeRelease (input: FuseReader): HandleIn {
  const fh = input.number64()
  input.skip(16)
  input.end()
  return { fh }
}

export function decodeFsync (input: FuseReader): HandleIn {
  const fh = input.number64()
  input.skip(8)
  input.end()
  return { fh }
}
