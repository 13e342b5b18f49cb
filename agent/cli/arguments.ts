/**
 * The command line: which commands there are, their options, and what a wrong one is told.
 *
 * Owns the only use of the parser library. Does not know what the commands do: they are given.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { VolumeError } from '../base/errors.ts'
import { ephemeralVolumesPerNodeMax, volumesPerNodeMax } from '../base/limits.ts'
import { cpuLatencyChoices, type CpuLatencyChoice } from '../host/cpu-latency.ts'
import { logLevels } from '../observe/log.ts'
import type { LogLevel } from '../observe/log.ts'
import { CallError } from '../../proto/csi/client.ts'
import type { ConsentOptions } from './consents.ts'
import { defaultDriver, kernelDriverOf } from './flex-driver/driver-name.ts'
import type { DriverOptions } from './flex-driver/install.ts'
import type { PlaceOptions } from './places.ts'

export type { PlaceOptions }

export interface AgentOptions extends PlaceOptions, ConsentOptions {
  /** `[NAMESPACE=]SERVER[:/SHARE]` each. */
  readonly ephemeralAllow: readonly string[]
  readonly ephemeralMax: number
  readonly maxVolumes: number
  readonly csiEndpoint?: string
  readonly csiHealth: boolean
  readonly nodeId?: string
  readonly kubeletDir: string
  readonly driverName: string
  /** `/proc/N/ns` of a process of the node, when the agent lives in a container. */
  readonly hostNs?: string
  readonly listen?: string
  readonly httpTokenFile?: string
  readonly httpTokenReview: boolean
  /** On SIGTERM kubelet is to forget the driver. */
  readonly deregisterOnExit: boolean
  readonly cpuLatency?: CpuLatencyChoice
  readonly logLevel: LogLevel
  readonly logFile?: string
  /** Seconds without a volume and a call; undefined: stay. */
  readonly leaveWhenIdle?: number
}
export interface MountOptions extends PlaceOptions { readonly options: readonly string[], readonly foreground: boolean }
export interface UnmountOptions extends PlaceOptions { readonly force: boolean }
export interface ReportOptions extends PlaceOptions { readonly json: boolean }
/** `live`, `ready`: a probe's question, answered by the exit code. */
export interface StatusOptions extends ReportOptions { readonly live: boolean, readonly ready: boolean }
export interface DoctorOptions extends ReportOptions { readonly kubeletDir: string }
export interface FlexDriverOptions extends ReportOptions, DriverOptions {}
export interface FlexInstallOptions extends FlexDriverOptions {
  /** Also the driver for `client=kernel`. */
  readonly kernel: boolean
  /** Seconds between two looks; undefined: install and end. */
  readonly watch?: number
}

/** Each answers the exit code. */
export interface Commands {
  agent (options: AgentOptions): Promise<number>
  mount (source: string, directory: string, options: MountOptions): Promise<number>
  unmount (directory: string, options: UnmountOptions): Promise<number>
  status (options: StatusOptions): Promise<number>
  doctor (options: DoctorOptions): Promise<number>
  flexInstall (options: FlexInstallOptions): Promise<number>
  flexUninstall (options: FlexDriverOptions): Promise<number>
}

export interface Output {
  out (text: string): void
  err (text: string): void
}

export const defaultDriverName = 'csi.volbridge.io'
export const defaultKubeletDir = '/var/lib/kubelet'

const exitUsage = 2

function withPlaces (command: Command): Command {
  return command
    .addOption(
      new Option('--state-dir <dir>', 'journal and shared mounts (VOLBRIDGE_STATE_DIR; default /var/lib/volbridge)')
    )
    .addOption(new Option('--run-dir <dir>', 'sockets (VOLBRIDGE_RUN_DIR; default /run/volbridge)'))
    .addOption(new Option('--agent-socket <path>', 'the agent\'s own socket (default RUN-DIR/agent.sock)'))
}

const collect = (value: string, before: readonly string[]): readonly string[] => [...before, value]

function parseSeconds (text: string): number {
  const seconds = Number(text)
  if (!/^\d{1,7}$/.test(text) || seconds === 0) throw new InvalidArgumentError('It takes a number of seconds.')
  return seconds
}

function parseCount (text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) === 0) {
    throw new InvalidArgumentError('It takes a number from 1 to 99999.')
  }
  return Number(text)
}

/** What a volume may ask for, and how many there may be. */
function withPolicy (command: Command): Command {
  return command
    .addOption(
      new Option(
        '--ephemeral-allow <rule>',
        'inline (ephemeral) CSI volumes of this share: [NAMESPACE=]SERVER[:/SHARE], or SERVER:/FOLDER/* for every share below; may be given several times. Without it there are none'
      ).argParser(collect).default([])
    )
    .addOption(
      new Option('--ephemeral-max <n>', 'inline volumes of this node').argParser(parseCount)
        .default(ephemeralVolumesPerNodeMax)
    )
    .addOption(
      new Option('--max-volumes <n>', 'volumes of this node, also for the scheduler').argParser(parseCount)
        .default(volumesPerNodeMax)
    )
    .addOption(
      new Option(
        '--allow-suid-dev',
        'allow the mount options suid and dev, which let a share decide what runs as root here (VOLBRIDGE_ALLOW_SUID_DEV=1)'
      ).default(false)
    )
    .addOption(
      new Option(
        '--trust-flex-options',
        'options of Flex volumes are an administrator\'s: pods cannot name flexVolumes themselves (VOLBRIDGE_TRUST_FLEX_OPTIONS=1)'
      ).default(false)
    )
}

/** What a command answered, so that the caller can exit with it. */
interface Result { code: number }

function addAgent (program: Command, commands: Commands, result: Result): void {
  withPolicy(withPlaces(
    program.command('agent').description(
      'Serve this node: CSI when an endpoint is given, Flex and `volbridge mount` always.'
    )
  ))
    .addOption(new Option('--csi-endpoint <endpoint>', 'unix:///PATH of the CSI socket; also registers with kubelet'))
    .addOption(
      new Option(
        '--csi-health',
        'serve NodeGetVolumeHealth and NodeGetStorageHealth (CSI 1.13); tools of older versions may refuse a driver that has them'
      ).default(false)
    )
    .addOption(new Option('--node-id <name>', 'this node\'s name in Kubernetes (default: the host name)'))
    .addOption(new Option('--kubelet-dir <dir>', 'kubelet\'s root folder').default(defaultKubeletDir))
    .addOption(new Option('--driver-name <name>', 'CSI driver name').default(defaultDriverName))
    .addOption(
      new Option(
        '--host-ns <folder>',
        'in a container with hostPID: /proc/1/ns. Mounts and sessions are then made on the node and outlive the container'
      )
    )
    .addOption(
      new Option(
        '--listen <address>',
        'HOST:PORT, or a PORT of 127.0.0.1, for /healthz, /readyz, /metrics, and with a token a page to look at (/, /status.json)'
      )
    )
    .addOption(
      new Option(
        '--http-token-file <path>',
        'a file of root\'s, mode 0600, with the bearer token that opens / and /status.json'
      )
    )
    .addOption(
      new Option(
        '--http-token-review',
        'in a pod: / and /status.json are for tokens whose owners RBAC allows to get the nonResourceURL /status.json'
      ).default(false)
    )
    .addOption(
      new Option(
        '--deregister-on-exit',
        'on SIGTERM take kubelet\'s registration away, as a pod should that may not come back'
      ).default(false)
    )
    .addOption(
      new Option(
        '--cpu-latency <how>',
        'auto: in a virtual machine of up to 4 CPUs that halts idle ones at once they stay awake while a volume is busy; off: they sleep as the kernel decides. For volumes mounted from now on (VOLBRIDGE_CPU_LATENCY; default auto)'
      ).choices([...cpuLatencyChoices])
    )
    .addOption(new Option('--log-level <level>').choices([...logLevels]).default('info'))
    .addOption(new Option('--log-file <path>', 'write the log there instead of standard error'))
    .addOption(
      new Option(
        '--leave-when-idle [seconds]',
        'end so long after the last volume and call (as the agents that Flex and mount start do)'
      ).preset('300').argParser(parseSeconds)
    )
    .action(async (options: AgentOptions) => { result.code = await commands.agent(options) })
}

function addMounts (program: Command, commands: Commands, result: Result): void {
  withPlaces(program.command('mount').description('Mount an NFS share on a folder.'))
    .argument('<source>', 'host:/path or nfs://host[:port]/path')
    .argument('<dir>', 'an empty folder')
    .addOption(
      new Option('-o, --options <list>', 'nfs(5) options and volume attributes, comma separated').argParser(collect)
        .default([])
    )
    .addOption(
      new Option('--foreground', 'serve the mount in this process until Ctrl-C; nobody looks after it').default(false)
    )
    .action(async (source: string, directory: string, options: MountOptions) => {
      result.code = await commands.mount(source, directory, options)
    })
  withPlaces(
    program.command('unmount').alias('umount').description('Detach a folder that was mounted with `volbridge mount`.')
  )
    .argument('<dir>')
    .addOption(
      new Option('--force', 'give up unsaved data of a server that is away; also take a pod\'s mount').default(false)
    )
    .action(async (directory: string, options: UnmountOptions) => {
      result.code = await commands.unmount(directory, options)
    })
}

function addReports (program: Command, commands: Commands, result: Result): void {
  withPlaces(program.command('status').description('Show every volume of this node\'s agent.'))
    .addOption(
      new Option('--json', 'the same and more as JSON: StatusResponse of proto/csi/agent.proto').default(false)
    )
    .addOption(new Option('--live', 'only whether the agent answers: exit code 0, else 1 (a probe)').default(false))
    .addOption(
      new Option('--ready', 'only whether a kubelet could use it: exit code 0, else 1 with the reason (a probe)')
        .default(false)
    )
    .action(async (options: StatusOptions) => { result.code = await commands.status(options) })
  withPlaces(program.command('doctor').description('Say what this node can and cannot do, and what to do about it.'))
    .addOption(new Option('--json').default(false))
    .addOption(new Option('--kubelet-dir <dir>', 'kubelet\'s root folder').default(defaultKubeletDir))
    .action(async (options: DoctorOptions) => { result.code = await commands.doctor(options) })
}

function withDriver (command: Command): Command {
  return withPlaces(command)
    .addOption(
      new Option('--driver <vendor/name>', 'what pods call it; may be given several times').argParser(collect).default(
        [],
        defaultDriver
      )
    )
    .addOption(
      new Option(
        '--plugin-dir <dir>',
        'kubelet\'s volume plugin folder (default: asked of the running kubelet, else a known place)'
      )
    )
    .addOption(
      new Option('--host-root <dir>', 'where the node\'s / is, when this runs in a container').default('/').argParser(
        parseRoot
      )
    )
    .addOption(new Option('--json').default(false))
}

/** Without a trailing slash, so that paths can be appended. */
function parseRoot (text: string): string {
  if (!text.startsWith('/')) throw new InvalidArgumentError('It takes an absolute path.')
  return text.replace(/\/+$/, '') || '/'
}

const withDefaultDriver = <T extends DriverOptions>(options: T): T =>
  options.driver.length > 0 ? options : { ...options, driver: [defaultDriver] }

function addFlexDriver (program: Command, commands: Commands, result: Result): void {
  withDriver(
    program.command('flex-install').description(
      'Install this binary as FlexVolume driver of the node\'s kubelet, or upgrade it.'
    )
  )
    .addOption(
      new Option(
        '--kernel',
        'also install VENDOR/NAME-kernel, the driver for client=kernel, whose mounts kubelet does not ask for statistics'
      ).default(false)
    )
    .addOption(
      new Option(
        '--watch [seconds]',
        'keep it in place until ended, looking every 30 seconds unless told, as deploy/flex does'
      ).preset('30').argParser(parseSeconds)
    )
    .action(async (options: FlexInstallOptions) => {
      const chosen = withDefaultDriver(options)
      result.code = await commands.flexInstall(
        chosen.kernel
          ? { ...chosen, driver: [...new Set([...chosen.driver, ...chosen.driver.map(kernelDriverOf)])] }
          : chosen
      )
    })
  withDriver(
    program.command('flex-uninstall').description(
      'Remove the FlexVolume driver, and the one for client=kernel beside it. Mounts that are up stay up.'
    )
  )
    .action(async (options: FlexDriverOptions) => {
      result.code = await commands.flexUninstall(withDefaultDriver(options))
    })
}

/** Runs one command line. 0 done, 1 failed, 2 wrong usage. */
export async function runCommandLine (
  argv: readonly string[],
  version: string,
  commands: Commands,
  output: Output
): Promise<number> {
  const result: Result = { code: 0 }
  const program = new Command('volbridge')
    .description('Network storage for pods: CSI, FlexVolume, or by hand.')
    .version(version, '-V, --version')
    .configureOutput({ writeOut: output.out, writeErr: output.err })
    .showSuggestionAfterError()
    .showHelpAfterError('(volbridge --help lists the commands)')
    .exitOverride()
  program.command('version').description('Print the version.').action(() => { output.out(`${version}\n`) })
  program.command('flex').description('Answer a FlexVolume call-out, as in a vendor~driver/ folder.').argument('<call>')
    .argument('[arguments...]')
  addAgent(program, commands, result)
  addMounts(program, commands, result)
  addReports(program, commands, result)
  addFlexDriver(program, commands, result)
  for (const command of program.commands) command.exitOverride().allowExcessArguments(false)
  try {
    await program.parseAsync([...argv], { from: 'user' })
    return result.code
  } catch (error) {
    // Asking for help is no error; anything else the parser says is wrong usage, and it has said so already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : exitUsage
    if (!(error instanceof Error)) throw error
    // Which call the agent was asked with is nothing to a person; its sentence is.
    output.err(`volbridge: ${error instanceof CallError && error.agentAnswered ? error.details : error.message}\n`)
    return error instanceof VolumeError && error.code === 'INVALID' ? exitUsage : 1
  }
}
