/**
 * The whole error taxonomy.
 *
 * Owns the classes that may be thrown across a folder border. Expected answers ("no such file") are values (`Errno`),
 * not errors. Does not know gRPC codes, FUSE errnos or Flex statuses: each border has one total table for that.
 */

/** The peer broke its protocol: the connection or message is unusable. Never a reason to repeat the same bytes to a
 * caller. */
export class WireError extends Error {
  override readonly name = 'WireError'
  readonly code: 'TRUNCATED' | 'OVERLONG' | 'TRAILING' | 'INVALID' | 'UNSUPPORTED'
  constructor (code: WireError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** A peer could not be reached or did not answer in time. `sent` says whether the request may have taken effect. */
export class TransportError extends Error {
  override readonly name = 'TransportError'
  readonly code: 'REFUSED' | 'UNREACHABLE' | 'RESOLVE' | 'LOST' | 'TIMED_OUT' | 'CLOSED' | 'REJECTED'
  readonly sent: boolean
  constructor (code: TransportError['code'], message: string, options: ErrorOptions & { sent: boolean }) {
    super(message, options)
    this.code = code
    this.sent = options.sent
  }
}

/** An operating system call failed. `code` is the errno's name, `call` what was asked, e.g. `mount(2) on /x`. */
export class HostError extends Error {
  override readonly name = 'HostError'
  readonly code: string
  readonly errno: number
  readonly call: string
  constructor (facts: { code: string, errno: number, call: string }, message?: string, options?: ErrorOptions) {
    super(message ?? `${facts.call}: ${facts.code}`, options)
    this.code = facts.code
    this.errno = facts.errno
    this.call = facts.call
  }
}

export const volumeErrorCodes = [
  'INVALID', 'NOT_FOUND', 'CONFLICT', 'PRECONDITION', 'IN_PROGRESS', 'UNAVAILABLE', 'TIMED_OUT', 'EXHAUSTED', 'DENIED',
  'UNSUPPORTED', 'INTERNAL'
] as const
export type VolumeErrorCode = typeof volumeErrorCodes[number]

/**
 * What the volume engine and the doors answer. The message is for an operator: which field, which value, what to do.
 * `field` names the request or attribute field that is at fault, `remedy` is one sentence.
 */
export class VolumeError extends Error {
  override readonly name = 'VolumeError'
  readonly code: VolumeErrorCode
  readonly field: string | undefined
  readonly remedy: string | undefined
  constructor (code: VolumeErrorCode, message: string, facts: ErrorOptions & { field?: string, remedy?: string } = {}) {
    super(
      facts.remedy === undefined ? message : `${message}; ${facts.remedy}`,
      facts.cause === undefined ? undefined : { cause: facts.cause }
    )
    this.code = code
    this.field = facts.field
    this.remedy = facts.remedy
  }
}

/**
 * Our own bug, of the kind after which memory no longer says what is true: going on could write wrong bytes. It ends
 * the session that meets it and never the agent; ARCHITECTURE, "A broken invariant", has the whole of it. Everything
 * else that is thrown unforeseen is a fault, which costs the request or call that met it.
 */
export class InvariantError extends Error {
  override readonly name = 'InvariantError'
  readonly code = 'INVARIANT'
}

/** Fails as our own bug when `condition` does not hold. */
export function invariant (condition: unknown, message: string): asserts condition {
  if (condition === false || condition === undefined || condition === null) throw new InvariantError(message)
}

/** For what may fail without harm: everything is swallowed but a broken invariant, which nobody may. */
export function harmless (error: unknown): undefined {
  if (error instanceof InvariantError) throw error
  return undefined
}

/** The text of anything that was thrown. */
export function messageOf (thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}
