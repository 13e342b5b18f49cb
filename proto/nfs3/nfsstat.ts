/**
 * nfsstat3, RFC 1813 section 2.6.
 * Owns the table of every status a server may answer. Does not know what a caller makes of it.
 */
import type { XdrReader } from '../xdr/reader.ts'

export const nfs3Failures = {
  NFS3ERR_PERM: 1,
  NFS3ERR_NOENT: 2,
  NFS3ERR_IO: 5,
  NFS3ERR_NXIO: 6,
  NFS3ERR_ACCES: 13,
  NFS3ERR_EXIST: 17,
  NFS3ERR_XDEV: 18,
  NFS3ERR_NODEV: 19,
  NFS3ERR_NOTDIR: 20,
  NFS3ERR_ISDIR: 21,
  NFS3ERR_INVAL: 22,
  NFS3ERR_FBIG: 27,
  NFS3ERR_NOSPC: 28,
  NFS3ERR_ROFS: 30,
  NFS3ERR_MLINK: 31,
  NFS3ERR_NAMETOOLONG: 63,
  NFS3ERR_NOTEMPTY: 66,
  NFS3ERR_DQUOT: 69,
  NFS3ERR_STALE: 70,
  NFS3ERR_REMOTE: 71,
  NFS3ERR_BADHANDLE: 10001,
  NFS3ERR_NOT_SYNC: 10002,
  NFS3ERR_BAD_COOKIE: 10003,
  NFS3ERR_NOTSUPP: 10004,
  NFS3ERR_TOOSMALL: 10005,
  NFS3ERR_SERVERFAULT: 10006,
  NFS3ERR_BADTYPE: 10007,
  NFS3ERR_JUKEBOX: 10008
} as const

export type Nfs3Failure = keyof typeof nfs3Failures

const failureOf = new Map<number, Nfs3Failure>(
  Object.entries(nfs3Failures).map(([name, number]) => [number, name as Nfs3Failure])
)

/** What a procedure answers: its resok, or a failure with its resfail. */
export type Nfs3Result<Ok, Fail> =
  | { readonly ok: true, readonly value: Ok }
  | { readonly ok: false, readonly status: Nfs3Failure, readonly value: Fail }

/**
 * Reads the discriminated union every procedure answers with.
 * A status outside the table selects the union's default arm like any failure; servers do invent some (Linux' EWFLUSH
 * 99), so it is taken for "the server failed" and not for a broken message.
 */
export function decodeResult<Ok, Fail> (
  input: XdrReader, decodeOk: (input: XdrReader) => Ok, decodeFail: (input: XdrReader) => Fail
): Nfs3Result<Ok, Fail> {
  const status = input.uint32()
  return status === 0
    ? { ok: true, value: decodeOk(input) }
    : { ok: false, status: failureOf.get(status) ?? 'NFS3ERR_SERVERFAULT', value: decodeFail(input) }
}
