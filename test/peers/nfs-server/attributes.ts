/**
 * Attributes on the wire, RFC 1813 sections 2.5 and 2.6: fattr3, wcc_data, post_op_attr and sattr3.
 * Owns their encoding from what lstat says, and the rules for changing them. Does not know procedures.
 */
import { chmodSync, lchownSync, lutimesSync, truncateSync, type BigIntStats } from 'node:fs'
import type { XdrReader } from '../../../proto/xdr/reader.ts'
import type { XdrWriter } from '../../../proto/xdr/writer.ts'
import { NfsFailure } from './status.ts'
import { toPath, type Found } from './tree.ts'

/** ftype3 by the file type bits of st_mode. */
const kinds = new Map([[0o100000, 1], [0o040000, 2], [0o060000, 3], [0o020000, 4], [0o120000, 5], [0o140000, 6], [
  0o010000, 7
]])

function encodeTime (out: XdrWriter, ns: bigint): void {
  out.uint32(Number(BigInt.asUintN(32, ns / 1_000_000_000n)))
  out.uint32(Number(ns % 1_000_000_000n))
}

export function encodeAttributes (out: XdrWriter, stats: BigIntStats): void {
  out.uint32(kinds.get(Number(stats.mode) & 0o170000) ?? 0)
  out.uint32(Number(stats.mode) & 0o7777)
  out.uint32(Number(stats.nlink))
  out.uint32(Number(stats.uid))
  out.uint32(Number(stats.gid))
  out.uint64(stats.size)
  out.uint64(stats.blocks * 512n)
  // specdata3: gnu_dev_major and gnu_dev_minor.
  out.uint32(Number(((stats.rdev >> 8n) & 0xfffn) | ((stats.rdev >> 32n) & 0xffff_f000n)))
  out.uint32(Number((stats.rdev & 0xffn) | ((stats.rdev >> 12n) & 0xffff_ff00n)))
  out.uint64(stats.dev)
  out.uint64(stats.ino)
  encodeTime(out, stats.atimeNs)
  encodeTime(out, stats.mtimeNs)
  encodeTime(out, stats.ctimeNs)
}

export function encodePostOp (out: XdrWriter, stats: BigIntStats | undefined): void {
  out.optional(stats, encodeAttributes)
}

export function encodeWcc (out: XdrWriter, before: BigIntStats | undefined, after: BigIntStats | undefined): void {
  out.optional(before, (inner, stats) => {
    inner.uint64(stats.size)
    encodeTime(inner, stats.mtimeNs)
    encodeTime(inner, stats.ctimeNs)
  })
  encodePostOp(out, after)
}

/** A time of sattr3: left alone, the server's now, or given in seconds. */
type TimeChange = 'now' | number | undefined

export interface AttributeChange {
  readonly mode: number | undefined
  readonly uid: number | undefined
  readonly gid: number | undefined
  readonly size: number | undefined
  readonly atime: TimeChange
  readonly mtime: TimeChange
}

const decodeWord = (input: XdrReader): number => input.uint32()

function decodeTimeChange (input: XdrReader): TimeChange {
  const how = input.uint32()
  if (how === 1) return 'now'
  return how === 0 ? undefined : input.uint32() + input.uint32() / 1e9
}

export function decodeChange (input: XdrReader): AttributeChange {
  return {
    mode: input.optional(decodeWord),
    uid: input.optional(decodeWord),
    gid: input.optional(decodeWord),
    size: input.optional((inner) => inner.size64()),
    atime: decodeTimeChange(input),
    mtime: decodeTimeChange(input)
  }
}

/** Node sets times from a double: they are exact to a microsecond, which FSINFO's time_delta says. */
export function applyChange ({ path, stats }: Found, change: AttributeChange): void {
  const file = toPath(path)
  if (change.size !== undefined) {
    if (!stats.isFile()) throw new NfsFailure(stats.isDirectory() ? 'ISDIR' : 'INVAL')
    truncateSync(file, change.size)
  }
  if (change.uid !== undefined || change.gid !== undefined) {
    lchownSync(file, change.uid ?? Number(stats.uid), change.gid ?? Number(stats.gid))
  }
  // After the owner: changing that clears set-id bits. A symlink's mode cannot be changed.
  if (change.mode !== undefined && !stats.isSymbolicLink()) chmodSync(file, change.mode & 0o7777)
  if (change.atime !== undefined || change.mtime !== undefined) {
    const now = Date.now() / 1000
    const at = (wanted: TimeChange, kept: bigint): number => wanted === 'now' ? now : wanted ?? Number(kept) / 1e9
    lutimesSync(file, at(change.atime, stats.atimeNs), at(change.mtime, stats.mtimeNs))
  }
}
