/**
 * The types several procedures share, RFC 1813 sections 2.4 to 2.6.
 *   nfs_fh3     => data:opaque<64>
 *   filename3   => string<>
 *   nfstime3    => seconds:uint nseconds:uint
 *   fattr3      => type:ftype3 mode:uint nlink:uint uid:uint gid:uint size:uhyper used:uhyper rdev:specdata3
 *                  fsid:uhyper fileid:uhyper atime:nfstime3 mtime:nfstime3 ctime:nfstime3
 *   wcc_attr    => size:uhyper mtime:nfstime3 ctime:nfstime3
 *   wcc_data    => before:optional wcc_attr  after:optional fattr3
 *   sattr3      => mode:opt uint  uid:opt uint  gid:opt uint  size:opt uhyper  atime:set_time  mtime:set_time
 *
 * Owns their codecs. Names and handles are latin1 strings: lossless and usable as keys.
 */
import { WireError } from '../../agent/base/errors.ts'
import { type FileName, toFileName } from '../../agent/base/brands.ts'
import { NFS3_FHSIZE, pathBytesMax } from '../../agent/base/limits.ts'
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'

/** Raw bytes of an nfs_fh3 as latin1. */
export type Nfs3Handle = string

export const fileTypes = {
  1: 'file', 2: 'directory', 3: 'block', 4: 'character', 5: 'symlink', 6: 'socket', 7: 'fifo'
} as const
export type FileType = typeof fileTypes[keyof typeof fileTypes]

/** ftype3 by name. */
export const fileTypeNumbers = {
  file: 1, directory: 2, block: 3, character: 4, symlink: 5, socket: 6, fifo: 7
} as const satisfies Record<FileType, number>

export interface Nfs3Attributes {
  readonly type: FileType
  readonly mode: number
  readonly nlink: number
  readonly uid: number
  readonly gid: number
  readonly sizeBytes: number
  readonly usedBytes: number
  readonly rdevMajor: number
  readonly rdevMinor: number
  readonly fsid: bigint
  readonly fileid: bigint
  readonly atimeSeconds: number
  readonly atimeNanoseconds: number
  readonly mtimeSeconds: number
  readonly mtimeNanoseconds: number
  readonly ctimeSeconds: number
  readonly ctimeNanoseconds: number
}

export interface WccAttributes {
  readonly sizeBytes: number
  readonly mtimeSeconds: number
  readonly mtimeNanoseconds: number
  readonly ctimeSeconds: number
  readonly ctimeNanoseconds: number
}

export interface WccData {
  readonly before: WccAttributes | undefined
  readonly after: Nfs3Attributes | undefined
}

export interface Nfs3Time { readonly seconds: number, readonly nanoseconds: number }
/** set_atime and set_mtime; undefined is DONT_CHANGE. */
export type SetTime = 'server' | Nfs3Time | undefined

/** sattr3: what is undefined stays as it is. */
export interface SetAttributes {
  readonly mode?: number | undefined
  readonly uid?: number | undefined
  readonly gid?: number | undefined
  readonly sizeBytes?: number | undefined
  readonly atime?: SetTime
  readonly mtime?: SetTime
}

/** Names longer than this are refused by every server; ours is only a bound for what we read. */
export const NAME_BYTES_MAX = 1024
/** The longest target of a symlink we read. */
export const TARGET_BYTES_MAX = pathBytesMax

export function encodeHandle (out: XdrWriter, handle: Nfs3Handle): void { out.latin1(handle, NFS3_FHSIZE) }
export function decodeHandle (input: XdrReader): Nfs3Handle { return input.latin1(NFS3_FHSIZE) }

/** post_op_fh3. */
export function decodeOptionalHandle (input: XdrReader): Nfs3Handle | undefined {
  return input.bool() ? input.latin1(NFS3_FHSIZE) : undefined
}

export function encodeName (out: XdrWriter, name: FileName): void { out.latin1(name, NAME_BYTES_MAX) }
export function decodeName (input: XdrReader): FileName { return toFileName(input.latin1(NAME_BYTES_MAX)) }

function decodeFileType (input: XdrReader): FileType {
  const number = input.uint32()
  if (number < 1 || number > 7) throw new WireError('INVALID', 'ftype3 has an unknown value')
  return fileTypes[number as keyof typeof fileTypes]
}

export function decodeAttributes (input: XdrReader): Nfs3Attributes {
  // The evaluation order of the object's members is the grammar's order.
  return {
    type: decodeFileType(input),
    mode: input.uint32() & 0o7777,
    nlink: input.uint32(),
    uid: input.uint32(),
    gid: input.uint32(),
    sizeBytes: input.size64(),
    usedBytes: input.clamped64(),
    rdevMajor: input.uint32(),
    rdevMinor: input.uint32(),
    fsid: input.uint64(),
    fileid: input.uint64(),
    atimeSeconds: input.uint32(),
    atimeNanoseconds: input.uint32(),
    mtimeSeconds: input.uint32(),
    mtimeNanoseconds: input.uint32(),
    ctimeSeconds: input.uint32(),
    ctimeNanoseconds: input.uint32()
  }
}

/** post_op_attr. */
export function decodeOptionalAttributes (input: XdrReader): Nfs3Attributes | undefined {
  return input.bool() ? decodeAttributes(input) : undefined
}

function decodeWccAttributes (input: XdrReader): WccAttributes {
  return {
    sizeBytes: input.size64(),
    mtimeSeconds: input.uint32(),
    mtimeNanoseconds: input.uint32(),
    ctimeSeconds: input.uint32(),
    ctimeNanoseconds: input.uint32()
  }
}

export function decodeWccData (input: XdrReader): WccData {
  return {
    before: input.bool() ? decodeWccAttributes(input) : undefined,
    after: decodeOptionalAttributes(input)
  }
}

export function encodeTime (out: XdrWriter, { seconds, nanoseconds }: Nfs3Time): void {
  out.uint32(seconds)
  out.uint32(nanoseconds)
}

export function decodeTime (input: XdrReader): Nfs3Time {
  return { seconds: input.uint32(), nanoseconds: input.uint32() }
}

const DONT_CHANGE = 0
const SET_TO_SERVER_TIME = 1
const SET_TO_CLIENT_TIME = 2

function encodeSetTime (out: XdrWriter, time: SetTime): void {
  if (time === undefined) {
    out.uint32(DONT_CHANGE)
  } else if (time === 'server') {
    out.uint32(SET_TO_SERVER_TIME)
  } else {
    out.uint32(SET_TO_CLIENT_TIME)
    encodeTime(out, time)
  }
}

function encodeOptionalUint32 (out: XdrWriter, value: number | undefined): void {
  out.bool(value !== undefined)
  if (value !== undefined) out.uint32(value)
}

export function encodeSetAttributes (out: XdrWriter, { mode, uid, gid, sizeBytes, atime, mtime }: SetAttributes): void {
  encodeOptionalUint32(out, mode)
  encodeOptionalUint32(out, uid)
  encodeOptionalUint32(out, gid)
  out.bool(sizeBytes !== undefined)
  if (sizeBytes !== undefined) out.size64(sizeBytes)
  encodeSetTime(out, atime)
  encodeSetTime(out, mtime)
}

/** A time that fits nfstime3: unsigned 32-bit seconds. */
export function isNfs3Time ({ seconds }: Nfs3Time): boolean {
  return seconds >= 0 && seconds <= 0xffff_ffff
}
