/**
 * The `server` attribute. Owns its syntax: a name, an address, `[v6]`, or a comma list of addresses of one server.
 * Does not resolve anything.
 */
import { isIPv4, isIPv6 } from 'node:net'
import { VolumeError } from '../../base/errors.ts'

/** Addresses tried in turn while the server is away: more only make the wait longer. */
export const serversMax = 8
const hostName =
  /^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?$/

/** @throws VolumeError INVALID, field `server`. IPv6 comes out without brackets. */
export function parseServers (text: string): readonly string[] {
  const servers = [...new Set(text.split(',').map((item) => parseServer(item.trim(), text)))]
  if (servers.length > serversMax) {
    throw refusal(text, `names ${servers.length} addresses`, `give at most ${serversMax}, all of one server`)
  }
  return Object.freeze(servers)
}

function parseServer (item: string, whole: string): string {
  if (item === '') throw refusal(whole, 'has an empty name', 'give the server\'s name or address')
  if (item.includes('://')) throw refusal(whole, 'is a URL', 'give only the name or address, and the path in "share"')
  if (item.startsWith('[')) {
    const address = item.endsWith(']') ? item.slice(1, -1) : ''
    if (isIPv6(address)) return address
    throw refusal(
      whole,
      'is not an IPv6 address in brackets',
      'write it like [2001:db8::1]; a port goes into mountOptions as port=N'
    )
  }
  if (isIPv6(item) || isIPv4(item)) return item
  if (item.includes('/')) throw refusal(whole, 'contains "/"', 'give only the name or address, and the path in "share"')
  if (/^[^:]+:\d+$/.test(item)) throw refusal(whole, 'contains a port', 'put the port into mountOptions as port=N')
  if (/^[\d.]+$/.test(item)) throw refusal(whole, 'is not an IPv4 address', 'write four numbers from 0 to 255')
  if (!hostName.test(item)) throw refusal(whole, 'is not a host name or address', 'use letters, digits, "-" and "."')
  return item.endsWith('.') ? item.slice(0, -1) : item
}

function refusal (text: string, why: string, remedy: string): VolumeError {
  return new VolumeError('INVALID', `server: ${JSON.stringify(text.slice(0, 300))} ${why}`, { field: 'server', remedy })
}
