/**
 * Work that leaves nothing behind: what must be undone, in reverse, exactly once, also on Ctrl-C.
 * Owns the list, the signals and the order "work ends, then it is undone". Does not know what the steps do.
 */
import process from 'node:process'
import { monotonicMs, within } from '../../agent/base/deadline.ts'
import { messageOf } from '../../agent/base/errors.ts'

/** A step that gets no further for so long is stuck (a server that is gone); the next ones, which unmount, must have
 * their turn. */
const stepMsMax = 60_000
/** How long interrupted work may take to notice before it is undone under its feet. */
const graceMs = 15_000

const exitCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const

/** Calls `moved` whenever it has got further: what takes long is not stuck. */
type Undo = (moved: () => void) => Promise<void> | void

/** Empty when done, else why not. */
async function finish (undo: Undo, stepMs: number): Promise<string> {
  let movedMs = monotonicMs()
  const done = Promise.resolve(undo(() => { movedMs = monotonicMs() })).then(() => '')
  for (;;) {
    const answer = await within(Math.max(1, movedMs + stepMs - monotonicMs()), done, () => undefined)
    if (answer !== undefined) return answer
    if (monotonicMs() >= movedMs + stepMs) return `not done after ${stepMs / 1000} s`
  }
}

export class Cleanup {
  readonly #steps: Array<{ readonly what: string, readonly undo: Undo }> = []
  readonly #interruption = new AbortController()

  /** Aborted by the first signal. Work looks at it between its steps, so that nothing is made while the rest is being
   * removed. */
  get interrupted (): AbortSignal { return this.#interruption.signal }

  /** Told before the thing is made. */
  add (what: string, undo: Undo): void {
    this.#steps.push({ what, undo })
  }

  interrupt (signal: string): void { this.#interruption.abort(new Error(`interrupted by ${signal}`)) }

  /** The promise's answer, or an error when a signal comes first. */
  async orInterrupted<T> (promise: Promise<T>): Promise<T> {
    const { interrupted } = this
    interrupted.throwIfAborted()
    return await new Promise((resolve, reject) => {
      const stop = (): void => { reject(interrupted.reason as Error) }
      interrupted.addEventListener('abort', stop, { once: true })
      promise.then(resolve, reject).finally(() => { interrupted.removeEventListener('abort', stop) })
    })
  }

  /** Runs every step even when one fails or hangs; answers the failures. */
  async run (stepMs = stepMsMax): Promise<readonly string[]> {
    const failures: string[] = []
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      const { what, undo } = step
      try {
        const failure = await finish(undo, stepMs)
        if (failure !== '') failures.push(`${what}: ${failure}`)
      } catch (error) {
        failures.push(`${what}: ${messageOf(error)}`)
      }
    }
    return failures
  }
}

export interface Task {
  readonly say: (text: string) => void
  /** Answers the exit code. */
  readonly work: (cleanup: Cleanup) => Promise<number>
  /** What is still there after everything was undone. */
  readonly leftovers: () => readonly string[]
  /** Exit code of work that throws, and of anything left behind. */
  readonly failedCode: number
}

/** Does the work, undoes it whatever happened, looks around, and answers the exit code. */
export async function doAndUndo ({ say, work, leftovers, failedCode }: Task): Promise<number> {
  const cleanup = new Cleanup()
  let code: number = failedCode
  let signalCode: number | undefined
  const stopped = new Promise<void>((resolve) => {
    for (const [signal, number] of Object.entries(exitCodes)) {
      process.on(signal, () => {
        if (signalCode !== undefined) return
        signalCode = number
        say(`\n${signal}: removing everything`)
        cleanup.interrupt(signal)
        setTimeout(resolve, graceMs).unref()
      })
    }
  })
  const done = work(cleanup).then((answer) => { code = answer }, (error: unknown) => {
    if (!cleanup.interrupted.aborted) say(`\nfailed: ${messageOf(error)}`)
  })
  await Promise.race([done, stopped])
  const failures = await cleanup.run()
  const left = leftovers()
  for (const failure of failures) say(`cleaning up: ${failure}`)
  if (left.length > 0) say(`left behind: ${left.join(', ')}`)
  if (failures.length > 0 || left.length > 0) return failedCode
  return signalCode ?? code
}
