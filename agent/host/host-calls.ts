/**
 * Blocking system calls with a deadline. Owns the life of each child: its pipe, its deadline, its end, and how many are
 * stuck per key. Does not know what the calls are for.
 *
 * A child that ignores SIGKILL sleeps in D state inside the kernel. It is counted, left alone, and reaped when the
 * kernel lets go. A key (a server) with too many of them gets no further ones: each costs memory, and none of them
 * would do better.
 */
import { Socket } from 'node:net'
import { getSystemErrorName } from 'node:util'
import { within } from '../base/deadline.ts'
import { HostError, messageOf } from '../base/errors.ts'
import { hostCallMs, stuckHostCallsMax } from '../base/limits.ts'
import { loadAddon, type HostCallAddon } from './addon.ts'
import { callNames, decodeRecords, encodeProgram, subjectOf, type HostOp } from './host-program.ts'

export interface HostCallOptions {
  readonly deadlineMs?: number
  /** Who is charged for a stuck child: a server's name, or `local`. */
  readonly key?: string
  /** Descriptors the child keeps; mount data may name them. */
  readonly keep?: readonly number[]
}

/** Data that the operations sent, by their position in the program. */
export type HostResults = ReadonlyMap<number, Buffer>

/** A SIGKILLed child that is not in D state is gone within a scheduler round; this long is generous. */
const killGraceMs = 250
const reapPauseMs = 500

export class HostCalls {
  readonly #addon: () => HostCallAddon
  readonly #stuck = new Map<string, number>()

  constructor (addon: () => HostCallAddon = loadAddon) {
    this.#addon = addon
  }

  /** Children in D state by key; an operator should see these. */
  stuck (): ReadonlyMap<string, number> {
    return new Map(this.#stuck)
  }

  /**
   * Runs the operations in order in one child until the first that fails.
   * @throws HostError with the errno of that operation; ETIMEDOUT when the deadline came first; EAGAIN when too many
   * are stuck.
   */
  async run (ops: readonly HostOp[], options: HostCallOptions = {}): Promise<HostResults> {
    const { deadlineMs = hostCallMs, key = 'local', keep = [] } = options
    const stuck = this.#stuck.get(key) ?? 0
    if (stuck >= stuckHostCallsMax) {
      throw failure(
        'EAGAIN',
        11,
        ops[0],
        `${stuck} earlier calls for ${key} hang in the kernel; no more are started until one returns`
      )
    }
    const [pid, fd] = this.#start(ops, keep)
    const output = readAll(fd)
    const bytes = await within(deadlineMs, output.ended, () => undefined)
    if (bytes === undefined) {
      process.kill(pid, 'SIGKILL')
      const gone = await within(killGraceMs, output.ended, () => undefined)
      output.close()
      if (gone === undefined) this.#abandon(pid, key)
      else void this.#reap(pid)
      throw failure('ETIMEDOUT', 110, ops[0], `no answer from the kernel within ${deadlineMs} ms`)
    }
    void this.#reap(pid)
    return outcomeOf(ops, bytes)
  }

  #start (ops: readonly HostOp[], keep: readonly number[]): readonly [number, number] {
    try {
      return this.#addon().startHostCall(encodeProgram(ops), Int32Array.from(keep))
    } catch (error) {
      const errno = error instanceof Error && 'errno' in error && typeof error.errno === 'number' ? error.errno : 0
      if (errno === 0) throw error
      throw failure(nameOf(errno), errno, ops[0], `${messageOf(error)} failed`)
    }
  }

  #abandon (pid: number, key: string): void {
    this.#stuck.set(key, (this.#stuck.get(key) ?? 0) + 1)
    void this.#reap(pid).then(() => {
      const left = (this.#stuck.get(key) ?? 1) - 1
      if (left === 0) this.#stuck.delete(key)
      else this.#stuck.set(key, left)
    })
  }

  /** Waits for exactly this child. The pipe ends a moment before the process does, so the first look may be too
   * early. */
  async #reap (pid: number): Promise<void> {
    for (let ms = 1; !this.#addon().reapHostCall(pid); ms = Math.min(ms * 2, reapPauseMs)) await pauseUnref(ms)
  }
}

/** A stuck child must not keep the agent alive. */
async function pauseUnref (ms: number): Promise<void> {
  await new Promise<void>((resolve) => { setTimeout(resolve, ms).unref() })
}

function readAll (fd: number): { ended: Promise<Buffer>, close: () => void } {
  const socket = new Socket({ fd, readable: true, writable: false })
  const chunks: Buffer[] = []
  const ended = new Promise<Buffer>((resolve) => {
    socket.on('data', (chunk: Buffer) => { chunks.push(chunk) })
    socket.on('error', () => { resolve(Buffer.concat(chunks)) })
    socket.on('close', () => { resolve(Buffer.concat(chunks)) })
  })
  return { ended, close: () => { socket.destroy() } }
}

function outcomeOf (ops: readonly HostOp[], bytes: Buffer): HostResults {
  const records = decodeRecords(bytes)
  const last = records.at(-1)
  if (last !== undefined && last.error !== 0) throw failure(nameOf(last.error), last.error, ops[last.step])
  if (last === undefined || last.step !== ops.length) {
    throw failure('EINTR', 4, ops[last?.step ?? 0], 'the child was killed')
  }
  return new Map(records.slice(0, -1).map(({ step, data }) => [step, data]))
}

const nameOf = (errno: number): string => getSystemErrorName(-errno)

function failure (code: string, errno: number, op: HostOp | undefined, why?: string): HostError {
  const call = op === undefined ? 'host call' : `${callNames[op.op]} ${subjectOf(op)}`.trim()
  return new HostError({ code, errno, call }, why === undefined ? undefined : `${call}: ${why}`)
}
