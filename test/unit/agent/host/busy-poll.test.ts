/** Waiting awake must change nothing but when the loop sleeps: in a process of its own, because it begins for good. */
import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { loadAddon } from '../../../../agent/host/addon.ts'

const run = promisify(execFile)
const addonModule = path.resolve('agent/host/addon.ts')

/** What a process says that has called startBusyPoll(1000) and then runs `script`; rejects when it does not end by
 * itself with 0. */
async function withBusyPoll (script: string): Promise<string> {
  const source = `
    import { createServer, connect } from 'node:net'
    import { execFile } from 'node:child_process'
    import { readFile } from 'node:fs/promises'
    import { readFileSync } from 'node:fs'
    import { Worker } from 'node:worker_threads'
    import { loadAddon } from ${JSON.stringify(addonModule)}
    const isPolling = loadAddon().startBusyPoll(1000, new Int32Array(1))
    ${script}`
  return (await run(process.execPath, ['--no-warnings', '--input-type=module-typescript', '--eval', source], {
    timeout: 60_000
  })).stdout
}

const pingPong = (rounds: number): string => `
  const server = createServer((socket) => { socket.pipe(socket) }).listen(0, () => {
    const client = connect(server.address().port)
    let left = ${rounds}
    client.on('data', () => { if (--left > 0) client.write('x'); else { client.end(); server.close() } })
    client.write('x')
  })`

test('sockets, timers, immediates, threads and children are heard while the loop polls, and the process ends when nothing is left to do', async (t) => {
  const said = await withBusyPoll(`${pingPong(5000)}
    const heard = []
    setTimeout(() => heard.push('timer'), 5)
    setImmediate(() => heard.push('immediate'))
    readFile('/proc/self/stat').then(() => heard.push('thread'))
    execFile('true', () => heard.push('child'))
    process.once('SIGUSR2', () => heard.push('signal'))
    setTimeout(() => process.kill(process.pid, 'SIGUSR2'), 20)
    process.on('exit', () => { console.log(heard.sort().join()) })`)
  t.is(said.trim(), 'child,immediate,signal,thread,timer')
})

test('an idle loop sleeps: nothing is polled for after a long wait', async (t) => {
  const said = await withBusyPoll(`${pingPong(2000)}
    server.once('close', () => {
      let left = 50
      const before = process.cpuUsage()
      const timer = setInterval(() => {
        if (--left > 0) return
        clearInterval(timer)
        const { user, system } = process.cpuUsage(before)
        console.log(JSON.stringify({ isPolling, milliseconds: (user + system) / 1000 }))
      }, 20)
    })`)
  const { milliseconds } = JSON.parse(said) as { isPolling: boolean, milliseconds: number }
  // Fifty waits of 20 ms: polled for, they would cost 50 ms more than the work of fifty timers does.
  t.log(`${milliseconds} ms of the processor`)
  t.true(milliseconds < 45, said)
})

test('a worker thread may have it too, and its end is clean', async (t) => {
  const said = await withBusyPoll(`
    const program = 'import(' + JSON.stringify(${JSON.stringify(addonModule)}) + ').then(({ loadAddon }) => { loadAddon().startBusyPoll(100, new Int32Array(1)); setTimeout(() => {}, 10) })'
    const worker = new Worker(program, { eval: true })
    worker.on('exit', (code) => { console.log('worker', code) })`)
  t.is(said.trim(), 'worker 0')
})

test('only a sensible time is taken', (t) => {
  const { startBusyPoll } = loadAddon()
  for (const wrong of [0, -1, 1001, Number.NaN]) {
    t.throws(() => startBusyPoll(wrong, new Int32Array(1)), { code: 'ERR_INVALID_ARG' })
  }
  t.throws(() => startBusyPoll('100' as never, new Int32Array(1)), { code: 'ERR_INVALID_ARG' })
  for (const wrong of [[], new Uint8Array(4), new Int32Array(0)]) {
    t.throws(() => startBusyPoll(100, wrong as never), { code: 'ERR_INVALID_ARG' })
  }
})
