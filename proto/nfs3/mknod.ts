/*
 * MKNOD, RFC 1813 section 3.3.11
 *   args    => where:(dir:nfs_fh3 name:filename3) what:mknoddata3
 *   mknoddata3 => NF3CHR:4 NF3BLK:3 (dev_attributes:sattr3 spec:specdata3) | NF3SOCK:6 NF3FIFO:7 pipe_attributes:sattr3
 *   result  => as in made.ts
 */
import type { FileName } from '../../agent/base/brands.ts'
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeMade, type MadeOk } from './made.ts'
import type { Nfs3Result } from './nfsstat.ts'
import {
  encodeHandle, encodeName, encodeSetAttributes, fileTypeNumbers, type Nfs3Handle, type SetAttributes, type WccData
} from './types.ts'

export interface MknodArgs {
  readonly dir: Nfs3Handle
  readonly name: FileName
  readonly type: 'fifo' | 'socket' | 'character' | 'block'
  readonly attributes: SetAttributes
  /** Device numbers; not sent for fifo and socket. */
  readonly major: number
  readonly minor: number
}

export function encodeMknod (out: XdrWriter, { dir, name, type, attributes, major, minor }: MknodArgs): void {
  encodeHandle(out, dir)
  encodeName(out, name)
  out.uint32(fileTypeNumbers[type])
  encodeSetAttributes(out, attributes)
  if (type === 'character' || type === 'block') {
    out.uint32(major)
    out.uint32(minor)
  }
}

export function decodeMknod (input: XdrReader): Nfs3Result<MadeOk, WccData> {
  return decodeMade(input)
}
