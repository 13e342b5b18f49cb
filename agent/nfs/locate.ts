/**
 * From names to addresses and ports: the resolver and the port mapper, both with deadlines.
 *
 * Owns the questions and the sentences about their failures. Keeps nothing.
 */
import { lookup } from 'node:dns/promises'
import { isIP, isIPv6 } from 'node:net'
import { within } from '../base/deadline.ts'
import { messageOf, TransportError, VolumeError, WireError } from '../base/errors.ts'
import { RejectedError } from '../rpc/call.ts'
import type { Endpoint } from '../rpc/connection.ts'
import { version4Remedy } from './faults.ts'
import { callOnce } from '../rpc/one-shot.ts'
import { encodeAuthNone } from '../../proto/rpc/auth.ts'
import { IPPROTO_TCP, PORTMAP_PORT, portmapProcedures, portOfUniversalAddress } from '../../proto/portmap/procedures.ts'

export type ResolveName = (name: string) => Promise<readonly string[]>

/** getaddrinfo through the system's own rules (hosts file, search domains), which is what mount.nfs uses. */
export const resolveName: ResolveName = async (name) =>
  (await lookup(name, { all: true })).map(({ address }) => address)

/** One program and version on one server. */
export interface ProgramQuery { readonly program: number, readonly version: number, readonly name: string }

export interface Locator {
  readonly resolve: ResolveName
  readonly deadlineMs: number
  readonly portmapPort?: number | undefined
}

/** All addresses of a server name, in the resolver's order. @throws VolumeError UNAVAILABLE, field `server`. */
export async function addressesOf (server: string, { resolve, deadlineMs }: Locator): Promise<readonly string[]> {
  if (isIP(server) !== 0) return [server]
  const unknown = (why: string, cause?: unknown): VolumeError =>
    new VolumeError('UNAVAILABLE', `server: ${JSON.stringify(server)} ${why}`, {
      field: 'server', remedy: 'check the name, and that this node\'s resolver knows it', cause
    })
  let addresses: readonly string[] | undefined
  try {
    addresses = await within(deadlineMs, resolve(server), () => undefined)
  } catch (error) {
    throw unknown(`cannot be resolved (${messageOf(error)})`, error)
  }
  if (addresses === undefined) throw unknown(`was not resolved within ${deadlineMs} ms`)
  if (addresses.length === 0) throw unknown('has no address')
  return [...new Set(addresses)]
}

/**
 * The TCP port of a program; undefined when it is not registered. IPv6 servers are asked by rpcbind's own versions,
 * because version 2 knows IPv4 only; a mapper without them is asked by version 2.
 * @throws TransportError when the port mapper cannot be asked.
 */
export async function portOf (
  address: string,
  query: ProgramQuery,
  { deadlineMs, portmapPort = PORTMAP_PORT }: Locator
): Promise<number | undefined> {
  const options = {
    endpoint: { address, port: portmapPort } satisfies Endpoint, credential: encodeAuthNone(), deadlineMs,
    resvport: false
  }
  if (isIPv6(address)) {
    for (const row of [portmapProcedures.GETADDR_V4, portmapProcedures.GETADDR_V3]) {
      try {
        const found = await callOnce(row, {
          program: query.program, version: query.version, netid: 'tcp6', address: ''
        }, options)
        return found === '' ? undefined : portOfUniversalAddress(found)
      } catch (error) {
        if (!(error instanceof RejectedError)) throw error
      }
    }
  }
  const port = await callOnce(portmapProcedures.GETPORT, {
    program: query.program, version: query.version, protocol: IPPROTO_TCP
  }, options)
  return port === 0 ? undefined : port
}

/** `portOf` for a mount: every failure says what to do. @throws VolumeError UNAVAILABLE. */
export async function registeredPort (
  address: string,
  query: ProgramQuery,
  option: string,
  locator: Locator
): Promise<number> {
  let port: number | undefined
  try {
    port = await portOf(address, query, locator)
  } catch (error) {
    if (!(error instanceof TransportError || error instanceof WireError)) throw error
    throw new VolumeError(
      'UNAVAILABLE',
      `server: the port mapper of ${address} cannot be asked for ${query.name} (${error.message})`,
      {
        field: 'server',
        remedy:
          `start rpcbind on the server, open its port ${locator.portmapPort ?? PORTMAP_PORT}, or give the mount option ${option}=; ${version4Remedy}`,
        cause: error
      }
    )
  }
  if (port !== undefined) return port
  throw new VolumeError(
    'UNAVAILABLE',
    `server: ${query.name} version ${query.version} over TCP is not registered at ${address}`,
    {
      field: 'server',
      remedy: `start it on the server and enable NFSv3, or give the mount option ${option}=; ${version4Remedy}`
    }
  )
}
