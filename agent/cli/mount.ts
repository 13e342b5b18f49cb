/**
 * `volbridge mount` and `volbridge unmount` through the node's agent.
 *
 * Owns these two commands' calls and what they check before asking. Does not know mounting.
 */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { realpath } from 'node:fs/promises'
import path from 'node:path'
import { within } from '../base/deadline.ts'
import { VolumeError } from '../base/errors.ts'
import { CallError, doorHeader } from '../../proto/csi/client.ts'
import type { CsiClient } from '../../proto/csi/client.ts'
import type { Attributes } from './source.ts'

const mountMs = 115_000
const unmountMs = 60_000
/** gRPC's number: what the agent answers when the volume is in use with other attributes. */
const ALREADY_EXISTS = 6
/** gRPC's number: the agent knows no volume there. */
const NOT_FOUND = 5
/** Reading links asks the folders above a mount, which may be a dead server's. */
const linksMs = 2000
const metadata = { [doorHeader]: 'hand' }

/** What every mount needs, said before anything is started. */
export function requireMountRights (client: string | undefined): void {
  if (process.geteuid?.() !== 0) {
    throw new VolumeError('DENIED', `mounting needs root and this is uid ${process.geteuid?.() ?? -1}`, {
      remedy: 'run it with sudo'
    })
  }
  if (client !== 'kernel' && !existsSync('/dev/fuse')) {
    throw new VolumeError('UNSUPPORTED', '/dev/fuse is missing', {
      remedy: 'load the module with `modprobe fuse`; in a container, pass the device in'
    })
  }
}

export const volumeIdOf = (target: string): string => `hand-${createHash('sha256').update(target).digest('hex')}`

export async function mountByHand (agent: CsiClient, attributes: Attributes, directory: string): Promise<void> {
  const targetPath = path.resolve(directory)
  const request = {
    volumeId: volumeIdOf(targetPath),
    targetPath,
    volumeContext: attributes,
    volumeCapability: {
      accessMode: { mode: 'MULTI_NODE_MULTI_WRITER' as const },
      mount: { fsType: '', mountFlags: [], volumeMountGroup: '' }
    }
  }
  try {
    await agent.call('Node', 'NodePublishVolume', request, { deadlineMs: mountMs, metadata })
  } catch (error) {
    // The volume's name is made of the folder here, so the agent's advice (another name) helps nobody.
    if (!(error instanceof CallError) || error.code !== ALREADY_EXISTS) throw error
    throw new VolumeError('CONFLICT', `${targetPath}: something else is mounted there already`, {
      cause: error, remedy: `\`volbridge unmount ${targetPath}\` first, or choose another folder`
    })
  }
}

async function realPathOf (spelled: string): Promise<string> {
  try {
    return await within(linksMs, realpath(spelled), () => spelled)
  } catch {
    return spelled
  }
}

/** Answers how many bytes could not be saved. */
export async function unmountByHand (agent: CsiClient, directory: string, force: boolean): Promise<number> {
  const unmount = async (targetPath: string): Promise<number> =>
    Number((await agent.call('Agent', 'Unmount', { targetPath, force }, { deadlineMs: unmountMs, metadata })).lostBytes)
  const spelled = path.resolve(directory)
  try {
    return await unmount(spelled)
  } catch (error) {
    if (!(error instanceof CallError) || error.code !== NOT_FOUND) throw error
    const real = await realPathOf(spelled)
    if (real === spelled) throw error
    return await unmount(real)
  }
}
