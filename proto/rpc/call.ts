/**
 * RPC call, RFC 5531 section 9.
 *   rpc_msg   => xid:uint msg_type:0 rpcvers:2 prog:uint vers:uint proc:uint cred:opaque_auth verf:opaque_auth
 *
 * Owns the head of an outgoing call and its record mark. Does not know what the procedure's arguments are.
 */
import type { XdrWriter } from '../xdr/writer.ts'
import { MARK_BYTES } from './record.ts'
import type { Procedure } from './procedure.ts'

export const RPC_VERSION = 2
const CALL = 0
const AUTH_NONE = 0

/** Begins a record with the head of a call. `credential` is an encoded opaque_auth, see auth.ts. */
export function encodeCallHead (
  out: XdrWriter,
  procedure: Procedure<never, unknown>,
  xid: number,
  credential: Buffer
): void {
  out.uint32(0) // record mark, filled in by finishCall
  out.uint32(xid)
  out.uint32(CALL)
  out.uint32(RPC_VERSION)
  out.uint32(procedure.program)
  out.uint32(procedure.version)
  out.uint32(procedure.number)
  out.fixed(credential)
  out.uint32(AUTH_NONE)
  out.uint32(0)
}

/** Ends the record: one fragment, the last. */
export function finishCall (out: XdrWriter): readonly Buffer[] {
  const bytes = out.bytes - MARK_BYTES
  const parts = out.finish()
  parts[0]?.writeUInt32BE((0x8000_0000 | bytes) >>> 0, 0)
  return parts
}
