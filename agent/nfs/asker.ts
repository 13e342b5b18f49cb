/**
 * One NFSv3 question and its answer, as every operation of the backend needs it.
 *
 * Owns the repetition after JUKEBOX and the step from thrown transport faults to errno values. Does not know what is
 * asked.
 */
import type { Errno } from '../base/errno.ts'
import type { Recovery } from '../base/volume-spec.ts'
import type { Credential } from '../fs/backend.ts'
import { type BulkResult, type Caller, type CallTrace, RejectedError } from '../rpc/call.ts'
import type { Clock } from '../base/clock.ts'
import type { Nfs3Result } from '../../proto/nfs3/nfsstat.ts'
import type { Procedure } from '../../proto/rpc/procedure.ts'
import type { CredentialCache } from './credentials.ts'
import { errnoOfFault } from './errors.ts'

/** RFC 1813 leaves the pause to the client; the kernel's client waits this long (NFS_JUKEBOX_RETRY_TIME). */
const jukeboxPauseMs = 5_000

export interface AskerParts {
  readonly rpc: Caller
  readonly credentials: CredentialCache
  readonly recovery: Recovery
  readonly clock: Clock
}

type Row<A, Ok, Fail> = Procedure<A, Nfs3Result<Ok, Fail>>

export class Asker {
  readonly #rpc: Caller
  readonly #credentials: CredentialCache
  readonly #recovery: Recovery
  readonly #clock: Clock
  readonly #sleepers = new Set<() => void>()
  #jukebox = 0
  #answers = 0
  #shutErrno: Errno | undefined

  constructor ({ rpc, credentials, recovery, clock }: AskerParts) {
    this.#rpc = rpc
    this.#credentials = credentials
    this.#recovery = recovery
    this.#clock = clock
  }

  /** How often a server asked for patience. */
  get jukebox (): number { return this.#jukebox }

  /** How often the server has answered, refusals included. */
  get answers (): number { return this.#answers }

  async ask<A, Ok, Fail> (
    row: Row<A, Ok, Fail>,
    args: A,
    credential: Credential,
    trace?: CallTrace
  ): Promise<Nfs3Result<Ok, Fail> | Errno> {
    for (;;) {
      try {
        const result = await this.#rpc.call(row, args, this.#credentials.encoded(credential), trace)
        this.#answers++
        if (result.ok || result.status !== 'NFS3ERR_JUKEBOX') return result
      } catch (error) {
        return this.#errnoOf(error)
      }
      await this.#waitOut()
      if (this.#shutErrno !== undefined) return this.#shutErrno
    }
  }

  /** The same for a result whose data lies in memory of its own; a failure's memory is given back here. */
  async askBulk<A, Ok, Fail> (
    row: Row<A, Ok, Fail>,
    args: A,
    credential: Credential
  ): Promise<BulkResult<Nfs3Result<Ok, Fail>> | Errno> {
    for (;;) {
      try {
        const result = await this.#rpc.callBulk(row, args, this.#credentials.encoded(credential))
        this.#answers++
        if (result.value.ok) return result
        result.memory.release()
        if (result.value.status !== 'NFS3ERR_JUKEBOX') return result
      } catch (error) {
        return this.#errnoOf(error)
      }
      await this.#waitOut()
      if (this.#shutErrno !== undefined) return this.#shutErrno
    }
  }

  #errnoOf (error: unknown): Errno {
    if (error instanceof RejectedError) this.#answers++
    return this.#shutErrno ?? errnoOfFault(error, this.#recovery)
  }

  /** From now on everything that fails or waits answers `errno`. */
  shut (errno: Errno): void {
    this.#shutErrno = errno
    for (const wake of [...this.#sleepers]) wake()
  }

  /** JUKEBOX: the server needs time (RFC 1813 section 2.6). The next attempt is a new call with a new xid, not a
   * retransmission. */
  async #waitOut (): Promise<void> {
    this.#jukebox++
    if (this.#shutErrno !== undefined) return
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        cancel()
        this.#sleepers.delete(wake)
        resolve()
      }
      const cancel = this.#clock.after(jukeboxPauseMs, wake)
      this.#sleepers.add(wake)
    })
  }
}
