/**
 * Call-outs as CSI Node calls on the agent's socket.
 *
 * Owns which call becomes which, how long it may take, and what to do when the agent goes away in between.
 * Does not know how an agent is found or started: `openAgent` is given.
 */
import { CallError, doorHeader, unmeasuredHeader } from '../proto/csi/client.ts'
import { messageOf } from '../agent/base/errors.ts'
import { failure } from './answer.ts'
import type { FlexReply } from './answer.ts'
import { decodeMount, decodeUnmount } from './decode.ts'
import type { NodeDoor, OpenAgent } from './node-door.ts'
import type { DriverKind } from './personality.ts'

/** kubelet itself never gives up on a Flex call. The agent answers a mount after at most 110 s, an unmount after about
 * 10. */
const mountMs = 115_000
const unmountMs = 60_000
/** gRPC's status for "no connection". It is also the engine's word for "server away", which the agent marks as its
 * own. */
const UNAVAILABLE = 14

const metadata = { [doorHeader]: 'flex' }

const isLostConnection = (error: unknown): boolean =>
  error instanceof CallError && !error.agentAnswered && error.code === UNAVAILABLE

/** Both calls are idempotent, so one lost with its agent (a restart, an agent that just ended idle) is made once
 * more. */
async function withAgent (openAgent: OpenAgent, call: (agent: NodeDoor) => Promise<unknown>): Promise<void> {
  for (let attempt = 1;; attempt++) {
    const agent = await openAgent()
    try {
      await call(agent)
      return
    } catch (error) {
      if (attempt === 2 || !isLostConnection(error)) throw error
    } finally {
      agent.close()
    }
  }
}

/** gRPC's status for "no such method". */
const UNIMPLEMENTED = 12

/** What the transport says is for programmers: an operator is told whom it is about. */
function detailsOf (error: unknown): string {
  if (!(error instanceof CallError)) return messageOf(error)
  if (error.agentAnswered) return error.details
  if (error.code === UNIMPLEMENTED) {
    return `the node's agent does not know this call, it is of another version (${error.details}): restart it with the version of this driver`
  }
  return `the node's agent does not answer (${error.details}); \`volbridge doctor\` looks at it, and its log says more (STATE-DIR/agent.log, or that of its pod)`
}

/** mount <mount dir> <json options> */
export async function mount (args: readonly string[], openAgent: OpenAgent, kind: DriverKind): Promise<FlexReply> {
  try {
    const request = decodeMount(args, kind)
    const headers = kind === 'kernel' ? { ...metadata, [unmeasuredHeader]: '1' } : metadata
    await withAgent(
      openAgent,
      async (agent) =>
        await agent.call('Node', 'NodePublishVolume', request, { deadlineMs: mountMs, metadata: headers })
    )
    return { status: 'Success' }
  } catch (error) {
    return failure(detailsOf(error))
  }
}

/** unmount <mount dir>. Not mounted, dead or missing is a success: kubelet only wants it gone. */
export async function unmount (args: readonly string[], openAgent: OpenAgent): Promise<FlexReply> {
  try {
    const request = decodeUnmount(args)
    await withAgent(
      openAgent,
      async (agent) => await agent.call('Node', 'NodeUnpublishVolume', request, { deadlineMs: unmountMs, metadata })
    )
    return { status: 'Success' }
  } catch (error) {
    return failure(detailsOf(error))
  }
}
