/**
 * MOUNT version 3, RFC 1813 appendix I: the table of its procedures.
 * Owns rows and messages (they are small, so they share this file with their grammar).
 *   MNT    dirpath => status:mountstat3 (fhandle:opaque<64> auth_flavors:int<>)
 *   DUMP   void    => list of (hostname:string<255> directory:string<1024>)
 *   UMNT   dirpath => void          UMNTALL void => void
 *   EXPORT void    => list of (dir:string<1024> groups:list of string<255>)
 */
import { WireError } from '../../agent/base/errors.ts'
import { NFS3_FHSIZE } from '../../agent/base/limits.ts'
import { decodeVoid, encodeVoid, type Procedure, rowsOf } from '../rpc/procedure.ts'
import type { XdrReader } from '../xdr/reader.ts'
import type { XdrWriter } from '../xdr/writer.ts'

export const MOUNT_PROGRAM = 100005
export const MOUNT_V3 = 3
/** MNTPATHLEN */
export const MOUNT_PATH_BYTES_MAX = 1024
/** MNTNAMLEN */
const MOUNT_NAME_BYTES_MAX = 255
/** Flavours are small integers; a server lists a handful. */
const FLAVORS_MAX = 64

/** mountstat3 without MNT3_OK. */
export const mountFailures = {
  MNT3ERR_PERM: 1,
  MNT3ERR_NOENT: 2,
  MNT3ERR_IO: 5,
  MNT3ERR_ACCES: 13,
  MNT3ERR_NOTDIR: 20,
  MNT3ERR_INVAL: 22,
  MNT3ERR_NAMETOOLONG: 63,
  MNT3ERR_NOTSUPP: 10004,
  MNT3ERR_SERVERFAULT: 10006
} as const
export type MountFailure = keyof typeof mountFailures

const failureOf = new Map<number, MountFailure>(
  Object.entries(mountFailures).map(([name, number]) => [number, name as MountFailure])
)

export type MountResult =
  | { readonly ok: true, readonly handle: string, readonly flavors: readonly number[] }
  | { readonly ok: false, readonly status: MountFailure }

/** Path as the server knows it, raw bytes as latin1. */
export interface MountPathArgs { readonly path: string }
export interface MountEntry { readonly host: string, readonly path: string }
export interface ExportEntry { readonly path: string, readonly groups: readonly string[] }

function encodePath (out: XdrWriter, { path }: MountPathArgs): void { out.latin1(path, MOUNT_PATH_BYTES_MAX) }

function decodeMnt (input: XdrReader): MountResult {
  const status = input.uint32()
  if (status !== 0) return { ok: false, status: failureOf.get(status) ?? 'MNT3ERR_SERVERFAULT' }
  const handle = input.latin1(NFS3_FHSIZE)
  const count = input.uint32()
  if (count > FLAVORS_MAX) throw new WireError('OVERLONG', `more than ${FLAVORS_MAX} authentication flavours`)
  const flavors: number[] = []
  for (let index = 0; index < count; index++) flavors.push(input.uint32())
  return { ok: true, handle, flavors }
}

function decodeList<T> (input: XdrReader, decode: (input: XdrReader) => T): readonly T[] {
  const list: T[] = []
  while (input.bool()) list.push(decode(input))
  return list
}

function decodeDump (input: XdrReader): readonly MountEntry[] {
  return decodeList(
    input,
    () => ({ host: input.latin1(MOUNT_NAME_BYTES_MAX), path: input.latin1(MOUNT_PATH_BYTES_MAX) })
  )
}

function decodeExport (input: XdrReader): readonly ExportEntry[] {
  return decodeList(input, () => ({
    path: input.latin1(MOUNT_PATH_BYTES_MAX),
    groups: decodeList(input, () => input.latin1(MOUNT_NAME_BYTES_MAX))
  }))
}

export type Mount3ProcedureName = 'NULL' | 'MNT' | 'DUMP' | 'UMNT' | 'UMNTALL' | 'EXPORT'

const row = rowsOf(MOUNT_PROGRAM, MOUNT_V3)

export const mountProcedures = {
  NULL: row('NULL', 0, encodeVoid, decodeVoid, { repeatable: true }),
  MNT: row('MNT', 1, encodePath, decodeMnt, { repeatable: true }),
  DUMP: row('DUMP', 2, encodeVoid, decodeDump, { repeatable: true }),
  UMNT: row('UMNT', 3, encodePath, decodeVoid, { repeatable: true }),
  UMNTALL: row('UMNTALL', 4, encodeVoid, decodeVoid, { repeatable: true }),
  EXPORT: row('EXPORT', 5, encodeVoid, decodeExport, { repeatable: true })
} as const satisfies Record<Mount3ProcedureName, Procedure<never, unknown>>
