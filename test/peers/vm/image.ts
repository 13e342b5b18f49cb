/**
 * What a guest boots: Debian's kernel, and a root file system in memory made of busybox, kernel modules and the files a
 * test gives it.
 *
 * Owns finding the kernel (scripts/setup puts it below build/vm) and building the archive. Does not know who boots it.
 */
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  symlinkSync,
  writeFileSync
} from 'node:fs'
import path from 'node:path'
import { findProgram, vmFolder } from '../needs.ts'

/** Each needs those before it. The network card first, then the kernel's NFS client, then FUSE. */
const network = [
  'failover', 'net_failover', 'virtio_ring', 'virtio', 'virtio_pci_modern_dev', 'virtio_pci_legacy_dev', 'virtio_pci',
  'virtio_net', 'virtio_blk'
] as const
const sunrpc = ['sunrpc', 'grace', 'nfs_acl', 'lockd', 'auth_rpcgss'] as const
const modulesOf = {
  network,
  sunrpc,
  nfs: ['netfs', 'fscache', 'nfs', 'nfsv3', 'dns_resolver', 'nfsv4'],
  fuse: ['fuse'],
  nfsd: ['nfsd']
} as const satisfies Record<string, readonly string[]>
export type ModuleSet = keyof typeof modulesOf

export interface GuestImage {
  readonly kernel: string
  readonly archive: string
}

export interface ImageContents {
  readonly modules: readonly ModuleSet[]
  /** Path in the guest → file of the host. Programs bring the libraries they are linked with. */
  readonly files: Readonly<Record<string, string>>
}

interface Unpacked { readonly kernel: string, readonly modules: string }

/** The newest kernel that was unpacked, or undefined. */
export function unpackedKernel (): Unpacked | undefined {
  const boot = path.join(vmFolder, 'kernel/boot')
  if (!existsSync(boot)) return undefined
  const name = readdirSync(boot).filter((entry) => entry.startsWith('vmlinuz-')).sort().at(-1)
  if (name === undefined) return undefined
  return {
    kernel: path.join(boot, name), modules: path.join(vmFolder, 'kernel/lib/modules', name.slice('vmlinuz-'.length))
  }
}

/** A program of a Debian package that is unpacked and not installed. */
export const unpackedProgram = (name: string): string => path.join(vmFolder, 'tools/usr/sbin', name)

/** Shared libraries of a program, as the loader would find them: path in the guest → file. */
function librariesOf (program: string): ReadonlyMap<string, string> {
  let text = ''
  try {
    text = execFileSync('ldd', [program], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  } catch {
    return new Map()
  }
  if (text.includes('not found')) throw new Error(`libraries of ${program} are missing:\n${text}`)
  const found = [...text.matchAll(/^\s*(?:\S+ => )?(\/\S+) \(0x/gm)].map(([, file = '']) => file)
  return new Map(found.map((file) => [file, realpathSync(file)]))
}

function findModules (folder: string): ReadonlyMap<string, string> {
  const entries = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ko'))
  return new Map(entries.map((name) => [path.basename(name, '.ko'), path.join(folder, name)]))
}

/** Builds kernel and archive into `folder`. */
export function buildImage (folder: string, { modules, files }: ImageContents): GuestImage {
  const unpacked = unpackedKernel()
  const busybox = findProgram('busybox')
  if (unpacked === undefined || busybox === undefined) throw new Error('kernel and busybox are needed (scripts/setup)')
  const root = path.join(folder, 'root')
  const put = (guestPath: string, file: string): void => {
    const target = path.join(root, guestPath)
    if (existsSync(target)) return
    mkdirSync(path.dirname(target), { recursive: true })
    copyFileSync(file, target)
  }
  for (const name of ['bin', 'modules', 'lib', 'lib64', 'dev']) mkdirSync(path.join(root, name), { recursive: true })
  put('bin/busybox', busybox)
  symlinkSync('busybox', path.join(root, 'bin/sh'))
  put('init', path.join(import.meta.dirname, 'init.sh'))
  chmodSync(path.join(root, 'init'), 0o755)
  put('line.sh', path.join(import.meta.dirname, 'line.sh'))
  const known = findModules(unpacked.modules)
  const list = ['network' as const, ...modules].flatMap((set) => modulesOf[set])
  for (const name of list) {
    const file = known.get(name)
    if (file === undefined) throw new Error(`the kernel has no module ${name}`)
    put(`modules/${name}.ko`, file)
  }
  writeFileSync(path.join(root, 'modules.list'), `${list.join('\n')}\n`)
  for (const [guestPath, file] of Object.entries(files)) {
    put(guestPath, file)
    for (const [library, real] of librariesOf(file)) put(library, real)
  }
  const archive = path.join(folder, 'initrd')
  execFileSync('sh', ['-c', 'cd "$1" && find . | cpio --quiet -o -H newc > "$2"', 'sh', root, archive])
  execFileSync('rm', ['-rf', root])
  return { kernel: unpacked.kernel, archive }
}
