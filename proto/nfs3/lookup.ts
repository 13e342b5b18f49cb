/*
 * LOOKUP, RFC 1813 section 3.3.3
 *   args    => dir:nfs_fh3 name:filename3
 *   resok   => object:nfs_fh3 obj_attributes:post_op_attr dir_attributes:post_op_attr
 *   resfail => dir_attributes:post_op_attr
 */
import type { FileName } from '../../agent/base/brands.ts'
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeResult, type Nfs3Result } from './nfsstat.ts'
import {
  decodeHandle,
  decodeOptionalAttributes,
  encodeHandle,
  encodeName,
  type Nfs3Attributes,
  type Nfs3Handle
} from './types.ts'

export interface LookupArgs { readonly dir: Nfs3Handle, readonly name: FileName }

export interface LookupOk {
  readonly object: Nfs3Handle
  readonly attributes: Nfs3Attributes | undefined
  readonly directory: Nfs3Attributes | undefined
}

export function encodeLookup (out: XdrWriter, { dir, name }: LookupArgs): void {
  encodeHandle(out, dir)
  encodeName(out, name)
}

function decodeOk (input: XdrReader): LookupOk {
  return {
    object: decodeHandle(input), attributes: decodeOptionalAttributes(input),
    directory: decodeOptionalAttributes(input)
  }
}

export function decodeLookup (input: XdrReader): Nfs3Result<LookupOk, Nfs3Attributes | undefined> {
  return decodeResult(input, decodeOk, decodeOptionalAttributes)
}
