/**
 * A cable with a round trip between a mount and its server: the program of delay-line.c, which `scripts/bench` builds.
 * Owns its process. Does not look at what passes; test/peers/fault-proxy.ts does.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

export interface DelayLine { readonly port: number, close (): Promise<void> }

/** A cable of `roundTripMs` to that port of this machine. */
export async function startDelayLine (program: string, port: number, roundTripMs: number): Promise<DelayLine> {
  const child = spawn(program, [`${port}`, `${roundTripMs}`], { stdio: ['pipe', 'pipe', 'inherit'] })
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
