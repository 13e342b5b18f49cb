/**
 * ONC RPC as a server sees it, RFC 5531: calls in, replies out, and record marking (section 11).
 * Owns the grammar. Does not know programs, and leaves what happens to a reply to the connection.
 */
import { XdrReader } from '../../../proto/xdr/reader.ts'
import { XdrWriter } from '../../../proto/xdr/writer.ts'
import type { Credential } from './procedure.ts'

/** Larger than any call: a 1 MiB WRITE and its header. */
const recordBytesMax = 4 * 1024 * 1024

/** accept_stat. */
export const acceptStatus = {
  SUCCESS: 0, PROG_UNAVAIL: 1, PROG_MISMATCH: 2, PROC_UNAVAIL: 3, GARBAGE_ARGS: 4, SYSTEM_ERR: 5
} as const
/** auth_stat. */
export const authStatus = { BADCRED: 1, TOOWEAK: 5 } as const

export interface CallMessage {
  readonly xid: number
  readonly program: number
  readonly version: number
  readonly procedure: number
  readonly credential: Credential
  readonly args: XdrReader
}

/** Puts records together again. One copy per record, whatever the chunks and fragments were. */
export class RecordAssembler {
  #chunks: Buffer[] = []
  #bytes = 0
  #fragments: Buffer[] = []

  push (chunk: Buffer): Buffer[] {
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    const records: Buffer[] = []
    for (;;) {
      const marker = this.#marker()
      if (marker === undefined) return records
      const length = marker & 0x7fff_ffff
      if (length > recordBytesMax) throw new Error(`a record of ${length} bytes`)
      if (this.#bytes < 4 + length) return records
      const all = this.#chunks.length === 1 ? this.#chunks[0] as Buffer : Buffer.concat(this.#chunks)
      this.#fragments.push(all.subarray(4, 4 + length))
      const rest = all.subarray(4 + length)
      this.#chunks = rest.length === 0 ? [] : [rest]
      this.#bytes = rest.length
      if ((marker & 0x8000_0000) !== 0) {
        records.push(this.#fragments.length === 1 ? this.#fragments[0] as Buffer : Buffer.concat(this.#fragments))
        this.#fragments = []
      }
    }
  }

  #marker (): number | undefined {
    if (this.#bytes < 4) return undefined
    if ((this.#chunks[0] as Buffer).length < 4) this.#chunks = [Buffer.concat(this.#chunks)]
    return (this.#chunks[0] as Buffer).readUInt32BE(0)
  }
}

const nobody: Credential = { uid: 65534, gid: 65534, groups: [] }

/** authsys_parms, appendix A. */
function decodeAuthSys (body: Buffer): Credential {
  const input = new XdrReader(body)
  input.uint32()
  input.opaque(255)
  const [uid, gid, count] = [input.uint32(), input.uint32(), input.uint32()]
  const groups = Array.from({ length: Math.min(count, 16) }, () => input.uint32())
  return { uid, gid, groups }
}

export function decodeCall (record: Buffer): CallMessage {
  const input = new XdrReader(record)
  const [xid, kind, rpcVersion] = [input.uint32(), input.uint32(), input.uint32()]
  if (kind !== 0 || rpcVersion !== 2) throw new Error(`not an RPC call: type ${kind}, version ${rpcVersion}`)
  const [program, version, procedure] = [input.uint32(), input.uint32(), input.uint32()]
  const flavour = input.uint32()
  const body = input.opaque(400)
  input.uint32()
  input.opaque(400)
  return { xid, program, version, procedure, credential: flavour === 1 ? decodeAuthSys(body) : nobody, args: input }
}

/** A reply that was accepted: AUTH_NONE verifier and accept_stat. The rest is the procedure's. */
export function acceptedReply (xid: number, status: number): XdrWriter {
  const out = new XdrWriter(512)
  for (const word of [xid, 1, 0, 0, 0, status]) out.uint32(word)
  return out
}

/** MSG_DENIED, AUTH_ERROR. */
export function deniedReply (xid: number, why: number): XdrWriter {
  const out = new XdrWriter(32)
  for (const word of [xid, 1, 1, 1, why]) out.uint32(word)
  return out
}

/** The buffers of one record, marked, in fragments of at most `fragmentBytes`. */
export function markRecord (parts: readonly Buffer[], fragmentBytes = 0x7fff_ffff): Buffer[] {
  const bytes = parts.reduce((sum, part) => sum + part.length, 0)
  const marker = (length: number, isLast: boolean): Buffer => {
    const header = Buffer.allocUnsafe(4)
    header.writeUInt32BE((length | (isLast ? 0x8000_0000 : 0)) >>> 0, 0)
    return header
  }
  if (bytes <= fragmentBytes) return [marker(bytes, true), ...parts]
  const whole = Buffer.concat(parts)
  const fragments: Buffer[] = []
  for (let at = 0; at < bytes; at += fragmentBytes) {
    const fragment = whole.subarray(at, at + fragmentBytes)
    fragments.push(marker(fragment.length, at + fragment.length === bytes), fragment)
  }
  return fragments
}
