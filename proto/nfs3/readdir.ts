/*
 * READDIR, RFC 1813 section 3.3.16
 *   args    => dir:nfs_fh3 cookie:uhyper cookieverf:opaque[8] count:uint
 *   resok   => dir_attributes:post_op_attr cookieverf:opaque[8] reply:dirlist3
 *   entry3  => fileid:uhyper name:filename3 cookie:uhyper
 *   resfail => dir_attributes:post_op_attr
 */
import type { FileName } from '../../agent/base/brands.ts'
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeDirectoryList, type DirectoryList } from './directory-list.ts'
import { decodeResult, type Nfs3Result } from './nfsstat.ts'
import { decodeName, decodeOptionalAttributes, encodeHandle, type Nfs3Attributes, type Nfs3Handle } from './types.ts'

export interface ReaddirArgs {
  readonly dir: Nfs3Handle
  readonly cookie: bigint
  /** Eight bytes as latin1; all zero with cookie 0. */
  readonly cookieverf: string
  readonly countBytes: number
}

export interface ReaddirEntry { readonly fileid: bigint, readonly name: FileName, readonly cookie: bigint }

export interface ReaddirOk extends DirectoryList<ReaddirEntry> {
  readonly directory: Nfs3Attributes | undefined
  readonly cookieverf: string
}

export function encodeReaddir (out: XdrWriter, { dir, cookie, cookieverf, countBytes }: ReaddirArgs): void {
  encodeHandle(out, dir)
  out.uint64(cookie)
  out.fixedLatin1(cookieverf)
  out.uint32(countBytes)
}

function decodeEntry (input: XdrReader): ReaddirEntry {
  return { fileid: input.uint64(), name: decodeName(input), cookie: input.uint64() }
}

function decodeOk (input: XdrReader): ReaddirOk {
  const directory = decodeOptionalAttributes(input)
  const cookieverf = input.fixedLatin1(8)
  const { entries, eof } = decodeDirectoryList(input, decodeEntry)
  return { directory, cookieverf, entries, eof }
}

export function decodeReaddir (input: XdrReader): Nfs3Result<ReaddirOk, Nfs3Attributes | undefined> {
  return decodeResult(input, decodeOk, decodeOptionalAttributes)
}
