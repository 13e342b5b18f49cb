/**
 * The bare folder under a Flex mount: immutable, so that a pod whose mount is missing fails instead of filling the
 * node's disk.
 *
 * Owns for whom that is done and what is made of a refusal. Does not know journals: who calls has the intent on record
 * before, because an immutable folder cannot be removed, and kubelet will try. The flag is beneath the mount and is set
 * and cleared there, mounted or not.
 */
import { HostError, VolumeError, messageOf } from '../base/errors.ts'
import type { BindRecord } from './records/records.ts'
import type { VolumeHost } from './volume-host.ts'

/** CSI's folders are made and removed by us around each mount, and a person's are a person's: only kubelet's Flex
 * folders stay bare. */
export const isProtected = ({ door, role }: Pick<BindRecord, 'door' | 'role'>): boolean =>
  door === 'flex' && role === 'target'

/** The file system has no such flag (ENOTTY, EOPNOTSUPP, EINVAL, ENOSYS), or this process may not set it (no
 * CAP_LINUX_IMMUTABLE: EPERM). */
const refusals: Readonly<Record<string, string>> = {
  ENOTTY: 'its file system has no immutable flag',
  EOPNOTSUPP: 'its file system has no immutable flag',
  ENOTSUP: 'its file system has no immutable flag',
  EINVAL: 'its file system has no immutable flag',
  ENOSYS: 'its file system has no immutable flag',
  EPERM: 'the agent lacks CAP_LINUX_IMMUTABLE',
  EACCES: 'the agent lacks CAP_LINUX_IMMUTABLE'
}

/** Never fails: a pod without this is a pod as on any other driver, and `status` says so. */
export async function protect (host: VolumeHost, path: string): Promise<NonNullable<BindRecord['protection']>> {
  try {
    await host.setImmutable(path, true)
    return 'immutable'
  } catch (error) {
    const known = error instanceof HostError ? refusals[error.code] : undefined
    return { unprotected: known ?? messageOf(error) }
  }
}

/** A folder that is gone, or on a file system without the flag, is plain. @throws VolumeError when kubelet could not
 * remove it. */
export async function unprotect (host: VolumeHost, path: string, record: BindRecord | undefined): Promise<void> {
  try {
    await host.setImmutable(path, false)
  } catch (error) {
    const code = error instanceof HostError ? error.code : ''
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') return
    // What was never set need not be cleared: no flag there, or no right to set it.
    if (record?.protection !== 'immutable' && (code in refusals || record === undefined)) return
    if (code !== 'EPERM' && code !== 'EACCES' && code in refusals) return
    throw new VolumeError('INTERNAL', `the folder "${path}" cannot be made writable again: ${messageOf(error)}`, {
      cause: error, remedy: `run \`chattr -i ${path}\` as root, then repeat`
    })
  }
}
