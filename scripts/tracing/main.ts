/**
 * Which system calls a serving session makes: what native/confine.c has to allow.
 *
 * Owns the things it is made to do while strace watches: files of all kinds, a server that stops and restarts, a name
 * to look up, an agent that comes and goes, idleness, the end. Prints each call with its count and those that were
 * refused, the most frequent first, which is the order of the filter. Does not judge them.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { pause } from '../../agent/base/deadline.ts'
import { Ganesha } from '../../test/peers/ganesha.ts'
import { processesOf, shell, TestNode } from '../../test/semantics/endtoend/node.ts'

const idleMs = 12_000

const node = new TestNode()
const server = await Ganesha.start({ folder: node.makeFolder('export') })
const mounted = node.makeFolder('mnt')
const trace = path.join(node.folder, 'trace')

async function sessionPid (): Promise<number> {
  return Number((await processesOf(node.runtime)).find((line) => line.includes(' session '))?.split(' ')[0])
}

async function work (): Promise<void> {
  await shell(
    `cd ${mounted}; mkdir -p d/e; for n in $(seq 300); do echo $n > d/$n; done; ls -lR > /dev/null; cat d/[0-9]* > /dev/null
    head -c 20M /dev/urandom > large; cat large > /dev/null; dd if=large of=direct bs=1M iflag=direct oflag=direct status=none
    ln -s large link; ln large hard; mv d/1 d/e/1; chmod 600 d/2; touch -d yesterday d/3; truncate -s 100 large; df . > /dev/null
    (exec 3< d/5; rm d/5; cat <&3 > /dev/null); flock d/6 true; rm -rf d large link hard`
  )
}

try {
  await node.startAgent()
  await node.mount(`localhost:${server.folder}`, mounted, server.mountOptions)
  const strace = spawn('strace', ['-f', '-qq', '-p', String(await sessionPid()), '-o', trace], {
    stdio: ['ignore', 'inherit', 'inherit']
  })
  const traced = new Promise((resolve) => { strace.once('close', resolve) })
  await pause(1000)
  await work()
  // A killed caller is looked at while it waits.
  server.stop()
  const waiting = spawn('cat', [path.join(mounted, 'direct')], { stdio: 'ignore' })
  await pause(1500)
  waiting.kill('SIGKILL')
  server.resume()
  await server.restart()
  await work()
  await node.stopAgent()
  await node.startAgent()
  await node.command(['status', ...node.places])
  await pause(idleMs)
  await work()
  await node.unmount(mounted)
  await traced
  const calls = [
    ...readFileSync(trace, 'utf8').matchAll(/^\d+ +([a-z_0-9]+)\(.*? = (?:-1 (EPERM|ENOSYS|ENOTTY|EAFNOSUPPORT))?/gm)
  ]
  const counts = Map.groupBy(calls, ([, name = '', refused = '']) => `${name} ${refused}`.trim())
  for (const [name, made] of [...counts].sort(([, a], [, b]) => b.length - a.length)) {
    console.log(`${String(made.length).padStart(8)} ${name}`)
  }
} finally {
  await node.close()
  await server.close()
}
