/*
 * MKDIR, RFC 1813 section 3.3.9
 *   args    => where:(dir:nfs_fh3 name:filename3) attributes:sattr3
 *   result  => as in made.ts
 */
import type { FileName } from '../../agent/base/brands.ts'
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeMade, type MadeOk } from './made.ts'
import type { Nfs3Result } from './nfsstat.ts'
import {
  encodeHandle,
  encodeName,
  encodeSetAttributes,
  type Nfs3Handle,
  type SetAttributes,
  type WccData
} from './types.ts'

export interface MkdirArgs { readonly dir: Nfs3Handle, readonly name: FileName, readonly attributes: SetAttributes }

export function encodeMkdir (out: XdrWriter, { dir, name, attributes }: MkdirArgs): void {
  encodeHandle(out, dir)
  encodeName(out, name)
  encodeSetAttributes(out, attributes)
}

export function decodeMkdir (input: XdrReader): Nfs3Result<MadeOk, WccData> {
  return decodeMade(input)
}
