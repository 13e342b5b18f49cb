/**
 * What makes a folder fit for root to act in: root owns it, and nobody else can write to it.
 *
 * Owns that judgement and its words. Judges an open descriptor, so that what was judged is what is used. Does not know
 * how the folder was found (`root-folder.ts`).
 */
import { fstatSync, readlinkSync, type Stats } from 'node:fs'
import { VolumeError } from '../base/errors.ts'

/** A name below it is looked up in exactly the folder that the descriptor is, as openat(2) and its kin do. */
export const byDescriptor = (fd: number): string => `/proc/self/fd/${fd}`
/** Where a descriptor is now, for messages. */
export const showFolder = (fd: number): string => readlinkSync(byDescriptor(fd))

/** Who is not root has nothing to give away, and may use what is their own. */
export const isTrustedOwner = (uid: number): boolean => uid === 0 || uid === process.geteuid?.()

/** Group and others, access lists included: their mask stands in the group's bits (acl(5)). */
export const othersMayWrite = ({ mode }: Pick<Stats, 'mode'>): boolean => (mode & 0o022) !== 0

/** Nobody but its owner can rename or remove what is in such a folder (inode(7), S_ISVTX); anybody can add to it. */
const isSticky = ({ mode }: Stats): boolean => (mode & 0o1000) !== 0

/** @throws VolumeError DENIED */
export function refuse (what: string, why: string, remedy: string): never {
  throw new VolumeError('DENIED', `${what} ${why}, so others than root would decide what is done there`, { remedy })
}

/**
 * `isPassed`: the folder is only on the way to another, which is judged as well; then a sticky one will do.
 * @throws VolumeError DENIED
 */
export function requireRoots (fd: number, isPassed: boolean): void {
  const facts = fstatSync(fd)
  const remedy = (command: string): string =>
    `look into it for what is not yours, then \`${command} ${showFolder(fd)}\`, or choose another folder`
  if (!isTrustedOwner(facts.uid)) refuse(showFolder(fd), `belongs to uid ${facts.uid}`, remedy('chown root'))
  if (!othersMayWrite(facts) || (isPassed && isSticky(facts))) return
  const mode = (facts.mode & 0o7777).toString(8).padStart(4, '0')
  refuse(showFolder(fd), `can be written by others (mode ${mode})`, remedy('chmod go-w'))
}
