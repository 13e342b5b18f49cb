/*
 * CREATE, RFC 1813 section 3.3.8
 *   args    => where:(dir:nfs_fh3 name:filename3) how:createhow3
 *   createhow3 => UNCHECKED:0 sattr3 | GUARDED:1 sattr3 | EXCLUSIVE:2 verf:opaque[8]
 *   resok   => obj:optional nfs_fh3 obj_attributes:post_op_attr dir_wcc:wcc_data
 *   resfail => dir_wcc:wcc_data
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

export type CreateHow =
  | { readonly kind: 'unchecked' | 'guarded', readonly attributes: SetAttributes }
  /** createverf3: eight bytes as latin1. */
  | { readonly kind: 'exclusive', readonly verifier: string }

export interface CreateArgs { readonly dir: Nfs3Handle, readonly name: FileName, readonly how: CreateHow }

const createModes = { unchecked: 0, guarded: 1, exclusive: 2 } as const satisfies Record<CreateHow['kind'], number>

export function encodeCreate (out: XdrWriter, { dir, name, how }: CreateArgs): void {
  encodeHandle(out, dir)
  encodeName(out, name)
  out.uint32(createModes[how.kind])
  if (how.kind === 'exclusive') out.fixedLatin1(how.verifier)
  else encodeSetAttributes(out, how.attributes)
}

export function decodeCreate (input: XdrReader): Nfs3Result<MadeOk, WccData> {
  return decodeMade(input)
}
