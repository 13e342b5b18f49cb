/**
 * The session's end of its control socket.
 *
 * Owns framing (one JSON object a line, at most 1 MiB), the check of who speaks, and errors as data. The calls
 * themselves are handlers it is given; it does not know what they do. Several agents may be connected (an old one and
 * its successor); each gets its own answers.
 */
import { chmod } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'
import { InvariantError, messageOf, VolumeError } from '../base/errors.ts'
import { mebibyteBytes } from '../base/limits.ts'
import type { OnBroken } from './broken.ts'
import type { ControlAnswer, ControlCall, ControlCalls } from './control.ts'
import type { Log } from './log.ts'

const lineBytesMax = mebibyteBytes

export type ControlHandlers = {
  readonly [C in ControlCall]:
    (body: ControlCalls[C]['request']) => Promise<ControlCalls[C]['answer']> | ControlCalls[C]['answer']
}

export interface ControlServerParts {
  readonly path: string
  readonly handlers: ControlHandlers
  /** Is the process at the other end one of ours? */
  readonly isTrusted: (socket: Socket) => boolean
  readonly log: Log
  readonly onBroken: OnBroken
  /** The number of connected agents changed. */
  readonly onClients: (count: number) => void
}

interface Request { readonly id: number, readonly call: string, readonly body: object }

export class ControlServer {
  readonly #parts: ControlServerParts
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  constructor (parts: ControlServerParts) {
    this.#parts = parts
    this.#server = createServer((socket) => { this.#accept(socket) })
  }

  /** @throws when the path is taken or cannot be made. */
  async listen (): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(this.#parts.path, () => {
        this.#server.off('error', reject)
        resolve()
      })
    })
    this.#server.on('error', (error) => {
      this.#parts.log('error', { op: 'control', error: messageOf(error) }, 'the control socket failed')
    })
    await chmod(this.#parts.path, 0o600)
  }

  /** Stops listening, removes the socket's name and drops every connection once its answers are out. */
  async close (): Promise<void> {
    const closed = new Promise<void>((resolve) => { this.#server.close(() => { resolve() }) })
    for (const socket of this.#sockets) socket.destroySoon()
    await closed
  }

  #accept (socket: Socket): void {
    if (!this.#parts.isTrusted(socket)) {
      this.#parts.log('warn', { op: 'control' }, 'a process of another user tried to connect')
      socket.destroy()
      return
    }
    this.#sockets.add(socket)
    this.#parts.onClients(this.#sockets.size)
    const lines = new LineSplitter()
    socket.on('data', (chunk: Buffer) => {
      const complete = lines.push(chunk)
      if (complete === undefined) socket.destroy()
      else for (const line of complete) this.#receive(socket, line)
    })
    socket.on('error', () => { /* 'close' follows, and that is all that matters. */ })
    socket.once('close', () => {
      this.#sockets.delete(socket)
      this.#parts.onClients(this.#sockets.size)
    })
  }

  #receive (socket: Socket, line: Buffer): void {
    const request = parseRequest(line)
    if (request === undefined) {
      socket.destroy()
      return
    }
    this.#answer(request).then((answer) => {
      if (!socket.destroyed) socket.write(`${JSON.stringify(answer)}\n`)
    }, (error: unknown) => {
      this.#parts.log('error', { op: 'control', error: messageOf(error) }, 'an answer could not be made')
    })
  }

  async #answer ({ id, call, body }: Request): Promise<ControlAnswer> {
    try {
      if (!Object.hasOwn(this.#parts.handlers, call)) {
        throw new VolumeError(
          'UNSUPPORTED',
          `this session does not know the call ${JSON.stringify(call.slice(0, 40))}`,
          { remedy: 'use the version it was started with' }
        )
      }
      // The table of handlers is checked against `ControlCalls`; which row it is only shows here.
      const handler = this.#parts.handlers[call as ControlCall] as (body: object) => unknown
      return { id, body: await handler(body) as ControlCalls[ControlCall]['answer'] }
    } catch (error) {
      if (error instanceof InvariantError) this.#parts.onBroken(error)
      return { id, error: toErrorData(error) }
    }
  }
}

function toErrorData (error: unknown): { code: string, message: string, field?: string, remedy?: string } {
  if (!(error instanceof VolumeError)) return { code: 'INTERNAL', message: messageOf(error) }
  return {
    code: error.code,
    message: error.message,
    ...(error.field === undefined ? undefined : { field: error.field }),
    ...(error.remedy === undefined ? undefined : { remedy: error.remedy })
  }
}

function parseRequest (line: Buffer): Request | undefined {
  try {
    const value: unknown = JSON.parse(line.toString('utf8'))
    if (typeof value !== 'object' || value === null || !('id' in value) || !('call' in value) || !('body' in value)) {
      return undefined
    }
    const { id, call, body } = value
    if (typeof id !== 'number' || typeof call !== 'string' || typeof body !== 'object' || body === null) {
      return undefined
    }
    return { id, call, body }
  } catch {
    return undefined
  }
}

/** Bytes → lines, each at most `lineBytesMax` long. */
class LineSplitter {
  #pending: Buffer[] = []
  #pendingBytes = 0

  /** The lines that are complete now, or undefined when one is too long. */
  push (chunk: Buffer): readonly Buffer[] | undefined {
    const lines: Buffer[] = []
    let start = 0
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      lines.push(Buffer.concat([...this.#pending, chunk.subarray(start, end)]))
      this.#pending = []
      this.#pendingBytes = 0
      start = end + 1
    }
    if (start < chunk.length) {
      this.#pending.push(chunk.subarray(start))
      this.#pendingBytes += chunk.length - start
    }
    return this.#pendingBytes > lineBytesMax ? undefined : lines
  }
}
