/**
 * The node's namespaces, as an agent in a container sees them through a process of the node (`/proc/N/ns`).
 * Owns which of them differ from ours and have to be entered, and what makes that impossible. Does not know who enters
 * them:
 * `host-calls.ts` and `launch.ts` do, in forked children.
 */
import { readlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { VolumeError, messageOf } from '../base/errors.ts'

export interface NodeNamespaces {
  /** Files for setns(2) in the order to enter them: the mount namespace last, because it changes what a path means. */
  readonly enter: readonly string[]
  /** What is mounted on the node. */
  readonly mountinfo: string
}

const entered = ['cgroup', 'ipc', 'uts', 'net', 'mnt'] as const
/** setns(2) never leads out of these; a container has to be made without its own. */
const shared = { pid: 'hostPID: true', user: 'hostUsers: true (no user namespace)' } as const

const nothing: NodeNamespaces = { enter: [], mountinfo: '/proc/self/mountinfo' }

/** Ours are the node's: systemd started us, or a person. */
export const sameNamespaces = (): NodeNamespaces => nothing

function refuse (folder: string, why: string, remedy: string): never {
  throw new VolumeError('INVALID', `--host-ns: ${JSON.stringify(folder)} ${why}`, { field: '--host-ns', remedy })
}

function identityOf (file: string): string | undefined {
  try {
    return readlinkSync(file)
  } catch (error) {
    /* A kernel without that kind of namespace has one for all. */
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}

/** `folder` is the `ns` folder of a process that lives as long as the node. @throws VolumeError INVALID with what the
 * container lacks. */
export function nodeNamespaces (folder: string, own = '/proc/self/ns'): NodeNamespaces {
  const differs = (kind: string): boolean => identityOf(join(folder, kind)) !== identityOf(join(own, kind))
  try {
    if (identityOf(join(folder, 'mnt')) === undefined) {
      refuse(folder, 'is not the ns folder of a process', 'use /proc/1/ns, with hostPID: true')
    }
    for (const [kind, remedy] of Object.entries(shared)) {
      if (differs(kind)) {
        refuse(
          folder,
          `belongs to another ${kind} namespace than ours, and what we start there would end with our container`,
          `run the container with ${remedy}`
        )
      }
    }
    const enter = entered.filter(differs).map((kind) => join(folder, kind))
    return { enter, mountinfo: join(dirname(folder), 'mountinfo') }
  } catch (error) {
    if (error instanceof VolumeError) throw error
    return refuse(folder, `cannot be read (${messageOf(error)})`, 'run as root, in a container privileged')
  }
}
