/**
 * `subDir`: from the root of the share down to the volume's root, one LOOKUP per component.
 *
 * Owns the walk. Each component must be a directory of its own right: a symbolic link is refused wherever it points, so
 * the volume never leaves the share.
 */
import { showName } from '../base/brands.ts'
import { errnoName, isErrno } from '../base/errno.ts'
import { VolumeError } from '../base/errors.ts'
import type { NfsTarget } from '../base/volume-spec.ts'
import type { Found } from '../fs/backend.ts'
import { procedures } from '../../proto/nfs3/procedures.ts'
import type { Nfs3Attributes } from '../../proto/nfs3/types.ts'
import type { Asker } from './asker.ts'
import { toAttributes, toRemoteHandle } from './attributes.ts'
import { clientCredential, volumeCredential } from './credentials.ts'
import type { errnoOf } from './errors.ts'

/** The folder at the end of the walk. @throws VolumeError NOT_FOUND, DENIED, INVALID or UNAVAILABLE with field
 * `subDir`. */
export async function walkSubfolder (
  asker: Asker,
  shareRoot: string,
  target: Pick<NfsTarget, 'subDir' | 'identity'>
): Promise<Found> {
  const credential = volumeCredential(target)
  let handle = shareRoot
  let attributes = await attributesOf(asker, handle, 'share', 'the exported path')
  const walked: string[] = []
  if (attributes.type !== 'directory') {
    throw new VolumeError('INVALID', `share: the exported path is a ${attributes.type}`, {
      field: 'share', remedy: 'export a directory'
    })
  }
  for (const name of target.subDir) {
    walked.push(showName(name))
    const path = walked.join('/')
    const found = await asker.ask(procedures.LOOKUP, { dir: handle, name }, credential)
    if (isErrno(found)) throw unanswered('subDir', path, errnoName(found))
    if (!found.ok) throw refusal('subDir', path, found.status)
    handle = found.value.object
    attributes = found.value.attributes ?? await attributesOf(asker, handle, 'subDir', path)
    if (attributes.type !== 'directory') {
      throw new VolumeError('INVALID', `subDir: ${JSON.stringify(path)} is a ${attributes.type}, not a directory`, {
        field: 'subDir',
        remedy: 'name real directories only: links are not followed, so that a volume cannot leave its share'
      })
    }
  }
  return { handle: toRemoteHandle(handle), attributes: toAttributes(attributes) }
}

async function attributesOf (asker: Asker, object: string, field: string, path: string): Promise<Nfs3Attributes> {
  const result = await asker.ask(procedures.GETATTR, { object }, clientCredential)
  if (isErrno(result)) throw unanswered(field, path, errnoName(result))
  if (!result.ok) throw refusal(field, path, result.status)
  return result.value
}

function refusal (field: string, path: string, status: keyof typeof errnoOf): VolumeError {
  const where = `${field}: ${JSON.stringify(path)}`
  if (status === 'NFS3ERR_NOENT') {
    return new VolumeError('NOT_FOUND', `${where} does not exist`, { field, remedy: 'create it on the server first' })
  }
  if (status === 'NFS3ERR_ACCES' || status === 'NFS3ERR_PERM') {
    return new VolumeError('DENIED', `${where} may not be entered (${status})`, {
      field, remedy: 'with root squashed, the server\'s anonymous user needs execute permission on each folder'
    })
  }
  if (status === 'NFS3ERR_NOTDIR') {
    return new VolumeError('INVALID', `${where} is not below a directory`, { field, remedy: 'name directories only' })
  }
  if (status === 'NFS3ERR_NAMETOOLONG') {
    return new VolumeError('INVALID', `${where} has a name too long for the server`, { field, remedy: 'shorten it' })
  }
  return new VolumeError('UNAVAILABLE', `${where} cannot be looked up (${status})`, {
    field, remedy: 'look at the server\'s log'
  })
}

function unanswered (field: string, path: string, errno: string): VolumeError {
  return new VolumeError('UNAVAILABLE', `${field}: ${JSON.stringify(path)} cannot be looked up (${errno})`, {
    field, remedy: 'check that the server is up'
  })
}
