/**
 * What must be undone, in reverse, exactly once.
 * Owns the list and the signals; does not know what the steps do.
 */
import process from 'node:process'

export class Cleanup {
  readonly #steps: Array<{ readonly what: string, readonly undo: () => Promise<void> | void }> = []
  #running: Promise<readonly string[]> | undefined

  add (what: string, undo: () => Promise<void> | void): void {
    this.#steps.push({ what, undo })
  }

  /** Runs every step even when one fails; answers the failures. */
  async run (): Promise<readonly string[]> {
    this.#running ??= this.#undoAll()
    return await this.#running
  }

  async #undoAll (): Promise<readonly string[]> {
    const failures: string[] = []
    for (const { what, undo } of this.#steps.reverse()) {
      try {
        await undo()
      } catch (error) {
        failures.push(`${what}: ${error instanceof Error ? error.message : String(error)}`)
      }
    }
    return failures
  }

  /** On Ctrl-C and its kin: undo, say so, end with the signal's exit code. */
  onSignals (say: (text: string) => void): void {
    for (const [signal, code] of [['SIGINT', 130], ['SIGTERM', 143], ['SIGHUP', 129]] as const) {
      process.on(signal, () => {
        say(`\n${signal}: removing everything`)
        this.run().then((failures) => {
          for (const failure of failures) say(failure)
          process.exit(code)
        }, () => { process.exit(code) })
      })
    }
  }
}
