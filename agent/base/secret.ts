/**
 * A value that must never be shown. Owns the wrapper; `reveal` is the only way out and is easy to search for.
 */
import { inspect } from 'node:util'

export class Secret {
  readonly #value: string
  constructor (value: string) { this.#value = value }
  reveal (): string { return this.#value }
  toString (): string { return '[redacted]' }
  toJSON (): string { return '[redacted]' }
  [inspect.custom] (): string { return '[redacted]' }
}
