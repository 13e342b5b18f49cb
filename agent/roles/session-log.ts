/**
 * Where a session's lines go: the file that the agent gave it as standard error, in the form of the agent's own lines.
 *
 * Owns their length, their rate, and the end of a file that nobody looks after. Loads no logging library: a session has
 * to stay small. The agent starts the file anew at 8 MiB (`volumes/fuse/session-logs.ts`); this is what holds without
 * one.
 */
import { fstatSync, ftruncateSync, writeSync } from 'node:fs'
import { LineBudget } from '../base/line-budget.ts'
import { logFileBytesMax } from '../base/limits.ts'
import type { Log } from '../session/dispatcher.ts'

/** What a server can make a session say: 200 lines at once, then two a second. */
const burst = 200
const perSecond = 2
const lineLengthMax = 8192

interface Destination { readonly fd: number, readonly nowMs?: () => number }

/** Twice the size at which an agent would have started it anew: there is none. A terminal or a pipe has no size. */
function bound (fd: number): void {
  const facts = fstatSync(fd)
  if (facts.isFile() && facts.size > 2 * logFileBytesMax) ftruncateSync(fd, 0)
}

function lineOf (level: string, fields: object, message: string | undefined): string {
  const head = { level, time: new Date().toISOString(), pid: process.pid }
  const line = JSON.stringify(
    { ...head, ...fields, msg: message },
    (_key, value: unknown) => typeof value === 'bigint' ? value.toString() : value
  )
  if (line.length <= lineLengthMax) return line
  const { op } = fields as { readonly op?: unknown }
  return JSON.stringify({ ...head, op, msg: `${(message ?? '').slice(0, 1024)}… (${line.length} characters in all)` })
}

/** Never throws: a full disk loses the line, not the mount. */
export function sessionLog ({ fd, nowMs }: Destination): Log {
  const budget = new LineBudget({ burst, perSecond, ...nowMs === undefined ? undefined : { nowMs } })
  const write = (level: string, fields: object, message: string | undefined): void => {
    try {
      bound(fd)
      writeSync(fd, `${lineOf(level, fields, message)}\n`)
    } catch { /* nowhere to say it */ }
  }
  return (level, fields, message) => {
    if (level === 'debug') return
    const leftOut = budget.take()
    // A session's own start and end are few, and what somebody will look for.
    if (leftOut === undefined && fields.op !== 'session') return
    if (leftOut !== undefined && leftOut > 0) {
      write('warn', { op: 'log' }, `${leftOut} lines were left out: there were too many`)
    }
    write(level, fields, message)
  }
}
