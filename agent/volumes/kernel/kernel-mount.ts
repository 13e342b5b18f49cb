/**
 * A mount that the kernel's NFS client serves: its statistics, its health, its end of writing.
 * Owns what is asked of the kernel (in a child, with a deadline) and what of the server (by our own calls). Does not
 * know how it was made.
 */
import { within } from '../../base/deadline.ts'
import { HostError, VolumeError, messageOf } from '../../base/errors.ts'
import type { KernelNfsVersion, MountedServer, VolumeSpec } from '../../base/volume-spec.ts'
import { mountsOfDevice, type MountEntry } from '../../host/mountinfo.ts'
import type { Mounts } from '../../host/mounts.ts'
import { unsentBytes } from '../../host/mountstats.ts'
import { toRawStatistics, type LiveMount, type MountReport, type RawStatistics } from '../mounter.ts'
import type { VolumeHealth } from '../operations.ts'
import type { MountFacts } from '../records/records.ts'

export interface KernelMountParts {
  readonly facts: MountFacts
  readonly server: MountedServer
  readonly spec: VolumeSpec
  /** What an operator should know of the start. */
  readonly remark: string
  readonly mounts: Mounts
  readonly mountPoint: string
  readonly probe: (server: MountedServer, deadlineMs: number) => Promise<string>
  /** Called when dirty pages may be left. */
  readonly undrained: (reason: string) => void
}

const staleRoot =
  'the server no longer knows the volume\'s root; restore the export, or delete the pods that use the volume and start them again'

/** What mountinfo calls a mount of the kernel's client. */
export const kernelTypes: ReadonlySet<string> = new Set(['nfs', 'nfs4'])

const knownVersions: readonly KernelNfsVersion[] = ['3', '4.0', '4.1', '4.2']

/** The options of the file system, which the kernel shows as it uses them. */
export function serverOfMount (entry: MountEntry): MountedServer {
  const options = new Map(entry.superOptions.map((option) => {
    const at = option.indexOf('=')
    return at < 0 ? [option, ''] as const : [option.slice(0, at), option.slice(at + 1)] as const
  }))
  const version = knownVersions.find((known) => known === options.get('vers'))
  const address = options.get('addr')
  if (version === undefined || address === undefined) {
    throw new VolumeError(
      'INTERNAL',
      `mountinfo does not say version and server of ${entry.mountPoint}: ${entry.superOptions.join(',')}`
    )
  }
  const port = options.get('port')
  return { version, address, port: port === undefined ? undefined : Number(port) }
}

export class KernelMount implements LiveMount {
  readonly facts: MountFacts
  /** No process serves it, so none ends. */
  readonly ended = new Promise<string>(() => undefined)
  readonly #parts: KernelMountParts
  /** statfs said that the root is gone; until it says otherwise. */
  #isStale = false
  #probing: Promise<string> | undefined

  constructor (parts: KernelMountParts) {
    this.facts = parts.facts
    this.#parts = parts
  }

  async statistics (deadlineMs: number): Promise<RawStatistics> {
    try {
      const figures = await this.#parts.mounts.statfs(await this.#place(), { deadlineMs, key: this.#parts.mountPoint })
      this.#isStale = false
      const bytes = (blocks: bigint): bigint => blocks * figures.fragmentBytes
      return toRawStatistics(
        {
          total: bytes(figures.blocks), used: bytes(figures.blocks - figures.freeBlocks),
          available: bytes(figures.availableBlocks)
        },
        { total: figures.files, used: figures.files - figures.freeFiles, available: figures.freeFiles },
        false
      )
    } catch (error) {
      this.#isStale = error instanceof HostError && error.code === 'ESTALE'
      throw new VolumeError('UNAVAILABLE', `statistics: ${messageOf(error)}`, { cause: error })
    }
  }

  /** A bare mount point would answer with the figures of the node's own disk. */
  async #place (): Promise<string> {
    const { facts: { device }, mountPoint } = this.#parts
    const entries = device === undefined ? [] : mountsOfDevice(await this.#parts.mounts.mountinfo(), device)
    const place = entries.find((entry) => entry.mountPoint === mountPoint) ?? entries[0]
    if (place === undefined) throw new VolumeError('UNAVAILABLE', 'it is mounted nowhere')
    return place.mountPoint
  }

  async report (deadlineMs: number): Promise<MountReport> {
    return {
      health: await this.probe(deadlineMs),
      locks: this.#locks,
      detail: `NFS version ${this.#parts.server.version}`,
      notes: this.#parts.remark === '' ? [] : [this.#parts.remark],
      pid: undefined, counters: {}, gauges: {}, latency: {}
    }
  }

  get #locks (): string {
    if (this.#parts.server.version !== '3') return 'server'
    return this.#parts.spec.target.options.locks === 'remote' ? 'server, through rpc.statd of this node' : 'node-local'
  }

  async probe (deadlineMs: number): Promise<VolumeHealth> {
    /* Several may ask at once (status, metrics, kubelet): the server is asked once, each waits as long as it said. */
    this.#probing ??= this.#parts.probe(this.#parts.server, Math.max(50, deadlineMs - 100)).finally(() => {
      this.#probing = undefined
    })
    const trouble = await within(
      deadlineMs,
      this.#probing,
      () => `the server did not answer within ${deadlineMs} ms; check the server and the network`
    )
    if (trouble !== '') return { state: 'unreachable', reason: trouble }
    if (this.#isStale) {
      return { state: 'stale', reason: staleRoot }
    }
    return { state: 'healthy', reason: '' }
  }

  /** Only a root that is gone shows: the kernel does not say by which handle it knows one. */
  async checkRoot (deadlineMs: number): Promise<{ isCurrent: boolean, reason: string }> {
    await this.statistics(deadlineMs).catch(() => undefined)
    return this.#isStale ? { isCurrent: false, reason: staleRoot } : { isCurrent: true, reason: '' }
  }

  /** What the server does not take is dropped by the end of the mount; the kernel counts how much that is at most. */
  async drain (deadlineMs: number): Promise<{ lostBytes: number }> {
    const place = await this.#place()
    try {
      await this.#parts.mounts.sync(place, { deadlineMs: Math.max(100, deadlineMs), key: this.#parts.mountPoint })
      return { lostBytes: 0 }
    } catch (error) {
      this.#parts.undrained(messageOf(error))
      return { lostBytes: unsentBytes(await this.#parts.mounts.mountstats().catch(() => ''), place) ?? 0 }
    }
  }
}
