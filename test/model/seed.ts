/**
 * What random tests begin with. Owns that a run is repeatable: always the same seed, so that a change is judged by what
 * it changes; a new one with `scripts/test --long`, which looks for what nobody has thought of; VOLBRIDGE_SEED repeats
 * one. Does not know what is made of it.
 */
import { randomInt } from 'node:crypto'
import process from 'node:process'

/** The seed, told through `log` in the form that repeats it. */
export function chooseSeed (log: (line: string) => void): number {
  const given = process.env['VOLBRIDGE_SEED']
  const seed = given !== undefined ? Number(given) : process.env['VOLBRIDGE_LONG'] === '1' ? randomInt(2 ** 31) : 1
  if (!Number.isSafeInteger(seed)) {
    throw new Error(`VOLBRIDGE_SEED is ${JSON.stringify(given)}, a whole number is needed`)
  }
  log(`VOLBRIDGE_SEED=${seed}`)
  return seed
}
