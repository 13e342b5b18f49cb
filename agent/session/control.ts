/**
 * What the agent and a session process say to each other over the session's unix socket.
 *
 * Owns the message types: one JSON object a line, at most 1 MiB, `id` pairs an answer with its request. The socket lies
 * in a 0700 folder and the peer's uid is checked. Both sides refuse a protocol version they do not know, by name.
 * Does not know who starts processes or mounts: that is `agent/volumes`.
 *
 * Life of a session: the agent opens /dev/fuse and starts the process with that descriptor as fd 3 (and, with
 * `cpuLatencyFlag`, the CPU latency device as fd 4) → `configure` (the session connects
 * to the server, resolves the root; nothing is mounted yet, so a bad server or export is an error here) → the agent
 * mounts with its copy of the descriptor and closes it → `serve` (answers once the kernel's INIT has been answered) →
 * `report` whenever asked → `drain` (write back everything) → the agent unmounts, which ends the process; `stop` ends
 * it when nothing was mounted.
 */
import type { FileName, StageKey } from '../base/brands.ts'
import type { FsGroupContents, VolumeSpec } from '../base/volume-spec.ts'

export const controlVersion = 1

/** Exit code of a session that a bug of its own has ended; EX_SOFTWARE of sysexits.h. */
export const brokenExitCode = 70

/** Argument of a session that got /dev/cpu_dma_latency as its descriptor 4. */
export const cpuLatencyFlag = '--cpu-latency'

/** Upper bounds of latency histograms: from a cached answer to a server that was away. What took longer is in `count`
 * alone. */
export const latencyBoundsSeconds = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60
] as const

export interface SessionConfiguration {
  readonly key: StageKey
  readonly spec: VolumeSpec
  /** Answer GETATTR, LOOKUP and STATFS of what is known from the last values after 5 s without the server (nfs(5)
   * softreval). */
  readonly softReval: boolean
  readonly dirtyBytesMax: number
}

export type SessionHealth = 'healthy' | 'degraded' | 'unreachable' | 'stale' | 'dead'

export interface SessionReport {
  readonly key: StageKey
  readonly pid: number
  readonly version: string
  readonly phase: 'new' | 'configured' | 'serving' | 'draining' | 'ended'
  readonly health: SessionHealth
  /** Why it is not healthy, in a sentence with a remedy; empty when healthy. */
  readonly healthReason: string
  readonly serverAddress: string
  /** Milliseconds since the server's last answer, -1 before the first. */
  readonly sinceLastReplyMs: number
  readonly locks: 'node-local'
  readonly counters: Readonly<Record<string, number>>
  readonly gauges: Readonly<Record<string, number>>
  /** What an operator should know though the volume works. Absent in sessions of earlier versions. */
  readonly notes?: readonly string[]
  /** Latency histograms in seconds by operation: cumulative counts per upper bound. */
  readonly latency: Readonly<
    Record<string, { readonly count: number, readonly sumSeconds: number, readonly buckets: readonly number[] }>
  >
}

/** A volume for a pod's fsGroup. */
export interface GroupGift {
  readonly group: number
  readonly contents: FsGroupContents
  /** The pod has it read-only: its group needs no more. */
  readonly readOnly: boolean
  /** Folders of other volumes, which are left alone: names from the root down. */
  readonly except: readonly (readonly FileName[])[]
}

export interface GroupState {
  /** False: it goes on, and the next call finds it under way or done. */
  readonly isDone: boolean
  /** In words, for an operator. */
  readonly progress: string
}

export interface SessionStatistics {
  readonly totalBytes: string
  readonly usedBytes: string
  readonly availableBytes: string
  readonly totalInodes: string
  readonly usedInodes: string
  readonly availableInodes: string
  /** True when the server did not answer in time and these are the last known values. */
  readonly stale: boolean
  readonly ageMs: number
}

/** Requests by name: what goes in and what comes out. A table, so that both sides are checked against it. */
export interface ControlCalls {
  hello: { request: { version: number }, answer: { version: number, report: SessionReport } }
  configure: {
    request: SessionConfiguration
    answer: { serverAddress: string, rootMode: number, maxReadBytes: number, readAheadBytes: number }
  }
  serve: { request: { mountPoint: string, device: string }, answer: { minor: number } }
  report: { request: Record<string, never>, answer: SessionReport }
  statistics: { request: { deadlineMs: number }, answer: SessionStatistics }
  /** Asks the server now, past every cache, with a deadline. */
  probe: { request: { deadlineMs: number }, answer: { health: SessionHealth, reason: string, ms: number } }
  /** Whether a mount made now would show the same folder. Sessions of earlier versions do not know the call. */
  checkRoot: { request: { deadlineMs: number }, answer: { isCurrent: boolean, reason: string } }
  /**
   * Gives the volume to a pod's group. Sessions of earlier versions do not know the call: they give the root when they
   * start.
   */
  giveGroup: { request: GroupGift & { deadlineMs: number }, answer: GroupState }
  drain: { request: { deadlineMs: number }, answer: { lostBytes: number, files: readonly string[] } }
  stop: { request: Record<string, never>, answer: Record<string, never> }
}
export type ControlCall = keyof ControlCalls

/** One line each way. `id` is the caller's; the answer has the same. */
export interface ControlRequest<C extends ControlCall = ControlCall> {
  readonly id: number
  readonly call: C
  readonly body: ControlCalls[C]['request']
}
/** `code` is a VolumeErrorCode name; `field` and `remedy` as in VolumeError. */
export type ControlAnswer<C extends ControlCall = ControlCall> =
  | { readonly id: number, readonly body: ControlCalls[C]['answer'] }
  | {
    readonly id: number
    readonly error: {
      readonly code: string
      readonly message: string
      readonly field?: string
      readonly remedy?: string
    }
  }
