/**
 * What may be written down of a value.
 *
 * Owns the rule: a field that the protocol marks as secret is never shown. Does not know key names: there is no list of
 * words like "password" here, because such a list is never complete.
 */
import { shapeOf } from '../../proto/csi/secret-fields.ts'
import type { MessageShape } from '../../proto/csi/secret-fields.ts'

export const redacted = '[redacted]'
const depthMax = 8
/** A caller decides how much it sends, and not how long our lines are. */
const stringLengthMax = 1024
const itemsMax = 64

export const shortened = (text: string): string =>
  text.length > stringLengthMax ? `${text.slice(0, stringLengthMax)}…` : text
const shortenedList = (items: readonly unknown[]): readonly unknown[] =>
  items.length > itemsMax ? [...items.slice(0, itemsMax), `… ${items.length - itemsMax} more`] : items

/** Empty secrets hide nothing and say that none was sent. */
function isEmpty (value: unknown): boolean {
  return value === '' || value === null || value === undefined ||
    (typeof value === 'object' && Object.keys(value).length === 0)
}

/** Attributes are the user's own words; some put a credential there by mistake. Their keys are shown, their values are
 * not. */
const keysOnly: ReadonlySet<string> = new Set(['volumeContext', 'publishContext'])

function redactValue (value: unknown, shape: MessageShape | undefined, depth: number): unknown {
  if (typeof value === 'bigint') return value.toString()
  if (typeof value === 'string') return shortened(value)
  if (typeof value !== 'object' || value === null) return value
  if (depth >= depthMax) return '…'
  if (Array.isArray(value)) {
    return shortenedList(value).map((item: unknown) => redactValue(item, shape, depth + 1)) as unknown
  }
  const entries = Object.entries(value as Readonly<Record<string, unknown>>).map(([field, inner]) => {
    if (shape?.isSecret(field) === true) return [field, isEmpty(inner) ? inner : redacted]
    if (shape !== undefined && keysOnly.has(field) && typeof inner === 'object' && inner !== null) {
      return [field, shortenedList(Object.keys(inner)).map((key) => redactValue(key, undefined, depth))]
    }
    return [field, redactValue(inner, shape?.message(field), depth + 1)]
  })
  return Object.fromEntries(entries) as Record<string, unknown>
}

/** A copy that may be logged. `message` is the csi.v1 message the value came as, if it did. */
export function redact (value: unknown, message?: string): unknown {
  return redactValue(value, message === undefined ? undefined : shapeOf(message), 0)
}
