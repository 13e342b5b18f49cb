/**
 * The command line, composed: what each command is given.
 *
 * Owns the wiring of commands to the agent's client, and what is printed where. Roles with much to load are imported by
 * their command.
 */
import { runCommandLine } from '../cli/arguments.ts'
import type { Commands, Output, PlaceOptions, StatusOptions } from '../cli/arguments.ts'
import { findAgent, openAgent } from '../cli/agent-process.ts'
import { examine, formatFindings } from '../cli/doctor.ts'
import { runFlexInstall, runFlexUninstall } from './flex-driver.ts'
import { mountByHand, requireMountRights, unmountByHand } from '../cli/mount.ts'
import { consentArguments } from '../cli/consents.ts'
import { chooseCpuLatency } from '../cli/cpu-latency.ts'
import { readinessOf } from '../cli/node-view.ts'
import { choosePlaces } from '../cli/places.ts'
import type { Places } from '../cli/places.ts'
import { parseMountArguments } from '../cli/source.ts'
import { formatStatus } from '../cli/status.ts'
import { loadAddon } from '../host/addon.ts'
import { allAgentCapabilities, foregroundCapabilities, keepOnly } from '../host/agent-power.ts'
import { parseVolumeSpec } from '../volumes/spec/spec.ts'
import { ownProgram } from './program.ts'
import { version } from './version.ts'
import type { CsiClient } from '../../proto/csi/client.ts'

const output: Output = {
  out: (text) => { process.stdout.write(text) },
  err: (text) => { process.stderr.write(text) }
}

const placesOf = (options: PlaceOptions): Places => choosePlaces(options, process.env)
const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`

/** Shorter than the time that a probe of Kubernetes usually has. */
const probeMs = 5000

/** An agent that hangs answers late: that is not alive. */
async function probe (agent: CsiClient, { ready: mustBeReady }: StatusOptions): Promise<number> {
  const { ready, reason, httpError } = await readinessOf(agent, probeMs)
  if (httpError !== '') output.err(`volbridge: HTTP is not served: ${httpError}\n`)
  if (ready || !mustBeReady) return 0
  output.err(`volbridge: not ready: ${reason}\n`)
  return 1
}

const commands: Commands = {
  agent: async (options) => {
    // Before the rest is loaded: it may be loaded again.
    const power = keepOnly(allAgentCapabilities, loadAddon)
    const { runAgent } = await import('./agent.ts')
    return await runAgent(options, placesOf(options), power)
  },
  mount: async (source, directory, options) => {
    const attributes = parseMountArguments(source, options.options)
    // Parsed here as well, so that a wrong option is told before an agent is started for it.
    const spec = parseVolumeSpec(attributes)
    requireMountRights(spec.client)
    if (options.foreground) {
      const power = keepOnly(foregroundCapabilities, loadAddon)
      if (power !== undefined) output.err(`volbridge: the process ${power}\n`)
      const { mountInForeground } = await import('./foreground.ts')
      return await mountInForeground(spec, directory, output)
    }
    const agent = await openAgent({
      places: placesOf(options), program: ownProgram(), cpuLatency: () => chooseCpuLatency(undefined, process.env),
      consents: () => consentArguments(process.env)
    })
    try {
      await mountByHand(agent, attributes, directory)
    } finally {
      agent.close()
    }
    return 0
  },
  unmount: async (directory, options) => {
    const agent = await findAgent(placesOf(options))
    try {
      const lostBytes = await unmountByHand(agent, directory, options.force)
      if (lostBytes === 0) return 0
      output.err(
        `volbridge: ${lostBytes} bytes that programs had written could not be saved: the server did not take them in time\n`
      )
      return 1
    } finally {
      agent.close()
    }
  },
  status: async (options) => {
    const agent = await findAgent(placesOf(options))
    try {
      if (options.live || options.ready) return await probe(agent, options)
      const status = await agent.call('Agent', 'Status', {}, { deadlineMs: 10_000 })
      output.out(options.json ? json(status) : formatStatus(status))
      return 0
    } finally {
      agent.close()
    }
  },
  doctor: async (options) => {
    const findings = await examine({ places: placesOf(options), kubeletDir: options.kubeletDir })
    output.out(options.json ? json(findings) : formatFindings(findings))
    return findings.some(({ verdict }) => verdict === 'failed') ? 1 : 0
  },
  flexInstall: async (options) => await runFlexInstall(options, output),
  flexUninstall: async (options) => await runFlexUninstall(options, placesOf(options), output)
}

export async function runCommands (args: readonly string[]): Promise<number> {
  return await runCommandLine(args, version, commands, output)
}
