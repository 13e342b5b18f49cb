/*
 * READ, RFC 1813 section 3.3.6
 *   args    => file:nfs_fh3 offset:uhyper count:uint
 *   resok   => file_attributes:post_op_attr count:uint eof:bool data:opaque<>
 *   resfail => file_attributes:post_op_attr
 */
import { WireError } from '../../agent/base/errors.ts'
import { ioBytesMax } from '../../agent/base/limits.ts'
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeResult, type Nfs3Result } from './nfsstat.ts'
import { decodeOptionalAttributes, encodeHandle, type Nfs3Attributes, type Nfs3Handle } from './types.ts'

export interface ReadArgs { readonly file: Nfs3Handle, readonly offsetBytes: number, readonly countBytes: number }

export interface ReadOk {
  readonly attributes: Nfs3Attributes | undefined
  readonly eof: boolean
  /** Shares memory with the record. */
  readonly data: Buffer
}

export function encodeRead (out: XdrWriter, { file, offsetBytes, countBytes }: ReadArgs): void {
  encodeHandle(out, file)
  out.size64(offsetBytes)
  out.uint32(countBytes)
}

function decodeOk (input: XdrReader): ReadOk {
  const attributes = decodeOptionalAttributes(input)
  const count = input.uint32()
  const eof = input.bool()
  const data = input.opaque(ioBytesMax)
  // The protocol says the length twice; a server that contradicts itself is not believed in either.
  if (data.length !== count) throw new WireError('INVALID', 'READ carries another number of bytes than it counts')
  return { attributes, eof, data }
}

export function decodeRead (
  input: XdrReader,
  asked: Pick<ReadArgs, 'countBytes'>
): Nfs3Result<ReadOk, Nfs3Attributes | undefined> {
  const result = decodeResult(input, decodeOk, decodeOptionalAttributes)
  if (result.ok && result.value.data.length > asked.countBytes) {
    throw new WireError('INVALID', `READ of ${asked.countBytes} bytes answers more`)
  }
  return result
}
