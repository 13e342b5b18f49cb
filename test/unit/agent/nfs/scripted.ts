/**
 * A caller that answers NFS procedures from a script, for the tests of the back end: no network, no time.
 * Owns what was asked; uses none of the code under test.
 */
import { type FileName, toFileName } from '../../../../agent/base/brands.ts'
import type { BackendCapabilities, Credential, RemoteHandle } from '../../../../agent/fs/backend.ts'
import { Asker } from '../../../../agent/nfs/asker.ts'
import { Nfs3Backend } from '../../../../agent/nfs/backend.ts'
import { CredentialCache } from '../../../../agent/nfs/credentials.ts'
import type { BulkResult, Caller, CallTrace } from '../../../../agent/rpc/call.ts'
import type { Clock } from '../../../../agent/base/clock.ts'
import type { Nfs3Attributes } from '../../../../proto/nfs3/types.ts'
import type { Procedure } from '../../../../proto/rpc/procedure.ts'

export interface Asked { readonly name: string, readonly args: Record<string, unknown> }
/** An answer, or what the call throws; `retransmitted` says that it was sent twice. */
export interface Scripted { readonly answer?: unknown, readonly error?: Error, readonly retransmitted?: boolean }

export const ok = (value: unknown): Scripted => ({ answer: { ok: true, value } })
export const failed = (status: string, value?: unknown): Scripted => ({ answer: { ok: false, status, value } })
export const again = (scripted: Scripted): Scripted => ({ ...scripted, retransmitted: true })

export const noWcc = { before: undefined, after: undefined }
export const handle = (text: string): RemoteHandle => text as RemoteHandle
export const name = (text: string): FileName => toFileName(text)
export const alice: Credential = { uid: 1000, gid: 1000, groups: [], key: 'alice' }

export const attributes: Nfs3Attributes = {
  type: 'file', mode: 0o644, nlink: 1, uid: 1000, gid: 1000, sizeBytes: 5, usedBytes: 4096, rdevMajor: 0, rdevMinor: 0,
  fsid: 1n, fileid: 2n,
  atimeSeconds: 1, atimeNanoseconds: 2, mtimeSeconds: 3, mtimeNanoseconds: 4, ctimeSeconds: 5, ctimeNanoseconds: 6
}

const capabilities: BackendCapabilities = {
  hardLinks: true, symlinks: true, unstableWrites: true,

  readBytesMax: 65536, writeBytesMax: 65536, directoryBytesPreferred: 8192, directoryAttributes: true,
  fileBytesMax: 2 ** 40, nameBytesMax: 255
}

/** Time that stands still until it is moved. */
export class HeldClock implements Clock {
  #nowMs = 0
  readonly #alarms: { atMs: number, run: () => void }[] = []
  nowMs (): number { return this.#nowMs }
  after (ms: number, run: () => void): () => void {
    const alarm = { atMs: this.#nowMs + ms, run }
    this.#alarms.push(alarm)
    return () => { this.#alarms.splice(this.#alarms.indexOf(alarm), 1) }
  }

  get alarms (): number { return this.#alarms.length }
  advance (ms: number): void {
    this.#nowMs += ms
    for (const alarm of this.#alarms.filter((one) => one.atMs <= this.#nowMs)) {
      this.#alarms.splice(this.#alarms.indexOf(alarm), 1)
      alarm.run()
    }
  }
}

export function scriptedBackend (...script: Scripted[]): {
  backend: Nfs3Backend
  asker: Asker
  asked: Asked[]
  clock: HeldClock
  left: () => number
  leased: () => number
} {
  const asked: Asked[] = []
  let leased = 0
  const next = async (row: { name: string }, args: unknown, trace?: CallTrace): Promise<unknown> => {
    asked.push({ name: row.name, args: args as Record<string, unknown> })
    const step = script.shift()
    if (step === undefined) throw new Error(`${row.name} was not in the script`)
    if (trace !== undefined) trace.retransmitted = step.retransmitted === true
    if (step.error !== undefined) throw step.error
    return await Promise.resolve(step.answer)
  }
  const caller: Caller = {
    call: async <A, R>(row: Procedure<A, R>, args: A, _credential: Buffer, trace?: CallTrace) =>
      await next(row, args, trace) as R,
    callBulk: async <A, R>(row: Procedure<A, R>, args: A) => {
      const value = await next(row, args) as R
      leased++
      return { value, memory: { buffer: Buffer.alloc(0), release: () => { leased-- } } } satisfies BulkResult<R>
    }
  }
  const clock = new HeldClock()
  const asker = new Asker({ rpc: caller, credentials: new CredentialCache('node', 1), recovery: 'hard', clock })
  const backend = new Nfs3Backend({ asker, capabilities, root: { handle: handle('root'), attributes: undefined } })
  return { backend, asker, asked, clock, left: () => script.length, leased: () => leased }
}
