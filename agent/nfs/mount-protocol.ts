/**
 * MOUNT version 3: from an exported path to its root handle, and the word of farewell.
 *
 * Owns the table of refusals and their remedies. Does not know how the server was found.
 */
import { type TransportError, VolumeError, type VolumeErrorCode } from '../base/errors.ts'
import { callOnce, type OneShotOptions } from '../rpc/one-shot.ts'
import { type MountFailure, mountProcedures, type MountResult } from '../../proto/mount3/procedures.ts'
import { authFlavors } from '../../proto/rpc/auth.ts'
import { transportFault } from './faults.ts'

const refusals = {
  MNT3ERR_PERM: {
    code: 'DENIED', why: 'this node may not mount it', remedy: 'allow the node\'s address in the server\'s exports'
  },
  MNT3ERR_NOENT: {
    code: 'NOT_FOUND', why: 'the server has no such path', remedy: 'check the exported path on the server'
  },
  MNT3ERR_IO: { code: 'UNAVAILABLE', why: 'the server met an I/O error', remedy: 'look at the server\'s log' },
  MNT3ERR_ACCES: {
    code: 'DENIED', why: 'the server does not export it to this node',
    remedy: 'check the path and the clients allowed in the server\'s exports'
  },
  MNT3ERR_NOTDIR: { code: 'INVALID', why: 'it is not a directory', remedy: 'give the path of an exported directory' },
  MNT3ERR_INVAL: {
    code: 'INVALID', why: 'the server calls the path invalid', remedy: 'check the exported path on the server'
  },
  MNT3ERR_NAMETOOLONG: { code: 'INVALID', why: 'the path is too long for the server', remedy: 'shorten it' },
  MNT3ERR_NOTSUPP: {
    code: 'UNSUPPORTED', why: 'the server does not support mounting it', remedy: 'enable NFSv3 for this export'
  },
  MNT3ERR_SERVERFAULT: { code: 'UNAVAILABLE', why: 'the server failed', remedy: 'look at the server\'s log' }
} as const satisfies Record<MountFailure, { code: VolumeErrorCode, why: string, remedy: string }>

/** Pseudo flavours by the name that nfs(5) has for them: RFC 5531 section 8.2 and RFC 2623 section 2.2. */
const flavourNumbers: ReadonlyMap<string, number> = new Map([
  ['none', authFlavors.AUTH_NONE], ['sys', authFlavors.AUTH_SYS], ['krb5', 390_003], ['krb5i', 390_004],
  ['krb5p', 390_005]
])
const flavourNames: ReadonlyMap<number, string> = new Map([...flavourNumbers].map(([name, number]) => [number, name]))

/**
 * Whether an export that offers `flavors` may be used with one of `sec` (as nfs(5) spells it, several with colons
 * between). An empty list means "no opinion". Flavour 0 among others means that the server looks at no credential, so
 * that any will do (fs/nfs/super.c, nfs_verify_authflavors).
 */
export function mayUse (flavors: readonly number[], sec: string): boolean {
  if (flavors.length === 0 || flavors.includes(authFlavors.AUTH_NONE)) return true
  return sec.split(':').some((name) => flavors.some((flavor) => flavor === flavourNumbers.get(name)))
}

function flavourFault (share: string, flavors: readonly number[], sec: string): VolumeError {
  const others = sec === 'sys' ? 'client=kernel with one of those in sec=' : 'one of those in sec='
  return new VolumeError(
    'UNSUPPORTED', `share: ${JSON.stringify(share)} does not allow sec=${sec} (it offers ${showFlavors(flavors)})`,
    { field: 'share', remedy: `allow sec=${sec} on the server, or use ${others}` }
  )
}

/** An operator's text is UTF-8; the wire carries its bytes. */
const toWirePath = (share: string): string => Buffer.from(share, 'utf8').toString('latin1')

/** @throws VolumeError with field `share` (or `server` when there is no answer). */
export async function mountShare (share: string, sec: string, options: OneShotOptions): Promise<string> {
  let result: MountResult
  try {
    result = await callOnce(mountProcedures.MNT, { path: toWirePath(share) }, options)
  } catch (error) {
    throw transportFault(error, 'the mount service', options.endpoint, 'mountport')
  }
  if (!result.ok) {
    const { code, why, remedy } = refusals[result.status]
    // Linux' mountd says ACCES for paths nobody exports; its list of exports tells them from those kept from us.
    if (result.status === 'MNT3ERR_ACCES' && await isUnexported(share, options)) {
      throw new VolumeError('NOT_FOUND', `share: ${JSON.stringify(share)} is not exported by the server`, {
        field: 'share', remedy: 'check the path against the server\'s list of exports (showmount -e)'
      })
    }
    throw new VolumeError(code, `share: ${JSON.stringify(share)} cannot be mounted: ${why} (${result.status})`, {
      field: 'share', remedy
    })
  }
  if (!mayUse(result.flavors, sec)) throw flavourFault(share, result.flavors, sec)
  return result.handle
}

/** Numbers that nobody knows are not repeated. */
function showFlavors (flavors: readonly number[]): string {
  const names = [...new Set(flavors.flatMap((flavor) => flavourNames.get(flavor) ?? []))]
  return names.length === 0 ? 'others' : names.join(', ')
}

async function isUnexported (share: string, options: OneShotOptions): Promise<boolean> {
  try {
    const exports = await callOnce(mountProcedures.EXPORT, undefined, options)
    const path = toWirePath(share)
    return !exports.some((entry) => path === entry.path || path.startsWith(entry.path === '/' ? '/' : `${entry.path}/`))
  } catch {
    // Only a nicer sentence was at stake: servers may keep the list to themselves.
    return false
  }
}

/** Tells the server that we are gone. It only keeps a list for people: failures do not matter. */
export async function unmountShare (share: string, options: OneShotOptions): Promise<TransportError | undefined> {
  try {
    await callOnce(mountProcedures.UMNT, { path: toWirePath(share) }, options)
    return undefined
  } catch (error) {
    return error as TransportError
  }
}
