/**
 * Every FUSE operation, one row each: opcode, since which minor, whether it is replied to, how its bytes are read and
 * written.
 *
 * Owns the table. Knows nothing of what an operation means: which ones are served and how the others are refused is
 * `agent/session`. Logs, counters and tests iterate this object. CUSE is another protocol and has no row.
 */
import { decodeGetattr, decodeSetattr, encodeAttrOut } from './attributes.ts'
import {
  decodeCreate,
  decodeLink,
  decodeMkdir,
  decodeMknod,
  decodeName,
  decodeRename,
  decodeRename2,
  decodeSymlink,
  encodeCreate,
  encodeEntry
} from './entries.ts'
import { decodeFsync, decodeOpen, decodeRead, decodeRelease, decodeWrite, encodeOpenOut, encodeWrite } from './files.ts'
import { decodeInit, encodeInit } from './init.ts'
import {
  decodeAccess,
  decodeBatchForget,
  decodeForget,
  decodeInterrupt,
  decodeNothing,
  decodeUnread,
  encodeBytes,
  encodeNothing,
  encodeStatfs
} from './lifetimes.ts'
import type { FuseReader } from './reader.ts'
import type { FuseWriter } from './writer.ts'

export interface Operation<Q, A> {
  readonly opcode: number
  /** The minor version it appeared in; 0 for those older than anything we meet. */
  readonly since: number
  readonly replies: boolean
  /** The answer is data that is sent as it is, behind the header; `encode` is not used. */
  readonly bulk: boolean
  decode (input: FuseReader): Q
  encode (out: FuseWriter, answer: A): void
}

const row = <Q, A>(
  opcode: number,
  decode: (input: FuseReader) => Q,
  encode: (out: FuseWriter, answer: A) => void,
  since = 0
): Operation<Q, A> => ({ opcode, since, replies: true, bulk: false, decode, encode })
const silent = <Q>(opcode: number, decode: (input: FuseReader) => Q, since = 0): Operation<Q, undefined> => ({
  opcode, since, replies: false, bulk: false, decode, encode: encodeNothing
})
/** Pieces of memory that together are the answer. */
export interface BulkOut { readonly parts: readonly Buffer[], readonly bytes: number }
const bulk = <Q>(opcode: number, decode: (input: FuseReader) => Q, since = 0): Operation<Q, BulkOut> => ({
  opcode, since, replies: true, bulk: true, decode, encode () {}
})
/** Known by name, never served: the body stays unread. */
const refused = (opcode: number, since = 0): Operation<undefined, undefined> =>
  row(opcode, decodeUnread, encodeNothing, since)

export const operations = {
  LOOKUP: row(1, decodeName, encodeEntry),
  FORGET: silent(2, decodeForget),
  GETATTR: row(3, decodeGetattr, encodeAttrOut),
  SETATTR: row(4, decodeSetattr, encodeAttrOut),
  READLINK: row(5, decodeNothing, encodeBytes),
  SYMLINK: row(6, decodeSymlink, encodeEntry),
  MKNOD: row(8, decodeMknod, encodeEntry),
  MKDIR: row(9, decodeMkdir, encodeEntry),
  UNLINK: row(10, decodeName, encodeNothing),
  RMDIR: row(11, decodeName, encodeNothing),
  RENAME: row(12, decodeRename, encodeNothing),
  LINK: row(13, decodeLink, encodeEntry),
  OPEN: row(14, decodeOpen, encodeOpenOut),
  READ: bulk(15, decodeRead),
  WRITE: row(16, decodeWrite, encodeWrite),
  STATFS: row(17, decodeNothing, encodeStatfs),
  RELEASE: row(18, decodeRelease, encodeNothing),
  FSYNC: row(20, decodeFsync, encodeNothing),
  SETXATTR: refused(21),
  GETXATTR: refused(22),
  LISTXATTR: refused(23),
  REMOVEXATTR: refused(24),
  FLUSH: row(25, decodeRelease, encodeNothing),
  INIT: row(26, decodeInit, encodeInit),
  OPENDIR: row(27, decodeOpen, encodeOpenOut),
  READDIR: bulk(28, decodeRead),
  RELEASEDIR: row(29, decodeRelease, encodeNothing),
  FSYNCDIR: row(30, decodeFsync, encodeNothing),
  GETLK: refused(31),
  SETLK: refused(32),
  SETLKW: refused(33),
  ACCESS: row(34, decodeAccess, encodeNothing),
  CREATE: row(35, decodeCreate, encodeCreate),
  INTERRUPT: silent(36, decodeInterrupt),
  BMAP: refused(37),
  DESTROY: row(38, decodeNothing, encodeNothing),
  IOCTL: refused(39, 11),
  POLL: refused(40, 11),
  NOTIFY_REPLY: silent(41, decodeUnread, 15),
  BATCH_FORGET: silent(42, decodeBatchForget, 16),
  FALLOCATE: refused(43, 19),
  READDIRPLUS: bulk(44, decodeRead, 21),
  RENAME2: row(45, decodeRename2, encodeNothing, 23),
  LSEEK: refused(46, 24),
  COPY_FILE_RANGE: refused(47, 28),
  SETUPMAPPING: refused(48, 31),
  REMOVEMAPPING: refused(49, 31),
  SYNCFS: refused(50, 34),
  TMPFILE: refused(51, 37),
  STATX: refused(52, 39),
  COPY_FILE_RANGE_64: refused(53, 45)
} as const satisfies Record<string, Operation<unknown, never>>

export type OperationName = keyof typeof operations
export type RequestOf<N extends OperationName> = ReturnType<typeof operations[N]['decode']>
export type AnswerOf<N extends OperationName> = Parameters<typeof operations[N]['encode']>[1]

export const operationNames = Object.keys(operations) as readonly OperationName[]

/** Index: opcode → name. Holes are opcodes that do not exist. */
export const nameOfOpcode: readonly (OperationName | undefined)[] = Array.from(
  { length: 64 },
  (_, opcode) => operationNames.find((name) => operations[name].opcode === opcode)
)
