/**
 * A file system over NFS, composed: client, core and what is known about the server.
 *
 * Owns how options become parameters of the parts. Used by a session process and by a mount in the foreground; does not
 * know FUSE.
 */
import { readFileSync } from 'node:fs'
import { within } from '../base/deadline.ts'
import { Errno, errnoName, isErrno } from '../base/errno.ts'
import { VolumeError } from '../base/errors.ts'
import { ioBytesMax } from '../base/limits.ts'
import { backgroundClock } from '../base/clock.ts'
import { Filesystem } from '../fs/filesystem.ts'
import { MemoryArena } from '../fs/written/memory-arena.ts'
import { MemoryState } from '../fs/objects/memory-state.ts'
import type { Invalidator } from '../fs/operations.ts'
import type { NfsClient } from '../nfs/client.ts'
import { connectNfs } from '../nfs/connect.ts'
import { clientCredential, volumeCredential } from '../nfs/credentials.ts'
import { measureRoundTrip, readAheadFor } from '../nfs/read-ahead.ts'
import type { NfsLog } from '../nfs/transport-log.ts'
import type { SessionConfiguration } from '../session/control.ts'
import type { ConfiguredSession } from '../session/process.ts'
import { MountGroup } from './mount-group.ts'
import { ServerHealth } from './server-health.ts'

/** nfs(5) softreval: after so long without the server, what is known is answered from what is known. */
const softRevalMs = 5000
const rootMs = 10_000

export interface NfsVolumeParts {
  readonly log: NfsLog
  readonly invalidator: Invalidator
}

async function rootModeOf (client: NfsClient): Promise<number> {
  const { root } = client.backend
  const found = root.attributes ??
    await within(rootMs, client.backend.getattr(root.handle, clientCredential), () => Errno.ETIMEDOUT)
  if (!isErrno(found)) return found.mode
  throw new VolumeError('UNAVAILABLE', `server: the volume's root can't be read (${errnoName(found)})`, {
    field: 'server', remedy: 'check the export'
  })
}

/** A volume that is shared after all may have thousands of such files: the first are named, then every thousandth. */
function warnOfSharing (log: NfsLog): (path: string) => void {
  let count = 0
  return (path) => {
    count += 1
    if (count > 20 && count % 1000 !== 0) return
    log.warn(
      { path, count },
      `consistency=solowriter has ended for ${path}: somebody else changed it; it is handled as with consistency=standard now`
    )
  }
}

/**
 * sysctl fs.protected_hardlinks, kernel Documentation/admin-guide/sysctl/fs.rst. Where it can't be read it is on, as on
 * most nodes.
 */
function protectsHardlinks (): boolean {
  try {
    return readFileSync('/proc/sys/fs/protected_hardlinks', 'utf8').trim() !== '0'
  } catch {
    return true
  }
}

function filesystemOf (
  { spec, softReval, dirtyBytesMax }: Omit<SessionConfiguration, 'key'>,
  client: NfsClient,
  { invalidator, log }: NfsVolumeParts,
  arena: MemoryArena
): Filesystem {
  return new Filesystem({
    backend: client.backend,
    state: new MemoryState(),
    arena,
    invalidator,
    clock: backgroundClock,
    onShared: warnOfSharing(log),
    options: {
      // All of them: the core takes those it knows (`CachingOptions`).
      ...spec.target.options,
      soloWriter: spec.consistency === 'solowriter',
      dirtySessionBytesMax: dirtyBytesMax,
      softRevalMs: softReval ? softRevalMs : undefined,
      protectedHardlinks: protectsHardlinks(),
      mountGroup: spec.mountGroup,
      kernelChecks: spec.idmap === true,
      nosuid: spec.flags.nosuid
    }
  })
}

const idmapNote =
  'idmap: pods in user namespaces may use the volume; this node judges by mode bits before the server does'

/** Connects and resolves the root. @throws VolumeError naming the attribute that is wrong. */
export async function openNfsVolume (
  configuration: Omit<SessionConfiguration, 'key'>,
  parts: NfsVolumeParts
): Promise<ConfiguredSession> {
  const { mountPermissions, idmap, restraint, target } = configuration.spec
  const client = await connectNfs(target, { log: parts.log, squashRoot: restraint === 'anonymous' })
  try {
    const rootMode = await rootModeOf(client)
    const readAheadBytes = readAheadFor(await measureRoundTrip(client))
    const arena = new MemoryArena(configuration.dirtyBytesMax)
    const operations = filesystemOf(configuration, client, parts, arena)
    const { identity } = target
    const group = new MountGroup({
      filesystem: operations, backend: client.backend, credential: volumeCredential(target), log: parts.log,
      mayChange: restraint === undefined, keepsRootMode: mountPermissions !== undefined
    })
    const notes = [
      ...identity === undefined
        ? []
        : [`identity: every call goes to the server as uid ${identity.uid}, gid ${identity.gid}`],
      ...idmap === true ? [idmapNote] : []
    ]
    const health = new ServerHealth(client)
    health.watch()
    const { transport } = client
    return {
      operations,
      rootMode,
      serverAddress: transport.serverAddress,
      isSoloWriter: configuration.spec.consistency === 'solowriter',
      identity,
      allowsIdmap: idmap === true,
      maxReadBytes: Math.min(client.backend.capabilities.readBytesMax, ioBytesMax),
      readAheadBytes,
      report: () => ({
        health: health.current.health,
        healthReason: health.current.reason,
        serverAddress: transport.serverAddress,
        sinceLastReplyMs: Math.round(transport.sinceLastReplyMs()),
        counters: { ...transport.counters(), ...operations.counters() },
        gauges: { ...transport.gauges(), ...operations.gauges() },
        notes: [...group.notes(), ...notes, ...operations.notes()]
      }),
      statistics: async (deadlineMs) => await health.statistics(deadlineMs),
      probe: async (deadlineMs) => await health.probe(deadlineMs),
      checkRoot: async (deadlineMs) => await health.checkRoot(deadlineMs),
      giveGroup: async (gift, deadlineMs) => await group.give(gift, deadlineMs),
      trim: () => { arena.trim() },
      close: async () => {
        health.stop()
        group.close()
        await client.close()
      }
    }
  } catch (error) {
    await client.close()
    throw error
  }
}
