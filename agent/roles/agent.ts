/**
 * The node's agent, composed: engine, doors, and when to leave.
 *
 * Owns start-up (engine and recovery first, then the sockets), SIGTERM (stop serving; mounts and sessions stay) and leaving when idle.
 */
import { hostname } from 'node:os'
import { mkdir } from 'node:fs/promises'
import type { AgentOptions } from '../cli/arguments.ts'
import type { Places } from '../cli/places.ts'
import { VolumeError, messageOf } from '../base/errors.ts'
import { openLog } from '../observe/log.ts'
import type { Log } from '../observe/log.ts'
import { startEngine } from '../volumes/engine.ts'
import type { Engine } from '../volumes/engine.ts'
import { parseVolumeSpec } from '../volumes/spec.ts'
import { csiSocketFolder, Doors } from './doors.ts'
import { eventLines } from './events.ts'
import { ownProgram } from './program.ts'
import { version } from './version.ts'

/** Long enough for the next pod of a drained node, short enough that a developer's machine is not kept waiting for it. */
const idleLeaveMs = 3 * 60_000
const idleLookMs = 5_000
/** Calls that run when SIGTERM comes may end; kubelet repeats the rest. */
const closeGraceMs = 5_000

export async function runAgent (options: AgentOptions, places: Places): Promise<number> {
  const log = openLog({ level: options.logLevel, file: options.logFile })
  try {
    return await serve(options, places, log)
  } catch (error) {
    log('error', { op: 'start', outcome: error instanceof VolumeError ? error.code : 'INTERNAL' }, messageOf(error))
    throw error
  }
}

async function serve (options: AgentOptions, places: Places, log: Log): Promise<number> {
  if (process.geteuid?.() !== 0) {
    throw new VolumeError('DENIED', 'the agent mounts file systems and needs root', { remedy: 'start it as root, or in a privileged container' })
  }
  const program = ownProgram()
  const engine = await startEngine({
    stateDir: places.stateDir,
    runDir: places.runDir,
    sessionCommand: { file: program.file, args: [...program.args, 'session', '--state-dir', places.stateDir] },
    events: eventLines(log)
  })
  try {
    if (options.csiEndpoint !== undefined) await mkdir(csiSocketFolder(options.csiEndpoint), { recursive: true, mode: 0o750 })
    const doors = new Doors({
      volumes: engine.service,
      parseSpec: parseVolumeSpec,
      log,
      version,
      driverName: options.driverName,
      nodeId: options.nodeId ?? hostname(),
      agentSocket: places.agentSocket,
      csiEndpoint: options.csiEndpoint,
      kubeletDir: options.kubeletDir,
      listen: options.listen
    })
    await doors.open()
    log('info', { op: 'start', outcome: 'ok', version, recovered: engine.recovered.length, stateDir: places.stateDir }, 'the agent serves')
    const why = await untilToldToLeave(options, doors, engine)
    log('info', { op: 'stop', outcome: why }, 'the agent stops serving; mounts and sessions stay')
    await doors.close(closeGraceMs)
    return 0
  } finally {
    engine.close()
  }
}

/** Resolves with a signal's name, or `idle` when nobody needs this agent any more. */
async function untilToldToLeave (options: AgentOptions, doors: Doors, engine: Engine): Promise<string> {
  return await new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.once(signal, () => { resolve(signal) })
    if (!options.leaveWhenIdle || options.csiEndpoint !== undefined) return
    let isLooking = false
    const timer = setInterval(() => {
      if (isLooking || doors.idleMs < idleLeaveMs) return
      isLooking = true
      engine.service.list().then((volumes) => {
        isLooking = false
        if (volumes.length > 0 || doors.idleMs < idleLeaveMs) return
        clearInterval(timer)
        resolve('idle')
      }, () => { isLooking = false })
    }, idleLookMs)
  })
}
