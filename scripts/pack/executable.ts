/**
 * The single executable: Node with the bundle and the native addon inside, made by pkg.
 *
 * Owns the configuration of the executable. pkg's command line forwards only some of its keys and wants to download
 * Node, so pkg's SEA packer is called as a function: it takes the configuration whole and the Node that npm installed.
 * The version of pkg is pinned for that.
 */
import { execFileSync } from 'node:child_process'
import { createRequire } from 'node:module'
import path from 'node:path'

interface SeaConfiguration {
  readonly useCodeCache: boolean
  readonly useSnapshot: boolean
  readonly disableExperimentalSEAWarning: boolean
  readonly execArgv: readonly string[]
  readonly execArgvExtension: 'none' | 'env' | 'cli'
  readonly assets: Readonly<Record<string, string>>
}

interface Packer {
  readonly default: (entry: string, options: {
    readonly targets: readonly { nodeRange: string, platform: 'linux', arch: string, output: string }[]
    readonly nodePath: string
    readonly seaConfig: SeaConfiguration
    readonly signature: boolean
  }) => Promise<void>
}

export interface ExecutableOptions {
  readonly bundle: string
  readonly addon: string
  /** The Node binary that becomes the executable; the same one generates the blob, whose layout changes between
   * versions. */
  readonly node: string
  readonly nodeVersion: string
  readonly arch: string
  readonly output: string
  /** Folder for what is made on the way. */
  readonly work: string
}

export async function packExecutable ({ bundle, addon, node, nodeVersion, arch, output, work }:
  ExecutableOptions): Promise<void>
{
  // Node's local symbols are 18 MB that every node would store and copy; what addons link against is the dynamic table,
  // which stays.
  const stripped = path.join(work, `node-${nodeVersion}-stripped`)
  execFileSync('strip', ['-o', stripped, node])
  const pkg = createRequire(import.meta.url)('@yao-pkg/pkg/lib-es5/sea') as Packer
  await pkg.default(path.resolve(bundle), {
    targets: [{ nodeRange: `node${nodeVersion}`, platform: 'linux', arch, output: path.resolve(output) }],
    nodePath: stripped,
    signature: false,
    seaConfig: {
      // The bytecode of the bundle's top level is made here, not at each start.
      useCodeCache: true,
      useSnapshot: false,
      disableExperimentalSEAWarning: true,
      // kubelet's environment is not ours: without "none" a NODE_OPTIONS of the node ends the process with code 9, or
      // prints, before any JavaScript runs. --no-warnings: a warning on stderr is output too, and a Flex answer must be
      // one JSON on stdout and stderr together.
      // --openssl-config: a broken file that OPENSSL_CONF names would end the process with code 101.
      execArgv: ['--no-warnings', '--openssl-config=/dev/null'],
      execArgvExtension: 'none',
      assets: { 'volbridge.node': path.resolve(addon) }
    }
  })
}
