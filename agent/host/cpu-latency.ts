/**
 * Idle CPUs that answer at once while a session is busy: on which machines that is asked of the kernel, and the device by which.
 *
 * Owns that judgement and its reasons. Does not know when a session is busy (native/cpu_latency.c), nor who wants it otherwise.
 */
import { closeSync, constants, openSync, readFileSync } from 'node:fs'
import { cpus } from 'node:os'

/** A request holds as long as its descriptor is open (kernel Documentation/power/pm_qos_interface.rst). */
const device = '/dev/cpu_dma_latency'
const driverFile = '/sys/devices/system/cpu/cpuidle/current_driver'
const haltPollFile = '/sys/module/haltpoll/parameters/guest_halt_poll_ns'

/**
 * An idle CPU that may not sleep spins. A virtual machine of this size has one or two of them beside the session and the program that waits for it;
 * on a larger one the many others would spin for nothing.
 */
const cpusMax = 4

/** `auto`: where it was measured to help. */
export const cpuLatencyChoices = ['auto', 'off'] as const
export type CpuLatencyChoice = typeof cpuLatencyChoices[number]

export interface CpuLatencyVerdict { readonly isWanted: boolean, readonly why: string, readonly remedy?: string }

export interface IdleFacts {
  readonly cpuCount: number
  /** The kernel's cpuidle driver, or undefined where there is none. */
  readonly driver: string | undefined
  /** How long such a driver's CPU waits awake before it halts, at most; undefined where nothing is known of that. */
  readonly haltPollNs: number | undefined
  /** Why the device can't be opened, as an errno's name. */
  readonly refusal: string | undefined
}

/**
 * The driver `haltpoll` is that of virtual machines: halting leaves the guest, and so do the interrupt that wakes and the waking. By default its
 * governor has an idle CPU wait awake first (kernel Documentation/virt/guest-halt-polling.rst), which is as good; where that is turned off, it halts.
 */
export function judgeCpuLatency ({ cpuCount, driver, haltPollNs, refusal }: IdleFacts): CpuLatencyVerdict {
  if (driver !== 'haltpoll' || haltPollNs === undefined) return { isWanted: false, why: `they sleep as the kernel decides (cpuidle driver: ${driver ?? 'none'})` }
  if (haltPollNs > 0) return { isWanted: false, why: `the kernel has them wait awake itself, up to ${haltPollNs / 1000} µs` }
  if (cpuCount < 2) return { isWanted: false, why: 'there is one CPU' }
  if (cpuCount > cpusMax) return { isWanted: false, why: `they sleep as the kernel decides: with ${cpuCount} CPUs too many would be kept awake` }
  if (refusal !== undefined) {
    return { isWanted: false, why: `they sleep while a volume is busy, which makes small requests slower: ${device} can't be opened (${refusal})`, remedy: 'run as root; in a container, set privileged: true' }
  }
  return { isWanted: true, why: `they stay awake while a volume is busy: a virtual machine with ${cpuCount} CPUs` }
}

function read (file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch {
    // No cpuidle in this kernel, or a container that hides it: then nothing is asked for.
    return undefined
  }
}

/** Opening asks for nothing yet. access(2) would not do: a container's device rules deny only the open. */
function refusalOf (): string | undefined {
  try {
    closeSync(openCpuLatencyDevice())
    return undefined
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unknown'
  }
}

/** Only looks. */
export function idleFacts (): IdleFacts {
  const haltPollNs = Number.parseInt(read(haltPollFile) ?? '', 10)
  return { cpuCount: cpus().length, driver: read(driverFile), haltPollNs: Number.isNaN(haltPollNs) ? undefined : haltPollNs, refusal: refusalOf() }
}

/** The kernel's own rules stay in force until a number is written. @throws the errno of open(2). */
export const openCpuLatencyDevice = (): number => openSync(device, constants.O_WRONLY)
