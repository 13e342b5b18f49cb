/**
 * What the node's administrator has set for every FUSE file system (`/proc/sys/fs/fuse`). Owns reading it. A kernel
 * that has no such setting has no such limit.
 */
import { readFileSync } from 'node:fs'

function seconds (name: string): number {
  try {
    return Number.parseInt(readFileSync(`/proc/sys/fs/fuse/${name}`, 'utf8'), 10) || 0
  } catch (error) {
    // Before Linux 6.15, or a container that hides it.
    if (['ENOENT', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return 0
    throw error
  }
}

/** How long a request may wait before the kernel ends its connection, in seconds; 0 is for ever (kernel
 * Documentation/admin-guide/sysctl/fs.rst). */
export function fuseRequestLimits (): { readonly defaultSeconds: number, readonly maxSeconds: number } {
  return { defaultSeconds: seconds('default_request_timeout'), maxSeconds: seconds('max_request_timeout') }
}
