/**
 * What a session may do on the node, taken away in two steps: at birth all but a few capabilities, once it serves all
 * but what serving needs.
 *
 * Owns which capabilities those are and why, and the sentences about what a node does not offer. Does not know how it
 * is done (`native/launch.c` and `native/confine.c`), nor what a session is.
 */
import { getSystemErrorName } from 'node:util'
import type { ConfineAddon } from './addon.ts'
import { topMountAt, type Mountinfo } from './mountinfo.ts'

/** Bits of capabilities(7). */
export const capabilityBits = { SETGID: 6, SETUID: 7, NET_BIND_SERVICE: 10, SYS_PTRACE: 19 } as const
type Capability = keyof typeof capabilityBits

const maskOf = (names: readonly Capability[]): number =>
  names.reduce((mask, name) => mask | 1 << capabilityBits[name], 0)

/** True where /proc/PID of another user is not there for whoever lacks CAP_SYS_PTRACE (proc(5), hidepid). */
export function hidesProcesses (mounts: Mountinfo): boolean {
  const options = topMountAt(mounts, '/proc')?.superOptions ?? []
  return options.some((option) => option.startsWith('hidepid=') && !['hidepid=0', 'hidepid=off'].includes(option))
}

/** Needed while it serves: servers want a port below 1024, at each new connection; callers' groups are in /proc. */
function neededToServe (mounts: Mountinfo, needs: { readonly reservedPorts: boolean }): readonly Capability[] {
  return [
    ...needs.reservedPorts ? ['NET_BIND_SERVICE'] as const : [],
    ...hidesProcesses(mounts) ? ['SYS_PTRACE'] as const : []
  ]
}

/** Two halves of a mask for `startProgram`: what serving may need, and what it takes to become another user. */
export function capabilitiesAtBirth (mounts: Mountinfo): readonly number[] {
  return [maskOf([...neededToServe(mounts, { reservedPorts: true }), 'SETUID', 'SETGID']), 0]
}

/**
 * No two living sessions have the same: a pid is below 2^22, and users from here on are nobody's (systemd's
 * UIDS-GIDS.md names none, Kubernetes' user namespaces begin at 65,536 and end long before).
 */
const firstUser = 1_900_000_000

export interface ConfineRequest {
  readonly addon: ConfineAddon
  readonly mounts: Mountinfo
  readonly pid: number
  /** A port below 1024 is tried first. */
  readonly reservedPorts: boolean
}

/** For the rest of this process's life. Answers a sentence for each part that could not be had. */
export function confine ({ addon, mounts, pid, reservedPorts }: ConfineRequest): readonly string[] {
  const steps = [
    ['keeps uid 0', () => addon.becomeUser(firstUser + pid, maskOf(neededToServe(mounts, { reservedPorts })))],
    ['can be dumped', () => addon.forbidDumps()],
    ['may make every system call', () => addon.filterSystemCalls()]
  ] as const
  return steps.flatMap(([lacks, step]) => {
    const errno = step()
    return errno === 0 ? [] : [`the session ${lacks}: this node refuses to change it (${getSystemErrorName(-errno)})`]
  })
}
