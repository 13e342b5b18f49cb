/**
 * A protocol of three procedures for the tests of the transport: a number goes and comes, data comes, data goes.
 */
import { rowsOf } from '../../../../proto/rpc/procedure.ts'
import { RpcClient, type RpcClientOptions } from '../../../../agent/rpc/client.ts'
import type { RpcEvent } from '../../../../agent/rpc/events.ts'
import { encodeAuthNone } from '../../../../proto/rpc/auth.ts'
import type { ScriptedServer } from './scripted-server.ts'

const row = rowsOf(400_000, 1)

export const WORD = row(
  'WORD',
  1,
  (out, value: number) => { out.uint32(value) },
  (input) => input.uint32(),
  { repeatable: true }
)

export const FETCH = row(
  'FETCH',
  2,
  (out, bytes: number) => { out.uint32(bytes) },
  (input) => input.opaque(2 ** 21),
  { repeatable: true, bulk: 'result' }
)

export const STORE = row(
  'STORE',
  3,
  (out, data: readonly Buffer[]) => { out.payload(data, 2 ** 24) },
  (input) => input.uint32(),
  { repeatable: true, bulk: 'arguments' }
)

export const nobody = encodeAuthNone()

export function clientOf (
  server: Pick<ScriptedServer, 'address' | 'port'>,
  options: Partial<RpcClientOptions> = {}
): { client: RpcClient, events: RpcEvent[] } {
  const events: RpcEvent[] = []
  const client = new RpcClient({
    route: {
      endpoints: async () => await Promise.resolve([{ address: server.address, port: server.port }]),
      admit: async () => await Promise.resolve(undefined)
    },
    nconnect: 1,
    recovery: { recovery: 'hard', timeoMs: 60_000, retrans: 2 },
    resvport: false,
    observe: (event) => { events.push(event) },
    ...options
  })
  return { client, events }
}
