/*
 * WRITE, RFC 1813 section 3.3.7
 *   args    => file:nfs_fh3 offset:uhyper count:uint stable:stable_how data:opaque<>
 *   resok   => file_wcc:wcc_data count:uint committed:stable_how verf:opaque[8]
 *   resfail => file_wcc:wcc_data
 */
import { WireError } from '../../agent/base/errors.ts'
import { ioBytesMax } from '../../agent/base/limits.ts'
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'
import { decodeResult, type Nfs3Result } from './nfsstat.ts'
import { decodeWccData, encodeHandle, type Nfs3Handle, type WccData } from './types.ts'

/** stable_how: UNSTABLE, DATA_SYNC, FILE_SYNC. */
export type StableHow = 0 | 1 | 2

export interface WriteArgs {
  readonly file: Nfs3Handle
  readonly offsetBytes: number
  readonly stable: StableHow
  /** Sent by reference: must not change before the call has ended. */
  readonly data: readonly Buffer[]
}

export interface WriteOk {
  readonly wcc: WccData
  readonly countBytes: number
  readonly committed: StableHow
  /** writeverf3 as latin1. */
  readonly verifier: string
}

function bytesOf (data: readonly Buffer[]): number {
  let bytes = 0
  for (const part of data) bytes += part.length
  return bytes
}

export function encodeWrite (out: XdrWriter, { file, offsetBytes, stable, data }: WriteArgs): void {
  const countBytes = bytesOf(data)
  encodeHandle(out, file)
  out.size64(offsetBytes)
  out.uint32(countBytes)
  out.uint32(stable)
  out.payload(data, ioBytesMax)
}

function decodeStableHow (input: XdrReader): StableHow {
  const value = input.uint32()
  if (value === 0 || value === 1 || value === 2) return value
  throw new WireError('INVALID', 'stable_how has an unknown value')
}

function decodeOk (input: XdrReader): WriteOk {
  return {
    wcc: decodeWccData(input),
    countBytes: input.uint32(),
    committed: decodeStableHow(input),
    verifier: input.fixedLatin1(8)
  }
}

export function decodeWrite (input: XdrReader, sent: Pick<WriteArgs, 'data'>): Nfs3Result<WriteOk, WccData> {
  const result = decodeResult(input, decodeOk, decodeWccData)
  if (result.ok && result.value.countBytes > bytesOf(sent.data)) {
    throw new WireError(
      'INVALID',
      `WRITE of ${bytesOf(sent.data)} bytes claims to have written more`
    )
  }
  return result
}
