/*
 * RMDIR, RFC 1813 section 3.3.13
 *   args    => object:(dir:nfs_fh3 name:filename3)
 *   resok   => dir_wcc:wcc_data
 *   resfail => dir_wcc:wcc_data
 */
import type { FileName } from '../../agent/base/brands.ts'
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeResult, type Nfs3Result } from './nfsstat.ts'
import { decodeWccData, encodeHandle, encodeName, type Nfs3Handle, type WccData } from './types.ts'

export interface RmdirArgs { readonly dir: Nfs3Handle, readonly name: FileName }

export function encodeRmdir (out: XdrWriter, { dir, name }: RmdirArgs): void {
  encodeHandle(out, dir)
  encodeName(out, name)
}

export function decodeRmdir (input: XdrReader): Nfs3Result<WccData, WccData> {
  return decodeResult(input, decodeWccData, decodeWccData)
}
