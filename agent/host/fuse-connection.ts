/**
 * The node's side of a FUSE mount outside its file system: the device, its read-ahead window, its abort switch.
 * Owns those sysfs paths. Does not know who serves the mount.
 */
import { closeSync, constants, openSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import type { DeviceNumber } from '../base/brands.ts'
import { HostError, messageOf } from '../base/errors.ts'

/** How a control file is written: by ourselves, or by a child in the node's namespaces, where fusectl is mounted. */
export type WriteControl = (path: string, text: string) => Promise<void>

export const fuseDevicePath = '/dev/fuse'
/** `fuse.` gives statfs and `df` a name of ours; the kernel takes what follows the dot as the subtype. */
export const fuseType = 'fuse.volbridge'

/** Opens /dev/fuse without blocking reads; close-on-exec as all of Node's descriptors. @throws HostError with the
 * remedy. */
export function openFuseDevice (path = fuseDevicePath): { readonly fd: number, close: () => void } {
  let fd: number
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'EIO'
    const errno = error instanceof Error && 'errno' in error ? Math.abs(Number(error.errno)) : 5
    throw new HostError(
      { code, errno, call: `opening ${path}` },
      `${path} cannot be opened (${code}); load the fuse module (modprobe fuse), run as root, and in a container give it the device ${path}`
    )
  }
  let open = true
  return {
    fd,
    close () {
      if (open) closeSync(fd)
      open = false
    }
  }
}

/**
 * mount(2) data of a FUSE mount that users other than the mounter may enter. `kernelChecks` has the kernel judge by
 * mode bits before it asks (`default_permissions`); without it whoever serves the connection judges.
 */
export function fuseMountData ({ fd, maxReadBytes, kernelChecks }: {
  fd: number
  maxReadBytes: number
  kernelChecks: boolean
}): string {
  const judge = kernelChecks ? 'default_permissions,' : ''
  return `fd=${fd},rootmode=40000,user_id=0,group_id=0,allow_other,${judge}max_read=${maxReadBytes}`
}

/**
 * Buffered reads stay at 128 KiB until the read-ahead window is raised, whatever INIT says. Best effort.
 * @returns undefined, or why it could not be set.
 */
export async function setReadAhead (
  device: DeviceNumber,
  kibibytes: number,
  write: WriteControl = writeFile
): Promise<string | undefined> {
  const path = `/sys/class/bdi/${device}/read_ahead_kb`
  try {
    await write(path, `${kibibytes}\n`)
    return undefined
  } catch (error) {
    return messageOf(error)
  }
}

/** Ends the connection through fusectl: every request fails with ENOTCONN or ECONNABORTED. @returns why not, or
 * undefined. */
export async function abortConnection (
  device: DeviceNumber,
  write: WriteControl = writeFile
): Promise<string | undefined> {
  try {
    await write(`/sys/fs/fuse/connections/${minorOf(device)}/abort`, '1\n')
    return undefined
  } catch (error) {
    return messageOf(error)
  }
}

/** FUSE uses anonymous devices: major 0, and fusectl names connections by the minor alone. */
const minorOf = (device: DeviceNumber): string => device.split(':')[1] ?? ''
