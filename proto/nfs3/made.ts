/**
 * What CREATE, MKDIR, SYMLINK and MKNOD answer alike, RFC 1813 sections 3.3.8 to 3.3.11.
 *   resok   => obj:optional nfs_fh3 obj_attributes:post_op_attr dir_wcc:wcc_data
 *   resfail => dir_wcc:wcc_data
 */
import type { XdrReader } from '../xdr/reader.ts'
import { decodeResult, type Nfs3Result } from './nfsstat.ts'
import {
  decodeOptionalAttributes, decodeOptionalHandle, decodeWccData, type Nfs3Attributes, type Nfs3Handle, type WccData
} from './types.ts'

export interface MadeOk {
  /** A server may leave both out; a LOOKUP finds them. */
  readonly object: Nfs3Handle | undefined
  readonly attributes: Nfs3Attributes | undefined
  readonly directory: WccData
}

function decodeOk (input: XdrReader): MadeOk {
  return {
    object: decodeOptionalHandle(input), attributes: decodeOptionalAttributes(input), directory: decodeWccData(input)
  }
}

export function decodeMade (input: XdrReader): Nfs3Result<MadeOk, WccData> {
  return decodeResult(input, decodeOk, decodeWccData)
}
