/*
 * Attributes, kernel include/uapi/linux/fuse.h
 *   fuse_attr       => ino:u64 size:u64 blocks:u64 atime:s64 mtime:s64 ctime:s64 atimensec:u32 mtimensec:u32
 *                      ctimensec:u32 mode:u32 nlink:u32 uid:u32 gid:u32 rdev:u32 blksize:u32 flags:u32
 *   GETATTR in      => getattr_flags:u32 dummy:u32 fh:u64
 *   GETATTR out     => attr_valid:u64 attr_valid_nsec:u32 dummy:u32 attr:fuse_attr
 *   SETATTR in      => valid:u32 padding:u32 fh:u64 size:u64 lock_owner:u64 atime:s64 mtime:s64 ctime:s64 atimensec:u32
 *                      mtimensec:u32 ctimensec:u32 mode:u32 unused4:u32 uid:u32 gid:u32 unused5:u32
 *   SETATTR out     => as GETATTR
 */
import type { FuseReader } from './reader.ts'
import type { FuseWriter } from './writer.ts'

export const ATTR_BYTES = 88
const FUSE_GETATTR_FH = 1 << 0

const FATTR = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  FH: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  CTIME: 1 << 10,
  KILL_SUIDGID: 1 << 11
} as const

/** S_IFMT bits, kernel include/uapi/linux/stat.h. */
export const MODE_TYPE = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  fifo: 0o010000,
  socket: 0o140000,
  character: 0o020000,
  block: 0o060000
} as const
export type NodeType = keyof typeof MODE_TYPE

/**
 * st_blksize. Programs that buffer by it (cp, tar, stdio) write in such pieces, and every piece is one request; the
 * kernel's NFS client says its wsize, but a megabyte for every FILE* costs programs with many open files their memory.
 */
export const BLOCK_BYTES = 128 * 1024

export interface FuseAttributes {
  readonly kind: NodeType
  /** 07777 */
  readonly mode: number
  readonly nlink: number
  readonly uid: number
  readonly gid: number
  readonly sizeBytes: number
  readonly usedBytes: number
  readonly rdevMajor: number
  readonly rdevMinor: number
  readonly fileid: bigint
  readonly atimeSeconds: number
  readonly atimeNanoseconds: number
  readonly mtimeSeconds: number
  readonly mtimeNanoseconds: number
  readonly ctimeSeconds: number
  readonly ctimeNanoseconds: number
}

/** new_encode_dev, kernel include/linux/kdev_t.h. */
export const encodeDevice = (major: number, minor: number): number =>
  ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0
/** new_decode_dev. */
export const decodeDevice = (device: number): { major: number, minor: number } => ({
  major: (device & 0xfff00) >> 8, minor: ((device & 0xff) | ((device >>> 12) & 0xfff00)) >>> 0
})

export function encodeAttr (out: FuseWriter, attributes: FuseAttributes): void {
  out.uint64(attributes.fileid)
  out.number64(attributes.sizeBytes)
  out.number64(Math.ceil(attributes.usedBytes / 512))
  out.number64(attributes.atimeSeconds)
  out.number64(attributes.mtimeSeconds)
  out.number64(attributes.ctimeSeconds)
  out.uint32(attributes.atimeNanoseconds)
  out.uint32(attributes.mtimeNanoseconds)
  out.uint32(attributes.ctimeNanoseconds)
  out.uint32(MODE_TYPE[attributes.kind] | attributes.mode)
  out.uint32(attributes.nlink)
  out.uint32(attributes.uid)
  out.uint32(attributes.gid)
  out.uint32(encodeDevice(attributes.rdevMajor, attributes.rdevMinor))
  out.uint32(BLOCK_BYTES)
  out.uint32(0)
}

export interface AttrOut { readonly attributes: FuseAttributes, readonly attributesTtlMs: number }

export function encodeAttrOut (out: FuseWriter, { attributes, attributesTtlMs }: AttrOut): void {
  out.number64(ttlSeconds(attributesTtlMs))
  out.uint32(ttlNanoseconds(attributesTtlMs))
  out.uint32(0)
  encodeAttr(out, attributes)
}

/** A time to live of "for ever" must not overflow the kernel's jiffies: a year is as good. */
const ttlMsMax = 365 * 24 * 3_600_000
const bounded = (ttlMs: number): number => ttlMs > ttlMsMax ? ttlMsMax : ttlMs > 0 ? ttlMs : 0
export const ttlSeconds = (ttlMs: number): number => Math.floor(bounded(ttlMs) / 1000)
export const ttlNanoseconds = (ttlMs: number): number => Math.floor((bounded(ttlMs) % 1000) * 1_000_000)

export interface GetattrIn { readonly fh: number | undefined }

export function decodeGetattr (input: FuseReader): GetattrIn {
  const flags = input.uint32()
  input.skip(4)
  const fh = input.number64()
  input.end()
  return { fh: (flags & FUSE_GETATTR_FH) !== 0 ? fh : undefined }
}

/** `'now'`: the clock of whoever stores it. */
export type FuseTime = 'now' | { readonly seconds: number, readonly nanoseconds: number }

/** Only what is to be changed is present. A ctime comes only from a kernel with a write-back cache, whose clock it is;
 * the server sets its own. */
export interface SetattrIn {
  readonly fh: number | undefined
  readonly killsSetid: boolean
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly sizeBytes?: number
  readonly atime?: FuseTime
  readonly mtime?: FuseTime
  readonly ctime?: FuseTime
}

export function decodeSetattr (input: FuseReader): SetattrIn {
  const valid = input.uint32()
  const has = (bit: number): boolean => (valid & bit) !== 0
  input.skip(4)
  const fh = has(FATTR.FH) ? input.number64() : void input.skip(8)
  const sizeBytes = has(FATTR.SIZE) ? input.number64() : void input.skip(8)
  input.skip(8)
  const atimeSeconds = input.seconds()
  const mtimeSeconds = input.seconds()
  const ctimeSeconds = input.seconds()
  const atimeNanoseconds = input.uint32()
  const mtimeNanoseconds = input.uint32()
  const ctimeNanoseconds = input.uint32()
  const mode = input.uint32()
  input.skip(4)
  const uid = input.uint32()
  const gid = input.uint32()
  input.skip(4)
  input.end()
  return {
    fh,
    killsSetid: has(FATTR.KILL_SUIDGID),
    ...(has(FATTR.MODE) ? { mode: mode & 0o7777 } : undefined),
    ...(has(FATTR.UID) ? { uid } : undefined),
    ...(has(FATTR.GID) ? { gid } : undefined),
    ...(sizeBytes === undefined ? undefined : { sizeBytes }),
    ...timeOf('atime', has(FATTR.ATIME), has(FATTR.ATIME_NOW), atimeSeconds, atimeNanoseconds),
    ...timeOf('mtime', has(FATTR.MTIME), has(FATTR.MTIME_NOW), mtimeSeconds, mtimeNanoseconds),
    ...timeOf('ctime', has(FATTR.CTIME), false, ctimeSeconds, ctimeNanoseconds)
  }
}

function timeOf<K extends 'atime' | 'mtime' | 'ctime'> (
  key: K,
  isSet: boolean,
  isNow: boolean,
  seconds: number,
  nanoseconds: number
): { [P in K]?: FuseTime } {
  if (!isSet) return {}
  const time: FuseTime = isNow ? 'now' : { seconds, nanoseconds }
  return { [key]: time } as { [P in K]?: FuseTime }
}
