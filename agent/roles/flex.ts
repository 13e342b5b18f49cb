/**
 * The Flex driver's process, composed.
 *
 * Owns what the Flex door is given: how to find or start the node's agent, loaded only by the calls that need it.
 */
import { answerWith } from '../../flex/answer.ts'
import type { NodeDoor } from '../../flex/node-door.ts'
import { callOut } from '../../flex/callouts.ts'
import type { DriverKind } from '../../flex/personality.ts'

async function openAgentLazily (): Promise<NodeDoor> {
  const [{ openAgent }, { consentArguments }, { chooseCpuLatency }, { choosePlaces }, { ownProgram }] = await Promise
    .all([
      import('../cli/agent-process.ts'), import('../cli/consents.ts'), import('../cli/cpu-latency.ts'),
      import('../cli/places.ts'), import('./program.ts')
    ])
  return await openAgent({
    places: choosePlaces({}, process.env), program: ownProgram(),
    cpuLatency: () => chooseCpuLatency(undefined, process.env), consents: () => consentArguments(process.env)
  })
}

/** Answers one call-out and ends the process. */
export function runFlex (args: readonly string[], kind: DriverKind): void {
  answerWith(() => callOut(args, openAgentLazily, kind))
}
