/**
 * Callers as AUTH_SYS.
 * Owns the encoded credential of every user seen lately. Does not know where users come from.
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
  readonly #encoded = new Map<string, Buffer>()

  constructor (machineName: string, stamp: number) {
    this.#machineName = Buffer.from(machineName, 'utf8').toString('latin1')
    this.#stamp = stamp
  }

  encoded (credential: Credential): Buffer {
    const known = this.#encoded.get(credential.key)
    if (known !== undefined) return known
    if (this.#encoded.size >= keptMax) this.#encoded.clear()
    const { uid, gid, groups } = credential
    const made = encodeAuthSys({ machineName: this.#machineName, uid, gid, groups, stamp: this.#stamp })
    this.#encoded.set(credential.key, made)
    return made
  }
}
