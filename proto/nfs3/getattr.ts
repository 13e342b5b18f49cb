/*
 * GETATTR, RFC 1813 section 3.3.1
 *   args    => object:nfs_fh3
 *   resok   => obj_attributes:fattr3
 *   resfail => void
 */
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeVoid } from '../rpc/procedure.ts'
import { decodeResult, type Nfs3Result } from './nfsstat.ts'
import { decodeAttributes, encodeHandle, type Nfs3Attributes, type Nfs3Handle } from './types.ts'

export interface GetattrArgs { readonly object: Nfs3Handle }

export function encodeGetattr (out: XdrWriter, { object }: GetattrArgs): void {
  encodeHandle(out, object)
}

export function decodeGetattr (input: XdrReader): Nfs3Result<Nfs3Attributes, undefined> {
  return decodeResult(input, decodeAttributes, decodeVoid)
}
