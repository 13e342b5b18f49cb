/**
 * A runc bundle for one privileged container over this machine's own programs.
 * Owns config.json (OCI runtime-spec 1.0). Does not start anything.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'

/** Every capability that a privileged container has and the caller may lack none of: what mounting and changing users
 * takes. */
const capabilities = [
  'CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_DAC_READ_SEARCH', 'CAP_FOWNER', 'CAP_FSETID', 'CAP_KILL', 'CAP_SETGID',
  'CAP_SETUID', 'CAP_MKNOD',
  'CAP_NET_BIND_SERVICE', 'CAP_SYS_ADMIN', 'CAP_SYS_CHROOT', 'CAP_SYS_PTRACE', 'CAP_SETPCAP', 'CAP_SETFCAP'
]

export interface BundleOptions {
  readonly binary: string
  readonly hostname: string
  /** argv of the container's first process. */
  readonly command: readonly string[]
  readonly terminal: boolean
}

const tmpfs = (destination: string, mode: string): object => ({
  destination, type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'nodev', `mode=${mode}`, 'size=512m']
})

/** Writes the bundle into `folder`. */
export function writeBundle (folder: string, { binary, hostname, command, terminal }: BundleOptions): void {
  const rootfs = path.join(folder, 'rootfs')
  for (const name of [
    'bin', 'sbin', 'lib', 'lib64', 'usr', 'etc', 'opt', 'proc', 'dev', 'sys', 'tmp', 'run', 'mnt', 'var/lib/volbridge',
    'volbridge', 'root'
  ]) {
    mkdirSync(path.join(rootfs, name), { recursive: true })
  }
  const readOnly = (destination: string): object => ({
    destination, type: 'bind', source: destination, options: ['rbind', 'ro', 'rprivate']
  })
  writeFileSync(
    path.join(folder, 'config.json'),
    JSON.stringify(
      {
        ociVersion: '1.0.2',
        hostname,
        root: { path: 'rootfs', readonly: false },
        process: {
          terminal,
          user: { uid: 0, gid: 0 },
          cwd: '/',
          args: command,
          env: [
            'PATH=/volbridge:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'HOME=/root',
            `TERM=${process.env['TERM'] ?? 'dumb'}`
          ],
          capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities, inheritable: [] },
          noNewPrivileges: false
        },
        mounts: [
          { destination: '/proc', type: 'proc', source: 'proc' },
          { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev'] },
          { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=64k'] },
          {
            destination: '/dev/pts', type: 'devpts', source: 'devpts',
            options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620']
          },
          tmpfs('/tmp', '1777'), tmpfs('/run', '755'),
          ...['/bin', '/sbin', '/lib', '/lib64', '/usr', '/etc', '/opt'].map(readOnly),
          { destination: '/volbridge', type: 'bind', source: path.dirname(binary), options: ['rbind', 'ro'] }
        ],
        linux: {
          namespaces: [{ type: 'mount' }, { type: 'pid' }, { type: 'ipc' }, { type: 'uts' }],
          rootfsPropagation: 'rprivate',
          // runc denies every device it was not told about, also those that it has just made.
          resources: { devices: [{ allow: true, access: 'rwm' }] },
          devices: [{ path: '/dev/fuse', type: 'c', major: 10, minor: 229, fileMode: 0o666, uid: 0, gid: 0 }]
        }
      },
      null,
      2
    )
  )
}
