/**
 * Where the mounted server is, asked again at every reconnect.
 *
 * Owns the rule for changing address: another address (of a comma list, or behind a changed name) is used only when it
 * gives the same root handle for the share and the same file system id; else the volume stays unreachable and says why.
 * Handles of one server mean something else, or nothing, on another.
 */
import { errnoName } from '../base/errno.ts'
import { VolumeError } from '../base/errors.ts'
import type { Endpoint } from '../rpc/connection.ts'
import { callOnce } from '../rpc/one-shot.ts'
import type { Route } from '../rpc/reconnector.ts'
import { procedures } from '../../proto/nfs3/procedures.ts'
import { errnoOf } from './errors.ts'
import { addressesOf, portOf } from './locate.ts'
import { type ConnectContext, mountAt, nfsPortAt, nfsQuery, questionOptions } from './mounting.ts'

export class ServerRoute implements Route {
  readonly #context: ConnectContext
  readonly #shareRoot: string
  /** Where the server was reached last: the first place to look for it again. */
  #known: Endpoint
  #fsid: bigint | undefined

  constructor (context: ConnectContext, mounted: { readonly endpoint: Endpoint, readonly shareRoot: string }) {
    this.#context = context
    this.#shareRoot = mounted.shareRoot
    this.#known = mounted.endpoint
  }

  /** The file system the volume's root lies on. */
  expectFsid (fsid: bigint | undefined): void { this.#fsid = fsid }

  /** After a move to another address the old one is not tried first any more: each attempt there may take seconds. */
  reached (endpoint: Endpoint): void { this.#known = endpoint }

  async endpoints (round: number): Promise<readonly Endpoint[]> {
    // The server usually comes back where it was; only when that fails are names and ports asked for again.
    if (round === 0) return [this.#known]
    const found: Endpoint[] = []
    for (const server of this.#context.target.servers) {
      try {
        for (const address of await addressesOf(server, this.#context.locator)) {
          found.push({ address, port: await this.#portAt(address) })
        }
      } catch {
        // Nothing can be found out now; there is still the place that is known.
      }
    }
    return found.length > 0 ? found : [this.#known]
  }

  async admit (endpoint: Endpoint): Promise<string | undefined> {
    if (endpoint.address === this.#known.address) return undefined
    try {
      const { handle } = await mountAt(this.#context, endpoint.address)
      if (handle !== this.#shareRoot) {
        return `${endpoint.address} gives another root handle for ${this.#context.target.share}: it is not the server that was mounted`
      }
    } catch (error) {
      if (error instanceof VolumeError && error.code !== 'UNAVAILABLE') return `${endpoint.address}: ${error.message}`
      throw error
    }
    return await this.#objectionToFsid(endpoint)
  }

  async #objectionToFsid (endpoint: Endpoint): Promise<string | undefined> {
    const { target } = this.#context
    const attributes = await callOnce(
      procedures.GETATTR,
      { object: this.#shareRoot },
      questionOptions(this.#context, endpoint)
    )
    if (!attributes.ok) {
      return `${endpoint.address} answers ${errnoName(errnoOf[attributes.status])} about the share's root`
    }
    if (this.#fsid === undefined || target.subDir.length > 0 || attributes.value.fsid === this.#fsid) return undefined
    return `${endpoint.address} has another file system id for the share than the mounted server`
  }

  /** The port may have changed with a restart; a port mapper that is away is no reason not to try the last one. */
  async #portAt (address: string): Promise<number> {
    if (this.#context.target.options.port !== undefined) return await nfsPortAt(this.#context, address)
    try {
      return await portOf(address, nfsQuery, this.#context.locator) ?? this.#known.port
    } catch {
      return this.#known.port
    }
  }
}
