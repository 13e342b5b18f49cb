/*
 * READDIRPLUS, RFC 1813 section 3.3.17
 *   args       => dir:nfs_fh3 cookie:uhyper cookieverf:opaque[8] dircount:uint maxcount:uint
 *   resok      => dir_attributes:post_op_attr cookieverf:opaque[8] reply:dirlistplus3
 *   entryplus3 => fileid:uhyper name:filename3 cookie:uhyper name_attributes:post_op_attr name_handle:optional nfs_fh3
 *   resfail    => dir_attributes:post_op_attr
 */
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeDirectoryList, type DirectoryList } from './directory-list.ts'
import type { ReaddirEntry } from './readdir.ts'
import { decodeResult, type Nfs3Result } from './nfsstat.ts'
import {
  decodeName, decodeOptionalAttributes, decodeOptionalHandle, encodeHandle, type Nfs3Attributes, type Nfs3Handle
} from './types.ts'

export interface ReaddirplusArgs {
  readonly dir: Nfs3Handle
  readonly cookie: bigint
  readonly cookieverf: string
  /** Bound for names, ids and cookies alone. */
  readonly dircountBytes: number
  /** Bound for the whole answer. */
  readonly maxcountBytes: number
}

export interface ReaddirplusEntry extends ReaddirEntry {
  readonly attributes: Nfs3Attributes | undefined
  readonly handle: Nfs3Handle | undefined
}

export interface ReaddirplusOk extends DirectoryList<ReaddirplusEntry> {
  readonly directory: Nfs3Attributes | undefined
  readonly cookieverf: string
}

export function encodeReaddirplus (
  out: XdrWriter,
  { dir, cookie, cookieverf, dircountBytes, maxcountBytes }: ReaddirplusArgs
): void {
  encodeHandle(out, dir)
  out.uint64(cookie)
  out.fixedLatin1(cookieverf)
  out.uint32(dircountBytes)
  out.uint32(maxcountBytes)
}

function decodeEntry (input: XdrReader): ReaddirplusEntry {
  return {
    fileid: input.uint64(),
    name: decodeName(input),
    cookie: input.uint64(),
    attributes: decodeOptionalAttributes(input),
    handle: decodeOptionalHandle(input)
  }
}

function decodeOk (input: XdrReader): ReaddirplusOk {
  const directory = decodeOptionalAttributes(input)
  const cookieverf = input.fixedLatin1(8)
  const { entries, eof } = decodeDirectoryList(input, decodeEntry)
  return { directory, cookieverf, entries, eof }
}

export function decodeReaddirplus (input: XdrReader): Nfs3Result<ReaddirplusOk, Nfs3Attributes | undefined> {
  return decodeResult(input, decodeOk, decodeOptionalAttributes)
}
