/**
 * What the agent that runs here may do, as the kernel says it: for the doctor.
 *
 * Owns the words about capabilities that it has beyond its list, and those that it lacks. Does not know how it gave the
 * others away.
 */
import { readFileSync } from 'node:fs'
import { comparePower, type AgentCapability } from '../host/agent-power.ts'
import { connectUnix, peerOf } from '../host/sockets.ts'

const answerMs = 2000

/** What each missing one means, where that is not plain from what it is for. */
const without: Partial<Record<AgentCapability, string>> = {
  SYS_RESOURCE: 'sessions keep their starter\'s oom_score_adj, and may wait for their own dirty pages',
  LINUX_IMMUTABLE: 'a pod without its Flex mount can write to the node\'s disk',
  SYS_PTRACE: 'needed in a container, and where /proc has hidepid',
  SYS_CHROOT: 'needed in a container'
}

/** /proc/PID/status of whoever listens there; undefined when nobody does. */
async function statusOfListener (socketPath: string): Promise<string | undefined> {
  const socket = await connectUnix(socketPath, answerMs).catch(() => undefined)
  if (socket === undefined) return undefined
  const peer = peerOf(socket)
  socket.destroy()
  return peer === undefined ? undefined : readFileSync(`/proc/${peer.pid}/status`, 'utf8')
}

export interface PowerFinding { readonly verdict: 'ok' | 'note', readonly found: string, readonly remedy: string }

export function judgeAgentPower (status: string | undefined): PowerFinding {
  if (status === undefined) return { verdict: 'note', found: 'no agent runs here', remedy: '' }
  const { kept, lacking, excess } = comparePower(status)
  const found =
    `the agent that runs keeps ${kept.length} capabilities (${kept.join(', ')})${excess === 0 ? ' and no other' : ` and ${excess} that it has no use for`}`
  if (excess === 0 && lacking.length === 0) return { verdict: 'ok', found, remedy: '' }
  const lacks = lacking.map((name) => `; without ${name}: ${without[name] ?? 'volumes may fail'}`).join('')
  return {
    verdict: 'note', found: `${found}${lacks}`,
    remedy: excess === 0
      ? 'nothing has to be done if volumes work; else give it what it lacks'
      : 'CAP_SETPCAP lets it give them away, and agents before this version do not'
  }
}

export const agentPower = async (socketPath: string): Promise<PowerFinding> =>
  judgeAgentPower(await statusOfListener(socketPath))
