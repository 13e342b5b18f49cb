/**
 * What holds a session on this node, and what this node does not offer for it: for the doctor.
 *
 * Owns the facts that are looked at and what each missing one means. Does not know how a session is confined.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { loadAddon } from '../host/addon.ts'
import { hidesProcesses } from '../host/confine.ts'
import { readMountinfoSync, type Mountinfo } from '../host/mountinfo.ts'

export interface PowerFacts {
  /** Of a process that could start sessions: /proc/self/status. */
  readonly status: string
  readonly mounts: Mountinfo
  /** Version of the kernel's Landlock, 0 for none. */
  readonly viewAbi: number
  /** Controllers of the v2 hierarchy at a mount point. */
  readonly controllersAt: (mountPoint: string) => readonly string[]
}

export interface PowerVerdict {
  readonly holds: readonly string[]
  readonly lacks: readonly string[]
}

/** Bits of capabilities(7) and what cannot be done without them. */
const wanted = [
  ['CAP_SETUID', 7, 'sessions keep uid 0'], ['CAP_SETGID', 6, 'sessions keep uid 0'],
  ['CAP_SETPCAP', 8, 'sessions keep all capabilities until they serve'],
  ['CAP_SYS_RESOURCE', 24, 'sessions keep their starter\'s oom_score_adj, and may wait for their own dirty pages']
] as const

export function powerFacts (): PowerFacts {
  return {
    status: readFileSync('/proc/self/status', 'utf8'),
    mounts: readMountinfoSync(),
    viewAbi: loadAddon().viewAbi(),
    controllersAt: (mountPoint) => {
      const file = join(mountPoint, 'cgroup.controllers')
      return existsSync(file) ? readFileSync(file, 'utf8').trim().split(' ') : []
    }
  }
}

function isLimited ({ mounts, controllersAt }: PowerFacts, controller: string): boolean {
  return mounts.some(({ type, mountPoint, superOptions }) =>
    (type === 'cgroup' && superOptions.includes(controller)) ||
    (type === 'cgroup2' && controllersAt(mountPoint).includes(controller))
  )
}

/** Versions of Landlock and what each has brought (landlock(7), "VERSIONS"). */
const portsAbi = 4
const scopesAbi = 6

/** What of the node a session can name. */
function judgeView ({ viewAbi, mounts }: PowerFacts): PowerVerdict {
  if (viewAbi === 0) {
    return { holds: [], lacks: ['this kernel has no Landlock, so files are kept by their modes alone'] }
  }
  if (hidesProcesses(mounts)) {
    return {
      holds: [], lacks: ['with hidepid no Landlock, which would hide callers: files are kept by their modes alone']
    }
  }
  const named = [
    'files', ...viewAbi >= portsAbi ? ['ports'] : [], ...viewAbi >= scopesAbi ? ['abstract sockets'] : []
  ]
  return {
    holds: [`a list of ${named.join(', ')} (Landlock ${viewAbi})`],
    lacks: viewAbi >= portsAbi ? [] : [`Landlock ${viewAbi} limits no ports (Linux 6.7 does)`]
  }
}

export function judgePower (facts: PowerFacts): PowerVerdict {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(facts.status)?.[1] ?? '0'}`)
  const missing = wanted.filter(([, bit]) => (effective >> BigInt(bit) & 1n) === 0n)
  const hasFilters = /^Seccomp:/m.test(facts.status)
  const limits = ['memory', 'pids'].filter((controller) => isLimited(facts, controller))
  const view = judgeView(facts)
  const kept = hidesProcesses(facts.mounts) ? 'NET_BIND_SERVICE and SYS_PTRACE (hidepid)' : 'NET_BIND_SERVICE'
  return {
    holds: [
      ...missing.some(([name]) => name !== 'CAP_SYS_RESOURCE') ? [] : [`a user of its own with ${kept} alone`],
      ...hasFilters ? ['a list of system calls'] : [],
      ...view.holds,
      ...limits.length === 0 ? [] : [`limits for ${limits.join(' and ')}`]
    ],
    lacks: [
      ...missing.map(([name, , means]) => `without ${name} ${means}`),
      ...hasFilters ? [] : ['this kernel has no seccomp filters'],
      ...view.lacks,
      ...['memory', 'pids'].filter((each) => !limits.includes(each)).map((each) => `no cgroup hierarchy limits ${each}`)
    ]
  }
}
