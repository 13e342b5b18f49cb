/**
 * The Linux kernel's own NFS server, in a virtual machine, on ext4: a second judge of our client, and another one than
 * nfs-ganesha.
 *
 * Owns its disk, its daemons and where it is reached. Slow (no KVM) and therefore for correctness only. Does not know
 * who mounts it.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { findProgram } from '../needs.ts'
import { unpackedProgram } from './image.ts'
import { VirtualMachine } from './machine.ts'

const nfsPort = 2049
const mountPort = 20048
const diskMebibytes = 512

/**
 * Daemons as Debian's nfs-kernel-server starts them, version 3 only: version 4 would want a recovery daemon as well.
 * `async`: the disk is a file that goes with the machine, and each name would else wait for a journal.
 */
const startServer = `
  mkdir -p /var/lib/nfs /run/rpcbind /export /run/sendsigs.omit.d
  printf 'root:x:0:0::/root:/bin/sh\\n_rpc:x:100:65534::/run/rpcbind:/bin/false\\n' > /etc/passwd
  printf 'root:x:0:\\nnogroup:x:65534:\\n' > /etc/group
  touch /var/lib/nfs/etab /var/lib/nfs/rmtab /etc/hosts.allow /etc/hosts.deny
  mount -t ext4 /dev/vda /export
  chmod 755 /export
  echo '/export *(rw,no_root_squash,insecure,no_subtree_check,async)' > /etc/exports
  rpcbind -w
  mount -t nfsd nfsd /proc/fs/nfsd
  exportfs -a
  rpc.mountd --port ${mountPort} --no-udp --no-nfs-version 4
  echo '-4 +3' > /proc/fs/nfsd/versions
  echo 'tcp ${nfsPort}' > /proc/fs/nfsd/portlist
  echo 4 > /proc/fs/nfsd/threads`

export class Knfsd {
  readonly host = '127.0.0.1'
  readonly share = '/export'
  readonly machine: VirtualMachine
  readonly #folder: string

  private constructor (machine: VirtualMachine, folder: string) {
    this.machine = machine
    this.#folder = folder
  }

  static async start (): Promise<Knfsd> {
    const folder = mkdtempSync(path.join(process.env['VOLBRIDGE_TEST_DIR'] ?? '/var/tmp', 'volbridge-knfsd-'))
    try {
      const disk = path.join(folder, 'disk')
      const [mkfs, rpcbind] = [findProgram('mkfs.ext4'), findProgram('rpcbind')]
      if (mkfs === undefined || rpcbind === undefined) {
        throw new Error('mkfs.ext4 and rpcbind are needed (apt: e2fsprogs rpcbind)')
      }
      execFileSync('truncate', ['-s', `${diskMebibytes}M`, disk])
      execFileSync(mkfs, ['-q', '-F', '-E', 'lazy_itable_init=1,lazy_journal_init=1', disk])
      const machine = await VirtualMachine.start({
        modules: ['sunrpc', 'nfsd'], ports: [nfsPort, mountPort], disk, memoryMebibytes: 512,
        files: {
          '/usr/sbin/rpc.mountd': unpackedProgram('rpc.mountd'), '/usr/sbin/exportfs': unpackedProgram('exportfs'),
          '/usr/sbin/rpcbind': rpcbind,
          '/etc/netconfig': '/etc/netconfig', '/etc/protocols': '/etc/protocols', '/etc/services': '/etc/services',
          '/etc/rpc': '/etc/rpc'
        }
      })
      const server = new Knfsd(machine, folder)
      try {
        await machine.shell(startServer)
      } catch (error) {
        const words = `${String(error)}\n${machine.console().slice(-2000)}`
        await server.close()
        throw new Error(words, { cause: error })
      }
      return server
    } catch (error) {
      rmSync(folder, { recursive: true, force: true })
      throw error
    }
  }

  /** The nfs(5) options that lead a v3 client here without a port mapper. */
  get mountOptions (): string {
    return `vers=3,nolock,proto=tcp,port=${this.machine.portOf(nfsPort)},mountport=${this.machine.portOf(mountPort)}`
  }

  async close (): Promise<void> {
    await this.machine.close()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
