/** A broken invariant that nobody awaits. */
import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'

test('a write-back in the background that breaks an invariant is heard, as what ends the session', async (t) => {
  const program = path.join(import.meta.dirname, 'unawaited.ts')
  const { stdout } = await promisify(execFile)(process.execPath, ['--no-warnings', program])
  t.is(stdout, 'write: 5\nbroken: InvariantError: an arena block is released once\n')
})
