/**
 * `volbridge doctor`: what this node can and cannot do, and what to do about it.
 *
 * Owns the checks, each with its remedy. Only looks, changes nothing, and stays off mount points of volumes.
 */
import { accessSync, closeSync, constants, existsSync, lstatSync, openSync, readFileSync, readdirSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { messageOf } from '../base/errors.ts'
import { cgroupRoots } from '../host/cgroups.ts'
import { idleFacts, judgeCpuLatency } from '../host/cpu-latency.ts'
import { mountOf, readMountinfoSync } from '../host/mountinfo.ts'
import { RootFolder } from '../host/root-folder.ts'
import { isListening } from './agent-process.ts'
import { agentPower } from './agent-power.ts'
import { chooseCpuLatency } from './cpu-latency.ts'
import { choosePluginFolder } from './flex-driver/plugin-folder.ts'
import { findKubelets, showDoubted } from './flex-driver/kubelets.ts'
import { glibcFloor, isKernelEnough, kernelFloor, libraryProblems, libstdcxxFloor } from './flex-driver/floor.ts'
import { askReady, isShared, mountsOfNode } from './node-view.ts'
import { judgePower, powerFacts } from './session-power.ts'
import type { Places } from './places.ts'

/** `note`: worth knowing, nothing is wrong. */
export type Verdict = 'ok' | 'note' | 'warning' | 'failed'
export interface Finding {
  readonly check: string
  readonly verdict: Verdict
  readonly found: string
  /** Empty when nothing is to be done. */
  readonly remedy: string
}

export interface DoctorContext {
  readonly places: Places
  readonly kubeletDir: string
}

type Check = (context: DoctorContext) => Omit<Finding, 'check'> | Promise<Omit<Finding, 'check'>>

const ok = (found: string): Omit<Finding, 'check'> => ({ verdict: 'ok', found, remedy: '' })
const note = (found: string, remedy = ''): Omit<Finding, 'check'> => ({ verdict: 'note', found, remedy })
const warning = (found: string, remedy: string): Omit<Finding, 'check'> => ({ verdict: 'warning', found, remedy })
const failed = (found: string, remedy: string): Omit<Finding, 'check'> => ({ verdict: 'failed', found, remedy })

/** CAP_SYS_ADMIN is bit 21, capabilities(7). */
function hasSysAdmin (): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  return (BigInt(`0x${effective}`) >> 21n & 1n) === 1n
}

/** The nearest folder that exists: where a missing one would be made. */
function nearest (folder: string): string {
  let at = folder
  while (!existsSync(at) && at !== '/') at = at.slice(0, at.lastIndexOf('/')) || '/'
  return at
}

const systemTypes: ReadonlySet<string> = new Set(['proc', 'sysfs', 'cgroup', 'cgroup2', 'devpts', 'securityfs'])

function folderCheck (folder: string, option: string, needsExec: boolean): Omit<Finding, 'check'> {
  const at = nearest(folder)
  const mount = mountOf(readMountinfoSync(), at)
  if (!lstatSync(at).isDirectory()) return failed(`${at} is not a folder`, `remove it or choose another with ${option}`)
  try {
    accessSync(at, constants.W_OK | constants.X_OK)
  } catch {
    return failed(`${at} can't be written`, `run as root, or choose another folder with ${option}`)
  }
  if (mount !== undefined && systemTypes.has(mount.type)) {
    return failed(`${at} is ${mount.type}, where nobody can make files`, `choose another folder with ${option}`)
  }
  if (mount?.options.includes('ro') === true) {
    return failed(`${at} is on a read-only file system`, `choose another folder with ${option}`)
  }
  if (needsExec && mount?.options.includes('noexec') === true) {
    return warning(
      `${at} is mounted noexec, so the addon goes to /var/tmp or /tmp`,
      `choose a folder without noexec with ${option}`
    )
  }
  return ok(folder === at ? folder : `${folder} (will be made)`)
}

export const checks = {
  'kernel': () => {
    const found = `Linux ${release()}`
    return isKernelEnough(release()) ? ok(found) : failed(found, `Linux ${kernelFloor.join('.')} or newer is needed`)
  },
  'fuse device': () => {
    if (!existsSync('/dev/fuse')) {
      return failed('/dev/fuse is missing', 'modprobe fuse; in a container, pass the device in')
    }
    try {
      // Opening alone mounts nothing. access(2) would not do: a container's device rules deny only the open.
      closeSync(openSync('/dev/fuse', constants.O_RDWR | constants.O_NONBLOCK))
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENODEV' || code === 'ENXIO') {
        return failed('/dev/fuse is there, but the kernel has no FUSE', 'modprobe fuse')
      }
      return failed(`/dev/fuse can't be opened (${code ?? 'unknown'})`, 'run as root; in a container, allow the device')
    }
    return ok('/dev/fuse')
  },
  'rights': () => {
    if (process.geteuid?.() !== 0) return failed(`uid ${process.geteuid?.() ?? -1}`, 'run as root')
    return hasSysAdmin()
      ? ok('root with CAP_SYS_ADMIN')
      : failed('root without CAP_SYS_ADMIN', 'in a container, set privileged: true')
  },
  'sessions': () => {
    const { holds, lacks } = judgePower(powerFacts())
    const found = `each has ${holds.length === 0 ? 'nothing that holds it' : holds.join(', ')}`
    return lacks.length === 0
      ? ok(found)
      : note(
        `${found}; ${lacks.join('; ')}`,
        'nothing has to be done: volumes work, with less between a pod and the node'
      )
  },
  'idle CPUs': () => {
    const { isWanted, why, remedy } = judgeCpuLatency(idleFacts())
    if (chooseCpuLatency(undefined, process.env) === 'off') {
      return note('they sleep as the kernel decides (VOLBRIDGE_CPU_LATENCY=off)')
    }
    if (isWanted) return ok(`${why}, unless its agent was started with --cpu-latency off or VOLBRIDGE_CPU_LATENCY=off`)
    return remedy === undefined ? ok(why) : warning(why, remedy)
  },
  'libraries': () => {
    const { header } = process.report.getReport() as { header?: { glibcVersionRuntime?: string } }
    const problems = libraryProblems('/')
    const found = `glibc ${header?.glibcVersionRuntime ?? 'unknown'}`
    return problems.length === 0
      ? ok(`${found}, libstdc++ with GLIBCXX_${libstdcxxFloor}`)
      : failed(`${found}: ${problems.join('; ')}`, `glibc ${glibcFloor} and GCC 5's libstdc++ or newer are needed`)
  },
  'state folder': ({ places }) => folderCheck(places.stateDir, '--state-dir', true),
  'run folder': ({ places }) => folderCheck(places.runDir, '--run-dir', false),
  'agent': async ({ places: { agentSocket } }) => {
    if (!await isListening(agentSocket)) {
      return warning(
        `nobody listens at ${agentSocket}`,
        'nothing to do: `volbridge mount` and Flex start one; for CSI run `volbridge agent --csi-endpoint unix:///…`'
      )
    }
    const answer = await askReady(agentSocket)
    if (typeof answer === 'string') {
      return warning(
        `listens at ${agentSocket} and does not answer: ${answer}`,
        'look at its log, and restart it: volumes stay'
      )
    }
    const { http, httpError, reason } = answer
    const found = `listens at ${agentSocket}${reason === '' ? '' : `, not ready: ${reason}`}`
    if (httpError !== '') {
      return warning(
        `${found}; HTTP is not served: ${httpError}`,
        `free ${http}, or choose another --listen; volumes do not need it`
      )
    }
    return ok(`${found}${http === '' ? '' : `, HTTP at ${http}`}`)
  },
  'agent power': async ({ places }) => await agentPower(places.agentSocket),
  'kubelet folder': ({ kubeletDir }) => {
    if (!existsSync(kubeletDir)) {
      return warning(
        `${kubeletDir} does not exist`,
        'on a Kubernetes node give kubelet\'s --root-dir with --kubelet-dir'
      )
    }
    return existsSync(`${kubeletDir}/plugins_registry`)
      ? ok(kubeletDir)
      : warning(`${kubeletDir} has no plugins_registry`, 'is kubelet running with this root folder?')
  },
  'kubelet': () => {
    const seen = findKubelets('/')
    const [kubelet] = seen.kubelets
    const doubted = showDoubted(seen)
    if (kubelet === undefined) {
      return doubted === ''
        ? note('no kubelet runs here')
        : note(doubted, 'nothing to do if it is none; a kubelet in a container of its own cannot be told from a pod')
    }
    const others = doubted === '' ? '' : `; ${doubted}`
    return ok(
      `${kubelet.program} runs (process ${kubelet.pid}; \`kubectl get nodes\` shows its version); FlexVolume is deprecated since 1.23 and still works${others}`
    )
  },
  'flex plugin folder': () => {
    if (mountsOfNode() !== undefined) return note('not looked at: this is a container, the folder is the node\'s')
    const seen = findKubelets('/')
    try {
      const { path, reason } = choosePluginFolder('/', undefined, seen)
      const { verdict, found, remedy } = folderCheck(path, 'kubelet\'s --volume-plugin-dir (volumePluginDir)', true)
      if (verdict !== 'ok') return warning(`${found} (${reason})`, `FlexVolume needs it: ${remedy}`)
      RootFolder.openIfThere(path)?.close()
      const driver = join(path, 'volbridge.io~volbridge/volbridge')
      return ok(
        `${found} (${reason}); ${existsSync(driver) ? 'the driver is installed' : '`volbridge flex-install` puts the driver there'}`
      )
    } catch (error) {
      // Without a kubelet there is nothing that FlexVolume could be for.
      return seen.kubelets.length === 0
        ? note('none found')
        : warning(messageOf(error), 'or give another to flex-install with --plugin-dir')
    }
  },
  'cgroups': () => {
    const mounts = readMountinfoSync()
    const v2 = mounts.some(({ type }) => type === 'cgroup2')
    const v1 = mounts.some(({ type }) => type === 'cgroup')
    if (!v1 && !v2) {
      return warning(
        'no cgroup hierarchy is mounted',
        'nothing to do; sessions started by Flex end with kubelet\'s service where systemd ends its cgroup'
      )
    }
    const roots = cgroupRoots(mounts)
    const fixed = roots.filter((root) => mountOf(mounts, root)?.options.includes('ro') === true)
    const kind = v1 ? v2 ? 'v1 and v2' : 'v1' : 'v2'
    return fixed.length === 0
      ? ok(kind)
      : warning(
        `${kind}; read-only: ${fixed.join(', ')}`,
        'mount them writable: else sessions stay in the cgroup of whoever starts them, and end with it'
      )
  },
  'selinux': () => {
    const file = '/sys/fs/selinux/enforce'
    if (!existsSync(file)) return ok('not in use')
    if (readFileSync(file, 'utf8').trim() !== '1') return note('permissive')
    return note(
      'enforcing: containers need leave to use FUSE mounts',
      'setsebool -P virt_use_fusefs 1, or container_use_fusefs; denials are in `ausearch -m avc`'
    )
  },
  'mount propagation': ({ kubeletDir }) => {
    const at = nearest(kubeletDir)
    const mount = mountOf(readMountinfoSync(), at)
    if (mount === undefined) return warning(`no mount found for ${at}`, 'nothing can be said about propagation')
    // An agent that sees the node's processes is told the node's namespaces, and needs no propagation out of its own.
    const ofNode = mountsOfNode()
    if (ofNode !== undefined && !isShared(mount)) {
      return ok(
        `not needed: this is a container, and with --host-ns mounts are made on the node (at ${mountOf(ofNode, kubeletDir)?.mountPoint ?? kubeletDir})`
      )
    }
    return isShared(mount)
      ? ok(`${mount.mountPoint} is shared`)
      : warning(
        `${mount.mountPoint} is not shared: mounts made in a container don't reach the node`,
        `mount --make-rshared ${mount.mountPoint}; in a pod, mountPropagation: Bidirectional`
      )
  },
  'kernel nfs client': () => {
    const known = readFileSync('/proc/filesystems', 'utf8').split('\n').some((line) =>
      line.trim().endsWith('\tnfs') || line.trim() === 'nfs'
    )
    const module = existsSync(`/lib/modules/${release()}`) && readdirSync(`/lib/modules/${release()}`).length > 0
    return known
      ? ok('loaded')
      : note(
        module
          ? 'not loaded; the kernel loads it when client=kernel needs it'
          : 'not available; only client=kernel needs it'
      )
  }
} as const satisfies Readonly<Record<string, Check>>

/** Runs every check; one that fails to run is itself a finding. */
export async function examine (context: DoctorContext): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const [check, run] of Object.entries<Check>(checks)) {
    try {
      findings.push({ check, ...await run(context) })
    } catch (error) {
      findings.push({
        check, verdict: 'warning',
        found: `could not be checked: ${error instanceof Error ? error.message : String(error)}`, remedy: ''
      })
    }
  }
  return findings
}

const marks = { ok: 'ok  ', note: 'note', warning: 'WARN', failed: 'FAIL' } as const satisfies Record<Verdict, string>

export function formatFindings (findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ check }) => check.length))
  return findings.map(({ check, verdict, found, remedy }) =>
    `${marks[verdict]}  ${check.padEnd(width)}  ${found}${remedy === '' ? '' : `\n${' '.repeat(width + 8)}→ ${remedy}`}\n`
  ).join('')
}
