/**
 * One Kubernetes cluster on this machine: up, its parts one by one, down.
 *
 * Owns the order of start, the folder with everything the cluster has, and its record, which is written before anything
 * is made: `down` works after any crash. Does not know what runs on the cluster.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { readMountinfoSync } from '../../agent/host/mountinfo.ts'
import { isAlive, type ProcessId } from '../../agent/host/processes.ts'
import { findProgram } from '../../test/peers/needs.ts'
import { removeFolder } from '../testing/remove-folder.ts'
import { KubernetesApi, until } from './api.ts'
import { makeCertificates } from './certificates.ts'
import {
  apiPort,
  componentNames,
  components,
  containerdSocket,
  kubeconfig,
  type ClusterPlan,
  type ComponentName
} from './components.ts'
import { ClusterNode } from './node.ts'
import { programFolder } from './programs.ts'
import { writeShellImages } from './shell-image.ts'

interface ClusterRecord {
  readonly plan: ClusterPlan
  readonly groups: readonly string[]
  readonly init?: ProcessId
}

export interface ClusterOptions {
  readonly folder: string
  readonly featureGates?: Readonly<Record<string, boolean>>
  readonly statsSeconds?: number
  /** Is told each step, for a person. */
  readonly say?: (text: string) => void
}

/** A hang, not a figure: on a quiet machine the whole takes half a minute. */
const stepMs = 300_000
const nodeName = 'volbridge-node'
/** Debian packages of programs that are used as they are. */
const debianPrograms = {
  'etcd': 'etcd-server', 'containerd': 'containerd', 'runc': 'runc', 'openssl': 'openssl', 'busybox': 'busybox-static',
  'nsenter': 'util-linux'
} as const

/** What cannot be found, as a sentence, or undefined. */
export function missingPrograms (): string | undefined {
  const missing = Object.entries(debianPrograms).filter(([name]) => findProgram(name) === undefined).map(([, name]) =>
    name
  )
  return missing.length === 0 ? undefined : `missing: ${missing.join(' ')} (scripts/setup packages installs them)`
}

async function canListen (address: string, port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const server = net.createServer()
    server.once('error', () => { resolve(false) })
    server.listen(port, address, () => { server.close(() => { resolve(true) }) })
  })
}

/** A network of loopback addresses that no other cluster on this machine uses. */
async function freeNetwork (): Promise<{ address: string, serviceRange: string }> {
  for (let second = 96; second < 127; second++) {
    const address = `127.${second}.0.1`
    if (await canListen(address, apiPort)) return { address, serviceRange: `127.${second}.0.0/16` }
  }
  throw new Error(`every address from 127.96.0.1 to 127.126.0.1 has something on port ${apiPort}`)
}

const recordFile = (folder: string): string => path.join(folder, 'record.json')

function readRecord (folder: string): ClusterRecord | undefined {
  return existsSync(recordFile(folder))
    ? JSON.parse(readFileSync(recordFile(folder), 'utf8')) as ClusterRecord
    : undefined
}

function writeRecord (folder: string, record: ClusterRecord): void {
  writeFileSync(`${recordFile(folder)}.new`, JSON.stringify(record, null, 2), { mode: 0o600 })
  renameSync(`${recordFile(folder)}.new`, recordFile(folder))
}

export class Cluster {
  readonly folder: string
  readonly node: ClusterNode
  readonly plan: ClusterPlan
  readonly api: KubernetesApi
  readonly kubeconfig: string
  /** By this process. */
  readonly #started = new Set<ComponentName>()

  private constructor (folder: string, node: ClusterNode, plan: ClusterPlan) {
    this.folder = folder
    this.node = node
    this.plan = plan
    this.kubeconfig = path.join(folder, 'kubeconfig')
    this.api = new KubernetesApi(`https://${plan.address}:${apiPort}`, path.join(folder, 'certificates'))
  }

  /** The cluster of this folder, if it runs. */
  static async find (folder: string): Promise<Cluster | undefined> {
    const record = readRecord(folder)
    if (record?.init === undefined || !await isAlive(record.init)) return undefined
    return new Cluster(folder, new ClusterNode(folder, { init: record.init, groups: record.groups }), record.plan)
  }

  /** Starts everything and waits until pods can be made. What was started stays for a look at its logs when that
   * fails. */
  static async up (options: ClusterOptions): Promise<Cluster> {
    const { folder, say = () => undefined } = options
    const missing = missingPrograms()
    if (missing !== undefined) throw new Error(missing)
    await Cluster.down(folder)
    for (const name of ['etc', 'log', 'pid']) mkdirSync(path.join(folder, name), { recursive: true })
    const plan: ClusterPlan = {
      nodeName, ...await freeNetwork(), featureGates: options.featureGates ?? {},
      statsSeconds: options.statsSeconds ?? 60
    }
    say(`certificates and a node of its own in ${folder}`)
    makeCertificates(path.join(folder, 'certificates'), { node: nodeName, address: plan.address })
    const node = await ClusterNode.start(
      { folder, programs: programFolder, name: nodeName, address: plan.address },
      (groups) => { writeRecord(folder, { plan, groups }) }
    )
    writeRecord(folder, { plan, ...node.record })
    const cluster = new Cluster(folder, node, plan)
    writeFileSync(cluster.kubeconfig, kubeconfig(plan, 'admin', path.join(folder, 'certificates')), { mode: 0o600 })
    await cluster.#startAll(say)
    return cluster
  }

  async #startAll (say: (text: string) => void): Promise<void> {
    say('etcd, containerd, kube-apiserver')
    const imageFiles = writeShellImages(findProgram('busybox') ?? '', path.join(this.folder, 'etc'))
    for (const name of ['etcd', 'containerd', 'kube-apiserver'] as const) await this.start(name)
    const imported = this.importImages(imageFiles)
    await this.#ready('kube-apiserver', async () => await this.api.text('GET', '/readyz'))
    say('kube-controller-manager, kube-scheduler, kubelet')
    for (const name of ['kube-controller-manager', 'kube-scheduler', 'kubelet'] as const) await this.start(name)
    await imported
    await this.#ready('kubelet', async () => await this.isNodeReady() ? true : undefined)
    // Pods need it, and the controller manager makes it.
    await this.#ready(
      'kube-controller-manager',
      async () => await this.api.find('/api/v1/namespaces/default/serviceaccounts/default')
    )
    await this.#ready('kube-controller-manager', async () => await this.isSchedulable() ? true : undefined)
  }

  async isNodeReady (): Promise<boolean> {
    const found = await this.api.find(`/api/v1/nodes/${nodeName}`)
    const conditions =
      (found?.status as { conditions?: readonly { type: string, status: string }[] } | undefined)?.conditions ?? []
    return conditions.some(({ type, status }) => type === 'Ready' && status === 'True')
  }

  /** A new node is marked as not ready until the controller manager has seen that it is. */
  async isSchedulable (): Promise<boolean> {
    const found = await this.api.find(`/api/v1/nodes/${nodeName}`)
    return ((found?.spec as { taints?: readonly unknown[] } | undefined)?.taints ?? []).length === 0
  }

  /** Waits for what the component makes; one of those that are started having ended is the answer at once. */
  async #ready<T> (component: ComponentName, ask: () => Promise<T | undefined>): Promise<T> {
    const ended = async (): Promise<ComponentName | undefined> =>
      [...await this.componentStates()].find(([name, isRunning]) => !isRunning && this.#started.has(name))?.[0]
    const found = await until(
      () => `${component}; its log (${this.logFile(component)}) ends with\n${this.logOf(component).slice(-3000)}`,
      async () => await ended() ?? await ask().then((answer) => answer === undefined ? undefined : { answer }),
      stepMs
    )
    if (typeof found === 'object') return found.answer
    throw new Error(`${found} has ended; its log (${this.logFile(found)}) ends with\n${this.logOf(found).slice(-3000)}`)
  }

  logFile (component: ComponentName): string { return path.join(this.folder, 'log', `${component}.log`) }
  logOf (component: ComponentName): string {
    return existsSync(this.logFile(component)) ? readFileSync(this.logFile(component), 'utf8') : ''
  }

  /** Writes the component's files and starts it. */
  async start (component: ComponentName): Promise<void> {
    const { command, files } = components[component]
    for (const [name, text] of Object.entries(files(this.plan))) {
      writeFileSync(path.join(this.folder, 'etc', name), text, { mode: 0o600 })
    }
    const pid = await this.node.startDaemon(component, command(this.plan))
    writeFileSync(path.join(this.folder, 'pid', component), String(pid))
    this.#started.add(component)
  }

  /** Pid on the node. */
  #pidOf (component: ComponentName): string { return readFileSync(path.join(this.folder, 'pid', component), 'utf8') }

  async isComponentRunning (component: ComponentName): Promise<boolean> {
    return (await this.componentStates()).get(component) === true
  }

  /** Ends one component and waits until it is gone. */
  async stop (component: ComponentName, signal: 'TERM' | 'KILL' = 'TERM'): Promise<void> {
    await this.node.run(['kill', `-${signal}`, this.#pidOf(component)])
    await until(
      `${component} to end after SIG${signal}`,
      async () => await this.isComponentRunning(component) ? undefined : true,
      stepMs,
      50
    )
  }

  /** Image archives from this machine, into containerd. */
  async importImages (files: readonly string[]): Promise<void> {
    for (const file of files) {
      const copy = path.join(this.folder, 'etc', path.basename(file))
      if (copy !== file) writeFileSync(copy, readFileSync(file))
      await until(`containerd to take ${file}; ${this.logFile('containerd')} may say why`, async () => {
        await this.node.shell(
          `ctr --address ${containerdSocket} --namespace k8s.io images import --snapshotter native --digests=false /run/cluster/etc/${path.basename(copy)}`,
          { timeoutMs: stepMs }
        )
        return true
      }, stepMs)
      rmSync(copy)
    }
  }

  kubectl (...args: readonly string[]): readonly string[] {
    return [path.join(programFolder, 'kubectl'), '--kubeconfig', this.kubeconfig, ...args]
  }

  async componentStates (): Promise<ReadonlyMap<ComponentName, boolean>> {
    const known = componentNames.map((name) =>
      [name, existsSync(path.join(this.folder, 'pid', name)) ? this.#pidOf(name) : '0'] as const
    )
    const alive = await this.node.shell(
      `for pid in ${known.map(([, pid]) => pid).join(' ')}; do [ ! -d /proc/$pid ] || echo $pid; done`
    )
    return new Map(known.map(([name, pid]) => [name, alive.split('\n').includes(pid)]))
  }

  async down (): Promise<void> {
    this.api.close()
    await Cluster.down(this.folder)
  }

  /** Removes whatever is there of a cluster of this folder, whole or half made. */
  static async down (folder: string): Promise<void> {
    const record = readRecord(folder)
    if (record !== undefined) await ClusterNode.end(record)
    const held = readMountinfoSync().find(({ mountPoint }) => mountPoint.startsWith(`${folder}/`))
    if (held !== undefined) {
      throw new Error(`${held.mountPoint} is a mount and was not made by this cluster: unmount it, then try again`)
    }
    removeFolder(folder)
  }
}
