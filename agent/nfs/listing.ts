/**
 * Pages of a directory: READDIRPLUS, or READDIR when names are enough.
 *
 * Owns the choice and the refusal of entries no path can name. Positions are the server's: opaque cookies and their
 * verifier.
 */
import type { FileName } from '../base/brands.ts'
import { Errno, isErrno } from '../base/errno.ts'
import {
  badCookie,
  type Credential,
  type DirectoryEntry,
  type DirectoryPage,
  type ListPosition,
  type RemoteHandle
} from '../fs/backend.ts'
import { procedures } from '../../proto/nfs3/procedures.ts'
import type { ReaddirEntry } from '../../proto/nfs3/readdir.ts'
import type { ReaddirplusEntry } from '../../proto/nfs3/readdirplus.ts'
import type { Nfs3Result } from '../../proto/nfs3/nfsstat.ts'
import type { Nfs3Attributes } from '../../proto/nfs3/types.ts'
import type { Asker } from './asker.ts'
import { toOptionalAttributes, toRemoteHandle } from './attributes.ts'
import { errnoOf } from './errors.ts'
import { isMissing } from './missing.ts'

const noVerifier = '\0'.repeat(8)
/** Room for one entry with the longest name, attributes and handle, whatever the caller asks for. */
const replyBytesMin = 1024
const replyBytesMaxAsked = 1024 * 1024

interface Listed {
  readonly entries: readonly (ReaddirEntry & Partial<Pick<ReaddirplusEntry, 'attributes' | 'handle'>>)[]
  readonly eof: boolean
  readonly cookieverf: string
  readonly directory: Nfs3Attributes | undefined
}

/** What is known about one server's listings. */
export interface ListingState {
  /** It has no READDIRPLUS, or is not to be asked for it (`nordirplus`). */
  isPlusMissing: boolean
}

export async function listDirectory (
  asker: Asker,
  directory: RemoteHandle,
  position: ListPosition,
  credential: Credential,
  state: ListingState
): Promise<DirectoryPage | Errno | typeof badCookie> {
  const bytes = Math.min(replyBytesMaxAsked, Math.max(replyBytesMin, position.replyBytes))
  const start = {
    dir: directory,
    cookie: position.cookie,
    cookieverf: position.cookie === 0n || position.cookieVerifier.length !== 8 ? noVerifier : position.cookieVerifier
  }
  if (position.withAttributes && !state.isPlusMissing) {
    const result = await asker.ask(
      procedures.READDIRPLUS,
      { ...start, dircountBytes: bytes, maxcountBytes: bytes },
      credential
    )
    if (!isMissing(result)) return answerOf(result)
    // Both procedures count positions alike, so the listing goes on where it is.
    state.isPlusMissing = true
  }
  return answerOf(await asker.ask(procedures.READDIR, { ...start, countBytes: bytes }, credential))
}

function answerOf (result: Nfs3Result<Listed, unknown> | Errno): DirectoryPage | Errno | typeof badCookie {
  if (isErrno(result)) return result
  if (result.ok) return toPage(result.value)
  return result.status === 'NFS3ERR_BAD_COOKIE' ? badCookie : errnoOf[result.status]
}

function toPage ({ entries, eof, cookieverf, directory }: Listed): DirectoryPage | Errno {
  const named: DirectoryEntry[] = []
  for (const { name, fileid, cookie, attributes, handle } of entries) {
    if (!isName(name)) continue
    named.push({
      name,
      fileid,
      cookie,
      attributes: toOptionalAttributes(attributes),
      handle: handle === undefined ? undefined : toRemoteHandle(handle)
    })
  }
  // Nothing and not the end: there is no cookie to go on with, and asking again would ask for ever.
  if (named.length === 0 && !eof) return Errno.EIO
  return { entries: named, eof, cookieVerifier: cookieverf, directory: toOptionalAttributes(directory) }
}

/** A component a path can name. The kernel fails a whole listing over one slash, so such an entry is left out. */
function isName (name: FileName): boolean {
  return name !== '' && !name.includes('/') && !name.includes('\0')
}
