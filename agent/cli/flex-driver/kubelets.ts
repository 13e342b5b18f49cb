/**
 * The kubelets that run on a node, and the plugin folder each was told.
 *
 * Owns reading their arguments and configuration files: `--volume-plugin-dir` first, then `volumePluginDir` of
 * `--config-dir` and `--config`, as kubelet itself ranks them (k8s cmd/kubelet/app/server.go). Does not know what is
 * installed there. Starts nothing.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { onHost } from './host-root.ts'

export interface KubeletFacts {
  readonly pid: number
  /** Its executable's name as started. */
  readonly program: string
  /** As kubelet spells it. */
  readonly pluginDir: string
  /** Where that was found. */
  readonly reason: string
  /** `--root-dir`. */
  readonly rootDir: string
}

/** kubelet's own default (k8s pkg/kubelet/apis/config/v1beta1/defaults.go). */
export const defaultPluginDir = '/usr/libexec/kubernetes/kubelet-plugins/volume/exec'
/** What k3s and RKE2 give their kubelet when nothing else is said. */
const rancherPluginDir = '/var/lib/kubelet/volumeplugins'

interface Found { readonly value: string, readonly reason: string }

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

function readText (file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}

/** A kubelet in a container of its own has its configuration in its own root folder. */
class View {
  readonly #own: string
  readonly #root: string

  constructor (root: string, proc: string, pid: number) {
    this.#own = `${proc}/${pid}/root`
    this.#root = root
  }

  read (file: string): string | undefined {
    return readText(onHost(this.#own, file)) ?? readText(onHost(this.#root, file))
  }

  list (folder: string): readonly string[] {
    for (const root of [this.#own, this.#root]) {
      const at = onHost(root, folder)
      if (existsSync(at)) return readdirSync(at).sort()
    }
    return []
  }
}

function fromConfiguration (args: readonly string[], view: View): Found | undefined {
  const folder = flagOf(args, 'config-dir')
  // Later drop-ins override earlier ones, and all of them the file.
  const dropIns = folder === undefined
    ? []
    : view.list(folder).filter((name) => name.endsWith('.conf')).map((name) => path.posix.join(folder, name)).reverse()
  const file = flagOf(args, 'config')
  for (const candidate of [...dropIns, ...file === undefined ? [] : [file]]) {
    const value = topLevelString(view.read(candidate) ?? '', 'volumePluginDir')
    if (value !== undefined) return { value, reason: `volumePluginDir in ${candidate}` }
  }
  return undefined
}

/** k3s and RKE2 take kubelet's arguments as `--kubelet-arg` and from their own configuration file. */
function rancherArguments (args: readonly string[], view: View): string[] {
  const given = args.flatMap((arg, at) =>
    arg === '--kubelet-arg'
      ? [args[at + 1] ?? '']
      : arg.startsWith('--kubelet-arg=')
      ? [arg.slice('--kubelet-arg='.length)]
      : []
  )
  const text = ['/etc/rancher/k3s/config.yaml', '/etc/rancher/rke2/config.yaml'].map((file) => view.read(file) ?? '')
    .join('\n')
  const written = [...text.matchAll(/["'\s]((?:volume-plugin-dir|config|config-dir|root-dir)=[^"'\s]+)/g)].map(
    ([, argument = '']) => argument
  )
  return [...written, ...given].map((argument) => `--${argument}`)
}

interface Shape {
  readonly args: (argv: readonly string[], view: View) => readonly string[]
  readonly fallback: Found
}

const own: Found = { value: defaultPluginDir, reason: 'kubelet\'s default' }
const plain: Shape = { args: (argv) => argv.slice(1), fallback: own }
const rancher: Shape = {
  args: (argv, view) => rancherArguments(argv, view),
  fallback: { value: rancherPluginDir, reason: 'the default of k3s' }
}
const microk8s: Shape = {
  args: (argv, view) => (view.read(flagOf(argv, 'kubelet-args-file') ?? '') ?? '').split(/\s+/), fallback: own
}

function shapeOf (argv: readonly string[]): Shape | undefined {
  const program = path.posix.basename(argv[0] ?? '')
  if (program === 'kubelet') return plain
  if (program === 'hyperkube' && argv[1] === 'kubelet') return plain
  if (program === 'k3s' && (argv[1] === 'server' || argv[1] === 'agent')) return rancher
  return program === 'kubelite' ? microk8s : undefined
}

/** What one command line says, or undefined when it is no kubelet's. */
function factsOf (root: string, proc: string, pid: number, argv: readonly string[]): KubeletFacts | undefined {
  const shape = shapeOf(argv)
  if (shape === undefined) return undefined
  const view = new View(root, proc, pid)
  const args = shape.args(argv, view)
  const flag = flagOf(args, 'volume-plugin-dir')
  const { value, reason } = flag === undefined || flag === ''
    ? fromConfiguration(args, view) ?? shape.fallback
    : { value: flag, reason: '--volume-plugin-dir' }
  return {
    pid, pluginDir: path.posix.normalize(value).replace(/(?<=.)\/$/, ''), reason: `${reason} of process ${pid}`,
    program: path.posix.basename(argv[0] ?? ''), rootDir: flagOf(args, 'root-dir') ?? '/var/lib/kubelet'
  }
}

/** Every kubelet of the node. In a container this needs the node's /proc: `hostPID: true`, or the node's root with its
 * mounts. */
export function findKubelets (root: string): readonly KubeletFacts[] {
  const proc = root === '/' || !existsSync(`${root}/proc/1`) ? '/proc' : `${root}/proc`
  return readdirSync(proc).filter((name) => /^\d+$/.test(name)).flatMap((name) => {
    const argv = (readText(`${proc}/${name}/cmdline`) ?? '').split('\0').slice(0, -1)
    const facts = factsOf(root, proc, Number(name), argv)
    return facts === undefined ? [] : [facts]
  })
}
