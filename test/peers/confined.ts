/**
 * A process that gives its power away as a session does, and then tries one thing that an intruder would.
 * Arguments: the attempt. Prints `done`, or the name of the errno that stopped it; some end it at once.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { lookup } from 'node:dns/promises'
import process from 'node:process'
import { Worker } from 'node:worker_threads'
import { loadAddon } from '../../agent/host/addon.ts'
import { confine } from '../../agent/host/confine.ts'
import { readMountinfoSync } from '../../agent/host/mountinfo.ts'

const attempts: Readonly<Record<string, () => unknown>> = {
  nothing: () => undefined,
  'reads a secret of root': () => readFileSync(process.argv[3] ?? ''),
  'writes as root': () => { writeFileSync('/etc/volbridge-intruder', '') },
  'lists the memory of process 1': () => readFileSync('/proc/1/maps'),
  'lists what process 1 has open': () => readdirSync('/proc/1/fd'),
  'ends another process': () => process.kill(process.ppid, 'SIGTERM'),
  'becomes root again': () => process.setuid?.(0),
  'starts a program': () => spawnSync('/bin/true').error,
  'becomes a program': () => process.execve?.('/bin/true', ['true'], {}),
  'works on: a thread, a name, a socket, a reserved port': async () => {
    const worker = new Worker('require("node:worker_threads").parentPort.postMessage("here")', { eval: true })
    await new Promise((resolve) => { worker.once('message', resolve) })
    await worker.terminate()
    await lookup('localhost')
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => { server.once('listening', resolve) })
    if ((server.address() as AddressInfo).port === 0) throw new Error('no port')
    server.close()
    const reserved = createServer().listen(998, '127.0.0.1')
    await new Promise((resolve, reject) => {
      reserved.once('listening', resolve)
      reserved.once('error', (error: NodeJS.ErrnoException) => {
        // Taken, by somebody else on this machine, is allowed as well.
        if (error.code === 'EADDRINUSE') resolve(undefined)
        else reject(error)
      })
    })
    reserved.close()
  }
}

const lacks = confine({ addon: loadAddon(), mounts: readMountinfoSync(), pid: process.pid, reservedPorts: true })
if (lacks.length > 0) throw new Error(lacks.join())
try {
  const answer = await attempts[process.argv[2] ?? '']?.()
  if (answer instanceof Error) throw answer
  process.stdout.write('done')
} catch (error) {
  process.stdout.write((error as NodeJS.ErrnoException).code ?? String(error))
}
