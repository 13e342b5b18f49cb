/**
 * Log lines: one JSON object each, the same five fields everywhere (`volume`, `op`, `outcome`, `ms`, `request`).
 *
 * Owns the format and where the lines go. Does not know what is worth a line: observers decide.
 */
import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs'
import { pino } from 'pino'
import type { DestinationStream, Logger } from 'pino'
import { VolumeError, messageOf } from '../base/errors.ts'

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

/** A log file grows to this size, then becomes `FILE.1`: a node without log rotation must not fill its disk. */
const logFileBytesMax = 8 * 1024 * 1024

/** Writes are synchronous, so that the line before a crash is there. A full disk loses lines, never the process. */
class RotatingFile implements DestinationStream {
  readonly #file: string
  #fd: number
  #bytes: number

  constructor (file: string) {
    this.#file = file
    this.#fd = openSync(file, 'a', 0o600)
    this.#bytes = fstatSync(this.#fd).size
  }

  write (line: string): void {
    try {
      if (this.#bytes > logFileBytesMax) this.#rotate()
      this.#bytes += writeSync(this.#fd, line)
    } catch {
      // Nowhere to complain to: the complaint would go to the same place.
    }
  }

  #rotate (): void {
    renameSync(this.#file, `${this.#file}.1`)
    const fd = openSync(this.#file, 'a', 0o600)
    closeSync(this.#fd)
    this.#fd = fd
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
