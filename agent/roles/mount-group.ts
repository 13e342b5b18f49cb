/**
 * A mount group's claim to the volume's root: once, with set-group-id, so that what other clients make there belongs to
 * it as well.
 *
 * Owns what is asked of the server and what is said when it refuses: a refusal is no reason not to mount, because mode
 * bits or an ACL may let the group in all the same. Objects below keep what the server says of them; new ones are
 * `agent/fs/creations.ts`.
 */
import { within } from '../base/deadline.ts'
import { Errno, errnoName, isErrno } from '../base/errno.ts'
import type { Attributes, Backend, Credential } from '../fs/backend.ts'
import { rootNodeid, type FilesystemOperations } from '../fs/operations.ts'
import { clientCredential } from '../nfs/credentials.ts'

const askMs = 10_000
const SET_GID = 0o2000
/** Set-group-id; read, write and search for the group. */
const groupBits = SET_GID | 0o070

type Root = Pick<FilesystemOperations, 'setattr'> & {
  readonly backend: Pick<Backend, 'root' | 'getattr'>
  /** Who asks the server for it. */
  readonly credential: Credential
}

async function attributesOf ({ root, getattr }: Pick<Backend, 'root' | 'getattr'>): Promise<Attributes | Errno> {
  return await within(askMs, getattr(root.handle, clientCredential), () => Errno.ETIMEDOUT)
}

/** Answers what an operator should know, or nothing. */
export async function claimRoot (
  { setattr, backend, credential }: Root,
  group: number,
  { mayChange }: { readonly mayChange: boolean }
): Promise<string | undefined> {
  const found = await attributesOf({ root: backend.root, getattr: async (...args) => await backend.getattr(...args) })
  if (isErrno(found)) return said(group, `it could not be read (${errnoName(found)})`)
  if (found.gid === group && (found.mode & groupBits) === groupBits) return undefined
  // Another mount group was here before us: pods of two groups share the volume, and taking it from the first would
  // shut its pods out.
  if (found.gid !== group && (found.mode & SET_GID) !== 0) {
    return said(group, `it belongs to group ${found.gid} with set-group-id, and is left to it`)
  }
  if (!mayChange) return restrained(group)
  const caller = { uid: credential.uid, gid: credential.gid, pid: 0, credential }
  const changes = { gid: group, mode: (found.mode & 0o7777) | groupBits }
  const answer = await within(
    askMs,
    Promise.resolve(setattr(rootNodeid, undefined, changes, caller)),
    () => Errno.ETIMEDOUT
  )
  return isErrno(answer) ? said(group, `the server refuses to give it away (${errnoName(answer)})`) : undefined
}

const said = (group: number, why: string): string =>
  `mount group ${group}: the volume's root was not given to it: ${why}; export with no_root_squash, or run chgrp ${group} and chmod g+rwxs on the server`

/** The volume's words may be a pod's author's, who would choose the folder and its new group. */
const restrained = (group: number): string =>
  `mount group ${group}: the volume's root is left as it is, because the volume may be a pod's own; run chgrp ${group} and chmod g+rwxs on the server, or use a CSI PersistentVolume`
