/**
 * Callers as AUTH_SYS.
 * Owns the encoded credential of every user seen lately, and what root becomes where it must not be root on the server.
 * Does not know where users come from.
 */
import type { NfsTarget } from '../base/volume-spec.ts'
import type { Credential } from '../fs/backend.ts'
import { encodeAuthSys } from '../../proto/rpc/auth.ts'

/** One encoded credential is at most 400 bytes; a node has few users. */
const keptMax = 1024

/** The client's own identity: it mounts, asks for limits and probes. Servers that squash root answer these as nobody,
 * which suffices. */
export const clientCredential: Credential = { uid: 0, gid: 0, groups: [], key: 'client' }

/** Who walks to the volume's root: the client itself, unless the volume has a user of its own. */
export function volumeCredential ({ identity }: Pick<NfsTarget, 'identity'>): Credential {
  if (identity === undefined) return clientCredential
  const { uid, gid } = identity
  return { uid, gid, groups: [], key: `identity ${uid}:${gid}` }
}

export class CredentialCache {
  readonly #machineName: string
  readonly #stamp: number
  readonly #squashesRoot: boolean
  readonly #encoded = new Map<string, Buffer>()

  constructor (machineName: string, stamp: number, { squashRoot = false }: { readonly squashRoot?: boolean } = {}) {
    this.#squashesRoot = squashRoot
    this.#machineName = Buffer.from(machineName, 'utf8').toString('latin1')
    this.#stamp = stamp
  }

  encoded (credential: Credential): Buffer {
    const known = this.#encoded.get(credential.key)
    if (known !== undefined) return known
    if (this.#encoded.size >= keptMax) this.#encoded.clear()
    const { uid, gid, groups } = this.#squashesRoot ? squashed(credential) : credential
    const made = encodeAuthSys({ machineName: this.#machineName, uid, gid, groups, stamp: this.#stamp })
    this.#encoded.set(credential.key, made)
    return made
  }
}

/** exports(5): the uid and gid that root_squash makes of 0, unless an export says otherwise. */
const nobody = 65_534
const squashedId = (id: number): number => id === 0 ? nobody : id

/** As a server that squashes root takes it: user, group and every further group that is root's are nobody's. */
function squashed ({ uid, gid, groups }: Credential): Pick<Credential, 'uid' | 'gid' | 'groups'> {
  return { uid: squashedId(uid), gid: squashedId(gid), groups: groups.map(squashedId) }
}
