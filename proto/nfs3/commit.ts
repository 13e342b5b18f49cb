/*
 * COMMIT, RFC 1813 section 3.3.21
 *   args    => file:nfs_fh3 offset:uhyper count:uint
 *   resok   => file_wcc:wcc_data verf:opaque[8]
 *   resfail => file_wcc:wcc_data
 */
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeResult, type Nfs3Result } from './nfsstat.ts'
import { decodeWccData, encodeHandle, type Nfs3Handle, type WccData } from './types.ts'

export interface CommitArgs {
  readonly file: Nfs3Handle
  readonly offsetBytes: number
  /** 0: to the end of the file. */
  readonly countBytes: number
}

/** `verifier`: writeverf3 as latin1. */
export interface CommitOk { readonly wcc: WccData, readonly verifier: string }

export function encodeCommit (out: XdrWriter, { file, offsetBytes, countBytes }: CommitArgs): void {
  encodeHandle(out, file)
  out.size64(offsetBytes)
  out.uint32(countBytes)
}

function decodeOk (input: XdrReader): CommitOk {
  return { wcc: decodeWccData(input), verifier: input.fixedLatin1(8) }
}

export function decodeCommit (input: XdrReader): Nfs3Result<CommitOk, WccData> {
  return decodeResult(input, decodeOk, decodeWccData)
}
