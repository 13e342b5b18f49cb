/*
 * SETATTR, RFC 1813 section 3.3.2
 *   args    => object:nfs_fh3 new_attributes:sattr3 guard:optional nfstime3
 *   resok   => obj_wcc:wcc_data
 *   resfail => obj_wcc:wcc_data
 */
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeResult, type Nfs3Result } from './nfsstat.ts'
import {
  decodeWccData, encodeHandle, encodeSetAttributes, encodeTime, type Nfs3Handle, type Nfs3Time, type SetAttributes,
  type WccData
} from './types.ts'

export interface SetattrArgs {
  readonly object: Nfs3Handle
  readonly attributes: SetAttributes
  /** The object's ctime as the caller knows it: anything else is answered NOT_SYNC. */
  readonly guard: Nfs3Time | undefined
}

export function encodeSetattr (out: XdrWriter, { object, attributes, guard }: SetattrArgs): void {
  encodeHandle(out, object)
  encodeSetAttributes(out, attributes)
  out.optional(guard, encodeTime)
}

export function decodeSetattr (input: XdrReader): Nfs3Result<WccData, WccData> {
  return decodeResult(input, decodeWccData, decodeWccData)
}
