/**
 * Removes a folder of a test or a demonstration with everything in it.
 * Owns what stands in the way: bare folders of Flex pods are immutable as long as the pod's mount is there, and stay so
 * after one whose agent was killed with the test. Does not unmount: what is mounted below would be emptied.
 */
import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'

const flagsMs = 60_000

export function removeFolder (folder: string): void {
  try {
    rmSync(folder, { recursive: true, force: true })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error
    // Fails when it found nothing to clear, which the second try judges better.
    spawnSync('chattr', ['-R', '-f', '-i', folder], { stdio: 'ignore', timeout: flagsMs })
    rmSync(folder, { recursive: true, force: true })
  }
}
