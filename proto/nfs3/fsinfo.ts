/*
 * FSINFO, RFC 1813 section 3.3.19
 *   args    => fsroot:nfs_fh3
 *   resok   => obj_attributes:post_op_attr rtmax:uint rtpref:uint rtmult:uint wtmax:uint wtpref:uint wtmult:uint
 *              dtpref:uint maxfilesize:uhyper time_delta:nfstime3 properties:uint
 *   resfail => obj_attributes:post_op_attr
 */
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeResult, type Nfs3Result } from './nfsstat.ts'
import {
  decodeOptionalAttributes,
  decodeTime,
  encodeHandle,
  type Nfs3Attributes,
  type Nfs3Handle,
  type Nfs3Time
} from './types.ts'

/** FSF3 bits of `properties`. */
export const fsinfoProperties = { FSF3_LINK: 1, FSF3_SYMLINK: 2, FSF3_HOMOGENEOUS: 8, FSF3_CANSETTIME: 16 } as const

export interface FsinfoArgs { readonly fsroot: Nfs3Handle }

export interface FsinfoOk {
  readonly attributes: Nfs3Attributes | undefined
  readonly rtmaxBytes: number
  readonly rtprefBytes: number
  readonly rtmultBytes: number
  readonly wtmaxBytes: number
  readonly wtprefBytes: number
  readonly wtmultBytes: number
  readonly dtprefBytes: number
  /** Servers answer up to 2^64-1, which is above what a file offset can be: cut to 2^53-1. */
  readonly maxfilesizeBytes: number
  readonly timeDelta: Nfs3Time
  readonly properties: number
}

export function encodeFsinfo (out: XdrWriter, { fsroot }: FsinfoArgs): void {
  encodeHandle(out, fsroot)
}

function decodeOk (input: XdrReader): FsinfoOk {
  return {
    attributes: decodeOptionalAttributes(input),
    rtmaxBytes: input.uint32(),
    rtprefBytes: input.uint32(),
    rtmultBytes: input.uint32(),
    wtmaxBytes: input.uint32(),
    wtprefBytes: input.uint32(),
    wtmultBytes: input.uint32(),
    dtprefBytes: input.uint32(),
    maxfilesizeBytes: input.clamped64(),
    timeDelta: decodeTime(input),
    properties: input.uint32()
  }
}

export function decodeFsinfo (input: XdrReader): Nfs3Result<FsinfoOk, Nfs3Attributes | undefined> {
  return decodeResult(input, decodeOk, decodeOptionalAttributes)
}
