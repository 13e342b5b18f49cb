/**
 * What happens to a transport, for whoever watches.
 * Owns events and counters. The transport itself writes no log line.
 */

export type DisconnectReason = 'lost' | 'ended' | 'silent' | 'garbage'

export type RpcEvent =
  | { readonly kind: 'connected', readonly address: string, readonly sourcePort: number, readonly pending: number }
  | {
    readonly kind: 'disconnected'
    readonly address: string
    readonly reason: DisconnectReason
    readonly detail: string
    readonly pending: number
  }
  /** A round over all addresses failed. */
  | { readonly kind: 'unreachable', readonly detail: string, readonly attempt: number, readonly retryInMs: number }
  /** This address answers, but is not the server that was mounted. */
  | { readonly kind: 'address-refused', readonly address: string, readonly detail: string }
  /** nfs(5): a major timeout. With `hard` the call goes on. */
  | {
    readonly kind: 'not-responding'
    readonly address: string
    readonly procedure: string
    readonly waitedMs: number
    readonly givenUp: boolean
  }
  | { readonly kind: 'responding', readonly address: string, readonly outageMs: number }
  /** Answers to this procedure have bytes behind their end, which are ignored. Told once for each procedure. */
  | { readonly kind: 'trailing', readonly procedure: string, readonly bytes: number }
  /** A reply could not be understood. */
  | { readonly kind: 'undecodable', readonly procedure: string, readonly detail: string, readonly givenUp: boolean }

export type RpcObserver = (event: RpcEvent) => void

/** Sums since the start. */
export interface RpcCounters {
  calls: number
  replies: number
  /** Calls sent again with the same xid. */
  retransmissions: number
  connects: number
  disconnects: number
  failedRounds: number
  /** Replies nobody waits for: late, duplicate, or invented. */
  unmatchedReplies: number
  /** Connections closed because their stream had lost its place. */
  garbage: number
  /** Replies with bytes behind their end, which are ignored. */
  trailing: number
  /** Replies that could not be understood; each costs its own call. */
  undecodable: number
  majorTimeouts: number
  softFailures: number
  rejections: number
  bytesSent: number
  bytesReceived: number
}

export function newCounters (): RpcCounters {
  return {
    calls: 0,
    replies: 0,
    retransmissions: 0,
    connects: 0,
    disconnects: 0,
    failedRounds: 0,
    unmatchedReplies: 0,
    garbage: 0,
    trailing: 0,
    undecodable: 0,
    majorTimeouts: 0,
    softFailures: 0,
    rejections: 0,
    bytesSent: 0,
    bytesReceived: 0
  }
}
