/**
 * Log lines: one JSON object each, the same five fields everywhere (`volume`, `op`, `outcome`, `ms`, `request`).
 *
 * Owns the format and where the lines go. Does not know what is worth a line: observers decide.
 */
import { closeSync, fstatSync, ftruncateSync, openSync, renameSync, statSync, writeSync } from 'node:fs'
import { pino } from 'pino'
import type { DestinationStream, Logger } from 'pino'
import { monotonicMs } from '../base/deadline.ts'
import { VolumeError, messageOf } from '../base/errors.ts'
import { logFileBytesMax } from '../base/limits.ts'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'
export const logLevels = ['debug', 'info', 'warn', 'error'] as const satisfies readonly LogLevel[]

/** A line about one deed. */
export interface LogFields {
  readonly volume?: string
  readonly op: string
  readonly outcome?: string
  readonly ms?: number
  readonly request?: string
  readonly [extra: string]: unknown
}
export type Log = (level: LogLevel, fields: LogFields, message?: string) => void

export interface LogOptions {
  readonly level: LogLevel
  /** Standard error when undefined. */
  readonly file: string | undefined
}

/** Whether the file is still the one that we write to: somebody may have removed it, or moved it away (logrotate). */
const lookEveryMs = 5000

/**
 * A file that becomes `FILE.1` when it has grown too large. Writes are synchronous, so that the line before a crash is
 * there. A full disk loses lines, never the process; whatever else happens to the file, later lines are written.
 */
class RotatingFile implements DestinationStream {
  readonly #file: string
  #fd: number
  #bytes: number
  #lookedMs = monotonicMs()

  constructor (file: string) {
    this.#file = file
    this.#fd = openSync(file, 'a', 0o600)
    this.#bytes = fstatSync(this.#fd).size
  }

  write (line: string): void {
    try {
      this.#lookAfter()
      this.#bytes += writeSync(this.#fd, line)
    } catch {
      // Nowhere to complain to: the complaint would go to the same place.
    }
  }

  #lookAfter (): void {
    const isFull = this.#bytes > logFileBytesMax
    const isTime = monotonicMs() - this.#lookedMs > lookEveryMs
    if (!isFull && !isTime) return
    this.#lookedMs = monotonicMs()
    const isInPlace = this.#isInPlace()
    if (isInPlace && !isFull) return
    try {
      if (isInPlace) renameSync(this.#file, `${this.#file}.1`)
      this.#reopen()
    } catch {
      // A folder that takes no new file. What we write to goes on, and it too has an end.
      if (this.#bytes > 2 * logFileBytesMax) this.#startAnew()
    }
  }

  #isInPlace (): boolean {
    const there = statSync(this.#file, { throwIfNoEntry: false })
    const ours = fstatSync(this.#fd)
    return there?.ino === ours.ino && there.dev === ours.dev
  }

  #reopen (): void {
    const fd = openSync(this.#file, 'a', 0o600)
    closeSync(this.#fd)
    this.#fd = fd
    this.#bytes = fstatSync(fd).size
  }

  #startAnew (): void {
    ftruncateSync(this.#fd, 0)
    this.#bytes = 0
  }
}

const standardError: DestinationStream = {
  write: (line) => {
    // EAGAIN of a full pipe or EPIPE of a gone reader must not end an agent.
    try { writeSync(2, line) } catch { /* as above */ }
  }
}

function openDestination (file: string | undefined): DestinationStream {
  if (file === undefined) return standardError
  try {
    return new RotatingFile(file)
  } catch (error) {
    throw new VolumeError('INVALID', `--log-file: ${JSON.stringify(file)} can't be written: ${messageOf(error)}`, {
      field: '--log-file', cause: error
    })
  }
}

/** A logger writing to `destination`; tests give their own. */
export function createLogger (level: LogLevel, destination: DestinationStream): Log {
  const logger: Logger = pino({
    level,
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) }
  }, destination)
  return (at, fields, message) => { logger[at](fields, message) }
}

export const openLog = ({ level, file }: LogOptions): Log => createLogger(level, openDestination(file))
