/**
 * A Kubernetes node in a virtual machine: the packed binary, an agent with both doors, and kubelet's folders.
 *
 * Owns the guest's agent and the calls that kubelet would make, made from the host over the agent's own socket. Does
 * not know servers.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import path from 'node:path'
import { CsiClient } from '../../../proto/csi/client.ts'
import { loadServices } from '../../../proto/csi/load.ts'
import type {
  MethodName,
  NodeGetVolumeStatsResponse,
  RequestOf,
  ResponseOf,
  StatusVolume,
  StringMap,
  VolumeCapability
} from '../../../proto/csi/types.ts'
import type { ModuleSet } from '../../peers/vm/image.ts'
import { VirtualMachine } from '../../peers/vm/machine.ts'
import { binary } from '../endtoend/node.ts'

const csiPort = 9000
const agentPort = 9001
const csiSocket = '/var/lib/kubelet/plugins/csi.volbridge.io/csi.sock'
const agentSocket = '/run/volbridge/agent.sock'
const callMs = 110_000

export interface GuestVolume {
  readonly handle: string
  readonly attributes: StringMap
  readonly mountFlags?: readonly string[]
  readonly group?: number
}

export class Guest {
  readonly machine: VirtualMachine
  readonly #csi: string
  readonly #agent: string

  private constructor (machine: VirtualMachine, sockets: { csi: string, agent: string }) {
    this.machine = machine
    this.#csi = sockets.csi
    this.#agent = sockets.agent
  }

  static async start (modules: readonly ModuleSet[]): Promise<Guest> {
    const folder = mkdtempSync(path.join(process.env['VOLBRIDGE_TEST_DIR'] ?? '/var/tmp', 'volbridge-bridge-'))
    try {
      const bridge = path.join(folder, 'bridge')
      execFileSync('gcc', ['-O1', '-o', bridge, path.resolve(import.meta.dirname, '../../peers/vm/bridge.c')])
      const machine = await VirtualMachine.start({
        modules, ports: [csiPort, agentPort], files: { '/usr/bin/volbridge': binary, '/usr/bin/bridge': bridge }
      })
      const guest = new Guest(machine, {
        csi: await machine.socketTo(csiPort), agent: await machine.socketTo(agentPort)
      })
      await machine.shell(`for folder in pods plugins plugins_registry; do mkdir -p /var/lib/kubelet/$folder; done
        setsid bridge ${csiPort} ${csiSocket} > /dev/null 2>&1 &
        setsid bridge ${agentPort} ${agentSocket} > /dev/null 2>&1 &`)
      return guest
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }

  /** Starts an agent and waits for its sockets. */
  async startAgent (): Promise<void> {
    await this.machine.shell(`rm -f ${csiSocket} ${agentSocket}
      setsid volbridge agent --csi-endpoint unix://${csiSocket} --node-id guest > /var/log-agent 2>&1 &
      echo $! > /run/agent.pid
      while ! [ -S ${csiSocket} -a -S ${agentSocket} ]; do kill -0 $(cat /run/agent.pid) || { cat /var/log-agent; exit 1; }; sleep 0.1; done`)
  }

  async killAgent (): Promise<void> {
    await this.machine.shell(
      'kill -9 $(cat /run/agent.pid); while kill -0 $(cat /run/agent.pid) 2> /dev/null; do sleep 0.1; done'
    )
  }

  async agentLog (): Promise<string> { return await this.machine.shell('cat /var/log-agent') }

  async #call<S extends 'Node' | 'Agent', M extends MethodName<S>> (
    socket: string,
    service: S,
    method: M,
    request: Partial<RequestOf<S, M>>,
    deadlineMs = callMs
  ): Promise<ResponseOf<S, M>> {
    const client = new CsiClient(loadServices(), socket)
    try {
      return await client.call(service, method, request, { deadlineMs })
    } finally {
      client.close()
    }
  }

  #capability ({ mountFlags = [], group }: GuestVolume): VolumeCapability {
    return {
      accessMode: { mode: 'MULTI_NODE_MULTI_WRITER' },
      mount: { fsType: '', mountFlags, volumeMountGroup: group === undefined ? '' : `${group}` }
    }
  }

  stagingOf (handle: string): string {
    return `/var/lib/kubelet/plugins/kubernetes.io/csi/csi.volbridge.io/${handle}/globalmount`
  }
  targetOf (pod: string): string { return `/var/lib/kubelet/pods/${pod}/volumes/kubernetes.io~csi/pv/mount` }

  async stage (volume: GuestVolume): Promise<void> {
    const staging = this.stagingOf(volume.handle)
    await this.machine.shell(`mkdir -p ${staging}`)
    await this.#call(this.#csi, 'Node', 'NodeStageVolume', {
      volumeId: volume.handle, stagingTargetPath: staging, volumeCapability: this.#capability(volume),
      volumeContext: volume.attributes
    })
  }

  async publish (volume: GuestVolume, pod: string): Promise<string> {
    const target = this.targetOf(pod)
    await this.machine.shell(`mkdir -p $(dirname ${target})`)
    await this.#call(this.#csi, 'Node', 'NodePublishVolume', {
      volumeId: volume.handle, stagingTargetPath: this.stagingOf(volume.handle), targetPath: target, readonly: false,
      volumeCapability: this.#capability(volume), volumeContext: volume.attributes
    })
    return target
  }

  async unpublish (volume: GuestVolume, pod: string): Promise<void> {
    await this.#call(this.#csi, 'Node', 'NodeUnpublishVolume', {
      volumeId: volume.handle, targetPath: this.targetOf(pod)
    })
  }

  async unstage (volume: GuestVolume): Promise<void> {
    await this.#call(this.#csi, 'Node', 'NodeUnstageVolume', {
      volumeId: volume.handle, stagingTargetPath: this.stagingOf(volume.handle)
    })
  }

  async stats (volume: GuestVolume, pod: string): Promise<NodeGetVolumeStatsResponse> {
    return await this.#call(this.#csi, 'Node', 'NodeGetVolumeStats', {
      volumeId: volume.handle, volumePath: this.targetOf(pod)
    })
  }

  async status (): Promise<readonly StatusVolume[]> {
    return (await this.#call(this.#agent, 'Agent', 'Status', {})).volumes
  }

  /** Mount points of NFS in the guest. */
  async mounts (): Promise<readonly string[]> {
    const text = await this.machine.shell('grep -E " - (nfs4?|fuse[^ ]*) " /proc/self/mountinfo || true')
    return text.split('\n').filter((line) => line !== '').map((line) => line.split(' ')[4] ?? '')
  }

  async close (): Promise<void> { await this.machine.close() }
}
