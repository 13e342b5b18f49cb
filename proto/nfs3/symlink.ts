/*
 * SYMLINK, RFC 1813 section 3.3.10
 *   args    => where:(dir:nfs_fh3 name:filename3) symlink:(attributes:sattr3 data:nfspath3)
 *   result  => as in made.ts
 */
import type { FileName } from '../../agent/base/brands.ts'
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeMade, type MadeOk } from './made.ts'
import type { Nfs3Result } from './nfsstat.ts'
import {
  encodeHandle, encodeName, encodeSetAttributes, type Nfs3Handle, type SetAttributes, TARGET_BYTES_MAX, type WccData
} from './types.ts'

export interface SymlinkArgs {
  readonly dir: Nfs3Handle
  readonly name: FileName
  readonly attributes: SetAttributes
  /** Raw bytes as latin1. */
  readonly target: string
}

export function encodeSymlink (out: XdrWriter, { dir, name, attributes, target }: SymlinkArgs): void {
  encodeHandle(out, dir)
  encodeName(out, name)
  encodeSetAttributes(out, attributes)
  out.latin1(target, TARGET_BYTES_MAX)
}

export function decodeSymlink (input: XdrReader): Nfs3Result<MadeOk, WccData> {
  return decodeMade(input)
}
