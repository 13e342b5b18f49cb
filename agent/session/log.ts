/**
 * How a session says things. Owns the type; does not know where lines go.
 */

/** As `agent/observe` has it; injected, because a session must not load a logger it may not need. */
export type Log = (
  level: 'debug' | 'info' | 'warn' | 'error',
  fields: { readonly op: string, readonly [extra: string]: unknown },
  message?: string
) => void
