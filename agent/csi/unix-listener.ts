/**
 * A unix socket that appears whole or not at all.
 *
 * Owns the way a socket file comes and goes: it is bound in a hidden 0700 folder, made 0600, and renamed into place, so
 * no other user can connect in between, a stale socket is replaced, and kubelet's watcher (which ignores names with a
 * dot) sees one event. Does not know what is spoken over it.
 */
import { randomBytes } from 'node:crypto'
import { chmodSync, lstatSync, unlinkSync } from 'node:fs'
import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import path from 'node:path'
import { VolumeError, messageOf } from '../base/errors.ts'
import { unixSocketPathBytesMax } from '../base/limits.ts'
import { RootFolder } from '../host/root-folder.ts'

export interface UnixListener {
  readonly path: string
  /** Whether the file at `path` is still the socket we made. */
  isInPlace (): boolean
  /** Stops accepting and, unless `leaveFile`, removes the file if it is still ours. Open connections live on. */
  close (options: { leaveFile: boolean }): void
}

function refuseLongPath (socketPath: string, field: string): void {
  // Bound under a hidden folder first: that name must fit as well.
  const longest = Math.max(
    Buffer.byteLength(socketPath),
    Buffer.byteLength(path.join(path.dirname(socketPath), '.vXXXXXX/s'))
  )
  if (longest <= unixSocketPathBytesMax) return
  throw new VolumeError(
    'INVALID',
    `${field}: ${JSON.stringify(socketPath)} needs ${longest} bytes and a unix socket's path may have ${unixSocketPathBytesMax}`,
    { field, remedy: 'choose a shorter folder' }
  )
}

async function bind (server: Server, socketPath: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ path: socketPath, backlog: 511 }, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

/** @throws VolumeError INVALID naming `field` when the path is too long or its folder can't be used. */
export async function listenUnix (
  socketPath: string,
  field: string,
  onConnection: (socket: Socket) => void
): Promise<UnixListener> {
  refuseLongPath(socketPath, field)
  const server = createServer(onConnection)
  let folder: RootFolder | undefined
  try {
    folder = RootFolder.open(path.dirname(socketPath))
    const made = await appear(server, folder, path.basename(socketPath))
    return listenerOf(server, socketPath, made)
  } catch (error) {
    server.close()
    throw new VolumeError('INVALID', `${field}: no socket can be made at ${socketPath}: ${messageOf(error)}`, {
      field, cause: error, ...error instanceof VolumeError ? {} : { remedy: 'the folder must exist and be writable' }
    })
  } finally {
    folder?.close()
  }
}

/** Bound in a hidden folder and renamed, both below the descriptor of the folder that was judged. */
async function appear (server: Server, folder: RootFolder, name: string): Promise<string | undefined> {
  const hidden = `.v${randomBytes(3).toString('hex')}`
  const inside = folder.makeChild(hidden, 0o700)
  try {
    await bind(server, inside.at('s'))
    chmodSync(inside.at('s'), 0o600)
    const made = identityOf(inside.at('s'))
    inside.rename('s', name, folder)
    return made
  } finally {
    if (inside.look('s') !== undefined) inside.removeFile('s')
    inside.close()
    folder.removeFolder(hidden)
  }
}

/** Which file lies there. Inode numbers are used again at once, so the time of birth belongs to it. */
function identityOf (file: string): string | undefined {
  const facts = lstatSync(file, { throwIfNoEntry: false, bigint: true })
  return facts === undefined ? undefined : `${facts.dev} ${facts.ino} ${facts.birthtimeNs}`
}

function listenerOf (server: Server, socketPath: string, made: string | undefined): UnixListener {
  // An accept that fails (EMFILE) is not the end of the listener; libuv goes on with the next one.
  server.on('error', () => undefined)
  const isInPlace = (): boolean => identityOf(socketPath) === made
  return {
    path: socketPath,
    isInPlace,
    close: ({ leaveFile }) => {
      if (!leaveFile && isInPlace()) unlinkSync(socketPath)
      server.close()
    }
  }
}
