/**
 * The agent's process, composed: the engine, its doors, signals, and when it ends.
 *
 * Owns the order of start and end. Ending never touches mounts or sessions: pods go on, and the next agent finds them
 * again.
 */
import { hostname } from 'node:os'
import { isListening } from '../cli/agent-process.ts'
import type { AgentOptions } from '../cli/arguments.ts'
import { chooseConsents } from '../cli/consents.ts'
import { chooseCpuLatency } from '../cli/cpu-latency.ts'
import { makePlaces } from '../cli/places.ts'
import type { Places } from '../cli/places.ts'
import { monotonicMs, pause } from '../base/deadline.ts'
import { VolumeError, messageOf } from '../base/errors.ts'
import { loadAddon } from '../host/addon.ts'
import { leaveOwnCgroup, moveToOwnCgroup, removeOwnCgroup } from '../host/cgroups.ts'
import { idleFacts, judgeCpuLatency, type CpuLatencyVerdict } from '../host/cpu-latency.ts'
import { IdleMemory } from '../host/idle-memory.ts'
import { createMemoryRelease, keepHeapSmall } from '../host/memory.ts'
import { nodeNamespaces } from '../host/namespaces.ts'
import { makeRootFolder } from '../host/root-folder.ts'
import type { Judge } from '../observe/http/authorization.ts'
import { tokenFileJudge } from '../observe/http/token-file.ts'
import { apiOfPod, tokenReviewJudge } from '../observe/http/token-review.ts'
import { openLog } from '../observe/log.ts'
import type { Log } from '../observe/log.ts'
import { KernelServer } from '../nfs/kernel-server.ts'
import { Troubles } from '../status/troubles.ts'
import { parseAllowRule } from '../volumes/policy/allow-list.ts'
import { startEngine } from '../volumes/engine.ts'
import type { Engine } from '../volumes/engine.ts'
import type { Consents } from '../volumes/policy/policy.ts'
import { parseVolumeSpec } from '../volumes/spec/spec.ts'
import { Doors, csiSocketFolders } from './doors.ts'
import { engineEvents } from './engine-events.ts'
import { askToHandOver, isSuccessor, type Contender } from './handover.ts'
import { filesOf, ownProgram, programOnNode } from './program.ts'
import { version } from './version.ts'

/** Calls that run when we are told to end get this long. kubelet repeats those that are cut. */
const graceMs = 5000
/** A predecessor that was told to end still holds the state folder for its grace. */
const handoverMs = 10_000
const idleLookMs = 1000
const agentCgroup = 'volbridge-agent'
/** A look at fifty sessions every few seconds leaves garbage and nothing that hurries: half of what lives is enough to
 * run ahead. */
const heapGrowingPercent = 50

const contender = ({ leaveWhenIdle, csiEndpoint }: AgentOptions): Contender => ({
  version, stays: leaveWhenIdle === undefined || csiEndpoint !== undefined
})

function requireRoot (): void {
  if (process.geteuid?.() === 0) return
  throw new VolumeError(
    'DENIED',
    `the agent mounts file systems and needs root; this is uid ${process.geteuid?.() ?? -1}`,
    { remedy: 'run it with sudo, or as a privileged container' }
  )
}

/** kubelet makes `plugins`, the driver its own folder in it; a kubelet folder that isn't there is a wrong option. */
function makeSocketFolders (endpoint: string): void {
  for (const folder of csiSocketFolders(endpoint)) {
    try {
      makeRootFolder(folder, 0o750)
    } catch (error) {
      throw new VolumeError('INVALID', `--csi-endpoint: the folder ${folder} can't be made: ${messageOf(error)}`, {
        field: '--csi-endpoint', remedy: 'make it, or choose another', cause: error
      })
    }
  }
}

/** @throws VolumeError INVALID, before anything is opened. */
const judgesOf = ({ httpTokenFile, httpTokenReview }: AgentOptions): readonly Judge[] => [
  ...httpTokenFile === undefined ? [] : [tokenFileJudge(httpTokenFile)],
  ...httpTokenReview ? [tokenReviewJudge(apiOfPod(process.env))] : []
]

/** False when the operator says no; else it is this machine that decides, anew for each volume that is mounted. */
function mayCpusStayAwake (options: AgentOptions, log: Log): boolean {
  const choice = chooseCpuLatency(options.cpuLatency, process.env) ?? 'auto'
  const { why, remedy }: Omit<CpuLatencyVerdict, 'isWanted'> = choice === 'off'
    ? { why: 'they sleep as the kernel decides (the agent was told so)' }
    : judgeCpuLatency(idleFacts())
  log('info', { op: 'cpu-latency', outcome: choice }, `idle CPUs: ${why}${remedy === undefined ? '' : `; ${remedy}`}`)
  return choice === 'auto'
}

/** @throws VolumeError INVALID naming the option or variable. */
function consentsOf (options: AgentOptions): Consents {
  const ephemeral = options.ephemeralAllow.map((rule) => parseAllowRule(rule, '--ephemeral-allow'))
  return { ...chooseConsents(options, process.env), ephemeral }
}

/** A predecessor that no longer listens is about to go: its lock on the state folder is waited for. One that listens is
 * asked to hand over. */
async function startEngineWhenFree (options: AgentOptions, places: Places, log: Log): Promise<Engine> {
  const mayKeepCpusAwake = mayCpusStayAwake(options, log)
  const namespaces = options.hostNs === undefined ? undefined : nodeNamespaces(options.hostNs)
  const program = namespaces === undefined ? ownProgram() : await programOnNode(places.stateDir)
  let hasAgreed = false
  for (const untilMs = monotonicMs() + handoverMs;;) {
    try {
      return await startEngine({
        stateDir: places.stateDir,
        runDir: places.runDir,
        // The packed binary reads the state folder from the arguments of every role: its addon is unpacked there.
        sessionCommand: {
          file: program.file, args: [...program.args, 'session', '--state-dir', places.stateDir],
          files: filesOf(program)
        },
        sessionEnv: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
        kernelNfs: new KernelServer(),
        csiFolder: options.csiEndpoint === undefined ? undefined : options.kubeletDir,
        events: engineEvents(log),
        mayKeepCpusAwake,
        limits: { volumesMax: options.maxVolumes, ephemeralMax: options.ephemeralMax },
        ...namespaces === undefined ? {} : { namespaces }
      })
    } catch (error) {
      const isTaken = error instanceof VolumeError && error.code === 'CONFLICT'
      if (!isTaken || monotonicMs() > untilMs) throw error
      if (!hasAgreed && await isListening(places.agentSocket)) {
        hasAgreed = await askToHandOver(places, contender(options))
        if (hasAgreed) log('info', { op: 'hand-over' }, 'the agent before ends; its volumes stay')
      }
      await pause(200)
    }
  }
}

/** An agent started by Flex or by hand dies with its starter's cgroup unless it leaves it. */
async function leaveStartersCgroup (log: Log): Promise<void> {
  const { failed } = await moveToOwnCgroup(process.pid, agentCgroup)
  for (const { path, reason } of failed) {
    log('warn', { op: 'cgroup', path }, `the agent stays in its starter's cgroup and may end with it: ${reason}`)
  }
}

const signals = ['SIGTERM', 'SIGINT'] as const
const isSignal = (why: string): boolean => signals.some((signal) => signal === why)

/** Aborts with the reason when we are told to end. Made before any socket is there: who can be found can be told. */
function endSignal (): AbortSignal {
  const stop = new AbortController()
  for (const signal of signals) process.once(signal, () => { stop.abort(signal) })
  return stop.signal
}

/** Resolves with the reason to end. */
async function untilEnd (options: AgentOptions, doors: Doors, engine: Engine, stop: AbortSignal): Promise<string> {
  const idleMs = options.leaveWhenIdle === undefined || options.csiEndpoint !== undefined
    ? Number.POSITIVE_INFINITY
    : options.leaveWhenIdle * 1000
  while (!stop.aborted) {
    await pause(idleLookMs, stop)
    if (!stop.aborted && doors.idleMs >= idleMs && !engine.service.isInUse) return 'idle'
  }
  return String(stop.reason)
}

/**
 * Thrown by Node from within, with no place to catch it; nobody is left to be told. A call that its caller reset in the
 * same packet is still answered by grpc-js; and where nghttp2 writes to a connection in the tick in which that is
 * closed, js_stream_socket.js asserts.
 */
function isOfGoneCaller ({ code, stack = '' }: NodeJS.ErrnoException): boolean {
  return code === 'ERR_HTTP2_INVALID_STREAM' ||
    (code === 'ERR_INTERNAL_ASSERTION' && stack.includes('JSStreamSocket.doWrite'))
}

function survive (log: Log): void {
  // Our own bug must not take the node's storage control away; what it hit is one call, which fails or times out.
  process.on('uncaughtException', (error: NodeJS.ErrnoException) => {
    if (isOfGoneCaller(error)) {
      log(
        'debug',
        { op: 'call', outcome: 'CANCELLED' },
        `a caller went in the middle of its call: ${error.message.split('\n', 1)[0]}`
      )
    } else log('error', { op: 'agent', outcome: 'INTERNAL', stack: error.stack }, error.message)
  })
  process.on('unhandledRejection', (reason) => {
    log(
      'error',
      { op: 'agent', outcome: 'INTERNAL', ...(reason instanceof Error ? { stack: reason.stack } : {}) },
      messageOf(reason)
    )
  })
  process.on('SIGHUP', () => undefined)
}

interface Observed { readonly log: Log, readonly troubles: Troubles, readonly judges: readonly Judge[] }

async function serve (options: AgentOptions, places: Places, observed: Observed): Promise<void> {
  const { log } = observed
  if (options.leaveWhenIdle === undefined) {
    // What a killed one, started by Flex, has left.
    await removeOwnCgroup(agentCgroup)
    return await serveHere(options, places, observed)
  }
  await leaveStartersCgroup(log)
  try {
    await serveHere(options, places, observed)
  } finally {
    await leaveOwnCgroup(process.pid, agentCgroup)
  }
}

async function serveHere (options: AgentOptions, places: Places, { log, troubles, judges }: Observed): Promise<void> {
  const consents = consentsOf(options)
  const engine = await startEngineWhenFree(options, places, log)
  try {
    if (options.csiEndpoint !== undefined) makeSocketFolders(options.csiEndpoint)
    const successor = new AbortController()
    const doors = new Doors({
      handOver: (newcomer) => {
        if (!isSuccessor(newcomer, contender(options))) return false
        successor.abort(`handed over to ${newcomer.version}`)
        return true
      },
      volumes: engine.service, parseSpec: parseVolumeSpec, consents, volumesMax: options.maxVolumes, log, troubles,
      version,
      driverName: options.driverName, nodeId: options.nodeId ?? hostname(), agentSocket: places.agentSocket,
      csiEndpoint: options.csiEndpoint, csiHealth: options.csiHealth, kubeletDir: options.kubeletDir,
      listen: options.listen, httpSocket: places.httpSocket, judges
    })
    let why = ''
    const stop = endSignal()
    try {
      await doors.open()
      // Fifty calls at once leave a heap that nobody needs afterwards.
      const memory = new IdleMemory({ work: () => doors.callsEnded, release: createMemoryRelease(loadAddon()) })
      log('info', {
        op: 'start', outcome: 'OK', version, agentSocket: places.agentSocket, csiEndpoint: options.csiEndpoint,
        recovered: engine.recovered.length
      })
      why = await untilEnd(options, doors, engine, AbortSignal.any([stop, successor.signal]))
      log('info', { op: 'stop', outcome: why }, 'volumes stay mounted')
      memory.close()
    } finally {
      await doors.close({ graceMs, deregister: options.deregisterOnExit && isSignal(why) })
    }
  } finally {
    engine.close()
  }
}

/** `volbridge agent`; `power` is what could not be given away. @throws VolumeError when it can't start. */
export async function runAgent (
  options: AgentOptions,
  places: Places,
  power: string | undefined
): Promise<number> {
  requireRoot()
  keepHeapSmall(heapGrowingPercent)
  await makePlaces(places)
  // A starter's pipe or lock must not live as long as the sessions.
  loadAddon().closeInherited()
  const troubles = new Troubles()
  const log = troubles.watch(openLog({ level: options.logLevel, file: options.logFile }))
  survive(log)
  if (power !== undefined) log('warn', { op: 'power' }, `the agent ${power}`)
  try {
    await serve(options, places, { log, troubles, judges: judgesOf(options) })
  } catch (error) {
    // Whoever started us in the background reads the log's last line; a person reads what is printed.
    if (options.logFile !== undefined) {
      log('error', { op: 'start', outcome: error instanceof VolumeError ? error.code : 'INTERNAL' }, messageOf(error))
    }
    process.stderr.write(`volbridge: ${messageOf(error)}\n`)
    process.exit(error instanceof VolumeError && error.code === 'INVALID' ? 2 : 1)
  }
  // What is left (sockets to sessions, timers) is nobody's business any more.
  process.exit(0)
}
