/**
 * A long cable: TCP from a port of its own to a server, every byte later by half a round trip each way.
 *
 * Owns a process of its own, so that delaying costs neither side its time. Does not look at what passes; test/peers/fault-proxy.ts does. Run
 * as a program: `delay-line.ts HOST PORT ONE-WAY-MS` prints its port.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import net, { type AddressInfo } from 'node:net'
import process from 'node:process'
import { createInterface } from 'node:readline'

/** More than this under way in one direction and the sender is held back, as by a full window. */
const underWayBytesMax = 64 * 1024 * 1024

function carry (from: net.Socket, to: net.Socket, ms: number): void {
  const underWay: { readonly dueMs: number, readonly chunk: Buffer | undefined }[] = []
  let bytes = 0
  let isWaiting = false
  const deliver = (): void => {
    isWaiting = false
    to.cork()
    for (let next = underWay[0]; next !== undefined && next.dueMs <= performance.now(); next = underWay[0]) {
      underWay.shift()
      if (next.chunk === undefined) to.end()
      else if (to.writable) to.write(next.chunk)
      bytes -= next.chunk?.length ?? 0
    }
    to.uncork()
    if (bytes < underWayBytesMax) from.resume()
    wait()
  }
  const wait = (): void => {
    const next = underWay[0]
    if (next === undefined || isWaiting) return
    isWaiting = true
    setTimeout(deliver, Math.max(0, next.dueMs - performance.now()))
  }
  const take = (chunk: Buffer | undefined): void => {
    underWay.push({ dueMs: performance.now() + ms, chunk })
    bytes += chunk?.length ?? 0
    if (bytes >= underWayBytesMax) from.pause()
    wait()
  }
  from.on('data', take)
  from.on('end', () => { take(undefined) })
  from.on('error', () => { to.resetAndDestroy() })
  from.on('close', () => { setTimeout(() => { to.destroy() }, ms + 10) })
}

async function serve (host: string, port: number, ms: number): Promise<void> {
  const listener = net.createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
    const server = net.connect({ host, port, noDelay: true, allowHalfOpen: true })
    carry(client, server, ms)
    carry(server, client, ms)
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  process.stdout.write(`${(listener.address() as AddressInfo).port}\n`)
  // Whoever started us is gone.
  process.stdin.resume().on('end', () => { process.exit(0) })
}

export interface DelayLine { readonly port: number, close (): Promise<void> }

/** A cable with this round trip to `host:port`. */
export async function startDelayLine (to: { readonly host: string, readonly port: number }, roundTripMs: number): Promise<DelayLine> {
  const child = spawn(process.execPath, [import.meta.filename, to.host, `${to.port}`, `${roundTripMs / 2}`], { stdio: ['pipe', 'pipe', 'inherit'] })
  const gone = once(child, 'exit')
  const [line] = await Promise.race([
    once(createInterface({ input: child.stdout }), 'line'),
    gone.then(() => { throw new Error('the delay line did not start') })
  ]) as [string]
  return {
    port: Number(line),
    close: async () => {
      child.kill('SIGKILL')
      await gone
    }
  }
}

if (import.meta.main) {
  const [host = '', port = '', ms = ''] = process.argv.slice(2)
  await serve(host, Number(port), Number(ms))
}
