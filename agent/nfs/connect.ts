/**
 * From a target to a working back end, or to an error that says which field is wrong and what to do.
 *
 * Owns the steps of mounting: 1. resolve the server's names; 2. find mount service and NFS ports; 3. MNT gives the
 * share's root handle;
 * 4. FSINFO and PATHCONF give sizes and limits; 5. one LOOKUP per component of `subDir`. A failure at any step leaves
 * nothing open. The first address that answers decides; an answer ("no such export") ends the search, silence goes on
 * to the next address. Does not know FUSE, volumes or caches.
 */
import { randomInt } from 'node:crypto'
import { hostname } from 'node:os'
import { pause, within } from '../base/deadline.ts'
import { isErrno } from '../base/errno.ts'
import { messageOf, VolumeError } from '../base/errors.ts'
import type { NfsTarget } from '../base/volume-spec.ts'
import { RpcClient } from '../rpc/client.ts'
import { type Clock, systemClock } from '../base/clock.ts'
import { procedures } from '../../proto/nfs3/procedures.ts'
import { Asker } from './asker.ts'
import { Nfs3Backend } from './backend.ts'
import { capabilitiesOf } from './capabilities.ts'
import { NfsClient } from './client.ts'
import { clientCredential, CredentialCache } from './credentials.ts'
import { transportFault } from './faults.ts'
import { addressesOf, resolveName, type ResolveName } from './locate.ts'
import { mountShare, unmountShare } from './mount-protocol.ts'
import { type ConnectContext, fsinfoAt, mountAt, nfsPortAt, questionOptions } from './mounting.ts'
import { ServerRoute } from './route.ts'
import { walkSubfolder } from './subfolder.ts'
import { type NfsLog, observerOf } from './transport-log.ts'

export interface ConnectDependencies {
  readonly log?: NfsLog
  /** Sent with AUTH_SYS. */
  readonly machineName?: string
  readonly clock?: Clock
  readonly resolve?: ResolveName
  /** Ends the attempts; the error is then UNAVAILABLE. */
  readonly signal?: AbortSignal
  /** Each question of the mount (a name, a port, MNT, FSINFO). */
  readonly stepMs?: number
  readonly portmapPort?: number
  /** No call is ever made as root: uid and gid 0 are nobody's, our own calls included. */
  readonly squashRoot?: boolean
}

const stepMsDefault = 10_000
const retryPauseMs = 2_000
/**
 * Mounts. While the server cannot be reached it is tried again until `retryMs` of the target's options have passed.
 * @throws VolumeError
 */
export async function connectNfs (target: NfsTarget, dependencies: ConnectDependencies = {}): Promise<NfsClient> {
  const {
    log,
    machineName = hostname(),
    clock = systemClock,
    resolve = resolveName,
    signal,
    stepMs = stepMsDefault,
    portmapPort,
    squashRoot = false
  } = dependencies
  const context: ConnectContext = {
    target,
    clock,
    locator: { resolve, deadlineMs: stepMs, portmapPort },
    stepMs,
    credentials: new CredentialCache(machineName, randomInt(2 ** 32), { squashRoot }),
    observe: log === undefined ? () => undefined : observerOf(log)
  }
  const endMs = clock.nowMs() + target.options.retryMs
  const isAborted = (): boolean => signal?.aborted === true
  for (;;) {
    try {
      return await connectOnce(context)
    } catch (error) {
      if (!isUnavailable(error) || clock.nowMs() + retryPauseMs > endMs || isAborted()) throw error
      await pause(retryPauseMs, signal)
      if (isAborted()) throw error
    }
  }
}

/** Silence, as opposed to an answer: another address or another moment may help. */
function isUnavailable (error: unknown): error is VolumeError {
  return error instanceof VolumeError && error.code === 'UNAVAILABLE'
}

async function connectOnce (context: ConnectContext): Promise<NfsClient> {
  let failure: Error | undefined
  for (const server of context.target.servers) {
    try {
      for (const address of await addressesOf(server, context.locator)) {
        try {
          return await connectAddress(context, address)
        } catch (error) {
          if (!isUnavailable(error)) throw error
          failure ??= error
        }
      }
    } catch (error) {
      if (!isUnavailable(error)) throw error
      failure ??= error
    }
  }
  throw failure ??
    new VolumeError('INVALID', 'server: none was given', { field: 'server', remedy: 'name the NFS server' })
}

async function connectAddress (context: ConnectContext, address: string): Promise<NfsClient> {
  const { target, clock, credentials, stepMs } = context
  const { options } = target
  const { handle: shareRoot, mountPort } = await mountAt(context, address)
  const endpoint = { address, port: await nfsPortAt(context, address) }
  const info = await fsinfoAt(context, endpoint, shareRoot)

  const route = new ServerRoute(context, { endpoint, shareRoot })
  const recovery = { recovery: options.recovery, timeoMs: options.timeoMs, retrans: options.retrans }
  let onConnected = (): void => undefined
  let current = address
  const rpc = new RpcClient({
    route, nconnect: options.nconnect, recovery, resvport: options.resvport, clock,
    connectMs: Math.min(stepMs, Math.max(1000, options.timeoMs)),
    observe: (event) => {
      context.observe(event)
      if (event.kind !== 'connected') return
      current = addressOf(event.address)
      onConnected()
    }
  })
  try {
    const asker = new Asker({ rpc, credentials, recovery: options.recovery, clock })
    const { root, pathconf } = await within(stepMs, lookAround(asker, shareRoot, target), () => {
      throw transportFault(
        new Error(`no answer within ${stepMs} ms: ${rpc.trouble}`),
        'the NFS service',
        endpoint,
        'port'
      )
    })
    route.expectFsid(root.attributes?.fsid)
    const backend = new Nfs3Backend({ asker, root, capabilities: capabilitiesOf(info, pathconf, options) })
    const client = new NfsClient({
      backend, asker, rpc, clock,
      walkAgain: async () => await walkSubfolder(asker, shareRoot, target),
      mountAgain: async () =>
        await walkSubfolder(asker, await shareRootAgain(context, current, mountPort) ?? shareRoot, target),
      farewell: async () => {
        await unmountShare(target.share, {
          ...questionOptions(context, { address, port: mountPort }), deadlineMs: 1000
        })
      }
    })
    onConnected = () => { client.recheckRoot() }
    return client
  } catch (error) {
    rpc.close()
    if (error instanceof VolumeError) throw error
    throw new VolumeError('UNAVAILABLE', `server: ${address}: ${messageOf(error)}`, {
      field: 'server', remedy: 'check that the server is up', cause: error
    })
  }
}

/**
 * MNT where it was answered before, or on another port after a restart; undefined when nobody answers.
 * @throws VolumeError
 */
async function shareRootAgain (
  context: ConnectContext,
  address: string,
  mountPort: number
): Promise<string | undefined> {
  const { share, options } = context.target
  try {
    return await mountShare(share, options.sec, questionOptions(context, { address, port: mountPort }))
  } catch (error) {
    if (!isUnavailable(error)) throw error
  }
  try {
    return (await mountAt(context, address)).handle
  } catch (error) {
    if (!isUnavailable(error)) throw error
    return undefined
  }
}

/** `address:port`, with brackets around what has colons itself. */
const addressOf = (shown: string): string => shown.slice(0, shown.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1')

async function lookAround (
  asker: Asker,
  shareRoot: string,
  target: NfsTarget
): Promise<{ root: Awaited<ReturnType<typeof walkSubfolder>>, pathconf: Parameters<typeof capabilitiesOf>[1] }> {
  const root = await walkSubfolder(asker, shareRoot, target)
  // Its one figure that counts here has a default; the kernel's client mounts without it too.
  const pathconf = await asker.ask(procedures.PATHCONF, { object: root.handle }, clientCredential)
  return { root, pathconf: isErrno(pathconf) || !pathconf.ok ? undefined : pathconf.value }
}
