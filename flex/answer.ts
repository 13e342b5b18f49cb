/**
 * The only writer of stdout in the Flex door: exactly one JSON value, exit code 0, whatever happens.
 *
 * Owns the form of a reply and every way this process may end. Does not know the call-outs.
 *
 * kubelet reads stdout and stderr together until end of file and wants one JSON value there; it logs the full
 * arguments, secrets included, when the exit code is not 0 (k8s flexvolume/driver-call.go). Hence: no other output,
 * never another exit code.
 */
import { closeSync, openSync, writeSync } from 'node:fs'

export interface FlexCapabilities {
  readonly attach: boolean
  readonly selinuxRelabel: boolean
  readonly supportsMetrics: boolean
  readonly fsGroup: boolean
  readonly requiresFSResize: boolean
}

export type FlexReply =
  | { readonly status: 'Success', readonly message?: string, readonly capabilities?: FlexCapabilities }
  | { readonly status: 'Failure', readonly message: string }
  | { readonly status: 'Not supported', readonly message: string }

export const failure = (message: string): FlexReply => ({ status: 'Failure', message })

/** kubelet puts the message into events, which end at 1 KiB. */
const messageLengthMax = 1000

/** One line, no control characters. */
function tidy (message: string): string {
  const line = message.replaceAll(/[\p{Cc}\s]+/gu, ' ').trim()
  return line.length > messageLengthMax ? `${line.slice(0, messageLengthMax - 1)}…` : line
}

export function encodeReply (reply: FlexReply): string {
  const message = reply.message === undefined ? {} : { message: tidy(reply.message) }
  return `${JSON.stringify({ ...reply, ...message })}\n`
}

/** Writes all of it: a pipe may take less at a time, and a non-blocking one may take nothing for a moment. */
function writeWhole (text: string): void {
  const bytes = Buffer.from(text)
  const pauseCell = new Int32Array(new SharedArrayBuffer(4))
  for (let at = 0, patience = 2000; at < bytes.length && patience > 0;) {
    try {
      at += writeSync(1, bytes, at)
    } catch (error) {
      // Anything but EAGAIN means that nobody reads: there is nothing left to say.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return
      patience--
      Atomics.wait(pauseCell, 0, 0, 5)
    }
  }
}

/** Anything that a library or Node itself wants to say would spoil the JSON: descriptor 2 becomes /dev/null. */
function silenceStderr (): void {
  process.removeAllListeners('warning')
  process.on('warning', () => undefined)
  closeSync(2)
  // The lowest free descriptor is 2, because 0 and 1 are open: Node opens them on /dev/null when its starter did not.
  openSync('/dev/null', 'w')
}

/**
 * Runs `call` and ends the process with its reply. A signal, an exception anywhere, a lost promise or a silent end of
 * the event loop are a Failure. Does not return.
 */
export function answerWith (call: () => FlexReply | Promise<FlexReply>): void {
  let answered = false
  const answer = (reply: FlexReply): void => {
    if (answered) return
    answered = true
    writeWhole(encodeReply(reply))
    // Open connections and timers must not keep kubelet waiting.
    process.exit(0)
  }
  const fail = (what: string, thrown: unknown): void => {
    answer(failure(`${what}: ${thrown instanceof Error ? thrown.message : String(thrown)}`))
  }
  silenceStderr()
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const) {
    process.on(signal, () => { answer(failure(`the call was ended by ${signal}; kubelet will repeat it`)) })
  }
  process.on('uncaughtException', (error) => { fail('internal error', error) })
  process.on('unhandledRejection', (reason) => { fail('internal error', reason) })
  process.on('exit', () => {
    process.exitCode = 0
    if (!answered) writeWhole(encodeReply(failure('internal error: the call ended without an answer')))
  })
  new Promise<FlexReply>((resolve) => { resolve(call()) }).then(answer, (error: unknown) => { fail('failed', error) })
}
