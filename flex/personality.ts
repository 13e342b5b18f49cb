/**
 * Whether this process was started as a Flex driver.
 *
 * Owns that rule, and which of the two drivers it is. Imports nothing, because it runs before anything else is loaded,
 * in every role.
 */

/** `kernel`: the driver whose mounts are all of the kernel's NFS client (`isKernelDriver`). */
export type DriverKind = 'general' | 'kernel'

/** Roles a Flex-started binary gives to processes of its own. kubelet has no call-outs of these names (k8s
 * flexvolume/driver-call.go). */
const ownRoles: ReadonlySet<string> = new Set(['agent', 'session', 'flex'])

/**
 * kubelet looks for `vendor~driver/driver` in its plugin folder (k8s flexvolume/probe.go). A copy of the binary in such
 * a folder is a Flex driver whatever its arguments are, except for the roles it starts itself.
 */
export function isFlexDriver (executable: string, args: readonly string[]): boolean {
  const folder = executable.split('/').at(-2) ?? ''
  return /^[^~/]+~[^~/]+$/.test(folder) && !ownRoles.has(args[0] ?? '')
}

/**
 * Whether that is the second driver, for `client=kernel` alone. It has a name of its own because capabilities are a
 * driver's, and kubelet must not ask such a mount for its size: statfs(2) on a hard mount of the kernel's client waits
 * for the server, and kubelet has no deadline there.
 */
export function isKernelDriver (executable: string): boolean {
  return /^[^~/]+~[^~/]+-kernel$/.test(executable.split('/').at(-2) ?? '')
}
