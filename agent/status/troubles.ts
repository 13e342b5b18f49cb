/**
 * The last warnings and errors of the log, kept for people who look at the agent and not at its log.
 *
 * Owns how many, how long each may be, and which are equal. What may be written to the log may be shown: redaction has
 * been done before. Does not know what goes wrong.
 */
import type { StatusTrouble } from '../../proto/csi/types.ts'
import { splitRemedy } from './words.ts'
import type { Log, LogFields, LogLevel } from '../observe/log.ts'

/** More than anybody reads, few enough for a page. */
export const troublesMax = 20
const textCharactersMax = 400

const isTrouble = { debug: false, info: false, warn: true, error: true } as const satisfies Record<LogLevel, boolean>

/** kubelet repeats a call that failed, with the same words: that is one trouble that goes on. */
const nameOf = ({ level, operation, subject, message }: StatusTrouble): string =>
  JSON.stringify([level, operation, subject, message])

const shortened = (text: string): string =>
  text.length > textCharactersMax ? `${text.slice(0, textCharactersMax)}…` : text
const textOf = (value: unknown): string => typeof value === 'string' ? shortened(value) : ''

function troubleOf (level: LogLevel, fields: LogFields, message: string | undefined, timeMs: number): StatusTrouble {
  const { what, remedy } = splitRemedy(message ?? fields.outcome ?? '')
  return {
    timeMs: `${Math.round(timeMs)}`, count: 1, level, operation: shortened(fields.op),
    subject: textOf(fields.volume) === '' ? textOf(fields['source']) : textOf(fields.volume),
    message: shortened(what), remedy: shortened(remedy)
  }
}

export class Troubles {
  readonly #timeMs: () => number
  /** Oldest first. */
  readonly #kept = new Map<string, StatusTrouble>()

  constructor (timeMs: () => number = Date.now) {
    this.#timeMs = timeMs
  }

  /** The same log, with a look at each line. */
  watch (log: Log): Log {
    return (level, fields, message) => {
      log(level, fields, message)
      if (isTrouble[level]) this.#keep(troubleOf(level, fields, message, this.#timeMs()))
    }
  }

  /** Newest first. */
  list (): readonly StatusTrouble[] { return [...this.#kept.values()].reverse() }

  #keep (trouble: StatusTrouble): void {
    const name = nameOf(trouble)
    const before = this.#kept.get(name)
    this.#kept.delete(name)
    this.#kept.set(name, { ...trouble, count: (before?.count ?? 0) + 1 })
    const [oldest] = this.#kept.keys()
    if (this.#kept.size > troublesMax && oldest !== undefined) this.#kept.delete(oldest)
  }
}
