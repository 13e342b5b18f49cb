/**
 * CREATE in its three modes.
 *
 * Owns the exclusive one: a verifier that makes the call repeatable (RFC 1813 section 3.3.8), the attributes set
 * afterwards because the server may keep the verifier in the times, and the fall-back to guarded for servers without
 * it.
 */
import { randomBytes } from 'node:crypto'
import type { FileName } from '../base/brands.ts'
import { Errno, isErrno } from '../base/errno.ts'
import type { AttributeChanges, CreateMode, Credential, Made, RemoteHandle } from '../fs/backend.ts'
import type { CreateHow } from '../../proto/nfs3/create.ts'
import type { MadeOk } from '../../proto/nfs3/made.ts'
import { procedures } from '../../proto/nfs3/procedures.ts'
import type { Asker } from './asker.ts'
import { toOptionalAttributes, toSetAttributes } from './attributes.ts'
import { errnoOf } from './errors.ts'

export interface CreateRequest {
  readonly directory: RemoteHandle
  readonly name: FileName
  readonly how: CreateMode
  readonly attributes: AttributeChanges
  readonly credential: Credential
  readonly verifiers: CreateVerifiers
}

/**
 * Verifiers of exclusive creates. No two of one client may be equal, and two clients that race for one name must
 * differ: half chance, drawn once, half a counter that begins by chance. (A draw per file costs as much as encoding the
 * whole call.)
 */
export class CreateVerifiers {
  readonly #bytes = randomBytes(8)

  next (): string {
    this.#bytes.writeUInt32BE((this.#bytes.readUInt32BE(4) + 1) >>> 0, 4)
    return this.#bytes.toString('latin1')
  }
}

/** `complete` finds the handle when the server did not tell it. */
export async function createFile (
  asker: Asker,
  request: CreateRequest,
  complete: (made: MadeOk) => Promise<Made | Errno>
): Promise<Made | Errno> {
  const { directory, name, how, attributes, credential, verifiers } = request
  const create = (createHow: CreateHow): ReturnType<
    typeof asker.ask<{ dir: string, name: FileName, how: CreateHow }, MadeOk, unknown>
  > => asker.ask(procedures.CREATE, { dir: directory, name, how: createHow }, credential)

  if (how.kind !== 'exclusive') {
    const result = await create({ kind: how.kind, attributes: toSetAttributes(attributes) })
    if (isErrno(result)) return result
    // RFC 1813 leaves open what a server says of a name that is a folder or a link: Linux EXIST, nfs-ganesha BADTYPE.
    return result.ok
      ? await complete(result.value)
      : result.status === 'NFS3ERR_BADTYPE'
      ? Errno.EEXIST
      : errnoOf[result.status]
  }
  const result = await create({ kind: 'exclusive', verifier: verifiers.next() })
  if (isErrno(result)) return result
  if (!result.ok) {
    if (result.status !== 'NFS3ERR_NOTSUPP') return errnoOf[result.status]
    return await createFile(asker, { ...request, how: { kind: 'guarded' } }, complete)
  }
  const made = await complete(result.value)
  return isErrno(made) ? made : await setFirstAttributes(asker, made, attributes, credential)
}

async function setFirstAttributes (
  asker: Asker,
  made: Made,
  wanted: AttributeChanges,
  credential: Credential
): Promise<Made | Errno> {
  // Times are always set: until then they may hold the verifier.
  const changes = { ...wanted, atime: wanted.atime ?? 'server', mtime: wanted.mtime ?? 'server' } as const
  const result = await asker.ask(procedures.SETATTR, {
    object: made.handle, attributes: toSetAttributes(changes), guard: undefined
  }, credential)
  if (isErrno(result)) return result
  if (!result.ok) return errnoOf[result.status]
  return { ...made, attributes: toOptionalAttributes(result.value.after) }
}
