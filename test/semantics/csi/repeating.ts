/**
 * kubelet's manner with an answer that settles nothing. Owns which those are here: on a machine that is busy enough a
 * forked child does not even look at a path in time, the agent says DEADLINE_EXCEEDED, and kubelet asks again (k8s
 * pkg/volume/csi, isFinalError).
 */
import { status } from '@grpc/grpc-js'
import { pause } from '../../../agent/base/deadline.ts'
import { CallError } from '../../../proto/csi/client.ts'

const pauseMs = 500
const triesMax = 20
const unsettled: ReadonlySet<number> = new Set([status.DEADLINE_EXCEEDED, status.ABORTED])

export async function repeating<T> (call: () => Promise<T>): Promise<T> {
  for (let tries = 1;; tries++) {
    try {
      return await call()
    } catch (error) {
      if (!(error instanceof CallError) || !error.agentAnswered || !unsettled.has(error.code) || tries === triesMax) {
        throw error
      }
      await pause(pauseMs)
    }
  }
}
