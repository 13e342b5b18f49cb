/**
 * Idle CPUs that answer at once while a session is busy: on which machines that is asked of the kernel, and the device
 * by which.
 *
 * Owns that judgement and its reasons. Does not know when a session is busy (native/cpu_latency.c), nor who wants it
 * otherwise.
 */
import { closeSync, constants, openSync, readFileSync } from 'node:fs'
import { cpus } from 'node:os'

/** A request holds as long as its descriptor is open (kernel Documentation/power/pm_qos_interface.rst). */
const device = '/dev/cpu_dma_latency'
const cpuidle = '/sys/devices/system/cpu/cpuidle'
/** What the governor may do (kernel Documentation/virt/guest-halt-polling.rst). */
const parameters = '/sys/module/haltpoll/parameters'

/**
 * An idle CPU that may not sleep spins. A virtual machine of this size has one or two of them beside the session and
 * the program that waits for it; on a larger one the many others would spin for nothing.
 */
const cpusMax = 4

/** `auto`: where it was measured to help. */
export const cpuLatencyChoices = ['auto', 'off'] as const
export type CpuLatencyChoice = typeof cpuLatencyChoices[number]

export interface CpuLatencyVerdict { readonly isWanted: boolean, readonly why: string, readonly remedy?: string }

export interface IdleFacts {
  readonly cpuCount: number
  /** The kernel's cpuidle driver and governor, or undefined where there is none. */
  readonly driver: string | undefined
  readonly governor: string | undefined
  /** How long that governor lets a CPU wait awake before it halts, at most; undefined where nothing is known of
   * that. */
  readonly haltPollNs: number | undefined
  /** Whether that time becomes shorter again by itself. */
  readonly shrinks: boolean
  /** Why the device can't be opened, as an errno's name. */
  readonly refusal: string | undefined
}

/**
 * The driver and governor `haltpoll` are those of virtual machines: halting leaves the guest, and so do the interrupt
 * that wakes and the waking. By default the governor has an idle CPU wait awake first, which is as good; where that is
 * turned off, it halts.
 *
 * A request leaves each CPU with a time of its own for waiting awake, of a quarter of a millisecond or so. The governor
 * takes it back within a few halts (drivers/cpuidle/governors/haltpoll.c, adjust_poll_limit), but only where it may
 * shrink: elsewhere one request would last until the next boot.
 */
export function judgeCpuLatency ({ cpuCount, driver, governor, haltPollNs, shrinks, refusal }:
  IdleFacts): CpuLatencyVerdict
{
  const asTheKernelDecides = (because: string): CpuLatencyVerdict => ({
    isWanted: false, why: `they sleep as the kernel decides (${because})`
  })
  if (driver !== 'haltpoll' || governor !== 'haltpoll' || haltPollNs === undefined) {
    return asTheKernelDecides(`cpuidle driver ${driver ?? 'none'}, governor ${governor ?? 'none'}`)
  }
  if (haltPollNs > 0) {
    return { isWanted: false, why: `the kernel has them wait awake itself, up to ${haltPollNs / 1000} µs` }
  }
  if (!shrinks) return asTheKernelDecides('haltpoll may not shrink its waiting: one wish would last for ever')
  if (cpuCount < 2) return asTheKernelDecides('there are not two of them')
  if (cpuCount > cpusMax) return asTheKernelDecides(`with ${cpuCount} CPUs too many would be kept awake`)
  if (refusal !== undefined) {
    return {
      isWanted: false,
      why:
        `they sleep while a volume is busy, which makes small requests slower: ${device} can't be opened (${refusal})`,
      remedy: 'run as root; in a container, set privileged: true'
    }
  }
  return { isWanted: true, why: `they stay awake while a volume is busy: a virtual machine with ${cpuCount} CPUs` }
}

function read (file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch {
    // No such thing in this kernel, or a container that hides it: then nothing is asked for.
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
  const haltPollNs = Number.parseInt(read(`${parameters}/guest_halt_poll_ns`) ?? '', 10)
  return {
    cpuCount: cpus().length,
    driver: read(`${cpuidle}/current_driver`),
    // The second name is that of kernels before 5.8.
    governor: read(`${cpuidle}/current_governor`) ?? read(`${cpuidle}/current_governor_ro`),
    haltPollNs: Number.isNaN(haltPollNs) ? undefined : haltPollNs,
    shrinks: read(`${parameters}/guest_halt_poll_allow_shrink`) === 'Y' &&
      read(`${parameters}/guest_halt_poll_shrink`) !== '1',
    refusal: refusalOf()
  }
}

/** The kernel's own rules stay in force until a number is written. @throws the errno of open(2). */
export const openCpuLatencyDevice = (): number => openSync(device, constants.O_WRONLY)
