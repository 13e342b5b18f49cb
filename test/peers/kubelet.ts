/**
 * A fake kubelet: FlexVolume calls and CSI node calls as the real one makes them (Kubernetes 1.32,
 * pkg/volume/{flexvolume,csi}, pkg/kubelet/pluginmanager), with a folder of its own.
 *
 * Owns the manners: argv, CombinedOutput until end of file, one JSON value, a new connection for each CSI call, paths,
 * deadlines, the registration watcher. Knows nothing of the driver but its executable or its sockets.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, lstatSync, mkdirSync, readFileSync, readdirSync, rmSync, rmdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { CsiClient } from '../../proto/csi/client.ts'
import { loadServices } from '../../proto/csi/load.ts'
import type { Services } from '../../proto/csi/load.ts'
import type {
  MethodName,
  NodeGetVolumeStatsResponse,
  PluginInfo,
  RequestOf,
  ResponseOf,
  StringMap,
  VolumeCapability
} from '../../proto/csi/types.ts'

export interface FlexAnswer {
  readonly status: string
  readonly message?: string
  readonly capabilities?: Readonly<Record<string, boolean>>
}
export interface FlexResult {
  readonly exitCode: number | null
  readonly signal: NodeJS.Signals | null
  /** stdout and stderr together, until every holder of them has closed them. */
  readonly output: string
  readonly ms: number
  readonly answer: FlexAnswer
}

export interface FlexDriver {
  readonly file: string
  /** Before the call-out's own arguments: empty for a packed driver. */
  readonly args?: readonly string[]
  readonly argv0?: string
  readonly env?: Readonly<Record<string, string>>
}

export interface CsiVolume {
  readonly handle: string
  readonly attributes: StringMap
  readonly mountFlags?: readonly string[]
  readonly readOnly?: boolean
  readonly secrets?: StringMap
  /** The pod's fsGroup, which kubelet passes on to a driver that has VOLUME_MOUNT_GROUP. */
  readonly mountGroup?: string
}

export interface Pod {
  readonly namespace: string
  readonly name: string
  readonly uid: string
}
/** A volume of the pod's own (`csi:` in its spec). */
export interface InlineVolume {
  /** The volume's in the pod. */
  readonly name: string
  readonly attributes: StringMap
  readonly fsType?: string
  readonly readOnly?: boolean
  readonly mountGroup?: string
}

/** csi_mounter.go makeVolumeHandle. */
export const inlineHandle = (pod: Pod, { name }: Pick<InlineVolume, 'name'>): string =>
  `csi-${createHash('sha256').update(`${pod.uid}${name}`).digest('hex')}`

/** mount_helper_unix.go SearchMountPoints and util.go HasMountRefs: other mounts of the same folder of the same file
 * system. */
function referencesOf (folder: string): readonly string[] {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map((line) => line.split(' '))
  const own = mounts.findLast(([, , , , point]) => point === folder)
  if (own === undefined) return []
  const suffix = folder.slice(Math.max(0, folder.indexOf('/plugins/kubernetes.io/')))
  return mounts.filter(([id, , device, root, point = '']) =>
    id !== own[0] && device === own[2] && root === own[3] && !point.includes(suffix)
  ).map(([, , , , point = '']) => point)
}

const isMounted = (folder: string): boolean =>
  readFileSync('/proc/self/mountinfo', 'utf8').split('\n').some((line) =>
    line.split(' ')[4] === folder.replaceAll(' ', '\\040')
  )

/** A dead mount does not even say that it is there; kubelet takes only "no such file" for missing. */
function isThere (folder: string): boolean {
  try {
    lstatSync(folder)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ENOENT'
  }
}

/** Exactly one JSON value with white space around it, as Go's json.Unmarshal wants. */
function parseOne (output: string): FlexAnswer {
  const answer = JSON.parse(output) as FlexAnswer
  if (typeof answer !== 'object' || answer === null) throw new Error('the output is no object')
  return answer
}

/** driver-call.go: exec, CombinedOutput, one JSON. kubelet waits for end of file, so a child that keeps the pipe keeps
 * it waiting. */
export async function flexCall (
  driver: FlexDriver,
  args: readonly string[],
  onSpawn: (pid: number) => void = () => undefined
): Promise<FlexResult> {
  const started = performance.now()
  const child = spawn(driver.file, [...driver.args ?? [], ...args], {
    ...(driver.argv0 === undefined ? {} : { argv0: driver.argv0 }),
    env: { ...driver.env ?? { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  const chunks: Buffer[] = []
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  if (child.pid !== undefined) onSpawn(child.pid)
  const [exitCode, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, by) => { resolve([code, by]) })
  })
  const output = Buffer.concat(chunks).toString('utf8')
  const ms = performance.now() - started
  try {
    return { exitCode, signal, output, ms, answer: parseOne(output) }
  } catch (error) {
    throw new Error(
      `not one JSON value (exit ${exitCode ?? signal ?? '?'}): ${JSON.stringify(output.slice(0, 2000))}`,
      { cause: error }
    )
  }
}

export class Kubelet {
  readonly root: string
  readonly #services: Services
  readonly #registered = new Map<string, PluginInfo>()

  constructor (root: string) {
    this.root = root
    this.#services = loadServices()
    for (const folder of ['pods', 'plugins', 'plugins_registry']) {
      mkdirSync(path.join(root, folder), { recursive: true, mode: 0o750 })
    }
  }

  // FlexVolume

  flexTarget (pod: string, vendorDriver: string, name: string): string {
    return path.join(this.root, 'pods', pod, 'volumes', vendorDriver.replace('/', '~'), name)
  }

  /** mounter.go SetUpAt: nothing when already a mount point; folder made 0750; removed (rmdir only) when the driver
   * fails. */
  async flexMount (
    driver: FlexDriver,
    target: string,
    options: StringMap,
    { readOnly = false, secrets = {} as StringMap } = {}
  ): Promise<FlexResult | undefined> {
    if (existsSync(target) && isMounted(target)) return undefined
    mkdirSync(target, { recursive: true, mode: 0o750 })
    const encoded = Object.fromEntries(
      Object.entries(secrets).map(
        ([key, value]) => [`kubernetes.io/secret/${key}`, Buffer.from(value).toString('base64')]
      )
    )
    const json = JSON.stringify({
      'kubernetes.io/fsType': '',
      'kubernetes.io/pod.name': 'pod',
      'kubernetes.io/pod.namespace': 'default',
      'kubernetes.io/pod.uid': 'uid',
      'kubernetes.io/pvOrVolumeName': path.basename(target),
      'kubernetes.io/readwrite': readOnly ? 'ro' : 'rw',
      'kubernetes.io/serviceAccount.name': 'default',
      ...encoded,
      ...options
    })
    const result = await flexCall(driver, ['mount', target, json])
    if (result.answer.status !== 'Success') rmdirSync(target)
    return result
  }

  /** unmounter.go TearDownAt: skipped when the folder is gone; afterwards rmdir, which fails when it is not empty. */
  async flexUnmount (driver: FlexDriver, target: string): Promise<FlexResult | undefined> {
    if (!isThere(target)) return undefined
    const result = await flexCall(driver, ['unmount', target])
    if (result.answer.status === 'Success') rmdirSync(target)
    return result
  }

  // CSI

  stagingPath (driver: string, handle: string): string {
    return path.join(
      this.root,
      'plugins/kubernetes.io/csi',
      driver,
      createHash('sha256').update(handle).digest('hex'),
      'globalmount'
    )
  }

  csiTarget (pod: string, pv: string): string {
    return path.join(this.root, 'pods', pod, 'volumes/kubernetes.io~csi', pv, 'mount')
  }

  /** One call on a connection of its own, with kubelet's two minutes. */
  async call<M extends MethodName<'Node'>> (
    socket: string,
    method: M,
    request: Partial<RequestOf<'Node', M>>,
    deadlineMs = 120_000
  ): Promise<ResponseOf<'Node', M>> {
    const client = new CsiClient(this.#services, socket)
    try {
      return await client.call('Node', method, request, { deadlineMs })
    } finally {
      client.close()
    }
  }

  #capability ({ mountFlags = [], mountGroup = '' }: CsiVolume): VolumeCapability {
    return {
      accessMode: { mode: 'MULTI_NODE_MULTI_WRITER' }, mount: { fsType: '', mountFlags, volumeMountGroup: mountGroup }
    }
  }

  /** csi_attacher.go MountDevice: the folder and vol_data.json first, then the call. */
  async stage (socket: string, driver: string, volume: CsiVolume): Promise<string> {
    const staging = this.stagingPath(driver, volume.handle)
    try {
      mkdirSync(staging, { recursive: true, mode: 0o750 })
    } catch (error) {
      // A dead mount there (isCorruptedDir) is left to the driver.
      if ((error as NodeJS.ErrnoException).code !== 'ENOTCONN') throw error
    }
    writeFileSync(
      path.join(path.dirname(staging), 'vol_data.json'),
      JSON.stringify({ driverName: driver, volumeHandle: volume.handle })
    )
    await this.call(socket, 'NodeStageVolume', {
      volumeId: volume.handle, stagingTargetPath: staging, volumeCapability: this.#capability(volume),
      volumeContext: volume.attributes, secrets: volume.secrets ?? {}
    })
    return staging
  }

  /** csi_mounter.go SetUpAt: the parent 0750 with vol_data.json; the driver makes the target. */
  async publish (socket: string, driver: string, volume: CsiVolume, pod: string, pv: string): Promise<string> {
    const target = this.csiTarget(pod, pv)
    mkdirSync(path.dirname(target), { recursive: true, mode: 0o750 })
    writeFileSync(
      path.join(path.dirname(target), 'vol_data.json'),
      JSON.stringify({ driverName: driver, volumeHandle: volume.handle, specVolID: pv })
    )
    await this.call(socket, 'NodePublishVolume', {
      volumeId: volume.handle, stagingTargetPath: this.stagingPath(driver, volume.handle), targetPath: target,
      readonly: volume.readOnly ?? false,
      volumeCapability: this.#capability(volume), volumeContext: volume.attributes, secrets: volume.secrets ?? {}
    })
    return target
  }

  /**
   * csi_mounter.go SetUpAt of an inline volume: never staged, a handle made of the pod and the volume's name
   * (makeVolumeHandle), and kubelet's own words over those of the attributes (podInfoOnMount).
   */
  async publishInline (socket: string, volume: InlineVolume, pod: Pod): Promise<string> {
    const target = this.csiTarget(pod.uid, volume.name)
    mkdirSync(path.dirname(target), { recursive: true, mode: 0o750 })
    await this.call(socket, 'NodePublishVolume', {
      volumeId: inlineHandle(pod, volume), stagingTargetPath: '', targetPath: target,
      readonly: volume.readOnly ?? false,
      volumeCapability: {
        accessMode: { mode: 'SINGLE_NODE_WRITER' },
        mount: { fsType: volume.fsType ?? '', mountFlags: [], volumeMountGroup: volume.mountGroup ?? '' }
      },
      volumeContext: {
        ...volume.attributes,
        'csi.storage.k8s.io/pod.name': pod.name,
        'csi.storage.k8s.io/pod.namespace': pod.namespace,
        'csi.storage.k8s.io/pod.uid': pod.uid,
        'csi.storage.k8s.io/serviceAccount.name': 'default',
        'csi.storage.k8s.io/ephemeral': 'true'
      },
      secrets: {}
    })
    return target
  }

  /** csi_mounter.go TearDownAt: the call, then the folder around the target goes. */
  async unpublish (socket: string, handle: string, target: string): Promise<void> {
    await this.call(socket, 'NodeUnpublishVolume', { volumeId: handle, targetPath: target })
    if (existsSync(target)) throw new Error(`${target} is still there after NodeUnpublishVolume`)
    rmSync(path.dirname(target), { recursive: true })
  }

  /** operation_generator.go GenerateUnmountDeviceFunc: nothing is asked of the driver while the mount at the path is
   * anywhere else, too. */
  async unstage (socket: string, driver: string, handle: string): Promise<void> {
    const staging = this.stagingPath(driver, handle)
    const others = referencesOf(staging)
    if (others.length > 0) {
      throw new Error(`the device mount path "${staging}" is still mounted by other references ${others.join(' ')}`)
    }
    await this.call(socket, 'NodeUnstageVolume', { volumeId: handle, stagingTargetPath: staging })
    if (isMounted(staging)) throw new Error(`${staging} is still mounted after NodeUnstageVolume`)
    rmSync(path.dirname(staging), { recursive: true })
  }

  async stats (socket: string, handle: string, target: string): Promise<NodeGetVolumeStatsResponse> {
    return await this.call(socket, 'NodeGetVolumeStats', { volumeId: handle, volumePath: target })
  }

  // Registration

  /** Drivers that are registered now. */
  get registered (): ReadonlyMap<string, PluginInfo> { return this.#registered }

  /**
   * The plugin watcher and its reconciler: each new socket is dialled once. `refuse` answers a reason to refuse with.
   * Ends when `signal` aborts.
   */
  async watchPlugins (
    signal: AbortSignal,
    refuse: (info: PluginInfo) => string | undefined = () => undefined
  ): Promise<void> {
    const folder = path.join(this.root, 'plugins_registry')
    const seen = new Map<string, { made: string, driver: string | undefined }>()
    while (!signal.aborted) {
      const sockets = readdirSync(folder).filter((name) => !name.startsWith('.')).map((name) => path.join(folder, name))
      for (const [socket, { driver }] of seen) {
        if (sockets.includes(socket)) continue
        seen.delete(socket)
        if (driver !== undefined) this.#registered.delete(driver)
      }
      for (const socket of sockets) {
        const facts = lstatSync(socket, { throwIfNoEntry: false, bigint: true })
        const made = `${facts?.ino} ${facts?.birthtimeNs}`
        if (facts?.isSocket() !== true || seen.get(socket)?.made === made) continue
        seen.set(socket, { made, driver: await this.#register(socket, refuse) })
      }
      await sleep(50, undefined, { signal }).catch(() => undefined)
    }
  }

  async #register (socket: string, refuse: (info: PluginInfo) => string | undefined): Promise<string | undefined> {
    const client = new CsiClient(this.#services, socket)
    try {
      const info = await client.call('Registration', 'GetInfo', {}, { deadlineMs: 1000 })
      const reason = info.type !== 'CSIPlugin' || info.supportedVersions.length === 0 ? 'invalid plugin' : refuse(info)
      if (reason === undefined) await this.call(info.endpoint === '' ? socket : info.endpoint, 'NodeGetInfo', {})
      await client.call('Registration', 'NotifyRegistrationStatus', {
        pluginRegistered: reason === undefined, error: reason ?? ''
      }, { deadlineMs: 5000 })
      if (reason !== undefined) return undefined
      this.#registered.set(info.name, info)
      return info.name
    } catch {
      return undefined
    } finally {
      client.close()
    }
  }
}
