/**
 * `scripts/cluster`: a Kubernetes cluster on this machine for a person.
 * Owns the words and the exit codes. Does not know how a cluster is made.
 */
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import process from 'node:process'
import { messageOf } from '../../agent/base/errors.ts'
import { imageFile, imageName } from '../imaging/main.ts'
import { Cluster } from './cluster.ts'
import { images } from './components.ts'
import { kubernetesVersion } from './programs.ts'

const folder = path.resolve(process.env['VOLBRIDGE_CLUSTER_DIR'] ?? '/var/tmp/volbridge-cluster')
const say = (text: string): void => { process.stdout.write(`${text}\n`) }

async function running (): Promise<Cluster> {
  const cluster = await Cluster.find(folder)
  if (cluster === undefined) throw new Error(`no cluster runs in ${folder}: start one with scripts/cluster up`)
  return cluster
}

const next = (cluster: Cluster): string => `
  export KUBECONFIG=${cluster.kubeconfig}
  PATH=$PATH:${path.dirname(cluster.kubectl()[0] ?? '')}
  kubectl get nodes

  scripts/image && scripts/cluster load && kubectl apply -k deploy/csi     # volbridge on it, as operators deploy it
  kubectl run try --image ${images.shell} --overrides '{"spec":{"hostNetwork":true}}' -- sleep 3600
  scripts/cluster enter                                                # a shell on the node
  scripts/cluster down                                                 # everything gone

Pods use this machine's network; the images ${images.shell} (busybox) and, once loaded, ${imageName} are there, others are not.
Logs: ${path.join(cluster.folder, 'log')}, and on the node /var/log/pods`

async function up (): Promise<number> {
  const found = await Cluster.find(folder)
  if (found !== undefined) {
    say(`a cluster runs already in ${folder}${next(found)}`)
    return 0
  }
  say(`Kubernetes ${kubernetesVersion}`)
  const startedMs = performance.now()
  const cluster = await Cluster.up({ folder, say: (text) => { say(`  ${text}`) } })
  say(`ready after ${Math.round((performance.now() - startedMs) / 1000)} s\n${next(cluster)}`)
  return 0
}

async function status (): Promise<number> {
  const cluster = await Cluster.find(folder)
  if (cluster === undefined) {
    say(`no cluster runs in ${folder}`)
    return 1
  }
  const states = await cluster.componentStates()
  for (const [name, isRunning] of states) {
    say(`  ${name.padEnd(26)}${isRunning ? 'runs' : `has ended: ${cluster.logFile(name)}`}`)
  }
  const isReady = await cluster.isNodeReady().catch((error: unknown) => { say(`  ${messageOf(error)}`); return false })
  say(
    `  ${cluster.plan.nodeName.padEnd(26)}${isReady ? 'Ready' : 'not Ready'}\n  KUBECONFIG                ${cluster.kubeconfig}`
  )
  return isReady && [...states.values()].every(Boolean) ? 0 : 1
}

async function load (files: readonly string[]): Promise<number> {
  const cluster = await running()
  await cluster.importImages(files.length === 0 ? [imageFile] : files.map((file) => path.resolve(file)))
  return 0
}

async function enter (command: readonly string[]): Promise<number> {
  const cluster = await running()
  const [program = '', ...args] = cluster.node.entering(command.length === 0 ? ['bash'] : command)
  return spawnSync(program, args, { stdio: 'inherit' }).status ?? 1
}

const commands: Readonly<Record<string, (args: readonly string[]) => Promise<number>>> = {
  up,
  status,
  load,
  enter,
  down: async () => {
    await Cluster.down(folder)
    say(`nothing is left of the cluster in ${folder}`)
    return 0
  }
}

const [name = '', ...args] = process.argv.slice(2)
try {
  process.exitCode = await (commands[name] ?? (async () =>
    await Promise.reject(new Error(`${name}: use up, down, status, load [IMAGE.tar ...] or enter [COMMAND ...]`))))(
      args
    )
} catch (error) {
  process.stderr.write(`scripts/cluster ${name}: ${messageOf(error)}\n`)
  if (name === 'up') {
    process.stderr.write('what was started is still there to be looked at; scripts/cluster down removes it\n')
  }
  process.exitCode = 1
}
// Keep-alive connections to the API are nobody's business any more.
process.exit()
