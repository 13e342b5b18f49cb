/*
 * PATHCONF, RFC 1813 section 3.3.20
 *   args    => object:nfs_fh3
 *   resok   => obj_attributes:post_op_attr linkmax:uint name_max:uint no_trunc:bool chown_restricted:bool
 *              case_insensitive:bool case_preserving:bool
 *   resfail => obj_attributes:post_op_attr
 */
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeResult, type Nfs3Result } from './nfsstat.ts'
import { decodeOptionalAttributes, encodeHandle, type Nfs3Attributes, type Nfs3Handle } from './types.ts'

export interface PathconfArgs { readonly object: Nfs3Handle }

export interface PathconfOk {
  readonly attributes: Nfs3Attributes | undefined
  readonly linkMax: number
  readonly nameBytesMax: number
  readonly noTrunc: boolean
  readonly chownRestricted: boolean
  readonly caseInsensitive: boolean
  readonly casePreserving: boolean
}

export function encodePathconf (out: XdrWriter, { object }: PathconfArgs): void {
  encodeHandle(out, object)
}

function decodeOk (input: XdrReader): PathconfOk {
  return {
    attributes: decodeOptionalAttributes(input),
    linkMax: input.uint32(),
    nameBytesMax: input.uint32(),
    noTrunc: input.bool(),
    chownRestricted: input.bool(),
    caseInsensitive: input.bool(),
    casePreserving: input.bool()
  }
}

export function decodePathconf (input: XdrReader): Nfs3Result<PathconfOk, Nfs3Attributes | undefined> {
  return decodeResult(input, decodeOk, decodeOptionalAttributes)
}
