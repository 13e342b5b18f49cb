/**
 * An object gets a group, as kubelet's SetVolumeOwnership does it (k8s pkg/volume/volume_linux.go).
 * Owns which bits an object of each kind needs and the calls it takes. Does not know trees.
 */
import type { FileName } from '../../base/brands.ts'
import { Errno, isErrno } from '../../base/errno.ts'
import type { AttributeChanges, Attributes, Credential } from '../backend.ts'
import type { Core } from '../core.ts'
import { isSameObject, type Inode } from '../objects/inode.ts'
import type { TreeObject, WalkCounts, WalkEnd, Way } from './tree-walk.ts'

export interface GroupWish {
  readonly group: number
  /** Who gets it mounts it read-only: the group may read, and no more. */
  readonly readOnly: boolean
  /** Folders of other volumes, which are left alone. */
  readonly except: readonly Way[]
}

export interface GroupProgress extends WalkCounts {
  /** Objects that were not as they should be, and are now. */
  readonly changed: number
  readonly firstRefusal: { readonly name: FileName, readonly errno: Errno } | undefined
}

/** A tree that is being given to a group. */
export interface GroupWalk {
  readonly ended: Promise<WalkEnd>
  progress (): GroupProgress
  stop (): void
}

/** inode(7) */
const SET_GID = 0o2000
const setIdBits = 0o6000

/** kubelet's rwMask, roMask and execMask: for the owner as well. */
export function groupBits ({ readOnly }: Pick<GroupWish, 'readOnly'>, kind: Attributes['kind']): number {
  if (kind === 'symlink') return 0
  return (readOnly ? 0o440 : 0o660) | (kind === 'directory' ? 0o110 | SET_GID : 0)
}

/** What is to be sent, in this order; nothing where nothing differs. */
export function groupChanges (
  wish: Pick<GroupWish, 'group' | 'readOnly'>,
  { kind, mode, gid }: Pick<Attributes, 'kind' | 'mode' | 'gid'>
): readonly AttributeChanges[] {
  const wanted = mode | groupBits(wish, kind)
  if (gid === wish.group) return wanted === mode ? [] : [{ mode: wanted }]
  // chown(2) takes set-id bits from a file, also from the mode in the same call (Linux fs/nfsd/vfs.c,
  // nfsd_sanitize_attrs).
  if (kind !== 'directory' && kind !== 'symlink' && (mode & setIdBits) !== 0) {
    return [{ gid: wish.group }, { mode: wanted }]
  }
  return [wanted === mode ? { gid: wish.group } : { gid: wish.group, mode: wanted }]
}

type Change = (inode: Inode, changes: AttributeChanges, credential: Credential) => Promise<undefined | Errno>

export class GroupChanges {
  readonly #core: Core
  readonly #change: Change
  #changed = 0

  /** `change` sends a SETATTR for an object that the core knows. */
  constructor (core: Core, change: Change) {
    this.#core = core
    this.#change = change
  }

  get changed (): number { return this.#changed }

  async give (object: TreeObject, wish: GroupWish, credential: Credential): Promise<undefined | Errno> {
    const steps = groupChanges(wish, object.attributes)
    for (const step of steps) {
      const refused = await this.#send(object, step, credential)
      if (refused !== undefined) return refused
    }
    if (steps.length > 0) this.#changed += 1
    return undefined
  }

  async #send (
    { handle, attributes }: TreeObject,
    step: AttributeChanges,
    credential: Credential
  ): Promise<undefined | Errno> {
    const { backend, inodes, invalidator } = this.#core
    const inode = inodes.known(handle)
    if (inode !== undefined && !inode.isStale && isSameObject(inode, attributes)) {
      const refused = await this.#change(inode, step, credential)
      if (refused !== undefined) return refused
      invalidator.inode(inode.nodeid, 0, 0)
      return isIgnored(step, inode.cached.attributes) ? Errno.EPERM : undefined
    }
    const answer = await backend.setattr(handle, step, credential)
    if (isErrno(answer)) return answer
    return isIgnored(step, answer.after) ? Errno.EPERM : undefined
  }
}

/** Said yes, and did nothing: as servers do whose rights are not those of POSIX. */
function isIgnored ({ gid }: AttributeChanges, after: Attributes | undefined): boolean {
  return gid !== undefined && after !== undefined && after.gid !== gid
}
