/**
 * Which `Host` a request for details may name.
 *
 * Owns the rule against DNS rebinding: a page of somebody else's, whose name suddenly leads to this address, sends its
 * own name along. An address is nobody's name, and the names of this node are ours. Does not know what is asked for.
 */
import { isIP } from 'node:net'

/** Without the port, in small letters; undefined when there is none. */
export function hostOf (field: string | undefined): string | undefined {
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s/@]+))(?::\d{1,5})?$/.exec(field ?? '')
  return (found?.[1] ?? found?.[2])?.toLowerCase().replace(/\.$/, '')
}

/** `names`: what this node is called. */
export function isOwnHost (field: string | undefined, names: readonly string[]): boolean {
  const host = hostOf(field)
  if (host === undefined) return false
  return isIP(host) !== 0 || host === 'localhost' || names.some((name) => name.toLowerCase() === host)
}
