/**
 * What the author of a pod is told of a server that could not be mounted: that it could not.
 *
 * Owns that rule. kubelet shows an answer as an event to everybody who may look at the pod, and whoever may write a
 * volume into it chooses address and port: a sentence of its own for closed, silent and other services would make the
 * node a scanner of networks that its author cannot reach, and so would the time that each of them takes. The agent's
 * log has the whole reason. Answers of an NFS server about its own shares are told.
 */
import { monotonicMs, pause } from '../base/deadline.ts'
import { VolumeError } from '../base/errors.ts'
import type { VolumeSpec } from '../base/volume-spec.ts'

/** A little longer than one question to a silent address (`agent/nfs/connect.ts`). */
export const discreetMs = 11_000

const revealing: ReadonlySet<string> = new Set(['UNAVAILABLE', 'TIMED_OUT'])

const isRevealing = (error: unknown): error is VolumeError =>
  error instanceof VolumeError && (error.field === 'server' || revealing.has(error.code))

/** @throws what `deed` throws; of a server, always the same, and not before `discreetMs` for each of its addresses. */
export async function discreetly (spec: VolumeSpec, deed: () => Promise<void>, answerMs = discreetMs): Promise<void> {
  const startedMs = monotonicMs()
  try {
    await deed()
  } catch (error) {
    if (!isRevealing(error)) throw error
    await pause(Math.max(0, startedMs + answerMs * spec.target.servers.length - monotonicMs()))
    throw new VolumeError(
      'UNAVAILABLE',
      `server: the share cannot be mounted from ${JSON.stringify(spec.target.servers.join(','))} now`,
      {
        cause: error, field: 'server', remedy: 'ask the operator of the node: the agent\'s log says why'
      }
    )
  }
}
