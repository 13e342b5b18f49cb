/**
 * Our entry in kubelet's plugin watcher: no sidecar.
 *
 * Owns the registration socket and its life: made last, made again when kubelet refuses us or somebody removes it.
 * Does not know the services that are registered.
 *
 * kubelet's side (k8s pkg/kubelet/pluginmanager): it sees the socket, calls GetInfo with one second of patience, dials
 * the endpoint, calls NodeGetInfo there and tells the result by NotifyRegistrationStatus. After a refusal it does not
 * try again until the socket is a new one. While the file exists we stay registered, so a restart leaves it in place
 * and the successor renames its own over it.
 */
import path from 'node:path'
import { pause } from '../base/deadline.ts'
import { messageOf } from '../base/errors.ts'
import { makeRootFolder } from '../host/root-folder.ts'
import type { Services } from '../../proto/csi/load.ts'
import { RpcServer } from './server.ts'
import type { CallObserver } from './unary.ts'

/** It is shown in logs, in `status` and on /readyz. */
const reasonLengthMax = 1000

export interface RegistrationState {
  readonly phase: 'waiting' | 'registered' | 'refused'
  /** kubelet's or the system's words when refused. */
  readonly error: string
}

export interface RegistrationOptions {
  readonly services: Services
  readonly observer: CallObserver
  readonly kubeletDir: string
  readonly driverName: string
  /** The CSI socket that kubelet will dial. */
  readonly endpoint: string
  readonly onChange: (state: RegistrationState) => void
  readonly retry?: { readonly firstMs: number, readonly maxMs: number, readonly checkMs: number }
}

/** CSI's own version, not ours: kubelet wants a major below 2 and a newer one than any plugin of the same name, hence
 * one fixed file. */
const supportedVersions = ['1.0.0']

export class Registration {
  readonly #options: RegistrationOptions
  readonly #socketPath: string
  readonly #stopped = new AbortController()
  #state: RegistrationState = { phase: 'waiting', error: '' }
  #refused = new AbortController()
  #leavesFile = true
  #running: Promise<void> | undefined

  constructor (options: RegistrationOptions) {
    this.#options = options
    this.#socketPath = path.join(options.kubeletDir, 'plugins_registry', `${options.driverName}-reg.sock`)
  }

  get state (): RegistrationState { return this.#state }
  get socketPath (): string { return this.#socketPath }

  start (): void {
    this.#running ??= this.#run()
  }

  /**
   * `leaveFile`: a successor is expected. Without the socket kubelet forgets the driver (and takes it out of CSINode),
   * and every volume call fails until somebody registers it anew.
   */
  async stop ({ leaveFile }: { readonly leaveFile: boolean } = { leaveFile: true }): Promise<void> {
    this.#leavesFile = leaveFile
    this.#stopped.abort()
    this.#refused.abort()
    await this.#running
  }

  /** One socket after another, each until it is refused or gone. */
  async #run (): Promise<void> {
    const { firstMs, maxMs, checkMs } = this.#options.retry ?? { firstMs: 1000, maxMs: 120_000, checkMs: 5000 }
    let waitMs = firstMs
    while (!this.#stopped.signal.aborted) {
      const server = this.#server()
      this.#refused = new AbortController()
      try {
        // kubelet makes it too; we may be the first. Not recursive: a kubelet folder that isn't there is a wrong
        // option.
        makeRootFolder(path.dirname(this.#socketPath), 0o750)
        await server.listen()
        if (this.#state.phase !== 'refused') this.#become({ phase: 'waiting', error: '' })
        while (server.isInPlace && !this.#refused.signal.aborted && !this.#stopped.signal.aborted) {
          await this.#look(checkMs)
        }
      } catch (error) {
        this.#become({ phase: 'refused', error: messageOf(error) })
      }
      await server.close({ graceMs: 500, leaveFile: this.#stopped.signal.aborted && this.#leavesFile })
      // Read anew: NotifyRegistrationStatus may have changed it while we waited.
      const { phase } = this.state
      if (phase === 'registered') waitMs = firstMs
      await pause(phase === 'refused' ? waitMs : firstMs, this.#stopped.signal)
      if (phase === 'refused') waitMs = Math.min(waitMs * 2, maxMs)
    }
  }

  async #look (ms: number): Promise<void> {
    await pause(ms, AbortSignal.any([this.#refused.signal, this.#stopped.signal]))
  }

  #server (): RpcServer {
    const { services, observer, driverName, endpoint } = this.#options
    return new RpcServer({
      services, socketPath: this.#socketPath, field: '--kubelet-dir', unary: { observer, door: 'csi' }
    }, {
      Registration: {
        GetInfo: () => ({ type: 'CSIPlugin', name: driverName, endpoint, supportedVersions }),
        NotifyRegistrationStatus: ({ pluginRegistered, error }) => {
          this.#become(
            pluginRegistered
              ? { phase: 'registered', error: '' }
              : { phase: 'refused', error: error === '' ? 'kubelet gave no reason' : error.slice(0, reasonLengthMax) }
          )
          if (!pluginRegistered) this.#refused.abort()
          return {}
        }
      }
    })
  }

  #become (state: RegistrationState): void {
    this.#state = state
    this.#options.onChange(state)
  }
}
