/**
 * Observers that wrap: the core stays silent, and one failure makes one line.
 *
 * Owns which outcome is worth which level, and the line about a finished call. Does not know what the calls do.
 */
import { VolumeError } from '../base/errors.ts'
import type { VolumeErrorCode } from '../base/errors.ts'
import { monotonicMs } from '../base/deadline.ts'
import type { Log, LogFields, LogLevel } from './log.ts'
import type { CallMetrics } from './metrics.ts'
import { redact, shortened } from './redact.ts'

/** How much an operator should care. What a kubelet simply repeats is no warning. */
export const levelOf = {
  INVALID: 'warn',
  NOT_FOUND: 'info',
  CONFLICT: 'warn',
  PRECONDITION: 'warn',
  IN_PROGRESS: 'info',
  UNAVAILABLE: 'warn',
  TIMED_OUT: 'warn',
  EXHAUSTED: 'warn',
  DENIED: 'warn',
  UNSUPPORTED: 'warn',
  INTERNAL: 'error'
} as const satisfies Record<VolumeErrorCode, LogLevel>

/** Calls that come every minute or second and change nothing: a line each time would bury the others. */
const quietCalls: ReadonlySet<string> = new Set([
  'GetPluginInfo', 'GetPluginCapabilities', 'Probe', 'NodeGetCapabilities', 'NodeGetInfo', 'NodeGetVolumeStats',
  'NodeGetVolumeHealth', 'NodeGetStorageHealth', 'GetInfo', 'Status', 'Ready'
])

export interface ObservedCall { readonly method: string, readonly door: string, readonly request: object }
export interface ObservedOutcome { readonly code: string, readonly error: unknown }

const text = (value: unknown): string | undefined =>
  typeof value === 'string' && value !== '' ? shortened(value) : undefined

function levelOfOutcome (method: string, { error }: ObservedOutcome): LogLevel {
  if (error === undefined) return quietCalls.has(method) ? 'debug' : 'info'
  return error instanceof VolumeError ? levelOf[error.code] : 'error'
}

/** What an error says beyond its message: its cause, and the stack when it is our fault. */
function errorFields (error: unknown, level: LogLevel): Record<string, unknown> {
  if (!(error instanceof Error)) return {}
  return {
    ...(error instanceof VolumeError && error.field !== undefined ? { field: error.field } : {}),
    ...(error.cause instanceof Error ? { cause: error.cause.message } : {}),
    ...(level === 'error' ? { stack: error.stack } : {})
  }
}

/** An observer of served calls: a line and a count each. */
export function observeCalls (
  log: Log,
  metrics: CallMetrics
): (call: ObservedCall) => (outcome: ObservedOutcome) => void {
  let count = 0
  return ({ method, door, request }) => {
    const started = monotonicMs()
    const id = `${process.pid}-${++count}`
    metrics.started()
    return (outcome) => {
      const ms = monotonicMs() - started
      const level = levelOfOutcome(method, outcome)
      const { volumeId, targetPath, stagingTargetPath } = request as Readonly<Record<string, unknown>>
      const volume = text(volumeId)
      const fields: LogFields = {
        ...(volume === undefined ? {} : { volume }),
        op: method, outcome: outcome.code, ms: Math.round(ms), request: id, door,
        ...(text(targetPath) === undefined ? {} : { target: text(targetPath) }),
        ...(text(stagingTargetPath) === undefined ? {} : { staging: text(stagingTargetPath) }),
        ...(outcome.error === undefined ? {} : { arguments: redact(request, `${method}Request`) }),
        ...errorFields(outcome.error, level)
      }
      log(level, fields, outcome.error instanceof Error ? shortened(outcome.error.message) : undefined)
      metrics.ended(method, outcome.code, door, ms / 1000)
    }
  }
}
