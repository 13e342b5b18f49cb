/**
 * Port mapper version 2 and rpcbind versions 3 and 4, RFC 1833: which port does a program listen on?
 * Owns the rows that only ask; nothing of ours registers itself.
 *   v2 GETPORT mapping            => port:uint        mapping => prog:uint vers:uint prot:uint port:uint
 *   v2 DUMP    void               => list of mapping
 *   v3 v4 GETADDR rpcb            => uaddr:string     rpcb => prog:uint vers:uint netid:string addr:string owner:string
 */
import { WireError } from '../../agent/base/errors.ts'
import { encodeVoid, type Procedure, rowsOf } from '../rpc/procedure.ts'
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'

export const PORTMAP_PROGRAM = 100000
export const PORTMAP_PORT = 111
export const IPPROTO_TCP = 6
/** The longest universal address is an IPv6 text and two numbers. */
const UNIVERSAL_ADDRESS_BYTES_MAX = 256

export interface Mapping {
  readonly program: number
  readonly version: number
  readonly protocol: number
  readonly port: number
}
export type GetportArgs = Pick<Mapping, 'program' | 'version' | 'protocol'>
export interface GetaddrArgs {
  readonly program: number
  readonly version: number
  /** `tcp` or `tcp6`. */
  readonly netid: string
  /** Where we reached the server: a hint for hosts with several addresses. */
  readonly address: string
}

function encodeGetport (out: XdrWriter, { program, version, protocol }: GetportArgs): void {
  out.uint32(program)
  out.uint32(version)
  out.uint32(protocol)
  out.uint32(0)
}

/** 0 when the program is not registered. */
function decodeGetport (input: XdrReader): number {
  const port = input.uint32()
  if (port > 0xffff) throw new WireError('INVALID', 'a port is above 65535')
  return port
}

function decodeDump (input: XdrReader): readonly Mapping[] {
  const list: Mapping[] = []
  while (input.bool()) {
    list.push({ program: input.uint32(), version: input.uint32(), protocol: input.uint32(), port: input.uint32() })
  }
  return list
}

function encodeGetaddr (out: XdrWriter, { program, version, netid, address }: GetaddrArgs): void {
  out.uint32(program)
  out.uint32(version)
  out.latin1(netid, 16)
  out.latin1(address, UNIVERSAL_ADDRESS_BYTES_MAX)
  out.latin1('', 0)
}

/** The universal address; empty when the program is not registered. */
function decodeGetaddr (input: XdrReader): string {
  return input.latin1(UNIVERSAL_ADDRESS_BYTES_MAX)
}

/**
 * The port of a universal address ("192.0.2.1.8.1" and "2001:db8::1.8.1" both end in high and low byte, RFC 5665
 * section 5.2.3); undefined when it is none.
 */
export function portOfUniversalAddress (address: string): number | undefined {
  const match = /\.(\d{1,3})\.(\d{1,3})$/.exec(address)
  const high = Number(match?.[1])
  const low = Number(match?.[2])
  return high <= 255 && low <= 255 ? high * 256 + low : undefined
}

const row2 = rowsOf(PORTMAP_PROGRAM, 2)
const row3 = rowsOf(PORTMAP_PROGRAM, 3)
const row4 = rowsOf(PORTMAP_PROGRAM, 4)

export type PortmapProcedureName = 'GETPORT' | 'DUMP' | 'GETADDR_V3' | 'GETADDR_V4'

export const portmapProcedures = {
  GETPORT: row2('GETPORT', 3, encodeGetport, decodeGetport, { repeatable: true }),
  DUMP: row2('DUMP', 4, encodeVoid, decodeDump, { repeatable: true }),
  GETADDR_V3: row3('GETADDR', 3, encodeGetaddr, decodeGetaddr, { repeatable: true }),
  GETADDR_V4: row4('GETADDR', 3, encodeGetaddr, decodeGetaddr, { repeatable: true })
} as const satisfies Record<PortmapProcedureName, Procedure<never, unknown>>
