/**
 * AVA's `test` for tests that need something of the machine.
 * Owns the skipping: one line with the reason, or a failure when VOLBRIDGE_SKIP_NOTHING=1 (the full run). Does not know
 * the probes.
 */
import process from 'node:process'
import test, { type ExecutionContext, type TestFn } from 'ava'
import { missing, type Need } from './needs.ts'

export type Declare = <C = unknown>(title: string, run: (t: ExecutionContext<C>) => Promise<void> | void) => void

/** What hooks put into the context is the file's own matter. */
const testOf = <C>(): TestFn<C> => test as TestFn<C>

/** AVA's serial `test`, or its skipping twin with the reason in the title. */
export function testNeeding (...needs: readonly Need[]): Declare {
  const reason = missing(...needs)
  return <C>(title: string, run: (t: ExecutionContext<C>) => Promise<void> | void): void => {
    const declare = testOf<C>()
    if (reason === undefined) declare.serial(title, run)
    else if (process.env['VOLBRIDGE_SKIP_NOTHING'] === '1') {
      declare(title, (t) => { t.fail(reason) })
    } else declare.skip(`${title} (${reason})`, run)
  }
}

/** In the place of a test that only the long tier runs. */
export const skipped: Declare = <C>(title: string, run: (t: ExecutionContext<C>) => Promise<void> | void) => {
  testOf<C>().skip(`${title} (scripts/test --long)`, run)
}
