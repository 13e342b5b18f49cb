/**
 * The log files of sessions: one per key with one predecessor, each of bounded size.
 *
 * Owns their names, when one starts anew, and which are forgotten. A session writes to a descriptor that it was given
 * (O_APPEND) and opens nothing; so it is the agent that copies what is there and truncates. Does not know what sessions
 * say. Never fails a mount.
 */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync, renameSync, writeSync } from 'node:fs'
import { open, readdir, rename, stat, unlink } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import type { StageKey } from '../../base/brands.ts'
import { logFileBytesMax, mebibyteBytes } from '../../base/limits.ts'
import { isCode } from '../../host/files.ts'

/** Log files that are kept; of those without a session the oldest go. */
const logsMax = 100
/** At the rate that a session writes at most (`roles/session-log.ts`) a file grows by some 100 KB meanwhile. */
const lookMs = 30_000
const copyBytes = mebibyteBytes

export interface SessionLogsOptions {
  /** 0700. */
  readonly logDir: string
  /** Of the sessions' sockets: whose log is in use. */
  readonly runDir: string
}

const isLog = (name: string): boolean => name.startsWith('session-')
const keyOf = (name: string): string => name.slice('session-'.length, 'session-'.length + 16)

export class SessionLogs {
  readonly #options: SessionLogsOptions
  #timer: NodeJS.Timeout | undefined

  constructor (options: SessionLogsOptions) {
    this.#options = options
  }

  get folder (): string { return this.#options.logDir }

  /** Looks at their sizes from now on, also of sessions that an agent before us has started. */
  watch (): void {
    this.#timer ??= setInterval(() => { void this.bound() }, lookMs).unref()
  }

  close (): void {
    clearInterval(this.#timer)
  }

  /** For a new session; what a dead one said last is kept. Undefined where there can be none: a full disk stops no
   * mount. */
  async open (key: StageKey): Promise<FileHandle | undefined> {
    const path = `${this.#options.logDir}/session-${key.slice(0, 16)}.log`
    try {
      await this.#forgetOld()
      await rename(path, `${path}.1`).catch(() => undefined)
      return await open(path, 'ax', 0o600)
    } catch {
      return undefined
    }
  }

  /** Every file that has grown too large starts anew. */
  async bound (): Promise<void> {
    const { logDir } = this.#options
    const names = await readdir(logDir).catch(() => [])
    for (const name of names.filter((each) => isLog(each) && each.endsWith('.log'))) {
      const path = `${logDir}/${name}`
      const size = await stat(path).then((facts) => facts.size, () => 0)
      if (size <= logFileBytesMax) continue
      try {
        startAnew(path)
      } catch (error) {
        /* Gone meanwhile is fine. Else (a full disk) the lines that are there go, before they fill it. */
        if (!isCode(error, 'ENOENT')) truncate(path)
      }
    }
  }

  async #forgetOld (): Promise<void> {
    const { logDir, runDir } = this.#options
    const logs = (await readdir(logDir)).filter(isLog)
    if (logs.length <= logsMax) return
    const running = new Set((await readdir(runDir)).map((name) => name.slice(0, 16)))
    const idle = logs.filter((name) => !running.has(keyOf(name)))
    const dated = await Promise.all(
      idle.map(async (name) => ({ path: `${logDir}/${name}`, ms: (await stat(`${logDir}/${name}`)).mtimeMs }))
    )
    const oldest = dated.sort((a, b) => a.ms - b.ms).slice(0, logs.length - logsMax)
    for (const { path } of oldest) await unlink(path).catch(() => undefined)
  }
}

const readWrite = constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK

/**
 * The content goes to the predecessor, then the file is emptied under its writer, who appends. Copied until there is
 * nothing more, and emptied in the same tick: only a line of the microseconds in between could be lost. An agent that
 * dies in the middle leaves the file as it was.
 */
function startAnew (path: string): void {
  const from = openSync(path, readWrite)
  try {
    const fresh = `${path}.fresh`
    const to = openSync(fresh, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW, 0o600)
    try {
      copyAll(from, to)
      renameSync(fresh, `${path}.1`)
      copyAll(from, to)
    } finally {
      closeSync(to)
    }
    ftruncateSync(from, 0)
  } finally {
    closeSync(from)
  }
}

/** From where `to` ends, to where `from` ends. */
function copyAll (from: number, to: number): void {
  const bytes = Buffer.alloc(copyBytes)
  for (let at = fstatSync(to).size;;) {
    const count = readSync(from, bytes, 0, bytes.length, at)
    if (count === 0) return
    for (let done = 0; done < count;) done += writeSync(to, bytes, done, count - done)
    at += count
  }
}

function truncate (path: string): void {
  try {
    const fd = openSync(path, readWrite)
    try { ftruncateSync(fd, 0) } finally { closeSync(fd) }
  } catch { /* Gone: that is bounded too. */ }
}
