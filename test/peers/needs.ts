/**
 * What a test needs from the machine, and the one line that says why it is skipped without it.
 * Owns the probes. Does not know the tests: `testing.ts` binds it to AVA.
 */
import { accessSync, constants, existsSync, statSync } from 'node:fs'
import { release } from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { areProgramsBuilt } from '../../scripts/kubernetes/programs.ts'

/** Where Debian puts programs that are not in every user's PATH. */
const programFolders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/usr/bin', '/sbin', '/bin'].filter(
  (folder) => folder !== ''
)

/** Absolute path of an executable, or undefined. */
export function findProgram (name: string): string | undefined {
  return programFolders.map((folder) => path.join(folder, name)).find((candidate) => {
    try {
      accessSync(candidate, constants.X_OK)
      return statSync(candidate).isFile()
    } catch {
      return false
    }
  })
}

/** Where scripts/setup unpacks Debian's kernel for virtual machines. */
export const vmFolder = path.resolve('build/vm')

/** Where scripts/setup puts it. */
export const csiSanity = path.resolve('build/tools/csi-sanity-v5.6.0')

/** A runc that idmaps volumes, from there too: Debian 12 has 1.1. */
export const runc = path.resolve('build/tools/runc-v1.2.6')

/** The service manager, where Debian has it and where it looks for itself, and its command: to be carried into a
 * virtual machine, not to be run here. */
export const systemdPrograms = ['/lib/systemd/systemd', '/usr/bin/systemctl'] as const

function canOpen (file: string): boolean {
  try {
    accessSync(file, constants.R_OK | constants.W_OK)
    return true
  } catch {
    return false
  }
}

function isLinuxFrom (major: number, minor: number): boolean {
  const [ourMajor = 0, ourMinor = 0] = release().split('.').map((part) => Number.parseInt(part, 10))
  return ourMajor > major || (ourMajor === major && ourMinor >= minor)
}

const probes = {
  root: () => process.geteuid?.() === 0 ? undefined : 'needs root',
  fuse: () => canOpen('/dev/fuse') ? undefined : 'needs /dev/fuse',
  ganesha: () =>
    findProgram('ganesha.nfsd') === undefined ? 'needs nfs-ganesha (apt: nfs-ganesha nfs-ganesha-vfs)' : undefined,
  libnfs: () => findProgram('nfs-ls') === undefined ? 'needs nfs-ls (apt: libnfs-utils)' : undefined,
  runc: () => findProgram('runc') === undefined ? 'needs runc (apt: runc)' : undefined,
  dbench: () => findProgram('dbench') === undefined ? 'needs dbench' : undefined,
  stressNg: () => findProgram('stress-ng') === undefined ? 'needs stress-ng' : undefined,
  fio: () => findProgram('fio') === undefined ? 'needs fio' : undefined,
  csiSanity: () => !existsSync(csiSanity) ? 'needs csi-sanity (scripts/setup tools)' : undefined,
  chromium: () => findProgram('chromium') === undefined ? 'needs chromium (apt: chromium)' : undefined,
  qemu: () =>
    ['qemu-system-x86_64', 'busybox', 'cpio'].every((name) => findProgram(name) !== undefined) &&
      existsSync(path.join(vmFolder, 'kernel/boot'))
      ? undefined
      : 'needs qemu-system-x86, busybox-static, cpio and a kernel for it (scripts/setup vm)',
  systemd: () => systemdPrograms.every((file) => existsSync(file)) ? undefined : 'needs systemd (apt: systemd)',
  kubernetes: () => areProgramsBuilt() ? undefined : 'needs Kubernetes (scripts/setup kubernetes)',
  containerd: () =>
    ['etcd', 'containerd', 'busybox', 'openssl'].every((name) => findProgram(name) !== undefined)
      ? undefined
      : 'needs etcd and containerd (apt: etcd-server containerd busybox-static openssl)',
  openssl: () => findProgram('openssl') === undefined ? 'needs openssl' : undefined,
  idmappedFuse: () => isLinuxFrom(6, 12) ? undefined : 'needs Linux 6.12, the first with idmapped FUSE mounts',
  runcWithIdmap: () => !existsSync(runc) ? 'needs runc 1.2 (scripts/setup tools)' : undefined,
  gcc: () => findProgram('gcc') === undefined ? 'needs gcc' : undefined
} as const satisfies Record<string, () => string | undefined>

export type Need = keyof typeof probes

/** Why a test with these needs cannot run here, or undefined when it can. */
export function missing (...needs: readonly Need[]): string | undefined {
  const reasons = needs.map((need) => probes[need]()).filter((reason) => reason !== undefined)
  return reasons.length === 0 ? undefined : reasons.join(', ')
}
