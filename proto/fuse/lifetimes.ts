/*
 * Lookup counts, interrupts and the small rest, kernel include/uapi/linux/fuse.h
 *   FORGET in       => nlookup:u64                                        no reply
 *   BATCH_FORGET in => count:u32 dummy:u32 (nodeid:u64 nlookup:u64)*      no reply
 *   INTERRUPT in    => unique:u64                                         no reply but EAGAIN, "ask again later"
 *   ACCESS in       => mask:u32 padding:u32
 *   STATFS out      => blocks:u64 bfree:u64 bavail:u64 files:u64 ffree:u64 bsize:u32 namelen:u32 frsize:u32 padding:u32
 *                      spare:u32[6]
 */
import { WireError } from '../../agent/base/errors.ts'
import type { FuseReader } from './reader.ts'
import type { FuseWriter } from './writer.ts'

export interface ForgetIn { readonly nlookup: number }

export function decodeForget (input: FuseReader): ForgetIn {
  const nlookup = input.number64()
  input.end()
  return { nlookup }
}

/** Pairs of nodeid and nlookup, one behind the other. */
export interface BatchForgetIn { readonly pairs: readonly number[] }

export function decodeBatchForget (input: FuseReader): BatchForgetIn {
  const count = input.uint32()
  input.skip(4)
  if (count * 16 !== input.remaining) throw new WireError('INVALID', `${count} forgets in ${input.remaining} bytes`)
  const pairs: number[] = []
  for (let index = 0; index < 2 * count; index++) pairs.push(input.number64())
  return { pairs }
}

export interface InterruptIn { readonly unique: number }

export function decodeInterrupt (input: FuseReader): InterruptIn {
  const low = input.uint32()
  const high = input.uint32() & 0x7fff_ffff
  input.end()
  if (high > 0x1f_ffff) throw new WireError('OVERLONG', 'a request id is above 2^53')
  return { unique: high * 0x1_0000_0000 + low }
}

export interface AccessIn { readonly mask: number }

export function decodeAccess (input: FuseReader): AccessIn {
  const mask = input.uint32()
  input.skip(4)
  input.end()
  return { mask }
}

export interface StatfsOut {
  readonly totalBytes: bigint
  readonly freeBytes: bigint
  readonly availableBytes: bigint
  readonly totalFiles: bigint
  readonly freeFiles: bigint
  readonly blockBytes: number
  readonly nameBytesMax: number
}

/** Programs multiply blocks by their size in signed 64 bits: "no limit" (2^64-1 bytes) is the most that those hold. */
const bytesMax = 2n ** 63n - 1n

export function encodeStatfs (out: FuseWriter, statistics: StatfsOut): void {
  const block = BigInt(statistics.blockBytes)
  const blocks = (bytes: bigint): bigint => (bytes > bytesMax ? bytesMax : bytes) / block
  out.uint64(blocks(statistics.totalBytes))
  out.uint64(blocks(statistics.freeBytes))
  out.uint64(blocks(statistics.availableBytes))
  out.uint64(statistics.totalFiles)
  out.uint64(statistics.freeFiles)
  out.uint32(statistics.blockBytes)
  out.uint32(statistics.nameBytesMax)
  out.uint32(statistics.blockBytes)
  out.zeros(28)
}

/** A symlink's target, a piece of a file: bytes without a frame. */
export function encodeBytes (out: FuseWriter, bytes: Buffer): void { out.bytes(bytes) }

export function encodeNothing (_out: FuseWriter, _nothing: undefined): void {}

export function decodeNothing (input: FuseReader): undefined { input.end() }

/** The body of a request that is always refused is not looked at. */
export function decodeUnread (): undefined {}
