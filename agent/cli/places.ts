/**
 * Folders and sockets of an agent.
 *
 * Owns the defaults, where they may come from (an option, the environment), what is refused, and making the folders.
 */
import path from 'node:path'
import { parseAbsolutePath } from '../base/brands.ts'
import { VolumeError, messageOf } from '../base/errors.ts'
import { makePrivateFolder } from '../host/files.ts'

export interface Places {
  /** Journal, shared mounts, addon, log: survives a reboot. */
  readonly stateDir: string
  /** Sockets: may be empty after a reboot. */
  readonly runDir: string
  readonly agentSocket: string
  /** The agent's pages, for root: `ssh -L 9810:RUN-DIR/http.sock NODE`. */
  readonly httpSocket: string
  /** Log of an agent that nobody started by hand. */
  readonly logFile: string
}

export interface PlaceOptions {
  readonly stateDir?: string | undefined
  readonly runDir?: string | undefined
  readonly agentSocket?: string | undefined
}

type Environment = Readonly<Record<string, string | undefined>>

function choose (
  option: string | undefined,
  flag: string,
  environment: Environment,
  variable: string,
  fallback: string
): string {
  if (option !== undefined) return parseAbsolutePath(option, flag)
  const told = environment[variable]
  return told === undefined || told === '' ? fallback : parseAbsolutePath(told, variable)
}

/** @throws VolumeError INVALID naming the option or variable. */
export function choosePlaces ({ stateDir, runDir, agentSocket }: PlaceOptions, environment: Environment): Places {
  const state = choose(stateDir, '--state-dir', environment, 'VOLBRIDGE_STATE_DIR', '/var/lib/volbridge')
  const run = choose(runDir, '--run-dir', environment, 'VOLBRIDGE_RUN_DIR', '/run/volbridge')
  return {
    stateDir: state,
    runDir: run,
    agentSocket: agentSocket === undefined
      ? path.join(run, 'agent.sock')
      : parseAbsolutePath(agentSocket, '--agent-socket'),
    httpSocket: path.join(run, 'http.sock'),
    logFile: path.join(state, 'agent.log')
  }
}

/** Makes both folders. @throws VolumeError INVALID naming the option and the folder. */
export async function makePlaces ({ stateDir, runDir }: Places): Promise<void> {
  for (const [option, folder] of [['--state-dir', stateDir], ['--run-dir', runDir]] as const) {
    try {
      await makePrivateFolder(folder)
    } catch (error) {
      throw new VolumeError('INVALID', `${option}: the folder ${folder} can't be made or used: ${messageOf(error)}`, {
        cause: error, field: option,
        remedy: 'give one on a local file system that root can write, with the option or its environment variable'
      })
    }
  }
}
