/*
 * READLINK, RFC 1813 section 3.3.5
 *   args    => symlink:nfs_fh3
 *   resok   => symlink_attributes:post_op_attr data:nfspath3
 *   resfail => symlink_attributes:post_op_attr
 */
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeResult, type Nfs3Result } from './nfsstat.ts'
import {
  decodeOptionalAttributes,
  encodeHandle,
  type Nfs3Attributes,
  type Nfs3Handle,
  TARGET_BYTES_MAX
} from './types.ts'

export interface ReadlinkArgs { readonly symlink: Nfs3Handle }
/** `target` is the raw bytes as latin1. */
export interface ReadlinkOk { readonly attributes: Nfs3Attributes | undefined, readonly target: string }

export function encodeReadlink (out: XdrWriter, { symlink }: ReadlinkArgs): void {
  encodeHandle(out, symlink)
}

function decodeOk (input: XdrReader): ReadlinkOk {
  return { attributes: decodeOptionalAttributes(input), target: input.latin1(TARGET_BYTES_MAX) }
}

export function decodeReadlink (input: XdrReader): Nfs3Result<ReadlinkOk, Nfs3Attributes | undefined> {
  return decodeResult(input, decodeOk, decodeOptionalAttributes)
}
