/**
 * A single call on a connection of its own, with a deadline: port mapper, MOUNT, and the first look at a server.
 * Owns nothing that outlives the call. Failures are `TransportError` (nobody there, too late, refused) or `WireError`.
 */
import { randomInt } from 'node:crypto'
import { encodeCallHead, finishCall } from '../../proto/rpc/call.ts'
import type { Procedure } from '../../proto/rpc/procedure.ts'
import { decodeReplyHead, requireReply } from '../../proto/rpc/reply.ts'
import { XdrReader } from '../../proto/xdr/reader.ts'
import { XdrWriter } from '../../proto/xdr/writer.ts'
import { TransportError } from '../base/errors.ts'
import { RejectedError } from './call.ts'
import { type Clock, systemClock } from '../base/clock.ts'
import { Connection, type Endpoint, showEndpoint } from './connection.ts'
import { newCounters } from './events.ts'
import { RecordPool } from './record-pool.ts'

export interface OneShotOptions {
  readonly endpoint: Endpoint
  readonly credential: Buffer
  /** For connecting and for the answer, together. */
  readonly deadlineMs: number
  /** Try a source port below 1024 first: many mount daemons ask for one. */
  readonly resvport: boolean
  readonly clock?: Clock
}

const reservedTries = 4

export async function callOnce<A, R> (procedure: Procedure<A, R>, args: A, options: OneShotOptions): Promise<R> {
  const clock = options.clock ?? systemClock
  const endMs = clock.nowMs() + options.deadlineMs
  const connection = await openShortLived(options, clock, endMs)
  try {
    return await ask(connection, procedure, args, options.credential, { clock, endMs })
  } finally {
    connection.close({ abrupt: true })
  }
}

async function openShortLived (
  { endpoint, resvport }: OneShotOptions,
  clock: Clock,
  endMs: number
): Promise<Connection> {
  const parts = { clock, pool: new RecordPool(0), counters: newCounters() }
  const open = (sourcePort?: number): Promise<Connection> =>
    Connection.open(endpoint, sourcePort, Math.max(1, endMs - clock.nowMs()), parts)
  for (let attempt = 0; resvport && attempt < reservedTries; attempt++) {
    try {
      return await open(randomInt(665, 1024))
    } catch (error) {
      if (error instanceof TransportError && (error.code === 'REFUSED' || error.code === 'TIMED_OUT')) throw error
    }
  }
  return await open()
}

async function ask<A, R> (
  connection: Connection, procedure: Procedure<A, R>, args: A, credential: Buffer,
  { clock, endMs }: { clock: Clock, endMs: number }
): Promise<R> {
  const xid = randomInt(0x7fff_ffff)
  const out = new XdrWriter()
  encodeCallHead(out, procedure, xid, credential)
  procedure.encode(out, args)
  const where = showEndpoint(connection.endpoint)
  let cancel = (): void => undefined
  try {
    return await new Promise<R>((resolve, reject) => {
      cancel = clock.after(Math.max(1, endMs - clock.nowMs()), () => {
        reject(new TransportError('TIMED_OUT', `${where} did not answer ${procedure.name} in time`, { sent: true }))
      })
      connection.attach((buffer, start, end, memory) => {
        try {
          const input = new XdrReader(buffer, start, end)
          if (input.uint32() !== xid) return
          requireReply(input)
          const rejection = decodeReplyHead(input)
          if (rejection === undefined) resolve(procedure.decode(input, args))
          else reject(new RejectedError(procedure.name, rejection))
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)))
        } finally {
          memory?.release()
        }
      }, (_reason, detail) => {
        reject(
          new TransportError('LOST', `${where} ended the connection before answering ${procedure.name}: ${detail}`, {
            sent: true
          })
        )
      })
      connection.send(finishCall(out))
    })
  } finally {
    cancel()
  }
}
