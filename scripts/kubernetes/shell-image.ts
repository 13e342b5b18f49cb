/**
 * The two small images of the local cluster, made of busybox: what its pods run, and the pause container that each pod
 * has. Owns their contents. Does not know the cluster.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync, chmodSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { writeImage } from '../imaging/docker-archive.ts'
import { copyProgram } from '../imaging/programs.ts'
import { images } from './components.ts'

const entrypoints = {
  // Process 1 takes no signal it has not asked for; the runtime ends a pause container with SIGKILL.
  pause: ['/bin/sleep', '2147483647'],
  shell: []
} as const satisfies Record<keyof typeof images, readonly string[]>

/** Writes both into `folder`; answers the files. */
export function writeShellImages (busybox: string, folder: string): readonly string[] {
  const rootfs = mkdtempSync(path.join(tmpdir(), 'volbridge-image-'))
  try {
    chmodSync(rootfs, 0o755)
    for (const name of ['bin', 'etc', 'tmp', 'proc', 'sys', 'dev', 'data', 'root']) mkdirSync(path.join(rootfs, name))
    chmodSync(path.join(rootfs, 'tmp'), 0o1777)
    copyProgram(rootfs, busybox, '/bin/busybox')
    for (const name of execFileSync(busybox, ['--list'], { encoding: 'utf8' }).split('\n')) {
      if (name !== '' && name !== 'busybox') symlinkSync('busybox', path.join(rootfs, 'bin', name))
    }
    writeFileSync(path.join(rootfs, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n')
    writeFileSync(path.join(rootfs, 'etc/group'), 'root:x:0:\n')
    return (Object.keys(images) as (keyof typeof images)[]).map((kind) => {
      const file = path.join(folder, `${kind}.tar`)
      writeImage({
        name: images[kind], rootfs, entrypoint: entrypoints[kind], environment: ['PATH=/bin'], labels: {},
        architecture: process.arch === 'x64' ? 'amd64' : process.arch
      }, file)
      return file
    })
  } finally {
    rmSync(rootfs, { recursive: true, force: true })
  }
}
