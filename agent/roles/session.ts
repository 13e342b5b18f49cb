/**
 * The session's process, composed: the inherited FUSE descriptor, the control socket, and an NFS volume behind them.
 *
 * Owns what such a process loads (no parser, no gRPC, no logging library: it has to stay small) and which signals it
 * survives.
 */
import type { NfsLog } from '../nfs/transport-log.ts'
import { loadAddon } from '../host/addon.ts'
import { confine } from '../host/confine.ts'
import { attachFuseDevice } from '../host/fuse-device.ts'
import { fuseRequestLimits } from '../host/fuse-sysctl.ts'
import { readMountinfoSync } from '../host/mountinfo.ts'
import { createMemoryRelease, keepHeapSmall } from '../host/memory.ts'
import { peerOf } from '../host/sockets.ts'
import type { Log } from '../session/dispatcher.ts'
import { brokenExitCode, cpuLatencyFlag } from '../session/control.ts'
import { untilBroken } from './broken.ts'
import { createTaskReader } from '../session/proc-status.ts'
import { runSession } from '../session/process.ts'
import { openNfsVolume } from './nfs-volume.ts'
import { sessionLog } from './session-log.ts'
import { version } from './version.ts'

/** The agent starts us with /dev/fuse there. */
const fuseFd = 3
/** And /dev/cpu_dma_latency there, if it says so. */
const latencyFd = 4
/**
 * How long the loop stays awake for the next request or reply. A call to a server on the same rack and the next call of
 * the same program come within it; a server further away than that is slept for (native/busy_poll.c).
 */
const busyPollMicroseconds = 100

export function toNfsLog (log: Log): NfsLog {
  const at = (level: 'debug' | 'info' | 'warn' | 'error') => (facts: object, message: string) => {
    log(level, { op: 'nfs', ...facts }, message)
  }
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

function socketPathOf (args: readonly string[]): string | undefined {
  const at = args.indexOf('--socket')
  return at === -1 ? undefined : args[at + 1]
}

/** `volbridge session --socket PATH`: internal, started by the agent with /dev/fuse as descriptor 3 and, with
 * --cpu-latency, /dev/cpu_dma_latency as 4. Answers the exit code. */
export async function runSessionRole (args: readonly string[]): Promise<number> {
  const socketPath = socketPathOf(args)
  if (socketPath === undefined) {
    process.stderr.write('volbridge: session is started by the agent; use `volbridge mount`\n')
    return 2
  }
  // Pods depend on this process: a terminal's or a starter's farewell is not meant for it.
  for (const signal of ['SIGHUP', 'SIGINT'] as const) process.on(signal, () => undefined)
  const leave = new AbortController()
  process.once('SIGTERM', () => { leave.abort() })
  const addon = loadAddon()
  const log = sessionLog({ fd: 2 })
  // Whoever started us; we become somebody else.
  const owner = process.geteuid?.()
  keepHeapSmall()
  const underWay = new Int32Array(1)
  addon.startBusyPoll(busyPollMicroseconds, underWay)
  const cpusAwakeMs = new Float64Array(1)
  if (args.includes(cpuLatencyFlag)) addon.startCpuLatencyRequests(latencyFd, cpusAwakeMs)
  const end = await runSession({
    socketPath, version, log, underWay, cpusAwakeMs,
    leave: leave.signal,
    broken: untilBroken(),
    releaseMemory: createMemoryRelease(addon),
    device: attachFuseDevice(addon, fuseFd),
    taskReader: createTaskReader(),
    requestLimits: fuseRequestLimits,
    isTrusted: (socket) => peerOf(socket, addon)?.uid === owner,
    confine: ({ reservedPorts }) => confine({ addon, mounts: readMountinfoSync(), pid: process.pid, reservedPorts }),
    configure: async (configuration, { invalidator }) =>
      await openNfsVolume(configuration, { log: toNfsLog(log), invalidator })
  })
  log('info', { op: 'session', outcome: 'ended', errno: end.errno }, end.reason)
  // Timers and half-closed connections of a finished session are nobody's business any more.
  process.exit(end.isBroken === true ? brokenExitCode : 0)
}
