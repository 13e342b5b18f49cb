/*
 * FSSTAT, RFC 1813 section 3.3.18
 *   args    => fsroot:nfs_fh3
 *   resok   => obj_attributes:post_op_attr tbytes:uhyper fbytes:uhyper abytes:uhyper tfiles:uhyper ffiles:uhyper
 *              afiles:uhyper invarsec:uint
 *   resfail => obj_attributes:post_op_attr
 */
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeResult, type Nfs3Result } from './nfsstat.ts'
import { decodeOptionalAttributes, encodeHandle, type Nfs3Attributes, type Nfs3Handle } from './types.ts'

export interface FsstatArgs { readonly fsroot: Nfs3Handle }

export interface FsstatOk {
  readonly attributes: Nfs3Attributes | undefined
  readonly totalBytes: bigint
  readonly freeBytes: bigint
  readonly availableBytes: bigint
  readonly totalFiles: bigint
  readonly freeFiles: bigint
  readonly availableFiles: bigint
  readonly invariantSeconds: number
}

export function encodeFsstat (out: XdrWriter, { fsroot }: FsstatArgs): void {
  encodeHandle(out, fsroot)
}

function decodeOk (input: XdrReader): FsstatOk {
  return {
    attributes: decodeOptionalAttributes(input),
    totalBytes: input.uint64(),
    freeBytes: input.uint64(),
    availableBytes: input.uint64(),
    totalFiles: input.uint64(),
    freeFiles: input.uint64(),
    availableFiles: input.uint64(),
    invariantSeconds: input.uint32()
  }
}

export function decodeFsstat (input: XdrReader): Nfs3Result<FsstatOk, Nfs3Attributes | undefined> {
  return decodeResult(input, decodeOk, decodeOptionalAttributes)
}
