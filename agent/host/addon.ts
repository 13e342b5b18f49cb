/**
 * The native addon, typed. Owns loading it; does not know what its functions mean (`fuse-device.ts`, `host-calls.ts`
 * and `descriptors.ts` do). Loaded lazily, so that a process that needs no system call beyond Node's (a Flex `init`)
 * never touches the file.
 */
import { createRequire } from 'node:module'
import { forgetTemporary, injectedSource, locateAddon } from './addon-location.ts'
import type { FuseAddon } from './fuse-device.ts'

/** native/host_call.c. Errors carry `errno`. */
export interface HostCallAddon {
  /** Forks a child for the program; returns its pid and the pipe it answers on. `keep` are the descriptors it
   * inherits. */
  startHostCall: (program: Buffer, keep: Int32Array) => readonly [pid: number, fd: number]
  /** True once that child is gone; waits for no other. */
  reapHostCall: (pid: number) => boolean
}

/** native/launch.c. Errors carry `errno`. */
export interface LaunchAddon {
  /** Forks and executes a program in other namespaces; returns its pid and a pipe that ends once it runs, after
   * what failed. */
  startProgram: (
    strings: Buffer,
    counts: Int32Array,
    fds: Int32Array,
    capabilities: Int32Array
  ) => readonly [pid: number, fd: number]
  /** undefined while it runs, then how it ended; -1 for what is not known. Waits for no other. */
  reapProgram: (pid: number) => readonly [code: number, signal: number] | undefined
  /** This process begins again, with these capabilities at most; answers only with the errno of a refusal. */
  restart: (strings: Buffer, counts: Int32Array, capabilities: Int32Array) => number
}

/** native/descriptors.c. Errors carry `errno`. */
export interface DescriptorAddon {
  sendDescriptors: (socket: number, fds: Int32Array, message: Buffer) => void
  receiveDescriptors: (socket: number, into: Buffer) => readonly [bytes: number, ...fds: number[]]
  peerOf: (socket: number) => readonly [pid: number, uid: number, gid: number]
  socketPair: () => readonly [number, number]
  memoryFile: (name: string, bytes: number) => number
  /** True when the exclusive lock is ours, false when another open file holds it. */
  lockFile: (fd: number) => boolean
  /**
   * Closes every descriptor from 3 on that is not close-on-exec: our starter's, which everything that we start would
   * have too; regular files are made so instead, a thread of Node's may be reading one. Returns how many it closed.
   */
  closeInherited: () => number
  /** Gives memory that malloc holds free back to the system. Some milliseconds: for idle moments. */
  trimMemory: () => void
}

/** native/confine.c. Each answers 0 or an errno, and lasts as long as the process. */
export interface ConfineAddon {
  /** User and group of every thread; the capabilities (a mask of those below 32) stay with the calling thread alone. */
  becomeUser: (id: number, capabilities: number) => number
  forbidDumps: () => number
  /** For every thread. Some calls are refused, some end the process. */
  filterSystemCalls: () => number
  /** The kernel's version of Landlock; 0 where there is none. */
  viewAbi: () => number
}

/** native/busy_poll.c. */
export interface BusyPollAddon {
  /**
   * Short waits of the event loop are spent awake from now on; false where that cannot help (one CPU). At most 1,000.
   * `underWay[0]` is how many requests are under way, for the caller to keep up to date: with many of them sleeping is
   * better.
   */
  startBusyPoll: (microsecondsMax: number, underWay: Int32Array) => boolean
}

/** native/cpu_latency.c. */
export interface CpuLatencyAddon {
  /**
   * From now on no idle CPU sleeps deeply while the event loop is busy. `fd` is /dev/cpu_dma_latency opened for writing
   * and belongs to the addon; `heldMs[0]` grows by how long that was asked for. At most once in a process.
   */
  startCpuLatencyRequests: (fd: number, heldMs: Float64Array) => void
}

export interface Addon
  extends FuseAddon, HostCallAddon, DescriptorAddon, LaunchAddon, ConfineAddon, BusyPollAddon, CpuLatencyAddon
{}

/** Loads the addon, from the source tree or unpacked from the binary, once in a process. */
export function loadAddon (): Addon {
  const source = injectedSource()
  if (source?.loaded !== undefined) return source.loaded as Addon
  const path = locateAddon(source)
  const addon = createRequire(path)(path) as Addon
  forgetTemporary(path)
  if (source !== undefined) source.loaded = addon
  return addon
}
