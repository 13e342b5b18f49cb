/**
 * A real FUSE mount served by this very process from a `MemoryFilesystem`.
 *
 * Owns mounting, and taking everything away again. The tests touch the mount only from child processes or from Node's
 * thread pool: the loop that would wait is the one that serves.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { pause } from '../../../agent/base/deadline.ts'
import { loadAddon } from '../../../agent/host/addon.ts'
import { abortConnection, fuseMountData, fuseType, openFuseDevice } from '../../../agent/host/fuse-connection.ts'
import { attachFuseDevice } from '../../../agent/host/fuse-device.ts'
import type { FuseDevice } from '../../../agent/host/fuse-device.ts'
import { HostCalls } from '../../../agent/host/host-calls.ts'
import { readMountinfo, topMountAt } from '../../../agent/host/mountinfo.ts'
import { Mounts } from '../../../agent/host/mounts.ts'
import { FuseConnection } from '../../../agent/session/connection.ts'
import { createTaskReader } from '../../../agent/session/proc-status.ts'
import type { FilesystemOperations } from '../../../agent/fs/operations.ts'
import type { DeviceNumber } from '../../../agent/base/brands.ts'
import type { InitWishes, Negotiated } from '../../../proto/fuse/init.ts'

export const run = promisify(execFile)

export interface Mounted {
  readonly path: string
  readonly device: DeviceNumber
  readonly connection: FuseConnection
  readonly negotiated: Negotiated
  readonly logged: readonly string[]
  abort (): Promise<void>
  /** Detaches the mount, waits for the end of the connection and removes the folder. */
  close (): Promise<void>
}

/** `tap` sees every batch of requests before it is served. */
export async function mountMemory (
  operations: FilesystemOperations,
  wishes?: InitWishes,
  tap?: (device: FuseDevice, count: number) => void
): Promise<Mounted> {
  const path = await mkdtemp(join(tmpdir(), 'volbridge-fuse-'))
  const mounts = new Mounts(new HostCalls())
  const { fd } = openFuseDevice()
  const logged: string[] = []
  const device = attachFuseDevice(loadAddon(), fd)
  if (tap !== undefined) tapRequests(device, tap)
  const connection = new FuseConnection({
    device,
    taskReader: createTaskReader(),
    log: (level, fields, message) => { logged.push(`${level} ${message ?? ''} ${JSON.stringify(fields)}`) },
    ...(wishes === undefined ? undefined : { wishes })
  })
  await mounts.mount(
    {
      source: 'memory', target: path, type: fuseType,
      data: fuseMountData({ fd, maxReadBytes: 1024 * 1024, kernelChecks: false }), flags: 0
    },
    { keep: [fd] }
  )
  const negotiated = await connection.serve(operations)
  const mount = topMountAt(await readMountinfo(), path)
  if (mount === undefined) throw new Error(`${path} is not in mountinfo`)
  return {
    path,
    device: mount.device,
    connection,
    negotiated,
    logged,
    async abort () {
      // Nodes with systemd have it mounted; a bare machine may not, and is left as it was.
      const fusectl = '/sys/fs/fuse/connections'
      const wasMounted = topMountAt(await readMountinfo(), fusectl) !== undefined
      if (!wasMounted) await mounts.mount({ source: 'fusectl', target: fusectl, type: 'fusectl', data: '', flags: 0 })
      try {
        const why = await abortConnection(mount.device)
        if (why !== undefined) throw new Error(why)
      } finally {
        if (!wasMounted) await mounts.unmount(fusectl)
      }
    },
    async close () {
      await mounts.unmount(path, { detach: true })
      // A process that is still inside keeps a detached mount alive; the descriptor's end is its end.
      await Promise.race([connection.ended, pause(3000)])
      connection.close()
      await rmdir(path)
    }
  }
}

function tapRequests (device: FuseDevice, tap: (device: FuseDevice, count: number) => void): void {
  const listen = device.listen.bind(device)
  device.listen = (events) => {
    listen({
      ...events,
      requests (count) {
        tap(device, count)
        events.requests(count)
      }
    })
  }
}
