/**
 * A folder as a container image in one tar file ("docker-archive"), which docker, podman and containerd load without a
 * registry.
 *
 * Owns the layout: one layer, its configuration, a manifest (the image specification of Docker 1.2). Does not know what
 * is in the folder. The same folder gives the same bytes: times, owners and order are fixed.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'

export interface ImageOptions {
  /** With its tag: `volbridge/volbridge:1.2.3`. */
  readonly name: string
  readonly rootfs: string
  readonly entrypoint: readonly string[]
  readonly environment: readonly string[]
  readonly labels: Readonly<Record<string, string>>
  /** As the image specification calls it: `amd64`, `arm64`. */
  readonly architecture: string
}

function tar (folder: string, output: string, names: readonly string[]): void {
  execFileSync('tar', [
    '--create', '--file', output, '--directory', folder, '--sort=name', '--mtime=@0', '--owner=0', '--group=0',
    '--numeric-owner', '--format=gnu', ...names
  ])
}

/** Writes the archive; it is there under its name only when it is whole. */
export function writeImage (options: ImageOptions, output: string): void {
  mkdirSync(path.dirname(output), { recursive: true })
  const work = mkdtempSync(`${output}.work-`)
  try {
    tar(options.rootfs, path.join(work, 'layer.tar'), ['.'])
    const layer = createHash('sha256').update(readFileSync(path.join(work, 'layer.tar'))).digest('hex')
    const config = JSON.stringify({
      architecture: options.architecture,
      os: 'linux',
      created: '1970-01-01T00:00:00Z',
      config: { Entrypoint: options.entrypoint, Env: options.environment, Labels: options.labels },
      rootfs: { type: 'layers', diff_ids: [`sha256:${layer}`] },
      history: [{ created: '1970-01-01T00:00:00Z', created_by: 'scripts/image' }]
    })
    const configName = `${createHash('sha256').update(config).digest('hex')}.json`
    writeFileSync(path.join(work, configName), config)
    writeFileSync(
      path.join(work, 'manifest.json'),
      JSON.stringify([{ Config: configName, RepoTags: [options.name], Layers: ['layer.tar'] }])
    )
    const whole = path.join(work, 'image.tar')
    tar(work, whole, ['manifest.json', configName, 'layer.tar'])
    renameSync(whole, output)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}
