/**
 * The questions of a mount, each on a connection of its own and with a deadline.
 *
 * Owns how they are put, for the first mount and for the proof that another address is the same server. Keeps nothing.
 */
import { VolumeError } from '../base/errors.ts'
import type { NfsTarget } from '../base/volume-spec.ts'
import type { Clock } from '../base/clock.ts'
import type { Endpoint } from '../rpc/connection.ts'
import type { RpcObserver } from '../rpc/events.ts'
import { callOnce, type OneShotOptions } from '../rpc/one-shot.ts'
import { MOUNT_PROGRAM, MOUNT_V3 } from '../../proto/mount3/procedures.ts'
import type { FsinfoOk } from '../../proto/nfs3/fsinfo.ts'
import { NFS_PROGRAM, NFS_V3, procedures } from '../../proto/nfs3/procedures.ts'
import { clientCredential, type CredentialCache } from './credentials.ts'
import { transportFault } from './faults.ts'
import { type Locator, registeredPort } from './locate.ts'
import { mountShare } from './mount-protocol.ts'

const mountQuery = { program: MOUNT_PROGRAM, version: MOUNT_V3, name: 'the mount service (mountd)' }
export const nfsQuery = { program: NFS_PROGRAM, version: NFS_V3, name: 'the NFS service' }

/** What the steps share. */
export interface ConnectContext {
  readonly target: NfsTarget
  readonly clock: Clock
  readonly locator: Locator
  readonly stepMs: number
  readonly credentials: CredentialCache
  readonly observe: RpcObserver
}

export function questionOptions (
  { target, clock, stepMs, credentials }: ConnectContext,
  endpoint: Endpoint
): OneShotOptions {
  return {
    endpoint, credential: credentials.encoded(clientCredential), deadlineMs: stepMs, resvport: target.options.resvport,
    clock
  }
}

/** Root handle of the share at one address. @throws VolumeError */
export async function mountAt (
  context: ConnectContext,
  address: string
): Promise<{ handle: string, mountPort: number }> {
  const { target: { share, options }, locator } = context
  const mountPort = options.mountPort ?? await registeredPort(address, mountQuery, 'mountport', locator)
  const handle = await mountShare(share, options.sec, questionOptions(context, { address, port: mountPort }))
  return { handle, mountPort }
}

/** @throws VolumeError */
export async function nfsPortAt ({ target, locator }: ConnectContext, address: string): Promise<number> {
  return target.options.port ?? await registeredPort(address, nfsQuery, 'port', locator)
}

/** FSINFO: the first word with the NFS service, whose failures are an operator's business. @throws VolumeError */
export async function fsinfoAt (context: ConnectContext, endpoint: Endpoint, root: string): Promise<FsinfoOk> {
  let result
  try {
    result = await callOnce(procedures.FSINFO, { fsroot: root }, questionOptions(context, endpoint))
  } catch (error) {
    throw transportFault(error, 'the NFS service', endpoint, 'port')
  }
  if (result.ok) return result.value
  const isDenied = result.status === 'NFS3ERR_ACCES' || result.status === 'NFS3ERR_PERM'
  throw new VolumeError(
    isDenied ? 'DENIED' : 'UNAVAILABLE',
    `share: the server answers ${result.status} about the share's root`,
    {
      field: 'share', remedy: isDenied ? 'allow this node in the server\'s exports' : 'look at the server\'s log'
    }
  )
}
