/**
 * RPC reply, RFC 5531 section 9.
 *   rpc_msg        => xid:uint msg_type:1 stat:reply_stat (accepted | rejected)
 *   accepted_reply => verf:opaque_auth stat:accept_stat (results | mismatch_info | void)
 *   rejected_reply => stat:reject_stat (mismatch_info | auth_stat)
 *
 * Owns the head of an incoming reply and the tables of its outcomes. Does not know what follows an accepted one.
 */
import { WireError } from '../../agent/base/errors.ts'
import type { XdrReader } from '../xdr/reader.ts'

/** accept_stat, without SUCCESS. */
export const acceptFailures = {
  1: 'PROG_UNAVAIL',
  2: 'PROG_MISMATCH',
  3: 'PROC_UNAVAIL',
  4: 'GARBAGE_ARGS',
  5: 'SYSTEM_ERR'
} as const

/** auth_stat, without AUTH_OK. */
export const authFailures = {
  1: 'AUTH_BADCRED',
  2: 'AUTH_REJECTEDCRED',
  3: 'AUTH_BADVERF',
  4: 'AUTH_REJECTEDVERF',
  5: 'AUTH_TOOWEAK',
  6: 'AUTH_INVALIDRESP',
  7: 'AUTH_FAILED',
  8: 'AUTH_KERB_GENERIC',
  9: 'AUTH_TIMEEXPIRE',
  10: 'AUTH_TKT_FILE',
  11: 'AUTH_DECODE',
  12: 'AUTH_NET_ADDR',
  13: 'RPCSEC_GSS_CREDPROBLEM',
  14: 'RPCSEC_GSS_CTXPROBLEM'
} as const

export type AcceptFailure = typeof acceptFailures[keyof typeof acceptFailures]
export type AuthFailure = typeof authFailures[keyof typeof authFailures]
export type RejectionKind = AcceptFailure | AuthFailure | 'RPC_MISMATCH'

/** Why the server did not run the procedure. */
export interface Rejection {
  readonly kind: RejectionKind
  /** Versions the server speaks, with PROG_MISMATCH and RPC_MISMATCH. */
  readonly versions: { readonly low: number, readonly high: number } | undefined
}

const REPLY = 1
const MSG_ACCEPTED = 0
const MSG_DENIED = 1
const SUCCESS = 0
const RPC_MISMATCH = 0
const AUTH_ERROR = 1
/** opaque_auth body, RFC 5531 section 8.2. */
const AUTH_BODY_BYTES_MAX = 400

const acceptFailureOf = new Map<number, AcceptFailure>(
  Object.entries(acceptFailures).map(([number, name]) => [Number(number), name])
)
const authFailureOf = new Map<number, AuthFailure>(
  Object.entries(authFailures).map(([number, name]) => [Number(number), name])
)

/** The message type, which follows the xid. @throws WireError when it is not that of a reply. */
export function requireReply (input: XdrReader): void {
  const type = input.uint32()
  if (type !== REPLY) throw new WireError('INVALID', 'a message is no reply')
}

/** What follows the message type. Undefined: the procedure ran and its results come next. */
export function decodeReplyHead (input: XdrReader): Rejection | undefined {
  const state = input.uint32()
  if (state === MSG_DENIED) return decodeRejected(input)
  if (state !== MSG_ACCEPTED) throw new WireError('INVALID', 'reply_stat has an unknown value')
  input.uint32()
  input.skipOpaque(AUTH_BODY_BYTES_MAX)
  const outcome = input.uint32()
  if (outcome === SUCCESS) return undefined
  const kind = acceptFailureOf.get(outcome)
  if (kind === undefined) throw new WireError('INVALID', 'accept_stat has an unknown value')
  return { kind, versions: kind === 'PROG_MISMATCH' ? decodeVersions(input) : undefined }
}

function decodeRejected (input: XdrReader): Rejection {
  const why = input.uint32()
  if (why === RPC_MISMATCH) return { kind: 'RPC_MISMATCH', versions: decodeVersions(input) }
  if (why !== AUTH_ERROR) throw new WireError('INVALID', 'reject_stat has an unknown value')
  const kind = authFailureOf.get(input.uint32())
  // A flavour of authentication we never heard of may fail in ways we never heard of.
  return { kind: kind ?? 'AUTH_FAILED', versions: undefined }
}

function decodeVersions (input: XdrReader): { low: number, high: number } {
  return { low: input.uint32(), high: input.uint32() }
}
