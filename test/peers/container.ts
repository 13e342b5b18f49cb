/**
 * A privileged container as a DaemonSet's pod has it, made by runc.
 * Owns its bundle, its start and its removal. Does not know what runs inside.
 */
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'

/** What a privileged container has; more than the machine gives would make runc fail. */
const capabilities = [
  'CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_DAC_READ_SEARCH', 'CAP_FOWNER', 'CAP_FSETID', 'CAP_KILL', 'CAP_SETGID',
  'CAP_SETUID', 'CAP_MKNOD',
  'CAP_NET_BIND_SERVICE', 'CAP_SYS_ADMIN', 'CAP_SYS_CHROOT', 'CAP_SYS_PTRACE', 'CAP_SETPCAP', 'CAP_SETFCAP'
]

export interface HostPath {
  readonly path: string
  /** Where it is inside; the same path unless given. */
  readonly at?: string
  /** `mountPropagation`: None, HostToContainer, Bidirectional. */
  readonly propagation: 'rprivate' | 'rslave' | 'rshared'
}

export interface ContainerOptions {
  /** The folder for bundle and runc's state; removed with the container. */
  readonly folder: string
  readonly binary: string
  readonly command: readonly string[]
  readonly hostPaths: readonly HostPath[]
  /** Namespaces of its own beside mount, ipc, uts: a DaemonSet with hostPID and hostNetwork has none. */
  readonly own?: readonly ('pid' | 'network' | 'cgroup')[]
}

export class Container {
  readonly id: string
  /** What it has printed on standard error. */
  log = ''
  readonly #folder: string
  readonly #child: ChildProcess
  readonly #ended: Promise<number | null>

  constructor (options: ContainerOptions) {
    this.#folder = options.folder
    this.id = path.basename(options.folder)
    mkdirSync(options.folder, { recursive: true })
    writeBundle(options)
    this.#child = spawn('runc', [...this.#root, 'run', '--bundle', options.folder, this.id], {
      stdio: ['ignore', 'pipe', 'pipe']
    })
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => { this.log += text })
    }
    this.#ended = new Promise((resolve) => {
      this.#child.once('close', resolve)
      this.#child.once('error', (error) => { this.log += error.message; resolve(-1) })
    })
  }

  get #root (): readonly string[] { return ['--root', path.join(this.#folder, 'runc')] }
  get hasEnded (): boolean { return this.#child.exitCode !== null || this.#child.signalCode !== null }

  /** Of the container's first process, as its host counts; undefined before it runs. */
  get pid (): number | undefined {
    const state = spawnSync('runc', [...this.#root, 'state', this.id], { encoding: 'utf8' })
    return state.status === 0 ? (JSON.parse(state.stdout) as { pid: number }).pid : undefined
  }

  /** The exit code of its first process. */
  async ended (): Promise<number | null> { return await this.#ended }

  /** As kubelet and containerd remove a pod: SIGKILL to all that runs in it, then its files. */
  async delete (): Promise<void> {
    spawnSync('runc', [...this.#root, 'delete', '--force', this.id], { stdio: 'ignore' })
    await this.#ended
    spawnSync('runc', [...this.#root, 'delete', '--force', this.id], { stdio: 'ignore' })
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

const propagated = ({ path: source, at = source, propagation }: HostPath): object => ({
  destination: at, type: 'bind', source, options: ['rbind', propagation]
})

function writeBundle ({ folder, binary, command, hostPaths, own = [] }: ContainerOptions): void {
  const rootfs = path.join(folder, 'rootfs')
  for (const name of [
    'bin', 'sbin', 'lib', 'lib64', 'usr', 'etc', 'proc', 'dev', 'sys', 'tmp', 'run',
    ...hostPaths.map(({ path: source, at = source }) => at)
  ]) {
    mkdirSync(path.join(rootfs, name), { recursive: true })
  }
  // Inside its own root file system, which is gone with the pod.
  copyFileSync(binary, path.join(rootfs, 'volbridge'))
  execFileSync('chmod', ['755', path.join(rootfs, 'volbridge')])
  writeFileSync(
    path.join(folder, 'config.json'),
    JSON.stringify({
      ociVersion: '1.0.2',
      hostname: 'volbridge-pod',
      root: { path: 'rootfs', readonly: false },
      process: {
        terminal: false, user: { uid: 0, gid: 0 }, cwd: '/', args: command, env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'],
        noNewPrivileges: false,
        capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities, inheritable: [] }
      },
      mounts: [
        { destination: '/proc', type: 'proc', source: 'proc' },
        { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev'] },
        { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=64k'] },
        ...['/bin', '/sbin', '/lib', '/lib64', '/usr', '/etc'].map((source) => ({
          destination: source, type: 'bind', source, options: ['rbind', 'ro', 'rprivate']
        })),
        ...hostPaths.map(propagated)
      ],
      linux: {
        namespaces: [{ type: 'mount' }, { type: 'ipc' }, { type: 'uts' }, ...own.map((type) => ({ type }))],
        cgroupsPath: `/${path.basename(folder)}`,
        // What a propagated mount needs: the root must not be private.
        rootfsPropagation: 'rshared',
        resources: { devices: [{ allow: true, access: 'rwm' }] },
        devices: [{ path: '/dev/fuse', type: 'c', major: 10, minor: 229, fileMode: 0o666, uid: 0, gid: 0 }]
      }
    })
  )
  if (process.geteuid?.() !== 0) throw new Error('a container needs root')
}
