/**
 * The doors of a running agent around one engine: its own socket, the CSI socket, kubelet's registration, the HTTP
 * face.
 *
 * Owns the order in which they open (everything that serves is ready before its socket appears) and close.
 * Does not know how the engine was made.
 */
import { realpathSync } from 'node:fs'
import { hostname } from 'node:os'
import path from 'node:path'
import { VolumeError, messageOf } from '../base/errors.ts'
import { parseAbsolutePath } from '../base/brands.ts'
import { monotonicMs } from '../base/deadline.ts'
import { agentService, statusReport } from '../csi/agent-service.ts'
import type { AgentOptions } from '../csi/agent-service.ts'
import type { ParseSpec } from '../csi/decode.ts'
import { identityService } from '../csi/identity.ts'
import { nodeService } from '../csi/node.ts'
import { Registration } from '../csi/registration.ts'
import { RpcServer } from '../csi/server.ts'
import type { CallObserver } from '../csi/unary.ts'
import { listenUnix } from '../csi/unix-listener.ts'
import type { UnixListener } from '../csi/unix-listener.ts'
import type { Judge } from '../observe/http/authorization.ts'
import { HttpDoor } from '../observe/http/http-door.ts'
import type { HttpState } from '../observe/http/http-door.ts'
import { parseListenAddress } from '../observe/http/listen-address.ts'
import type { Readiness } from '../observe/http/routes.ts'
import { statusUrl } from '../observe/http/token-review.ts'
import type { Log } from '../observe/log.ts'
import { createMetrics } from '../observe/metrics.ts'
import { observeCalls } from '../observe/observed.ts'
import { statusJson, statusPage } from '../status/page.ts'
import { Recorder } from '../status/recorder.ts'
import type { HealthChange } from '../status/recorder.ts'
import { sharedFor } from '../status/shared.ts'
import type { Troubles } from '../status/troubles.ts'
import type { VolumeOperations } from '../volumes/operations.ts'
import type { Consents } from '../volumes/policy/policy.ts'
import { auditTo } from './audit.ts'
import type { Contender } from './handover.ts'
import { loadServices } from '../../proto/csi/load.ts'

export interface DoorsOptions {
  readonly volumes: VolumeOperations
  readonly parseSpec: ParseSpec
  readonly log: Log
  /** What the log has warned of lately. */
  readonly troubles: Troubles
  readonly version: string
  readonly driverName: string
  readonly nodeId: string
  /** Volumes that this node takes. */
  readonly volumesMax: number
  /** What the operator has agreed to. */
  readonly consents: Consents
  readonly agentSocket: string
  /** `unix:///PATH`; without one no kubelet is served. */
  readonly csiEndpoint: string | undefined
  readonly kubeletDir: string
  /** Serve the health calls of CSI 1.13. */
  readonly csiHealth: boolean
  /** HOST:PORT, or undefined for no HTTP port. */
  readonly listen: string | undefined
  /** Path of a socket with HTTP for root alone, details included. */
  readonly httpSocket: string
  /** Who decides whether a token may see details over the HTTP port. */
  readonly judges: readonly Judge[]
  /** Whether this agent ends in favour of that one. */
  readonly handOver: (newcomer: Contender) => boolean
}

/** `unix:///path` or `unix:/path`, as every CSI tool writes it. */
export function parseCsiEndpoint (text: string): string {
  const found = /^unix:(?:\/\/)?(\/.+)$/.exec(text)
  if (found?.[1] === undefined) {
    throw new VolumeError('INVALID', `--csi-endpoint: ${JSON.stringify(text)} is not a unix socket`, {
      field: '--csi-endpoint', remedy: 'write unix:///PATH'
    })
  }
  return parseAbsolutePath(found[1], '--csi-endpoint')
}

/** A name goes into a file name and must be what the CSIDriver object says (CSI: a domain name of at most 63
 * characters). */
export function parseCsiDriverName (text: string): string {
  if (/^[a-zA-Z0-9]([-.a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$/.test(text)) return text
  throw new VolumeError('INVALID', `--driver-name: ${JSON.stringify(text.slice(0, 100))} is not a driver name`, {
    field: '--driver-name', remedy: 'use letters, digits, "-" and ".", at most 63'
  })
}

/** On some distributions the folder is reached through a symbolic link, and kubelet may say either name. */
function namesOf (folder: string): readonly string[] {
  try {
    return [...new Set([path.resolve(folder), realpathSync(folder)])]
  } catch {
    return [path.resolve(folder)]
  }
}

/** However many people look at the page: the sessions are asked once a second. */
const statusKeptMs = 1000

/** However many scrape: what was made for one is good for the others, and slow readers all hold the same bytes. */
const metricsKeptMs = 250

/** A refusal of kubelet's or of the system's may name paths. */
const forEverybody = ({ ready, reason }: Readiness): Readiness => ({ ready, reason: reason.split(':', 1)[0] ?? '' })

function logHttp (log: Log, { phase, address, error }: HttpState): void {
  if (phase === 'open') {
    const { host, port } = parseListenAddress(address)
    log('info', { op: 'listen', address: host, port })
  }
  if (phase !== 'waiting') return
  log('warn', { op: 'listen', address }, `--listen: HTTP is not served: ${error}; it is tried again, all else works`)
}

/** A session that has ended is told when it ends, with the reason; here is what only looking shows. */
function logHealth (log: Log, { source, before, now, reason }: HealthChange): void {
  if (now === 'dead') return
  if (now === 'healthy') log('info', { op: 'health', outcome: now, source, before }, `${source} is healthy again`)
  else log('warn', { op: 'health', outcome: now, source, before }, reason)
}

export class Doors {
  readonly #options: DoorsOptions
  readonly #own: RpcServer
  readonly #csi: RpcServer | undefined
  readonly #registration: Registration | undefined
  readonly #http: HttpDoor
  #httpSocket: UnixListener | undefined
  readonly #recorder: Recorder
  #lastCallMs = monotonicMs()
  #running = 0
  #callsEnded = 0
  #isOpen = false

  constructor (options: DoorsOptions) {
    this.#options = options
    const { volumes, parseSpec, log, version, driverName, nodeId, agentSocket, kubeletDir, csiHealth, listen } = options
    const csiSocket = options.csiEndpoint === undefined ? undefined : parseCsiEndpoint(options.csiEndpoint)
    const started = monotonicMs()
    const services = loadServices()
    const metrics = createMetrics({
      version, list: async () => await volumes.list(), losses: () => volumes.losses(),
      registered: () => csiSocket === undefined ? undefined : this.#registration?.state.phase === 'registered'
    })
    const observer = this.#counted(observeCalls(log, metrics))
    const identity = identityService({
      driverName: parseCsiDriverName(driverName), version, isReady: () => this.#isOpen
    })
    const { volumesMax, consents } = options
    const admission = { consents, audit: auditTo(log) }
    const node = nodeService({
      volumes, parseSpec, nodeId, volumesMax, admission, kubeletFolders: namesOf(kubeletDir), health: csiHealth
    })
    this.#recorder = new Recorder({
      list: async () => await volumes.list(), onHealth: (change) => { logHealth(log, change) }
    })
    const told: AgentOptions = {
      handOver: options.handOver,
      volumes, version, driverName, nodeId, uptimeMs: () => monotonicMs() - started,
      registration: () => this.#registration?.state,
      trends: () => this.#recorder.trends(), troubles: () => options.troubles.list(),
      readiness: () => this.readiness(), http: () => this.#http.state
    }
    const status = sharedFor(statusKeptMs, async () => await statusReport(told))
    this.#own = new RpcServer({
      services, socketPath: agentSocket, field: '--agent-socket', unary: { observer, door: undefined }
    }, { Identity: identity, Node: node, Agent: agentService(told) })
    this.#http = new HttpDoor({
      readiness: () => forEverybody(this.readiness()),
      metrics: sharedFor(metricsKeptMs, async () => ({
        contentType: metrics.contentType, body: Buffer.from(await metrics.text())
      })),
      documents: {
        '/': async () => statusPage(await status()), [statusUrl]: async () => statusJson(await status())
      },
      judges: options.judges,
      names: [nodeId, hostname(), ...listen === undefined ? [] : [parseListenAddress(listen).host]],
      onChange: (state) => { logHttp(log, state) },
      onFailure: (error) => { log('error', { op: 'http', outcome: 'INTERNAL' }, messageOf(error)) }
    })
    if (csiSocket === undefined) return
    this.#csi = new RpcServer({
      services, socketPath: csiSocket, field: '--csi-endpoint', unary: { observer, door: 'csi' }
    }, { Identity: identity, Node: node })
    this.#registration = new Registration({
      services, observer, kubeletDir, driverName, endpoint: csiSocket,
      onChange: ({ phase, error }) => {
        log(
          phase === 'refused' ? 'warn' : 'info',
          { op: 'register', outcome: phase },
          phase === 'refused' ? `kubelet does not take us: ${error}; trying again` : undefined
        )
      }
    })
  }

  /** Opens the sockets, CSI's before kubelet is told about it. The HTTP port comes when it can be had. */
  async open (): Promise<void> {
    this.#isOpen = true
    const { listen, httpSocket } = this.#options
    this.#recorder.start()
    if (listen !== undefined) this.#http.start(listen)
    await this.#own.listen()
    this.#httpSocket = await listenUnix(httpSocket, '--run-dir', (socket) => { this.#http.acceptTrusted(socket) })
    await this.#csi?.listen()
    this.#registration?.start()
  }

  readiness (): Readiness {
    if (!this.#isOpen) return { ready: false, reason: 'starting' }
    const state = this.#registration?.state
    if (state === undefined || state.phase === 'registered') return { ready: true, reason: '' }
    return {
      ready: false,
      reason: state.phase === 'waiting'
        ? 'kubelet has not registered the driver yet'
        : `kubelet has refused the driver: ${state.error}`
    }
  }

  /** Milliseconds since the last call ended; 0 while one runs. */
  get idleMs (): number { return this.#running > 0 ? 0 : monotonicMs() - this.#lastCallMs }

  get callsEnded (): number { return this.#callsEnded }

  /**
   * Stops serving. Calls that run get `graceMs` to end; mounts and sessions are not touched. `deregister`: kubelet is
   * to forget the driver, because nobody comes after us.
   */
  async close ({ graceMs, deregister }: { readonly graceMs: number, readonly deregister: boolean }): Promise<void> {
    this.#isOpen = false
    this.#http.close()
    this.#httpSocket?.close({ leaveFile: false })
    this.#recorder.stop()
    // Before the CSI socket: kubelet asks a driver as long as it knows it.
    await this.#registration?.stop({ leaveFile: !deregister })
    await Promise.all([this.#csi?.close({ graceMs }), this.#own.close({ graceMs })])
  }

  #counted (observer: CallObserver): CallObserver {
    return (facts) => {
      this.#running++
      const ended = observer(facts)
      return (outcome) => {
        this.#running--
        this.#callsEnded++
        this.#lastCallMs = monotonicMs()
        ended(outcome)
      }
    }
  }
}

/** The CSI socket's folder and the one above it, outermost first: a new node may have neither. */
export function csiSocketFolders (endpoint: string): readonly string[] {
  const folder = path.dirname(parseCsiEndpoint(endpoint))
  return [path.dirname(folder), folder]
}
