/**
 * What the doctor sees of the node and its agent from where it runs.
 *
 * Owns whether that is a container, and asking the agent how it is. Does not know what is made of it.
 */
import { readlinkSync } from 'node:fs'
import { messageOf } from '../base/errors.ts'
import { readMountinfoSync, type Mountinfo } from '../host/mountinfo.ts'
import { CallError, CsiClient } from '../../proto/csi/client.ts'
import { loadServices } from '../../proto/csi/load.ts'
import type { ResponseOf } from '../../proto/csi/types.ts'

export const isShared = ({ tags }: { readonly tags: readonly string[] }): boolean =>
  tags.some((tag) => tag.startsWith('shared:'))

/** What is mounted on the node, when this is a container that sees the node's processes (hostPID); else undefined. */
export function mountsOfNode (): Mountinfo | undefined {
  try {
    if (readlinkSync('/proc/1/ns/mnt') === readlinkSync('/proc/self/ns/mnt')) return undefined
    return readMountinfoSync('/proc/1/mountinfo')
  } catch {
    // Not root: other checks say so.
    return undefined
  }
}

const readyMs = 3000

/** gRPC's number of a method that is not there: an agent from before the question existed lives and serves. */
const UNIMPLEMENTED = 12
const ofEarlierVersion: ResponseOf<'Agent', 'Ready'> = { ready: true, reason: '', http: '', httpError: '' }

/** The agent's answer. @throws CallError when it does not answer. */
export async function readinessOf (agent: CsiClient, deadlineMs: number): Promise<ResponseOf<'Agent', 'Ready'>> {
  try {
    return await agent.call('Agent', 'Ready', {}, { deadlineMs })
  } catch (error) {
    if (error instanceof CallError && error.code === UNIMPLEMENTED) return ofEarlierVersion
    throw error
  }
}

/** The agent's answer, or why there is none. */
export async function askReady (agentSocket: string): Promise<ResponseOf<'Agent', 'Ready'> | string> {
  const agent = new CsiClient(loadServices(), agentSocket)
  try {
    return await readinessOf(agent, readyMs)
  } catch (error) {
    return messageOf(error)
  } finally {
    agent.close()
  }
}
