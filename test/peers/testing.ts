/**
 * AVA's `test` for tests that need something of the machine.
 * Owns the skipping: one line with the reason, or a failure when VOLBRIDGE_SKIP_NOTHING=1 (the full run). Does not know
 * the probes.
 */
import process from 'node:process'
import test, { type ExecutionContext } from 'ava'
import { missing, type Need } from './needs.ts'

export type Declare = (title: string, run: (t: ExecutionContext) => Promise<void> | void) => void

/** AVA's serial `test`, or its skipping twin with the reason in the title. */
export function testNeeding (...needs: readonly Need[]): Declare {
  const reason = missing(...needs)
  return (title, run) => {
    if (reason === undefined) test.serial(title, run)
    else if (process.env['VOLBRIDGE_SKIP_NOTHING'] === '1') {
      test(title, (t) => { t.fail(reason) })
    } else test.skip(`${title} (${reason})`, run)
  }
}

/** In the place of a test that only the long tier runs. */
export const skipped: Declare = (title, run) => { test.skip(`${title} (scripts/test --long)`, run) }
