/**
 * What the server can be told to do wrong.
 *
 * Owns the vocabulary. A script is one function that sees every call before it is executed and may answer with a
 * verdict; whatever it does not mention goes right. Does not know how a verdict is carried out.
 */
import type { NfsStatus } from './status.ts'

export type InformationName = 'rtmax' | 'rtpref' | 'wtmax' | 'wtpref' | 'dtpref' | 'maxFileSize' | 'properties'

export interface SeenCall {
  readonly program: 'NFS' | 'MOUNT' | 'PORTMAP'
  /** `READ`, `MNT`, … as the RFC spells it. */
  readonly procedure: string
  readonly xid: number
  /** How many calls of this procedure came before, over all connections. */
  readonly nth: number
  /** Which connection since the server started, from 0. */
  readonly connection: number
  readonly uid: number
  readonly gid: number
  readonly groups: readonly number[]
}

export interface Verdict {
  /** Do not execute; answer with this status. */
  readonly status?: NfsStatus
  /** Do not execute and do not answer. */
  readonly loseRequest?: boolean
  /** Execute, but keep the answer. */
  readonly loseReply?: boolean
  /** Answer so much later. */
  readonly delayMs?: number
  /** Send the answer so often. */
  readonly copies?: number
  /** WRITE takes, READ gives, at most so many bytes. */
  readonly bytesMax?: number
  /** WRITE claims this stability: 0 UNSTABLE, 1 DATA_SYNC, 2 FILE_SYNC. */
  readonly committed?: 0 | 1 | 2
  /** WRITE and COMMIT answer with this verifier instead of the server's. */
  readonly verifier?: Buffer
  /** An RPC level refusal, RFC 5531: accept_stat of an accepted reply, or a denied one with auth_stat. */
  readonly acceptStatus?: number
  readonly authStatus?: number
  /** MNT offers these flavours. */
  readonly flavours?: readonly number[]
  /** FSSTAT: bytes in all, free and available, then files likewise. */
  readonly statistics?: readonly [bigint, bigint, bigint, bigint, bigint, bigint]
  /** FSINFO's figures. */
  readonly information?: Partial<Readonly<Record<InformationName, number>>>
  /** PATHCONF's. */
  readonly pathLimits?: { readonly linkMax: number, readonly nameMax: number }
  /** Put behind the end of the answer. */
  readonly trailing?: Buffer
  /** Instead of the answer's bytes after the xid: these. */
  readonly garbage?: Buffer
  /** Cut the record, correctly marked, to so many bytes. */
  readonly truncateBytes?: number
  /** Cut into fragments of so many bytes. */
  readonly fragmentBytes?: number
  /** Send so many bytes of the answer, then reset the connection. */
  readonly resetAfterBytes?: number
  /** Close the connection in order, without an answer. */
  readonly close?: boolean
}

export type Script = (call: SeenCall) => Verdict | undefined | Promise<Verdict | undefined>
