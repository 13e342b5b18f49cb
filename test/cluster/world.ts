/**
 * The real cluster that these tests share, with the agent deployed as operators do, and the words in which the tests
 * speak of it.
 *
 * Owns its life, the NFS servers and the pods' names. Everything is made through the API and removed with the cluster.
 * Does not know what is tested.
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { readMountinfoSync } from '../../agent/host/mountinfo.ts'
import type { StatusResponse } from '../../proto/csi/types.ts'
import { imageFile, buildImage } from '../../scripts/imaging/main.ts'
import { KubernetesApi, until, type KubernetesObject } from '../../scripts/kubernetes/api.ts'
import { Cluster } from '../../scripts/kubernetes/cluster.ts'
import { images, kubeletPort } from '../../scripts/kubernetes/components.ts'
import { Ganesha, freePort } from '../peers/ganesha.ts'
import { run, type Ran } from '../semantics/endtoend/node.ts'

export const driver = 'csi.volbridge.io'
export const root = path.resolve(import.meta.dirname, '../..')
const inDefault = '/api/v1/namespaces/default'
/** A hang, not a figure. A pod usually runs after three seconds. */
export const podMs = 180_000

/** What a server's share is called in attributes and options. */
export interface Share { readonly server: string, readonly share: string, readonly options: string }
export const shareOf = (server: Ganesha): Share => ({
  server: server.host, share: server.folder, options: server.mountOptions
})

export interface VolumeOptions {
  readonly share: Share
  readonly attributes?: Readonly<Record<string, string>>
  readonly mountOptions?: readonly string[]
  readonly accessMode?: string
  /** More of the PV's `csi`. */
  readonly csi?: Readonly<Record<string, unknown>>
}

/** A pod's volume: its name in the pod and where it comes from. */
export type VolumeSource = Readonly<Record<string, unknown>>
export const fromClaim = (claimName: string, readOnly = false): VolumeSource => ({
  persistentVolumeClaim: { claimName, readOnly }
})

export interface PodOptions {
  /** Name → source; each is mounted at /NAME unless `mounts` says otherwise. */
  readonly volumes: Readonly<Record<string, VolumeSource>>
  readonly mounts?: readonly object[]
  readonly command?: string
  /** More of the pod's spec. */
  readonly spec?: Readonly<Record<string, unknown>>
}

const isTrue = (object: KubernetesObject | undefined, type: string): boolean =>
  ((object?.status as { conditions?: ReadonlyArray<{ type: string, status: string }> } | undefined)?.conditions ?? [])
    .some((condition) => condition.type === type && condition.status === 'True')

export class World {
  readonly cluster: Cluster
  readonly folder: string
  /** kubelet's own API, for what it measures. */
  readonly kubelet: KubernetesApi
  readonly agentPort: number
  readonly servers: Ganesha[] = []

  private constructor (cluster: Cluster, folder: string, agentPort: number) {
    this.cluster = cluster
    this.folder = folder
    this.agentPort = agentPort
    this.kubelet = new KubernetesApi(
      `https://${cluster.plan.address}:${kubeletPort}`,
      path.join(cluster.folder, 'certificates')
    )
  }

  static async start (log: (text: string) => void): Promise<World> {
    // Short: kubelet's sockets lie deep below.
    const folder = mkdtempSync(path.join(process.env['VOLBRIDGE_TEST_DIR'] ?? '/var/tmp', 'vbk-'))
    const startedMs = performance.now()
    const step = (text: string): void => { log(`${Math.round((performance.now() - startedMs) / 1000)} s: ${text}`) }
    try {
      const cluster = await Cluster.up({
        folder: path.join(folder, 'c'), featureGates: { CSIVolumeHealth: true }, statsSeconds: 5, say: step
      })
      buildImage()
      await cluster.importImages([imageFile])
      step('the image is loaded')
      return new World(cluster, folder, await freePort())
    } catch (error) {
      await Cluster.down(path.join(folder, 'c'))
      rmSync(folder, { recursive: true, force: true })
      throw error
    }
  }

  async close (): Promise<void> {
    this.kubelet.close()
    await this.cluster.down()
    for (const server of this.servers) await server.close()
    rmSync(this.folder, { recursive: true, force: true })
  }

  get api (): KubernetesApi { return this.cluster.api }

  async startServer (): Promise<Ganesha> {
    const server = await Ganesha.start()
    this.servers.push(server)
    return server
  }

  async kubectl (args: readonly string[], options: { readonly input?: string } = {}): Promise<Ran> {
    const [program = '', ...all] = this.cluster.kubectl(...args)
    return await run(program, all, options)
  }

  /** kubectl that must succeed. */
  async kube (args: readonly string[], options: { readonly input?: string } = {}): Promise<string> {
    const ran = await this.kubectl(args, options)
    if (ran.code !== 0) throw new Error(`kubectl ${args.join(' ')}: exit ${ran.code}\n${ran.stderr}${ran.stdout}`)
    return ran.stdout
  }

  /** `kubectl apply -k` of a folder of deploy/, with this world's port for the agent: the machine may have another
   * agent on the usual one. */
  async deploy (name: 'csi' | 'csi-ephemeral' | 'csi-status' | 'flex'): Promise<void> {
    const text = (await this.kube(['kustomize', path.join(root, 'deploy', name)]))
      .replaceAll('9810', String(this.agentPort))
      // The example's server is where this world's are.
      .replace('nfs1.example.org:/data', '127.0.0.1')
    await this.kube(['apply', '-f', '-'], { input: text })
  }

  /** A PV and its claim of the same name. */
  async makeVolume (
    name: string,
    { share, attributes = {}, mountOptions = [], accessMode = 'ReadWriteMany', csi = {} }: VolumeOptions
  ): Promise<void> {
    await this.makeVolumeFrom(name, {
      mountOptions: [...share.options.split(','), ...mountOptions],
      accessModes: [accessMode],
      csi: {
        driver, volumeHandle: `handle-${name}`,
        volumeAttributes: { server: share.server, share: share.share, ...attributes }, ...csi
      }
    })
  }

  async makeVolumeFrom (
    name: string,
    spec: Readonly<Record<string, unknown>> & { readonly accessModes: readonly string[] }
  ): Promise<void> {
    const size = { storage: '1Gi' }
    await this.api.create('/api/v1/persistentvolumes', {
      apiVersion: 'v1', kind: 'PersistentVolume', metadata: { name },
      spec: { capacity: size, persistentVolumeReclaimPolicy: 'Retain', storageClassName: '', ...spec }
    })
    await this.api.create(`${inDefault}/persistentvolumeclaims`, {
      apiVersion: 'v1', kind: 'PersistentVolumeClaim', metadata: { name },
      spec: { accessModes: spec.accessModes, storageClassName: '', volumeName: name, resources: { requests: size } }
    })
    // The scheduler looks at a pod whose claim is not bound yet, and may look again only minutes later.
    await until(`claim ${name} to be bound`, async () => {
      const claim = await this.api.find(`${inDefault}/persistentvolumeclaims/${name}`) as {
        readonly status?: { readonly phase?: string }
      } | undefined
      return claim?.status?.phase === 'Bound' ? true : undefined
    }, podMs)
  }

  async makePod (name: string, options: PodOptions): Promise<void> {
    const mounts = options.mounts ??
      Object.keys(options.volumes).map((volume) => ({ name: volume, mountPath: `/${volume}` }))
    await this.api.create(`${inDefault}/pods`, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name },
      spec: {
        hostNetwork: true,
        automountServiceAccountToken: false,
        terminationGracePeriodSeconds: 2,
        containers: [{
          name: 'app', image: images.shell,
          command: ['sh', '-c', options.command ?? 'trap exit TERM; sleep 100000 & wait'], volumeMounts: mounts
        }],
        volumes: Object.entries(options.volumes).map(([volume, source]) => ({ name: volume, ...source })),
        ...options.spec
      }
    })
  }

  async pod (name: string): Promise<KubernetesObject | undefined> {
    return await this.api.find(`${inDefault}/pods/${name}`)
  }

  /** Makes a pod and waits until it runs; when it does not, says what kubelet said. */
  async runPod (name: string, options: PodOptions): Promise<void> {
    await this.makePod(name, options)
    await this.podIsReady(name)
  }

  async podIsReady (name: string): Promise<void> {
    await until(
      async () => `pod ${name}: ${await this.whatHappenedTo(name)}`,
      async () => isTrue(await this.pod(name), 'Ready') ? true : undefined,
      podMs
    )
  }

  /** Events of an object, newest last. */
  async events (name: string): Promise<ReadonlyArray<{ readonly reason: string, readonly message: string }>> {
    return (await this.api.list(
      `${inDefault}/events?fieldSelector=involvedObject.name=${name}`
    )) as unknown as ReadonlyArray<{ reason: string, message: string }>
  }

  async whatHappenedTo (name: string): Promise<string> {
    const events = await this.events(name)
    return `${JSON.stringify((await this.pod(name))?.status).slice(0, 1000)}\n${events.map(({ reason, message }) => `${reason}: ${message}`).join('\n')}`
  }

  /** What a shell in the pod's container prints. A failure is an answer. */
  async tryIn (pod: string, command: string): Promise<Ran> {
    return await this.kubectl(['exec', pod, '--', 'sh', '-c', command])
  }

  async inPod (pod: string, command: string): Promise<string> {
    return (await this.kube(['exec', pod, '--', 'sh', '-c', command])).trim()
  }

  async deletePods (...names: readonly string[]): Promise<void> {
    for (const name of names) await this.api.delete(`${inDefault}/pods/${name}`)
    await this.podsAreGone(podMs, ...names)
  }

  async podsAreGone (lateMs: number, ...names: readonly string[]): Promise<void> {
    for (const name of names) {
      await until(
        async () => `the end of pod ${name}: ${await this.whatHappenedTo(name)}`,
        async () => await this.pod(name) === undefined ? true : undefined,
        lateMs
      )
    }
  }

  /** The running pod of a DaemonSet. */
  async daemonPod (name: string, notUid = ''): Promise<KubernetesObject> {
    return await until(
      async () =>
        `a pod of ${name}: ${(await this.kubectl(['-n', 'kube-system', 'describe', 'pod', '-l', `app.kubernetes.io/name=${name}`])).stdout.slice(-2000)}`,
      async () => {
        const pods = await this.api.list(
          `/api/v1/namespaces/kube-system/pods?labelSelector=app.kubernetes.io%2Fname%3D${name}`
        )
        return pods.find((pod) =>
          isTrue(pod, 'Ready') && pod.metadata.uid !== notUid && pod.metadata.deletionTimestamp === undefined
        )
      },
      podMs
    )
  }

  async agentLog (): Promise<string> {
    return await this.kube(['-n', 'kube-system', 'logs', 'daemonset/volbridge-agent', '--tail=-1'])
  }

  /** `volbridge status --json`, asked in the agent's container. */
  async status (): Promise<StatusResponse> {
    return JSON.parse(
      await this.kube(['-n', 'kube-system', 'exec', 'daemonset/volbridge-agent', '--', 'volbridge', 'status', '--json'])
    ) as StatusResponse
  }

  /** What is mounted on the node, as the node sees it. */
  mountsOfNode (): readonly { readonly point: string, readonly type: string, readonly options: readonly string[] }[] {
    return readMountinfoSync(`/proc/${this.cluster.node.record.init.pid}/mountinfo`).map(
      ({ mountPoint, type, options }) => ({ point: mountPoint, type, options })
    )
  }

  /** Pids on the node of every session. */
  async sessions (): Promise<readonly string[]> {
    return (await this.cluster.node.shell('pgrep -f "^/[^ ]* session --state-dir" || true')).split('\n').filter(
      (line) => line !== ''
    )
  }
}

/** A folder of the server's share, for one test: everybody's unless told otherwise. */
export function makeFolder (server: Ganesha, name: string, mode = 0o777): string {
  const folder = path.join(server.folder, name)
  mkdirSync(folder)
  // mkdir(2) takes the umask off.
  chmodSync(folder, mode)
  return folder
}

/** Lines of this machine's packet filter that name a chain of Kubernetes; none where nothing can show them. */
export async function kubernetesRules (): Promise<string> {
  const { stdout } = await run('sh', ['-c', '(iptables-save; ip6tables-save) 2> /dev/null | grep KUBE'])
  return stdout
}

/** Makes the world for the tests of one file. */
export class Stage {
  #world: World | undefined
  /** What Kubernetes had in this machine's packet filter before the cluster: of others, or nothing. */
  packetFilter = ''

  async open (log: (text: string) => void): Promise<void> {
    this.packetFilter = await kubernetesRules()
    this.#world = await World.start(log)
  }

  async close (): Promise<void> { await this.#world?.close() }

  get world (): World {
    if (this.#world === undefined) throw new Error('the cluster did not start')
    return this.#world
  }
}
