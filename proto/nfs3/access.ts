/*
 * ACCESS, RFC 1813 section 3.3.4
 *   args    => object:nfs_fh3 access:uint
 *   resok   => obj_attributes:post_op_attr access:uint
 *   resfail => obj_attributes:post_op_attr
 */
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeResult, type Nfs3Result } from './nfsstat.ts'
import { decodeOptionalAttributes, encodeHandle, type Nfs3Attributes, type Nfs3Handle } from './types.ts'

export interface AccessArgs { readonly object: Nfs3Handle, readonly access: number }
export interface AccessOk { readonly attributes: Nfs3Attributes | undefined, readonly access: number }

export function encodeAccess (out: XdrWriter, { object, access }: AccessArgs): void {
  encodeHandle(out, object)
  out.uint32(access)
}

function decodeOk (input: XdrReader): AccessOk {
  return { attributes: decodeOptionalAttributes(input), access: input.uint32() }
}

export function decodeAccess (input: XdrReader): Nfs3Result<AccessOk, Nfs3Attributes | undefined> {
  return decodeResult(input, decodeOk, decodeOptionalAttributes)
}
