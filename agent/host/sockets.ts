/**
 * Unix sockets between our own processes. Owns connecting with a deadline and asking who is at the other end.
 * Does not know what is said over them.
 */
import { connect, type Socket } from 'node:net'
import { HostError, TransportError } from '../base/errors.ts'
import { unixSocketPathBytesMax } from '../base/limits.ts'
import { loadAddon, type DescriptorAddon } from './addon.ts'

export interface Peer {
  readonly pid: number
  readonly uid: number
  readonly gid: number
}

/** @throws HostError ENAMETOOLONG with what to do, because the kernel would cut the path or say only EINVAL. */
export function checkSocketPath (path: string): void {
  if (Buffer.byteLength(path) <= unixSocketPathBytesMax) return
  throw new HostError(
    { code: 'ENAMETOOLONG', errno: 36, call: `socket ${path}` },
    `the socket path ${path} is longer than ${unixSocketPathBytesMax} bytes; choose a shorter folder (--run-dir)`
  )
}

/** @throws TransportError REFUSED when nobody listens, TIMED_OUT. */
export async function connectUnix (path: string, deadlineMs: number): Promise<Socket> {
  checkSocketPath(path)
  const socket = connect(path)
  return await new Promise<Socket>((resolve, reject) => {
    const timer = setTimeout(() => {
      socket.destroy()
      reject(new TransportError('TIMED_OUT', `${path}: no connection within ${deadlineMs} ms`, { sent: false }))
    }, deadlineMs)
    socket.once('connect', () => {
      clearTimeout(timer)
      socket.removeAllListeners('error')
      resolve(socket)
    })
    socket.once('error', (error) => {
      clearTimeout(timer)
      reject(new TransportError('REFUSED', `${path}: ${error.message}`, { sent: false, cause: error }))
    })
  })
}

/** The process at the other end as the kernel knows it (unix(7) SO_PEERCRED); undefined when the socket is closed. */
export function peerOf (socket: Socket, addon: DescriptorAddon = loadAddon()): Peer | undefined {
  const fd = descriptorOf(socket)
  if (fd === undefined) return undefined
  const [pid, uid, gid] = addon.peerOf(fd)
  return { pid, uid, gid }
}

/** Node does not publish a socket's descriptor; its handle has had `fd` since 0.12, and a test watches that it still
 * does. */
export function descriptorOf (socket: Socket): number | undefined {
  const handle = (socket as { _handle?: { fd?: unknown } | null })._handle
  return typeof handle?.fd === 'number' && handle.fd >= 0 ? handle.fd : undefined
}
