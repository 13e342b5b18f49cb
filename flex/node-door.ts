/**
 * The agent as the Flex door sees it. Owns the border: what is called, and what finding an agent means. Does not know
 * how one is found or started (agent/cli), nor what the calls are for.
 */
import type { CallOptions } from '../proto/csi/client.ts'
import type { MethodName, RequestOf, ResponseOf } from '../proto/csi/types.ts'

/** An open agent, as much of it as this door uses. */
export interface NodeDoor {
  call<M extends MethodName<'Node'>> (
    service: 'Node',
    method: M,
    request: Partial<RequestOf<'Node', M>>,
    options: CallOptions
  ): Promise<ResponseOf<'Node', M>>
  close (): void
}
/** Finds the node's agent or starts one. @throws with a sentence for an operator. */
export type OpenAgent = () => Promise<NodeDoor>
