/**
 * `volbridge mount --foreground`: one process that mounts, serves and unmounts.
 *
 * Owns that life. There is no custody: nobody notices its death or takes the mount over, and it says so.
 */
import path from 'node:path'
import { parseAbsolutePath, type DeviceNumber } from '../base/brands.ts'
import { VolumeError } from '../base/errors.ts'
import { dirtySessionBytesMax, kibibyteBytes } from '../base/limits.ts'
import { showSource } from '../base/volume-spec.ts'
import type { VolumeSpec } from '../base/volume-spec.ts'
import type { Output } from '../cli/arguments.ts'
import { loadAddon } from '../host/addon.ts'
import { fuseMountData, fuseType, openFuseDevice, setReadAhead } from '../host/fuse-connection.ts'
import { attachFuseDevice } from '../host/fuse-device.ts'
import { fuseRequestLimits } from '../host/fuse-sysctl.ts'
import { HostCalls } from '../host/host-calls.ts'
import { keepHeapSmall } from '../host/memory.ts'
import { readMountinfo, topMountAt } from '../host/mountinfo.ts'
import { Mounts, mountFlagBits } from '../host/mounts.ts'
import { FuseConnection } from '../session/connection.ts'
import type { Log } from '../session/dispatcher.ts'
import type { ConfiguredSession } from '../session/process.ts'
import { brokenExitCode } from '../session/control.ts'
import { createTaskReader } from '../session/proc-status.ts'
import { untilBroken } from './broken.ts'
import { openNfsVolume } from './nfs-volume.ts'
import { toNfsLog } from './session.ts'

/** Time for dirty data at the end; a server that is away gets no more. */
const drainMs = 10_000

/** The folder as the kernel spells it: what is mounted there goes through no link. */
async function requireFolder (mounts: Mounts, target: string): Promise<string> {
  const refuse = (why: string, remedy: string): never => {
    throw new VolumeError('INVALID', `DIR: ${JSON.stringify(target)} ${why}`, { field: 'DIR', remedy })
  }
  const { kind, path: resolved } = await mounts.inspect(target)
  if (kind === 'missing' || kind === 'orphan') refuse('does not exist', 'make it first')
  if (kind !== 'folder') refuse(`is a ${kind}`, 'give an empty folder')
  if (topMountAt(await readMountinfo(), resolved) !== undefined) {
    refuse('is a mount point already', 'unmount it, or give another folder')
  }
  if (!await mounts.isEmpty(resolved)) refuse('is not empty', 'give an empty folder')
  return resolved
}

/** Signals that mean "enough". The second one no longer waits for the server. */
async function untilSignalled (output: Output): Promise<void> {
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => {
        output.err('volbridge: unmounting\n')
        resolve()
      })
    }
  })
}

interface Mounted {
  readonly volume: ConfiguredSession
  readonly connection: FuseConnection
  readonly mounts: Mounts
  readonly target: string
}

/** Writes back, detaches, and answers how many bytes could not be saved. */
async function unmount ({ volume, connection, mounts, target }: Mounted): Promise<number> {
  const { lostBytes } = await volume.operations.drain(drainMs)
  try {
    await mounts.unmount(target)
  } catch {
    // Somebody has a file open or stands in it: the name goes now, the rest when they let go or we are gone.
    await mounts.unmount(target, { detach: true })
  }
  connection.close()
  return lostBytes
}

async function serveOrUnmount (
  { connection, mounts, target, volume }: Mounted,
  device: DeviceNumber | undefined
): Promise<void> {
  try {
    await connection.serve(volume.operations, {
      ...volume, idmappedDevice: volume.allowsIdmap === true ? device : undefined
    })
  } catch (error) {
    await mounts.unmount(target, { detach: true })
    throw error
  }
}

/** Answers the exit code. @throws VolumeError when it can't be mounted; then nothing is. */
export async function mountInForeground (spec: VolumeSpec, directory: string, output: Output): Promise<number> {
  if (spec.client !== 'fuse') {
    throw new VolumeError('INVALID', '--foreground: only client=fuse is served by a process', {
      field: '--foreground', remedy: 'leave it out'
    })
  }
  const given = parseAbsolutePath(path.resolve(directory), 'DIR')
  const log: Log = (level, _fields, message) => {
    if (level !== 'debug' && message !== undefined) output.err(`volbridge: ${message}\n`)
  }
  const addon = loadAddon()
  keepHeapSmall()
  const mounts = new Mounts(new HostCalls())
  const target = await requireFolder(mounts, given)
  const { fd } = openFuseDevice()
  let volume: ConfiguredSession | undefined
  const connection = new FuseConnection({
    device: attachFuseDevice(addon, fd), taskReader: createTaskReader(), log, requestLimits: fuseRequestLimits,
    onBroken: () => { void volume?.close() }
  })
  const broken = untilBroken()
  broken.addEventListener('abort', () => { connection.break(broken.reason) }, { once: true })
  try {
    volume = await openNfsVolume({
      spec, softReval: spec.target.options.softReval !== false, dirtyBytesMax: dirtySessionBytesMax
    }, {
      log: toNfsLog(log), invalidator: connection.invalidator
    })
    await mounts.mount({
      source: showSource(spec), target, type: fuseType, flags: mountFlagBits(spec.flags),
      data: fuseMountData({ fd, maxReadBytes: volume.maxReadBytes, kernelChecks: spec.idmap === true })
    }, { keep: [fd] })
    const device = topMountAt(await readMountinfo(), target)?.device
    await serveOrUnmount({ volume, connection, mounts, target }, device)
    if (device !== undefined) await setReadAhead(device, volume.readAheadBytes / kibibyteBytes)
    output.err(
      `volbridge: ${showSource(spec)} is mounted at ${target} as long as this process lives; nobody takes it over. Ctrl-C unmounts.\n`
    )
    const end = await Promise.race([connection.ended, untilSignalled(output)])
    const how = end?.reason
    if (how !== undefined) output.err(`volbridge: ${how}\n`)
    if (end?.isBroken === true) {
      await mounts.unmount(target, { detach: true })
      return brokenExitCode
    }
    const lostBytes = how === undefined ? await unmount({ volume, connection, mounts, target }) : 0
    if (lostBytes > 0) {
      output.err(
        `volbridge: ${lostBytes} bytes that programs had written could not be saved: the server did not take them in time\n`
      )
    }
    return lostBytes > 0 ? 1 : 0
  } finally {
    connection.close()
    await volume?.close()
  }
}
