/**
 * Which boot of the machine this is. Owns reading the kernel's boot id.
 * Does not know what follows: mounts and pids recorded under another id are gone.
 */
import { readFile } from 'node:fs/promises'

export async function readBootId (path = '/proc/sys/kernel/random/boot_id'): Promise<string> {
  return (await readFile(path, 'latin1')).trim()
}
