/**
 * Two agents and one state folder: who goes on.
 *
 * Owns the rule, and asking the agent that is there. Does not know how an agent ends: sessions and mounts stay in any
 * case, and the successor finds them again.
 */
import { VolumeError, messageOf } from '../base/errors.ts'
import type { Places } from '../cli/places.ts'
import { CallError, CsiClient } from '../../proto/csi/client.ts'
import { loadServices } from '../../proto/csi/load.ts'

export interface Contender {
  readonly version: string
  /** Started to stay (DaemonSet, systemd), and not by a Flex call or `volbridge mount` for as long as it is needed. */
  readonly stays: boolean
}

const askMs = 5000
/** gRPC's number of a method that is not there: an agent from before the question existed. */
const UNIMPLEMENTED = 12
/** gRPC's number of a connection that was lost: whoever was asked has just gone. */
const UNAVAILABLE = 14

/** Semantic versioning's order; a pre-release is before its release. Pre-releases of one version are ordered as
 * texts. */
export function compareVersions (a: string, b: string): number {
  const [left, right] = [a, b].map((text) => {
    const [core = '', ...rest] = (text.split('+')[0] ?? '').split('-')
    return { numbers: core.split('.').map((part) => Number.parseInt(part, 10) || 0), label: rest.join('-') }
  })
  if (left === undefined || right === undefined) return 0
  for (let n = 0; n < 3; n++) {
    const difference = (left.numbers[n] ?? 0) - (right.numbers[n] ?? 0)
    if (difference !== 0) return Math.sign(difference)
  }
  if (left.label === right.label) return 0
  if (left.label === '' || right.label === '') return left.label === '' ? 1 : -1
  return left.label < right.label ? -1 : 1
}

/**
 * A newer agent takes over from an older one. Of two equal ones the agent that stays takes over from one that is only
 * there while it is needed; the reverse never happens, whatever the versions, because the agent that stays may serve
 * CSI.
 */
export function isSuccessor (newcomer: Contender, incumbent: Contender): boolean {
  if (incumbent.stays && !newcomer.stays) return false
  const order = compareVersions(newcomer.version, incumbent.version)
  return order > 0 || (order === 0 && newcomer.stays && !incumbent.stays)
}

/** Whether the agent there has agreed to end; false when it was gone before it answered. @throws VolumeError CONFLICT
 * when it goes on, with both versions. */
export async function askToHandOver (places: Places, self: Contender): Promise<boolean> {
  const client = new CsiClient(loadServices(), places.agentSocket)
  try {
    const { accepted, version, pid } = await client.call('Agent', 'HandOver', self, { deadlineMs: askMs })
    if (accepted) return true
    throw new VolumeError(
      'CONFLICT',
      `agent ${version} (pid ${pid}) works with the state folder ${places.stateDir} and goes on; this is ${self.version}`,
      {
        remedy:
          'one agent a node: only a newer one takes over; stop the other, or give this one a --state-dir and --run-dir of its own'
      }
    )
  } catch (error) {
    if (error instanceof VolumeError) throw error
    if (error instanceof CallError && error.code === UNAVAILABLE && !error.agentAnswered) return false
    const why = error instanceof CallError && error.code === UNIMPLEMENTED
      ? 'it is of a version that cannot hand over'
      : messageOf(error)
    throw new VolumeError(
      'CONFLICT',
      `another agent works with the state folder ${places.stateDir}, and does not hand over: ${why}`,
      { cause: error, remedy: 'stop it' }
    )
  } finally {
    client.close()
  }
}
