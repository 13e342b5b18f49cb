/**
 * A pod's container with `hostUsers: false`, as containerd has it made: by a runc that idmaps its volume.
 * Owns its bundle and one run of a shell command in it. Does not know what the volume is.
 */
import { execFile } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { runc } from './needs.ts'

/** What containerd gives a container that asks for nothing, as far as files are concerned. */
const capabilities = ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_FOWNER', 'CAP_FSETID', 'CAP_SETGID', 'CAP_SETUID']
const nodeFolders = ['/bin', '/sbin', '/lib', '/lib64', '/usr', '/etc']

export interface PodOptions {
  /** A new folder for bundle and runc's state; removed afterwards. */
  readonly folder: string
  /** The node's id that is 0 in the pod. */
  readonly base: number
  readonly uid: number
  readonly groups?: readonly number[]
  /** Where the volume is on the node. It is at /data in the container, and read-only at /read-only. */
  readonly volume: string
  /** For /bin/sh, in /data. */
  readonly command: string
}

function configurationOf ({ folder, base, uid, groups = [], volume, command }: PodOptions): object {
  const map = [{ containerID: 0, hostID: base, size: 65_536 }]
  const maps = { uidMappings: map, gidMappings: map }
  const bind = (source: string, destination: string, options: readonly string[]): object => ({
    destination, source, type: 'bind', options: ['rbind', 'rprivate', ...options]
  })
  return {
    ociVersion: '1.2.0',
    root: { path: 'rootfs', readonly: false },
    process: {
      terminal: false, user: { uid, gid: uid, additionalGids: groups }, cwd: '/data', args: ['/bin/sh', '-c', command],
      env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'],
      capabilities: {
        bounding: capabilities, ...uid === 0 ? { effective: capabilities, permitted: capabilities } : {}
      }
    },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=64k'] },
      ...nodeFolders.map((name) => bind(name, name, ['ro'])),
      { ...bind(volume, '/data', []), ...maps },
      { ...bind(volume, '/read-only', ['ro']), ...maps }
    ],
    linux: {
      ...maps, namespaces: ['mount', 'ipc', 'uts', 'pid', 'user'].map((type) => ({ type })),
      cgroupsPath: `/${path.basename(folder)}`
    }
  }
}

/** Runs to its end; a failure is an answer. `timeoutMs` means a hang. */
export async function runInPod (
  options: PodOptions,
  timeoutMs = 60_000
): Promise<{ readonly code: number, readonly stdout: string, readonly stderr: string }> {
  const { folder } = options
  for (const name of ['proc', 'dev', 'data', 'read-only', ...nodeFolders]) {
    mkdirSync(path.join(folder, 'rootfs', name), { recursive: true })
  }
  writeFileSync(path.join(folder, 'config.json'), JSON.stringify(configurationOf(options)))
  const args = ['--root', path.join(folder, 'runc'), 'run', '--bundle', folder, path.basename(folder)]
  try {
    return await new Promise((resolve) => {
      execFile(runc, args, { timeout: timeoutMs, killSignal: 'SIGKILL' }, (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, stdout, stderr })
      })
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
