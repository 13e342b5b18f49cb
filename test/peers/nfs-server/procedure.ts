/**
 * The shape of a procedure of this server.
 * Owns what a procedure is given and what it gives back. Does not know any procedure.
 */
import type { XdrReader } from '../../../proto/xdr/reader.ts'
import type { XdrWriter } from '../../../proto/xdr/writer.ts'
import type { Verdict } from './script.ts'
import type { Tree } from './tree.ts'
import type { UnstableData } from './unstable.ts'

export interface Credential {
  readonly uid: number
  readonly gid: number
  readonly groups: readonly number[]
}

/** FSINFO's figures. */
export interface Offer {
  readonly readBytesMax: number
  readonly writeBytesMax: number
  readonly directoryBytesMax: number
}

export interface Call {
  readonly tree: Tree
  readonly credential: Credential
  readonly verdict: Verdict
  /** writeverf3 of this server's life. */
  readonly verifier: Buffer
  readonly unstable: UnstableData
  readonly offer: Offer
  readonly share: string
  readonly port: number
}

/** Writes the body of a successful answer. */
export type Answer = (out: XdrWriter) => void

export interface Procedure {
  readonly number: number
  /**
   * Words of an unsuccessful answer after the status, all zero: "no attributes given" of RFC 1813. nfs-ganesha gives
   * them, so clients are tested with both manners.
   */
  readonly failWords: number
  /** The answer has no status in front: NULL, and most of MOUNT and the portmapper. */
  readonly bare?: true
  readonly run: (input: XdrReader, call: Call) => Answer | Promise<Answer>
}

export const fileHandleBytesMax = 64
export const nameBytesMax = 255
export const pathBytesMax = 4096
