/**
 * What the transport reports, as lines for an operator.
 * Owns level and wording per event, in one total table. Does not decide anything.
 */
import type { RpcEvent, RpcObserver } from '../rpc/events.ts'

/** The part of a structured logger that is used here; pino is one. */
export interface NfsLog {
  debug (facts: object, message: string): void
  info (facts: object, message: string): void
  warn (facts: object, message: string): void
  error (facts: object, message: string): void
}

type Kind = RpcEvent['kind']
type EventOf<K extends Kind> = Extract<RpcEvent, { kind: K }>
type Line = readonly [level: keyof NfsLog, message: string]

const lines: { readonly [K in Kind]: (event: EventOf<K>) => Line } = {
  connected: ({ address }) => ['info', `connected to ${address}`],
  disconnected: ({ address, reason, detail, pending }) => [
    reason === 'ended' && pending === 0 ? 'debug' : 'warn', `connection to ${address} ended: ${detail}`
  ],
  unreachable: ({ detail, attempt }) => [attempt === 1 ? 'warn' : 'debug', `server unreachable: ${detail}`],
  'address-refused': ({ address, detail }) => ['error', `${address} is not used: ${detail}`],
  'not-responding':
    ({ address, givenUp }) => ['warn', `server ${address} not responding, ${givenUp ? 'giving up' : 'still trying'}`],
  responding: ({ address }) => ['info', `server ${address} OK`],
  trailing: ({ procedure, bytes }) => [
    'info', `answers to ${procedure} have bytes behind their end (${bytes} in this one), which are ignored`
  ],
  undecodable: ({ procedure, detail, givenUp }) => [
    givenUp ? 'error' : 'debug', `reply to ${procedure} cannot be understood: ${detail}`
  ]
}

export function observerOf (log: NfsLog): RpcObserver {
  return (event) => {
    const [level, message] = (lines[event.kind] as (event: RpcEvent) => Line)(event)
    log[level]({ op: 'transport', outcome: event.kind, ...event }, message)
  }
}
