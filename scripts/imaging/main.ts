/**
 * dist/volbridge-image.tar: the binary and the shared libraries it needs, nothing else; no shell, no packages.
 *
 * Owns what goes in. The libraries are this machine's, with their licences: glibc and the C++ runtime of what the
 * binary was linked for, and glibc's name resolution, which it loads by itself. Does not know who runs the image.
 */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { writeImage } from './docker-archive.ts'
import { copyInto, copyProgram } from './programs.ts'

const root = path.resolve(import.meta.dirname, '../..')
const { version, license, description } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as Record<
  'version' | 'license' | 'description',
  string
>

export const imageName = `volbridge/volbridge:${version}`
export const imageFile = path.join(root, 'dist/volbridge-image.tar')

/** glibc loads these by name when a host name is looked up; since 2.34 `files` and `dns` are in libc itself. */
const resolution = ['libnss_files.so.2', 'libnss_dns.so.2', 'libresolv.so.2']

/** Debian packages whose files are copied: their copyright pages go along. */
const copyrights = ['libc6', 'libstdc++6', 'libgcc-s1'].map((name) => `/usr/share/doc/${name}/copyright`)

export function buildImage (output = imageFile): void {
  const binary = path.join(root, 'dist/volbridge')
  const rootfs = mkdtempSync(path.join(root, 'build/image-'))
  try {
    // mkdtemp gives 0700; the image's root is everybody's.
    chmodSync(rootfs, 0o755)
    for (const folder of ['etc', 'tmp', 'run', 'proc', 'sys', 'dev', 'var/lib/volbridge', 'root']) {
      mkdirSync(path.join(rootfs, folder), { recursive: true })
    }
    chmodSync(path.join(rootfs, 'tmp'), 0o1777)
    const libraries = copyProgram(rootfs, binary, '/usr/local/bin/volbridge')
    const libraryFolder = path.dirname(libraries.find((file) => path.basename(file) === 'libc.so.6') ?? '/lib')
    for (const name of resolution.map((file) => path.join(libraryFolder, file))) {
      if (existsSync(name)) copyInto(rootfs, name)
    }
    for (const file of copyrights) if (existsSync(file)) copyInto(rootfs, file)
    copyInto(rootfs, path.join(root, 'LICENSE'), '/usr/share/doc/volbridge/LICENSE')
    copyInto(rootfs, path.join(root, 'dist/THIRD-PARTY-LICENCES'), '/usr/share/doc/volbridge/THIRD-PARTY-LICENCES')
    writeFileSync(path.join(rootfs, 'etc/passwd'), 'root:x:0:0:root:/root:/usr/sbin/nologin\n')
    writeFileSync(path.join(rootfs, 'etc/group'), 'root:x:0:\n')
    writeFileSync(path.join(rootfs, 'etc/nsswitch.conf'), 'hosts: files dns\n')
    writeImage({
      name: imageName,
      rootfs,
      entrypoint: ['/usr/local/bin/volbridge'],
      environment: ['PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
      labels: {
        'org.opencontainers.image.title': 'volbridge', 'org.opencontainers.image.description': description,
        'org.opencontainers.image.version': version, 'org.opencontainers.image.licenses': license
      },
      architecture: process.arch === 'x64' ? 'amd64' : process.arch
    }, output)
  } finally {
    rmSync(rootfs, { recursive: true, force: true })
  }
}

if (import.meta.main) {
  buildImage()
  console.log(`${path.relative(process.cwd(), imageFile)} is the image ${imageName}. To use it:

  containerd on a node    ctr -n k8s.io images import ${path.relative(process.cwd(), imageFile)}
  the local cluster       scripts/cluster load
  a registry of yours     docker load -i ${path.relative(process.cwd(), imageFile)}
                          docker tag ${imageName} REGISTRY/${imageName} && docker push REGISTRY/${imageName}
                          and in a kustomization over deploy/:  images: [{ name: volbridge/volbridge, newName: REGISTRY/volbridge/volbridge }]`)
}
