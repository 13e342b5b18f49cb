/**
 * Cgroups that sessions of killed tests have left: empty, and nobody's. Owns finding and removing them.
 * A group in which a process lives refuses to go, so another agent's on this machine stays.
 */
import { readdirSync, rmdirSync } from 'node:fs'
import path from 'node:path'
import { cgroupRoots } from '../../agent/host/cgroups.ts'
import { readMountinfoSync } from '../../agent/host/mountinfo.ts'

const parent = 'volbridge-sessions'

function foldersIn (folder: string): readonly string[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).filter((each) => each.isDirectory()).map(({ name }) => name)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

function removeEmpty (folder: string): void {
  try {
    rmdirSync(folder)
  } catch (error) {
    if (!['EBUSY', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error
  }
}

export function removeLeftGroups (): void {
  for (const root of cgroupRoots(readMountinfoSync())) {
    const above = path.join(root, parent)
    for (const name of foldersIn(above)) removeEmpty(path.join(above, name))
    removeEmpty(above)
  }
}
