/** What `--listen` may say. Owns its grammar; does not know who listens. */
import { VolumeError } from '../../base/errors.ts'

export interface ListenAddress { readonly host: string, readonly port: number }

/** `HOST:PORT` with `[v6]:PORT`, or a port of the loopback address; port 0 takes a free one. @throws VolumeError */
export function parseListenAddress (text: string): ListenAddress {
  if (/^\d{1,5}$/.test(text) && Number(text) <= 65535) return { host: '127.0.0.1', port: Number(text) }
  const found = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text)
  const host = found?.[1] ?? found?.[2]
  const port = Number(found?.[3])
  if (host === undefined || port > 65535) {
    throw new VolumeError('INVALID', `--listen: ${JSON.stringify(text)} is not HOST:PORT`, {
      field: '--listen', remedy: 'for example 9810, which is 127.0.0.1:9810, or [::1]:9810'
    })
  }
  return { host, port }
}

export const showAddress = ({ host, port }: ListenAddress): string =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
