/**
 * Another program that mounts the same export, started by a command line of whoever measures: `{url}` becomes an nfs://
 * URL as libnfs reads it, `{folder}` the mount point. Owns its life, from a new mount to the end of its processes. Does
 * not know what it is.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import process from 'node:process'
import { pause } from '../../../agent/base/deadline.ts'
import { mountsBelow, run } from '../../semantics/endtoend/node.ts'

const startMs = 10_000

export interface Peer { close (): Promise<void> }

/** Resolves when the folder is mounted. @throws when it is not within ten seconds. */
export async function startPeer (
  command: string,
  { url, folder }: { readonly url: string, readonly folder: string }
): Promise<Peer> {
  const line = command.replaceAll('{url}', `'${url}'`).replaceAll('{folder}', `'${folder}'`)
  const child = spawn('/bin/sh', ['-c', line], { detached: true, stdio: ['ignore', 'ignore', 'inherit'] })
  const gone = once(child, 'exit')
  const close = async (): Promise<void> => {
    await run('umount', ['-l', folder])
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGTERM')
    } catch (error) {
      // It has ended with its mount, or has gone into the background and ends with it.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
    await gone
  }
  for (let waitedMs = 0; mountsBelow(folder).length === 0; waitedMs += 50) {
    if (waitedMs >= startMs) {
      await close()
      throw new Error(`--peer: nothing was mounted within ${startMs / 1000} s by: ${line}`)
    }
    await pause(50)
  }
  return { close }
}
