/*
 * INIT, kernel include/uapi/linux/fuse.h
 *   in  => major:u32 minor:u32 max_readahead:u32 flags:u32 [flags2:u32 unused:u32[11]]     the bracket since 7.36
 *   out => major:u32 minor:u32 max_readahead:u32 flags:u32 max_background:u16 congestion_threshold:u16 max_write:u32
 *   time_gran:u32
 *          max_pages:u16 map_alignment:u16 flags2:u32 max_stack_depth:u32 request_timeout:u16 unused:u16[11]
 * A kernel of another major version gets the version alone and asks again.
 */
import { WireError } from '../../agent/base/errors.ts'
import type { FuseReader } from './reader.ts'
import type { FuseWriter } from './writer.ts'

export const FUSE_MAJOR = 7
/** The newest minor whose messages we know; a newer kernel adapts to it. */
export const FUSE_MINOR = 45
/** Linux 4.18, the oldest kernel this project supports. */
export const FUSE_MINOR_MIN = 27

/** Bits of flags and, from 32 on, of flags2. */
export const INIT_FLAG = {
  ASYNC_READ: 0,
  POSIX_LOCKS: 1,
  ATOMIC_O_TRUNC: 3,
  EXPORT_SUPPORT: 4,
  BIG_WRITES: 5,
  DONT_MASK: 6,
  FLOCK_LOCKS: 10,
  AUTO_INVAL_DATA: 12,
  DO_READDIRPLUS: 13,
  READDIRPLUS_AUTO: 14,
  ASYNC_DIO: 15,
  WRITEBACK_CACHE: 16,
  PARALLEL_DIROPS: 18,
  ABORT_ERROR: 21,
  MAX_PAGES: 22,
  CACHE_SYMLINKS: 23,
  HANDLE_KILLPRIV_V2: 28,
  INIT_EXT: 30,
  HAS_EXPIRE_ONLY: 35,
  DIRECT_IO_ALLOW_MMAP: 36,
  HAS_RESEND: 39,
  /** Binds of the mount may be idmapped; only with `default_permissions` (Linux 6.12). */
  ALLOW_IDMAP: 40,
  REQUEST_TIMEOUT: 42
} as const
export type InitFlag = keyof typeof INIT_FLAG

export interface InitIn {
  readonly major: number
  readonly minor: number
  readonly maxReadaheadBytes: number
  readonly flags: number
  /** 0 when the kernel does not have the field. */
  readonly flags2: number
}

/** More bytes than we know are no error: newer kernels append. */
export function decodeInit (input: FuseReader): InitIn {
  const major = input.uint32()
  const minor = input.uint32()
  const maxReadaheadBytes = input.uint32()
  const flags = input.uint32()
  const flags2 = input.remaining >= 4 ? input.uint32() : 0
  return { major, minor, maxReadaheadBytes, flags, flags2 }
}

export interface InitOut {
  readonly minor: number
  readonly maxReadaheadBytes: number
  readonly flags: number
  readonly flags2: number
  readonly maxBackground: number
  readonly congestionThreshold: number
  readonly maxWriteBytes: number
  readonly maxPages: number
  /** After so long without an answer the kernel aborts the connection; 0: what the node's administrator has set as
   * default. */
  readonly requestTimeoutSeconds: number
}

export function encodeInit (out: FuseWriter, init: InitOut): void {
  out.uint32(FUSE_MAJOR)
  out.uint32(init.minor)
  out.uint32(init.maxReadaheadBytes)
  out.uint32(init.flags)
  out.uint16(init.maxBackground)
  out.uint16(init.congestionThreshold)
  out.uint32(init.maxWriteBytes)
  // time_gran: timestamps are exact to the nanosecond.
  out.uint32(1)
  out.uint16(init.maxPages)
  out.uint16(0)
  out.uint32(init.flags2)
  // max_stack_depth.
  out.uint32(0)
  out.uint16(init.requestTimeoutSeconds)
  out.zeros(22)
}

/** What the session would like; what the kernel cannot do is left out. */
export interface InitWishes {
  readonly maxWriteBytes: number
  readonly maxReadaheadBytes: number
  readonly maxBackground: number
  readonly congestionThreshold: number
  /** `auto`: the kernel asks for attributes with a listing only when it sees them used. */
  readonly readdirplus: 'always' | 'auto' | 'never'
  readonly flags: readonly InitFlag[]
  /** Instead of the default of the kernel; what its administrator has set as maximum holds all the same (Linux
   * 6.15). */
  readonly requestTimeoutSeconds?: number
}

export interface Negotiated {
  readonly reply: InitOut
  readonly minor: number
  readonly flags: ReadonlySet<InitFlag>
  /** Requests larger than this never come, and reads larger than this are never asked. */
  readonly maxWriteBytes: number
  /** The kernel repeats unanswered requests to a successor (FUSE_NOTIFY_RESEND). */
  readonly canResend: boolean
  /** The kernel can look a name up again without dropping it (FUSE_EXPIRE_ONLY). */
  readonly canExpireNames: boolean
  /** The kernel can be asked to forget what nobody uses (minor 45, Linux 6.18). */
  readonly canPrune: boolean
}

const pageBytes = 4096
/** FUSE_DEFAULT_MAX_PAGES_PER_REQ, kernel fs/fuse/fuse_i.h: what a kernel without MAX_PAGES uses. */
const FUSE_DEFAULT_MAX_PAGES = 32

const offers = (init: InitIn, flag: InitFlag): boolean => {
  const bit = INIT_FLAG[flag]
  return bit < 32 ? (init.flags >>> bit & 1) === 1 : (init.flags2 >>> (bit - 32) & 1) === 1
}

/** The flags we answer: what was wished and is offered, and what the other wishes need. */
function agreedFlags (init: InitIn, wishes: InitWishes): Set<InitFlag> {
  const wanted = new Set<InitFlag>(wishes.flags)
  if (wishes.readdirplus !== 'never') wanted.add('DO_READDIRPLUS')
  if (wishes.readdirplus === 'auto') wanted.add('READDIRPLUS_AUTO')
  wanted.add('MAX_PAGES')
  if (wishes.requestTimeoutSeconds !== undefined) wanted.add('REQUEST_TIMEOUT')
  const agreed = new Set<InitFlag>([...wanted].filter((flag) => offers(init, flag)))
  // flags2 is only looked at by a kernel that sees INIT_EXT in the answer.
  if ([...agreed].some((flag) => INIT_FLAG[flag] >= 32) && offers(init, 'INIT_EXT')) agreed.add('INIT_EXT')
  return agreed
}

/**
 * The answer to the kernel's INIT.
 * @throws WireError UNSUPPORTED for a kernel older than 7.27 (Linux 4.18).
 */
export function negotiate (init: InitIn, wishes: InitWishes): Negotiated {
  if (init.major !== FUSE_MAJOR || init.minor < FUSE_MINOR_MIN) {
    throw new WireError(
      'UNSUPPORTED',
      `the kernel speaks FUSE ${init.major}.${init.minor}, at least ${FUSE_MAJOR}.${FUSE_MINOR_MIN} (Linux 4.18) is needed`
    )
  }
  const flags = agreedFlags(init, wishes)
  const wantedPages = Math.ceil(wishes.maxWriteBytes / pageBytes)
  const maxPages = flags.has('MAX_PAGES') ? wantedPages : Math.min(wantedPages, FUSE_DEFAULT_MAX_PAGES)
  const maxWriteBytes = maxPages * pageBytes
  const minor = Math.min(init.minor, FUSE_MINOR)
  let low = 0
  let high = 0
  for (const flag of flags) {
    const bit = INIT_FLAG[flag]
    if (bit < 32) low |= 1 << bit
    else high |= 1 << (bit - 32)
  }
  return {
    reply: {
      minor,
      maxReadaheadBytes: Math.min(init.maxReadaheadBytes, wishes.maxReadaheadBytes),
      flags: low >>> 0,
      flags2: high >>> 0,
      maxBackground: wishes.maxBackground,
      congestionThreshold: wishes.congestionThreshold,
      maxWriteBytes,
      maxPages: flags.has('MAX_PAGES') ? maxPages : 0,
      requestTimeoutSeconds: flags.has('REQUEST_TIMEOUT') ? wishes.requestTimeoutSeconds ?? 0 : 0
    },
    minor,
    flags,
    maxWriteBytes,
    canResend: offers(init, 'HAS_RESEND'),
    canExpireNames: offers(init, 'HAS_EXPIRE_ONLY'),
    canPrune: init.major === 7 && init.minor >= 45
  }
}
