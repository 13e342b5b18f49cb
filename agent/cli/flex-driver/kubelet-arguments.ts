/**
 * What a kubelet was told: its arguments and configuration files.
 *
 * Owns how kubelet ranks them: `--volume-plugin-dir` first, then `volumePluginDir` of `--config-dir` and `--config`
 * (k8s cmd/kubelet/app/server.go), and how distributions hand them on. Does not know processes. A file is read only
 * if root wrote it, is one (no pipe), and is not too long: what cannot be read so is told and not taken for the
 * default.
 */
import path from 'node:path'
import { VolumeError } from '../../base/errors.ts'
import { kubeletFileBytesMax } from '../../base/limits.ts'
import { RootFolder, readRootFile } from '../../host/root-folder.ts'

/** kubelet's own default (k8s pkg/kubelet/apis/config/v1beta1/defaults.go). */
export const defaultPluginDir = '/usr/libexec/kubernetes/kubelet-plugins/volume/exec'
/** What k3s and RKE2 give their kubelet when nothing else is said. */
const rancherPluginDir = '/var/lib/kubelet/volumeplugins'

interface Found {
  readonly value: string
  readonly reason: string
}

/** `--name value` and `--name=value`; the last one counts, as with Go's flags. */
export function flagOf (args: readonly string[], name: string): string | undefined {
  let found: string | undefined
  for (const [at, arg] of args.entries()) {
    if (arg === `--${name}` || arg === `-${name}`) found = args[at + 1] ?? found
    for (const lead of [`--${name}=`, `-${name}=`]) if (arg.startsWith(lead)) found = arg.slice(lead.length)
  }
  return found
}

/** One string at the top of a JSON or YAML document. */
export function topLevelString (text: string, key: string): string | undefined {
  if (text.trimStart().startsWith('{')) {
    try {
      const value = (JSON.parse(text) as Record<string, unknown>)[key]
      return typeof value === 'string' && value !== '' ? value : undefined
    } catch {
      // Flow-style YAML that is no JSON: not found here is told as "default", and --plugin-dir remains.
      return undefined
    }
  }
  const found = new RegExp(`^${key}:[ \\t]*(?:"([^"]*)"|'([^']*)'|([^\\s#]+))`, 'm').exec(text)
  const value = found?.[1] ?? found?.[2] ?? found?.[3]
  return value === undefined || value === '' ? undefined : value
}

/**
 * Missing is undefined: kubelet would not run, or has its defaults. @throws VolumeError for what root must not read.
 */
const readOn = (node: RootFolder, file: string): string | undefined => readRootFile(file, kubeletFileBytesMax, node)

function listOn (node: RootFolder, folder: string): readonly string[] {
  const opened = RootFolder.openIfThere(folder, { base: node })
  try {
    return opened?.names().sort() ?? []
  } finally {
    opened?.close()
  }
}

function fromConfiguration (args: readonly string[], node: RootFolder): Found | undefined {
  const folder = flagOf(args, 'config-dir')
  // Later drop-ins override earlier ones, and all of them the file.
  const dropIns = folder === undefined
    ? []
    : listOn(node, folder).filter((name) => name.endsWith('.conf')).map((name) => path.posix.join(folder, name))
      .reverse()
  const file = flagOf(args, 'config')
  for (const candidate of [...dropIns, ...file === undefined ? [] : [file]]) {
    const value = topLevelString(readOn(node, candidate) ?? '', 'volumePluginDir')
    if (value !== undefined) return { value, reason: `volumePluginDir in ${candidate}` }
  }
  return undefined
}

/** k3s and RKE2 take kubelet's arguments as `--kubelet-arg` and from their own configuration file. */
function rancherArguments (args: readonly string[], node: RootFolder): string[] {
  const given = args.flatMap((arg, at) =>
    arg === '--kubelet-arg'
      ? [args[at + 1] ?? '']
      : arg.startsWith('--kubelet-arg=')
      ? [arg.slice('--kubelet-arg='.length)]
      : []
  )
  const text = ['/etc/rancher/k3s/config.yaml', '/etc/rancher/rke2/config.yaml'].map((file) => readOn(node, file) ?? '')
    .join('\n')
  const written = [...text.matchAll(/["'\s]((?:volume-plugin-dir|config|config-dir|root-dir)=[^"'\s]+)/g)].map(
    ([, argument = '']) => argument
  )
  return [...written, ...given].map((argument) => `--${argument}`)
}

interface Shape {
  readonly args: (argv: readonly string[], node: RootFolder) => readonly string[]
  readonly fallback: Found
}

const own: Found = { value: defaultPluginDir, reason: 'kubelet\'s default' }
const plain: Shape = { args: (argv) => argv.slice(1), fallback: own }
const rancher: Shape = {
  args: (argv, node) => rancherArguments(argv, node),
  fallback: { value: rancherPluginDir, reason: 'the default of k3s' }
}
const microk8s: Shape = {
  args: (argv, node) => (readOn(node, flagOf(argv, 'kubelet-args-file') ?? '/') ?? '').split(/\s+/), fallback: own
}

/** A program's file may carry its version. */
const kubeletName = /^kubelet(?:[-_.]?v?\d.*)?$/

/** Whether a program of this name may be a kubelet. Names are where looking begins, and prove nothing. */
export const mayBeKubelet = (program: string): boolean =>
  kubeletName.test(program) || ['hyperkube', 'k3s', 'kubelite'].includes(program)

function shapeOf (program: string, argv: readonly string[]): Shape | undefined {
  if (kubeletName.test(program)) return plain
  if (program === 'hyperkube' && argv[1] === 'kubelet') return plain
  if (program === 'k3s' && (argv[1] === 'server' || argv[1] === 'agent')) return rancher
  return program === 'kubelite' ? microk8s : undefined
}

/** The folder as kubelet spells it and where that was found, or why it cannot be known. */
export type ToldFolder = { readonly path: string, readonly reason: string } | { readonly problem: string }

function toldBy ({ args: argsOf, fallback }: Shape, argv: readonly string[], node: RootFolder): Found {
  const args = argsOf(argv, node)
  const flag = flagOf(args, 'volume-plugin-dir')
  if (flag !== undefined && flag !== '') return { value: flag, reason: '--volume-plugin-dir' }
  return fromConfiguration(args, node) ?? fallback
}

/** What the command line of a program says, or undefined when it is no kubelet's. */
export function toldPluginFolder (program: string, argv: readonly string[], node: RootFolder): ToldFolder | undefined {
  const shape = shapeOf(program, argv)
  if (shape === undefined) return undefined
  try {
    const { value, reason } = toldBy(shape, argv, node)
    return { path: path.posix.normalize(value).replace(/(?<=.)\/$/, ''), reason }
  } catch (error) {
    if (error instanceof VolumeError) return { problem: error.message }
    throw error
  }
}
