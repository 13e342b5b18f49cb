/**
 * The server of a mount that the kernel's client makes: found, asked and watched by our own calls.
 *
 * Owns the questions before mount(2), so that a wrong name, port or export is an error in an operator's words and a
 * silent server never holds a call in the kernel; and the probe of a mounted one. Does not mount.
 */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { isIPv6 } from 'node:net'
import { hostname } from 'node:os'
import { randomInt } from 'node:crypto'
import { messageOf, VolumeError } from '../base/errors.ts'
import type { KernelNfsVersion, MountedServer, NfsTarget } from '../base/volume-spec.ts'
import { RejectedError } from '../rpc/call.ts'
import { systemClock } from '../base/clock.ts'
import type { Endpoint } from '../rpc/connection.ts'
import { callOnce } from '../rpc/one-shot.ts'
import { encodeAuthNone } from '../../proto/rpc/auth.ts'
import { decodeVoid, encodeVoid, rowsOf } from '../../proto/rpc/procedure.ts'
import { NFS_PROGRAM, procedures } from '../../proto/nfs3/procedures.ts'
import { CredentialCache } from './credentials.ts'
import { transportFault } from './faults.ts'
import { kernelOptions } from './kernel-options.ts'
import { addressesOf, resolveName, type ResolveName } from './locate.ts'
import { type ConnectContext, fsinfoAt, mountAt, nfsPortAt } from './mounting.ts'

/** RFC 8881 section 2.9.3: version 4 is at home at a fixed port and asks no port mapper. */
const NFS4_PORT = 2049
const stepMsDefault = 10_000
const NULL4 = rowsOf(NFS_PROGRAM, 4)('NULL', 0, encodeVoid, decodeVoid, { repeatable: true })

/** How mount(2) is called. */
export interface KernelMountCall {
  readonly source: string
  readonly data: string
}

export class KernelServer {
  readonly #resolve: ResolveName
  readonly #stepMs: number

  constructor ({ resolve = resolveName, stepMs = stepMsDefault }: {
    readonly resolve?: ResolveName
    readonly stepMs?: number
  } = {}) {
    this.#resolve = resolve
    this.#stepMs = stepMs
  }

  /**
   * The first address that answers decides; an answer ("no such export") ends the search, silence goes on to the next
   * address.
   * @throws VolumeError; UNSUPPORTED when the server does not speak the version.
   */
  async prepare (target: NfsTarget, version: KernelNfsVersion): Promise<KernelMountCall> {
    let failure: VolumeError | undefined
    for (const server of target.servers) {
      try {
        for (const address of await addressesOf(server, this.#locator)) {
          try {
            return await this.#prepareAt(target, { server, address, version })
          } catch (error) {
            if (!isSilence(error)) throw error
            failure ??= error
          }
        }
      } catch (error) {
        if (!isSilence(error)) throw error
        failure ??= error
      }
    }
    throw failure ??
      new VolumeError('INVALID', 'server: none was given', { field: 'server', remedy: 'name the NFS server' })
  }

  get #locator (): ConnectContext['locator'] { return { resolve: this.#resolve, deadlineMs: this.#stepMs } }

  async #prepareAt (
    target: NfsTarget,
    at: { server: string, address: string, version: KernelNfsVersion }
  ): Promise<KernelMountCall> {
    const { server, address, version } = at
    const source = `${isIPv6(server) ? `[${server}]` : server}:${target.share}`
    if (version === '3') {
      const { port, mountPort } = await this.#askVersion3(target, address)
      return {
        source, data: kernelOptions(target.options, { version, address, port, mountPort, clientAddress: undefined })
      }
    }
    const endpoint = { address, port: target.options.port ?? NFS4_PORT }
    await this.#askVersion4(endpoint, version)
    const clientAddress = await localAddressTowards(endpoint)
    return {
      source, data: kernelOptions(target.options, { version, ...endpoint, mountPort: undefined, clientAddress })
    }
  }

  /** MOUNT and FSINFO by our own calls: the kernel repeats the first, and has only numbers for what goes wrong. */
  async #askVersion3 (target: NfsTarget, address: string): Promise<{ port: number, mountPort: number }> {
    const context: ConnectContext = {
      target, clock: systemClock, locator: this.#locator, stepMs: this.#stepMs,
      credentials: new CredentialCache(hostname(), randomInt(2 ** 32)), observe: () => undefined
    }
    const { handle, mountPort } = await mountAt(context, address)
    const port = await nfsPortAt(context, address)
    await fsinfoAt(context, { address, port }, handle)
    return { port, mountPort }
  }

  async #askVersion4 (endpoint: Endpoint, version: KernelNfsVersion): Promise<void> {
    try {
      await callOnce(NULL4, undefined, {
        endpoint, credential: encodeAuthNone(), deadlineMs: this.#stepMs, resvport: false
      })
    } catch (error) {
      if (!(error instanceof RejectedError)) throw transportFault(error, 'the NFS service', endpoint, 'port')
      throw new VolumeError(
        'UNSUPPORTED',
        `mountOptions: the server does not speak NFS version 4, so not ${version} (${error.message})`,
        {
          field: 'mountOptions', remedy: 'use vers=3, or enable version 4 on the server', cause: error
        }
      )
    }
  }

  /** Asks a mounted server for a sign of life. Empty, or why there is none, with a remedy. */
  async probe ({ version, address, port }: MountedServer, deadlineMs: number): Promise<string> {
    const options = {
      endpoint: { address, port: port ?? NFS4_PORT }, credential: encodeAuthNone(), deadlineMs, resvport: false
    }
    try {
      await (version === '3' ? callOnce(procedures.NULL, undefined, options) : callOnce(NULL4, undefined, options))
      return ''
    } catch (error) {
      return `the server ${address} does not answer (${messageOf(error)}); check the server and the network`
    }
  }
}

function isSilence (error: unknown): error is VolumeError {
  return error instanceof VolumeError && error.code === 'UNAVAILABLE'
}

/** The address that packets to the server start from. A datagram socket is told its peer; nothing is sent. */
async function localAddressTowards ({ address, port }: Endpoint): Promise<string> {
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4')
  try {
    socket.connect(port, address)
    await once(socket, 'connect')
    return socket.address().address
  } finally {
    socket.close()
  }
}
