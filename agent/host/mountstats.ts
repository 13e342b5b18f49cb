/**
 * /proc/PID/mountstats: what the kernel's NFS client counts for each mount (net/sunrpc/stats.c, fs/nfs/super.c).
 * Owns the one figure taken from it. Does not know whose mounts they are. Reading it asks no server.
 */

/**
 * Bytes that write(2) took for the file system mounted at `mountPoint` and that no server has taken: more than are
 * waiting where a program wrote the same place twice, fewer where it wrote through a mapping. Undefined when the kernel
 * tells nothing.
 */
export function unsentBytes (text: string, mountPoint: string): number | undefined {
  const escaped = mountPoint.replace(/[ \t\n\\#]/g, (found) => `\\${found.charCodeAt(0).toString(8).padStart(3, '0')}`)
  const section = text.split(/^device /m).find((part) =>
    part.split('\n', 1)[0]?.includes(` mounted on ${escaped} with fstype nfs`) === true
  )
  /* normalread normalwritten directread directwritten serverread serverwritten readpages writepages */
  const counts = /^\s*bytes:\s+(\d+(?: \d+){5})/m.exec(section ?? '')?.[1]?.split(' ').map(Number)
  if (counts === undefined) return undefined
  const [, written = 0, , direct = 0, , sent = 0] = counts
  return Math.max(0, written + direct - sent)
}
