/**
 * What a row of a protocol table knows about a remote procedure.
 * Owns the type and its maker. Does not know any program.
 */
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'

/** Where a procedure carries file data: in its arguments (WRITE), in its result (READ), or nowhere. */
export type BulkKind = 'none' | 'arguments' | 'result'

export interface Procedure<A, R> {
  readonly name: string
  readonly program: number
  readonly version: number
  readonly number: number
  /** Running it twice has the same outcome and the same answer as once: nothing to verify after a retransmission. */
  readonly repeatable: boolean
  readonly bulk: BulkKind
  encode (out: XdrWriter, args: A): void
  /**
   * Reads the whole result and nothing after it; whether bytes are left is the transport's business. With bulk
   * `result` the value shares memory with the record. `args` is what was asked, because some lies can only be told by
   * comparing.
   */
  decode (input: XdrReader, args: A): R
}

interface Traits { readonly repeatable: boolean, readonly bulk?: BulkKind }

/** The rows of one version of one program. */
export function rowsOf (program: number, version: number): <A, R>(
  name: string, number: number, encode: (out: XdrWriter, args: A) => void, decode: (input: XdrReader, args: A) => R,
  traits: Traits
) => Procedure<A, R> {
  return (name, number, encode, decode, { repeatable, bulk = 'none' }) => ({
    name, program, version, number, repeatable, bulk, encode, decode
  })
}

// void has no bytes, RFC 4506 section 4.16
export function encodeVoid (_out: XdrWriter, _nothing: undefined): void {}
export function decodeVoid (_input: XdrReader): undefined { return undefined }
