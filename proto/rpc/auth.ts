/**
 * Credentials, RFC 5531 section 8.2 and appendix A.
 *   opaque_auth    => flavor:uint body:opaque<400>
 *   authsys_parms  => stamp:uint machinename:string<255> uid:uint gid:uint gids:uint<16>
 *
 * Owns encoded opaque_auth values, made once per user and reused for every call. Does not know who a caller is.
 */
import { authSysGroupsMax } from '../../agent/base/limits.ts'
import { XdrWriter } from '../xdr/writer.ts'

export const authFlavors = { AUTH_NONE: 0, AUTH_SYS: 1, RPCSEC_GSS: 6, AUTH_TLS: 7 } as const
const MACHINE_NAME_BYTES_MAX = 255

/** The encoded "nobody asks" credential. */
export function encodeAuthNone (): Buffer { return Buffer.alloc(8) }

export interface AuthSys {
  /** Latin1 bytes of the host's name; cut to 255. */
  readonly machineName: string
  readonly uid: number
  /** The effective group: always carried, whatever happens to the supplementary ones. */
  readonly gid: number
  /** All supplementary groups; see `carriedGroups` for what is sent. */
  readonly groups: readonly number[]
  readonly stamp: number
}

/**
 * At most sixteen supplementary groups fit. The effective group has a field of its own, so repeating it would waste one
 * of them; of the others the first sixteen are kept, as the kernel's client does (the kernel keeps a process's groups
 * sorted).
 */
export function carriedGroups (gid: number, groups: readonly number[]): readonly number[] {
  if (groups.length <= authSysGroupsMax) return groups
  return groups.filter((group) => group !== gid).slice(0, authSysGroupsMax)
}

export function encodeAuthSys ({ machineName, uid, gid, groups, stamp }: AuthSys): Buffer {
  const body = new XdrWriter(4 + 260 + 12 + 64)
  body.uint32(stamp)
  body.latin1(machineName.slice(0, MACHINE_NAME_BYTES_MAX), MACHINE_NAME_BYTES_MAX)
  body.uint32(uid)
  body.uint32(gid)
  const carried = carriedGroups(gid, groups)
  body.uint32(carried.length)
  for (const group of carried) body.uint32(group)
  const bytes = Buffer.concat(body.finish())
  const out = new XdrWriter(bytes.length + 8)
  out.uint32(authFlavors.AUTH_SYS)
  out.opaque(bytes, 400)
  return Buffer.concat(out.finish())
}
