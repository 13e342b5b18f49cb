/**
 * The agent's end of the control socket of a session process.
 * Owns framing, pairing answers with requests, deadlines and turning errors back into `VolumeError`. Does not know what
 * the calls mean.
 */
import type { Socket } from 'node:net'
import { within } from '../../base/deadline.ts'
import { TransportError, VolumeError, volumeErrorCodes, type VolumeErrorCode } from '../../base/errors.ts'
import { mebibyteBytes } from '../../base/limits.ts'
import { connectUnix, peerOf } from '../../host/sockets.ts'
import type { ControlAnswer, ControlCall, ControlCalls, ControlRequest } from '../../session/control.ts'

const lineBytesMax = mebibyteBytes

interface Waiting {
  readonly resolve: (body: unknown) => void
  readonly reject: (error: Error) => void
}

export class ControlClient {
  readonly #socket: Socket
  readonly #waiting = new Map<number, Waiting>()
  /** Settles with the reason when the connection is over. Never rejects. */
  readonly closed: Promise<string>
  #lastId = 0
  #partial: Buffer[] = []
  #partialBytes = 0
  #reason: string | undefined

  constructor (socket: Socket) {
    this.#socket = socket
    socket.on('data', (chunk: Buffer) => { this.#read(chunk) })
    socket.on('error', (error) => { this.#reason ??= error.message })
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        const reason = this.#reason ?? 'the session closed its control socket'
        this.#fail(reason)
        resolve(reason)
      })
    })
    /* The connection alone does not keep an agent running. */
    socket.unref()
  }

  /** @throws TransportError when nobody listens, VolumeError DENIED when another user does. */
  static async connect (path: string, deadlineMs: number): Promise<ControlClient> {
    const socket = await connectUnix(path, deadlineMs)
    const peer = peerOf(socket)
    if (peer === undefined || peer.uid === process.geteuid?.()) return new ControlClient(socket)
    socket.destroy()
    throw new VolumeError('DENIED', `${path} is served by uid ${peer.uid}, not by us`, { remedy: 'remove the socket' })
  }

  /** @throws VolumeError with the session's own code, or TIMED_OUT. */
  async call<C extends ControlCall> (
    call: C,
    body: ControlCalls[C]['request'],
    deadlineMs: number
  ): Promise<ControlCalls[C]['answer']> {
    const request: ControlRequest<C> = { id: ++this.#lastId, call, body }
    const { id } = request
    const answer = new Promise<unknown>((resolve, reject) => {
      if (this.#socket.destroyed) {
        return reject(new TransportError('CLOSED', this.#reason ?? 'the session is gone', { sent: false }))
      }
      this.#waiting.set(id, { resolve, reject })
      this.#socket.ref()
      this.#socket.write(`${JSON.stringify(request)}\n`)
    })
    try {
      return await within(deadlineMs, answer, () => {
        throw new VolumeError('TIMED_OUT', `the session did not answer "${call}" within ${deadlineMs} ms`)
      }) as ControlCalls[C]['answer']
    } finally {
      this.#waiting.delete(id)
      if (this.#waiting.size === 0) this.#socket.unref()
    }
  }

  close (): void {
    this.#socket.destroy()
  }

  #read (chunk: Buffer): void {
    let rest = chunk
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      const line = Buffer.concat([...this.#partial, rest.subarray(0, end)])
      this.#partial = []
      this.#partialBytes = 0
      rest = rest.subarray(end + 1)
      if (!this.#settle(line)) return
    }
    if (rest.length > 0) this.#partial.push(rest)
    this.#partialBytes += rest.length
    if (this.#partialBytes > lineBytesMax) this.#break(`the session sent a line of more than ${lineBytesMax} bytes`)
  }

  #settle (line: Buffer): boolean {
    const answer = parseAnswer(line)
    if (answer === undefined) {
      this.#break('the session sent something that is no answer')
      return false
    }
    const waiting = this.#waiting.get(answer.id)
    if ('body' in answer) waiting?.resolve(answer.body)
    else waiting?.reject(toVolumeError(answer.error))
    return true
  }

  #break (reason: string): void {
    this.#reason ??= reason
    this.#socket.destroy()
  }

  #fail (reason: string): void {
    for (const { reject } of this.#waiting.values()) reject(new TransportError('LOST', reason, { sent: true }))
    this.#waiting.clear()
  }
}

function parseAnswer (line: Buffer): ControlAnswer | undefined {
  try {
    const value: unknown = JSON.parse(line.toString('utf8'))
    if (typeof value !== 'object' || value === null || !('id' in value) || typeof value.id !== 'number') {
      return undefined
    }
    return 'body' in value || 'error' in value ? value as ControlAnswer : undefined
  } catch {
    return undefined
  }
}

function toVolumeError (error: {
  readonly code: string
  readonly message: string
  readonly field?: string
  readonly remedy?: string
}): VolumeError {
  const code = volumeErrorCodes.find((known) => known === error.code) ?? 'INTERNAL' satisfies VolumeErrorCode
  /* The remedy is part of the message already where the session made it with VolumeError. */
  const { message, remedy, field } = error
  const text = remedy !== undefined && message.endsWith(`; ${remedy}`) ? message.slice(0, -remedy.length - 2) : message
  return new VolumeError(code, text, {
    ...field === undefined ? {} : { field }, ...remedy === undefined ? {} : { remedy }
  })
}
