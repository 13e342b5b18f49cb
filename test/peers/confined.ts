/**
 * A process that gives its power away as a session does, and then tries one thing that an intruder would.
 * Arguments: the attempt and what it is about. Says `done` on its standard error, or the name of the errno that
 * stopped it; some end it at once.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { lookup } from 'node:dns/promises'
import process from 'node:process'
import { Worker } from 'node:worker_threads'
import { loadAddon } from '../../agent/host/addon.ts'
import { confine } from '../../agent/host/confine.ts'
import { readMountinfoSync } from '../../agent/host/mountinfo.ts'

const attempts: Readonly<Record<string, () => unknown>> = {
  nothing: () => undefined,
  'reads': () => readFileSync(process.argv[3] ?? ''),
  'lists': () => readdirSync(process.argv[3] ?? ''),
  'writes': () => { writeFileSync(process.argv[3] ?? '', '') },
  'speaks to an abstract socket': async () => {
    const socket = connect({ path: `\0${process.argv[3] ?? ''}` })
    await new Promise((resolve, reject) => { socket.once('connect', resolve).once('error', reject) })
    socket.destroy()
  },
  'connects to a port': async () => {
    const socket = connect(Number(process.argv[3]), '127.0.0.1')
    await new Promise((resolve, reject) => { socket.once('connect', resolve).once('error', reject) })
    socket.destroy()
  },
  'listens on a port': async () => {
    const server = createServer().listen(Number(process.argv[3]), '127.0.0.1')
    await new Promise((resolve, reject) => { server.once('listening', resolve).once('error', reject) })
    server.close()
  },
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
  },
  // A server's link-local address is nothing without its interface. Nobody is there, and that is known at once; through
  // another interface it would be waited for.
  'works on: an interface by its name': async () => {
    const socket = connect({ port: 1, host: 'fe80::1%lo', timeout: 5000 })
    const code = await new Promise<string>((resolve) => {
      socket.once('error', (error: NodeJS.ErrnoException) => { resolve(error.code ?? '') })
      socket.once('connect', () => { resolve('ECONNREFUSED') })
      socket.once('timeout', () => { resolve('ETIMEDOUT') })
    })
    socket.destroy()
    if (!['ENETUNREACH', 'EHOSTUNREACH', 'EADDRNOTAVAIL', 'ECONNREFUSED'].includes(code)) throw new Error(code)
  }
}

const lacks = confine({ addon: loadAddon(), mounts: readMountinfoSync(), pid: process.pid, reservedPorts: true })
if (lacks.length > 0) throw new Error(lacks.join())
try {
  const answer = await attempts[process.argv[2] ?? '']?.()
  if (answer instanceof Error) throw answer
  process.stderr.write('done')
} catch (error) {
  process.stderr.write((error as NodeJS.ErrnoException).code ?? String(error))
}
