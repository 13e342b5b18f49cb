/*
 * LINK, RFC 1813 section 3.3.15
 *   args    => file:nfs_fh3 link:(dir:nfs_fh3 name:filename3)
 *   resok   => file_attributes:post_op_attr linkdir_wcc:wcc_data
 *   resfail => file_attributes:post_op_attr linkdir_wcc:wcc_data
 */
import type { FileName } from '../../agent/base/brands.ts'
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeResult, type Nfs3Result } from './nfsstat.ts'
import {
  decodeOptionalAttributes, decodeWccData, encodeHandle, encodeName, type Nfs3Attributes, type Nfs3Handle, type WccData
} from './types.ts'

export interface LinkArgs { readonly file: Nfs3Handle, readonly dir: Nfs3Handle, readonly name: FileName }
export interface LinkAnswer { readonly attributes: Nfs3Attributes | undefined, readonly directory: WccData }

export function encodeLink (out: XdrWriter, { file, dir, name }: LinkArgs): void {
  encodeHandle(out, file)
  encodeHandle(out, dir)
  encodeName(out, name)
}

function decodeBoth (input: XdrReader): LinkAnswer {
  return { attributes: decodeOptionalAttributes(input), directory: decodeWccData(input) }
}

export function decodeLink (input: XdrReader): Nfs3Result<LinkAnswer, LinkAnswer> {
  return decodeResult(input, decodeBoth, decodeBoth)
}
