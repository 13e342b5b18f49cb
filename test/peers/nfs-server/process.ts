/**
 * Starts the server as a process of its own, so that its work is not the tested client's.
 * Owns that process: it ends with close() or with us. Does not know what it serves.
 */
import { spawn } from 'node:child_process'
import path from 'node:path'
import process from 'node:process'
import { createInterface } from 'node:readline'

export interface ServerProcess {
  readonly pid: number
  readonly port: number
  readonly share: string
  readonly url: string
  readonly mountOptions: string
  close: () => Promise<void>
}

export async function startServerProcess (options: { folder: string, share?: string, port?: number }): Promise<
  ServerProcess
> {
  const child = spawn(process.execPath, [
    '--no-warnings', path.join(import.meta.dirname, 'main.ts'),
    '--folder', options.folder, '--share', options.share ?? '/export', '--port', String(options.port ?? 0)
    // In a process group of its own: Ctrl-C ends the client's work first. Without us the IPC channel closes, and it
    // ends as well.
  ], { stdio: ['ignore', 'pipe', 'inherit', 'ipc'], detached: true })
  const ended = new Promise<void>((resolve) => { child.once('exit', () => { resolve() }) })
  const { stdout } = child
  if (stdout === null) throw new Error('the NFS server has no output')
  const line = await new Promise<string>((resolve, reject) => {
    createInterface({ input: stdout }).once('line', resolve)
    child.once('exit', (code) => { reject(new Error(`the NFS server ended with code ${code}`)) })
    child.once('error', reject)
  })
  const facts = JSON.parse(line) as Omit<ServerProcess, 'pid' | 'close'>
  return {
    ...facts,
    pid: child.pid ?? 0,
    close: async () => {
      child.kill('SIGTERM')
      await ended
    }
  }
}
