/**
 * Answers that may be about our own first attempt.
 *
 * When the reply to a REMOVE is lost and the call is sent again, a server whose duplicate-request cache has forgotten
 * it answers NOENT although it did what was asked (RFC 1813 section 4.5). Owns the look that tells the two apart. It is
 * only taken after a real retransmission, and only where the state found is one that nobody else's success could fake:
 *
 *   REMOVE, RMDIR → NOENT   the name is gone: what was asked for holds
 *   RENAME → NOENT          the old name is gone and the new one is there
 *   LINK → EXIST            the name leads to the very file that was to be linked
 *   SYMLINK → EXIST         the name is a link of ours with the very target
 *
 * MKDIR and guarded CREATE stay EXIST: programs use them as locks, nothing in the object tells who made it, and a false
 * failure is repaired by a retry while a false success lets two holders in. (Exclusive CREATE needs no look: its
 * verifier makes it repeatable.)
 */
import type { FileName } from '../base/brands.ts'
import { Errno, isErrno } from '../base/errno.ts'
import type { Credential } from '../fs/backend.ts'
import { procedures } from '../../proto/nfs3/procedures.ts'
import type { LookupOk } from '../../proto/nfs3/lookup.ts'
import type { Nfs3Handle } from '../../proto/nfs3/types.ts'
import type { Asker } from './asker.ts'

export class Verifier {
  readonly #asker: Asker

  constructor (asker: Asker) { this.#asker = asker }

  /** The name does not exist. */
  async isGone (dir: Nfs3Handle, name: FileName, credential: Credential): Promise<boolean> {
    return await this.#lookup(dir, name, credential) === Errno.ENOENT
  }

  async isRenamed (
    from: { dir: Nfs3Handle, name: FileName },
    to: { dir: Nfs3Handle, name: FileName },
    credential: Credential
  ): Promise<boolean> {
    if (!await this.isGone(from.dir, from.name, credential)) return false
    return !isErrno(await this.#lookup(to.dir, to.name, credential))
  }

  async isLinked (file: Nfs3Handle, dir: Nfs3Handle, name: FileName, credential: Credential): Promise<boolean> {
    const found = await this.#lookup(dir, name, credential)
    return !isErrno(found) && found.object === file
  }

  /** The link, when it is the one that was to be made. */
  async madeSymlink (
    dir: Nfs3Handle,
    name: FileName,
    target: string,
    credential: Credential
  ): Promise<LookupOk | undefined> {
    const found = await this.#lookup(dir, name, credential)
    if (isErrno(found) || found.attributes?.type !== 'symlink' || found.attributes.uid !== credential.uid) {
      return undefined
    }
    const read = await this.#asker.ask(procedures.READLINK, { symlink: found.object }, credential)
    return !isErrno(read) && read.ok && read.value.target === target ? found : undefined
  }

  async #lookup (dir: Nfs3Handle, name: FileName, credential: Credential): Promise<LookupOk | Errno> {
    const found = await this.#asker.ask(procedures.LOOKUP, { dir, name }, credential)
    if (isErrno(found)) return found
    if (found.ok) return found.value
    return found.status === 'NFS3ERR_NOENT' ? Errno.ENOENT : Errno.EIO
  }
}
