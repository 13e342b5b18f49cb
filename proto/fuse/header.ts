/*
 * The headers of all messages, kernel include/uapi/linux/fuse.h
 *   fuse_in_header  => len:u32 opcode:u32 unique:u64 nodeid:u64 uid:u32 gid:u32 pid:u32 total_extlen:u16 padding:u16
 *   fuse_out_header => len:u32 error:s32 unique:u64
 * total_extlen (since 7.38) counts units of 8 bytes at the end of the request.
 */
import { WireError } from '../../agent/base/errors.ts'
import type { FuseReader } from './reader.ts'
import type { FuseWriter } from './writer.ts'

export const REQUEST_HEADER_BYTES = 40
export const REPLY_HEADER_BYTES = 16
/** FUSE_UNIQUE_RESEND, bit 63: the kernel repeats a request that was read before. The reply must carry the bit as
 * well. */
const RESEND_BIT = 0x8000_0000
const WORD = 0x1_0000_0000

/** Who asks what about which inode. Survives the receive buffer. */
export class RequestHeader {
  readonly opcode: number
  /** Without the resend bit. */
  readonly unique: number
  readonly isResent: boolean
  readonly nodeid: number
  readonly uid: number
  readonly gid: number
  /** The calling thread's id in the pid namespace of whoever mounted; 0 when it is not visible there. */
  readonly pid: number

  constructor (
    opcode: number,
    unique: number,
    isResent: boolean,
    nodeid: number,
    uid: number,
    gid: number,
    pid: number
  ) {
    this.opcode = opcode
    this.unique = unique
    this.isResent = isResent
    this.nodeid = nodeid
    this.uid = uid
    this.gid = gid
    this.pid = pid
  }
}

/** Reads the header of the message `[start, end)` and leaves the reader at its body. */
export function decodeHeader (input: FuseReader, start: number, end: number): RequestHeader {
  input.select(start, end)
  const length = input.uint32()
  if (length !== end - start) throw new WireError('INVALID', `header says ${length} bytes, ${end - start} were read`)
  const opcode = input.uint32()
  const low = input.uint32()
  const high = input.uint32()
  if ((high & ~RESEND_BIT) > 0x1f_ffff) throw new WireError('OVERLONG', 'a request id is above 2^53')
  const unique = (high & ~RESEND_BIT) * WORD + low
  const nodeid = input.number64()
  const header = new RequestHeader(
    opcode,
    unique,
    high >= RESEND_BIT,
    nodeid,
    input.uint32(),
    input.uint32(),
    input.uint32()
  )
  input.shorten(input.uint16() * 8 + (input.uint16() & 0))
  return header
}

/** Starts a reply at the writer's position; `finishReply` fills in its length. */
export function beginReply (out: FuseWriter, header: RequestHeader, error: number): number {
  const start = out.offset
  out.uint32(REPLY_HEADER_BYTES)
  out.uint32(-error)
  out.uint32(header.unique >>> 0)
  out.uint32(Math.floor(header.unique / WORD) + (header.isResent ? RESEND_BIT : 0))
  return start
}

/** `extraBytes` follow from elsewhere. Leaves the writer 8-aligned for the next reply. */
export function finishReply (out: FuseWriter, start: number, extraBytes = 0): void {
  out.patchUint32(start, out.offset - start + extraBytes)
  const padding = -out.offset & 7
  if (padding > 0) out.zeros(padding)
}
