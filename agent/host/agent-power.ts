/**
 * The capabilities that the node's agent keeps, each with its reason; all others are given away before anything else.
 *
 * Owns the list and the restart that makes it so. Capabilities are a thread's, and Node has threads before our code
 * runs; exec(2) leaves one, and gives root what its bounding set holds (capabilities(7)). Same process, same
 * descriptors, same arguments: whoever has started us notices nothing. Children are forked with what is left.
 */
import { readFileSync } from 'node:fs'
import { getSystemErrorName } from 'node:util'
import type { LaunchAddon } from './addon.ts'

interface Reason { readonly bit: number, readonly why: string }

/**
 * Bits of capabilities(7). Not there: CHOWN and FSETID, because a group or mode is changed only on a volume, where the
 * server judges (both clients leave it to it).
 */
export const agentCapabilities = {
  DAC_OVERRIDE: {
    bit: 1,
    why:
      'cgroups are made in folders that have no write bit (0555); mount points in folders closed to all but their owner'
  },
  FOWNER: { bit: 3, why: 'flags of a bare mount point that somebody else owns' },
  KILL: { bit: 5, why: 'sessions are ended, and have users of their own' },
  SETGID: { bit: 6, why: 'a session becomes a user of its own' },
  SETUID: { bit: 7, why: 'a session becomes a user of its own' },
  SETPCAP: { bit: 8, why: 'sessions are born without the others' },
  LINUX_IMMUTABLE: { bit: 9, why: 'bare mount points of Flex volumes' },
  NET_BIND_SERVICE: { bit: 10, why: 'servers want calls from ports below 1024' },
  SYS_CHROOT: { bit: 18, why: 'the node\'s mount namespace is entered from a container' },
  SYS_PTRACE: { bit: 19, why: 'the node\'s namespaces are opened in /proc/1/ns; callers behind hidepid' },
  SYS_ADMIN: { bit: 21, why: 'mount, unmount, namespaces' },
  SYS_RESOURCE: { bit: 24, why: 'oom_score_adj of sessions, and that they do not wait for their own dirty pages' }
} as const satisfies Readonly<Record<string, Reason>>
export type AgentCapability = keyof typeof agentCapabilities

/** What one process needs that mounts, serves and unmounts. */
export const foregroundCapabilities: readonly AgentCapability[] = [
  'DAC_OVERRIDE', 'NET_BIND_SERVICE', 'SYS_PTRACE', 'SYS_ADMIN'
]

const maskOf = (names: readonly AgentCapability[]): bigint =>
  names.reduce((mask, name) => mask | 1n << BigInt(agentCapabilities[name].bit), 0n)
export const allAgentCapabilities = Object.keys(agentCapabilities) as readonly AgentCapability[]

const fieldOf = (status: string, name: string): bigint =>
  BigInt(`0x${new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1] ?? '0'}`)

/** Two halves of a mask: what is left after a restart, or undefined where that would take nothing away. */
export function leftAfterRestart (status: string, wanted: readonly AgentCapability[]): readonly number[] | undefined {
  const [permitted, mask] = [fieldOf(status, 'CapPrm'), maskOf(wanted)]
  const isMore = ((permitted | fieldOf(status, 'CapBnd')) & ~mask) !== 0n
  const left = permitted & mask
  return isMore ? [Number(BigInt.asIntN(32, left)), Number(BigInt.asIntN(32, left >> 32n))] : undefined
}

export interface PowerComparison {
  readonly kept: readonly AgentCapability[]
  readonly lacking: readonly AgentCapability[]
  /** How many it has beyond the list. */
  readonly excess: number
}

/** What a process may do now or after an exec, against the list. */
export function comparePower (status: string): PowerComparison {
  const has = fieldOf(status, 'CapPrm') | fieldOf(status, 'CapBnd')
  const isKept = (name: AgentCapability): boolean => (fieldOf(status, 'CapPrm') & maskOf([name])) !== 0n
  return {
    kept: allAgentCapabilities.filter(isKept),
    lacking: allAgentCapabilities.filter((name) => !isKept(name)),
    excess: [...(has & ~maskOf(allAgentCapabilities)).toString(2)].filter((digit) => digit === '1').length
  }
}

/**
 * Does not come back where there is something to give away: the process starts again without it. A sentence where that
 * is refused.
 */
export function keepOnly (wanted: readonly AgentCapability[], addon: () => LaunchAddon): string | undefined {
  if (process.geteuid?.() !== 0) return undefined
  const left = leftAfterRestart(readFileSync('/proc/self/status', 'utf8'), wanted)
  if (left === undefined) return undefined
  const args = readFileSync('/proc/self/cmdline', 'utf8').split('\0').slice(0, -1)
  const environment = Object.entries(process.env).map(([name, value]) => `${name}=${value ?? ''}`)
  const errno = addon().restart(
    Buffer.from([process.execPath, ...args, ...environment].map((text) => `${text}\0`).join('')),
    Int32Array.of(args.length, environment.length),
    Int32Array.from(left)
  )
  return `keeps all capabilities it was started with: giving some away was refused (${getSystemErrorName(-errno)})`
}
