/*
 * RENAME, RFC 1813 section 3.3.14
 *   args    => from:(dir:nfs_fh3 name:filename3) to:(dir:nfs_fh3 name:filename3)
 *   resok   => fromdir_wcc:wcc_data todir_wcc:wcc_data
 *   resfail => fromdir_wcc:wcc_data todir_wcc:wcc_data
 */
import type { FileName } from '../../agent/base/brands.ts'
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeResult, type Nfs3Result } from './nfsstat.ts'
import { decodeWccData, encodeHandle, encodeName, type Nfs3Handle, type WccData } from './types.ts'

export interface RenameArgs {
  readonly fromDir: Nfs3Handle
  readonly fromName: FileName
  readonly toDir: Nfs3Handle
  readonly toName: FileName
}

export interface RenameWcc { readonly from: WccData, readonly to: WccData }

export function encodeRename (out: XdrWriter, { fromDir, fromName, toDir, toName }: RenameArgs): void {
  encodeHandle(out, fromDir)
  encodeName(out, fromName)
  encodeHandle(out, toDir)
  encodeName(out, toName)
}

function decodeBoth (input: XdrReader): RenameWcc {
  return { from: decodeWccData(input), to: decodeWccData(input) }
}

export function decodeRename (input: XdrReader): Nfs3Result<RenameWcc, RenameWcc> {
  return decodeResult(input, decodeBoth, decodeBoth)
}
