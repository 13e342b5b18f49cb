/**
 * The oldest node this binary runs on: kernel and C libraries.
 *
 * Owns the floor and how it is told from a node's files, also those of a node whose root folder is only mounted here.
 * Does not know doctor.
 */
import { closeSync, constants, existsSync, fstatSync, openSync, readdirSync } from 'node:fs'
import { arch, release } from 'node:os'
import { VolumeError } from '../../base/errors.ts'
import { fileContains } from './file-content.ts'
import { onHost } from './host-root.ts'

/** FUSE 7.27, the oldest protocol we speak, came with it. */
export const kernelFloor = [4, 18] as const
export const glibcFloor = '2.28'
export const libstdcxxFloor = '3.4.21'

export function isKernelEnough (text: string): boolean {
  const [major = 0, minor = 0] = text.split('.').map((part) => Number.parseInt(part, 10))
  return major > kernelFloor[0] || (major === kernelFloor[0] && minor >= kernelFloor[1])
}

const triplets: Readonly<Record<string, string>> = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }

/** Debian's multiarch folders, then those of everybody else. */
function libraryFolders (): readonly string[] {
  const triplet = triplets[arch()] ?? ''
  return [`/lib/${triplet}`, `/usr/lib/${triplet}`, '/lib64', '/usr/lib64', '/lib', '/usr/lib']
}

function findLibrary (root: string, name: string): string | undefined {
  return libraryFolders().map((folder) => onHost(root, `${folder}/${name}`)).find((file) => existsSync(file))
}

/** Whether a file contains a text. What is no file contains none, and does not make us wait. */
export function contains (file: string, text: string): boolean {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    return fstatSync(fd).isFile() && fileContains(fd, text)
  } finally {
    closeSync(fd)
  }
}

const hasMusl = (root: string): boolean => {
  const folder = onHost(root, '/lib')
  return existsSync(folder) && readdirSync(folder).some((name) => name.startsWith('ld-musl-'))
}

/** What of the floor a node's C libraries do not reach, as sentences. */
export function libraryProblems (root: string): readonly string[] {
  const needs = [['libc.so.6', `GLIBC_${glibcFloor}`, `glibc ${glibcFloor}`], [
    'libstdc++.so.6', `GLIBCXX_${libstdcxxFloor}`, `libstdc++ with GLIBCXX_${libstdcxxFloor} (GCC 5)`
  ]] as const
  return needs.flatMap(([name, version, floor]) => {
    const file = findLibrary(root, name)
    if (file !== undefined) return contains(file, `\0${version}\0`) ? [] : [`${file} is older than ${floor}`]
    if (hasMusl(root)) return [`there is no ${name}: this distribution has musl instead of glibc`]
    // Where libraries lie elsewhere (NixOS) their absence says nothing, except of the C++ library, which small systems
    // do without.
    return name === 'libstdc++.so.6' && findLibrary(root, 'libc.so.6') !== undefined
      ? [`there is no ${name}; install libstdc++`]
      : []
  })
}

/** @throws VolumeError UNSUPPORTED with everything that is below the floor. */
export function requireFloor (root: string): void {
  const kernel = isKernelEnough(release()) ? [] : [`Linux ${release()} is older than ${kernelFloor.join('.')}`]
  const problems = [...kernel, ...libraryProblems(root)]
  if (problems.length === 0) return
  throw new VolumeError('UNSUPPORTED', `this node is below what volbridge needs: ${problems.join('; ')}`, {
    remedy:
      `Linux ${kernelFloor.join('.')}, glibc ${glibcFloor} and GCC 5's libstdc++ or newer are needed; on older nodes use the kernel's NFS client with an in-tree volume`
  })
}
