/**
 * Reading. Owns how an answer is put together from the server's bytes and our own not yet committed ones, requests
 * larger than the server's, short answers, and the end of the file. Does not know when written bytes are sent.
 *
 * Our own bytes are noted before the server is asked: they were written before the read began, so the answer must have
 * them, also when they are committed and gone from here before the server's (older) answer arrives.
 */
import { Errno, isErrno } from '../../base/errno.ts'
import type { AttributeCache } from '../beliefs/attributes.ts'
import type { OpenState } from '../backend.ts'
import type { EarlyReads } from './early-reads.ts'
import type { OwnRange } from '../written/dirty-file.ts'
import type { Writeback } from '../written/writeback.ts'
import type { BackendGate } from '../gate.ts'
import type { EarlyRead, OpenHandle } from '../objects/handles.ts'
import type { Inode } from '../objects/inode.ts'
import type { FileData } from '../operations.ts'

interface ServerData { readonly parts: Buffer[], bytes: number, readonly releases: (() => void)[] }

/** A server that answers no byte and no end so often is broken. */
const emptyAnswersMax = 5
/** Gaps between our own bytes beyond this are read as one span: fewer calls, some bytes for nothing. */
const gapsMax = 4
const zeros = Buffer.alloc(64 * 1024)
const nothing: FileData = { parts: [], bytes: 0, release: () => undefined }

export class FileReader {
  readonly #backend: BackendGate
  readonly #attributes: AttributeCache
  readonly #writeback: Writeback
  readonly #early: EarlyReads

  constructor (parts: { backend: BackendGate, attributes: AttributeCache, writeback: Writeback, early: EarlyReads }) {
    this.#backend = parts.backend
    this.#attributes = parts.attributes
    this.#writeback = parts.writeback
    this.#early = parts.early
  }

  read (handle: OpenHandle, offset: number, count: number): FileData | Promise<FileData | Errno> {
    const { inode, open } = handle
    if (count <= 0) return nothing
    const { early } = handle
    if (early !== undefined && offset === 0) {
      return early.arrived === undefined
        ? this.#readEarly(handle, early, count)
        : early.arrived.then(() => this.#readEarly(handle, early, count))
    }
    const file = inode.file
    if (file === undefined || file.isEmpty || file.endBytes <= offset) {
      return this.#readPlain(inode, open, offset, count)
    }
    const localEnd = Math.min(offset + count, file.endBytes)
    const own = this.#writeback.snapshot(inode, offset, offset + count)
    const gaps = gapsBetween(own, offset, offset + count)
    if (gaps.length === 0) return this.#assemble({ own, offset, end: offset + count, localEnd }, [], () => undefined)
    return this.#readAround(inode, open, { own, offset, end: offset + count, localEnd }, gaps)
  }

  /** The answer to the READ that went out with the OPEN is there, or there is none. */
  #readEarly (handle: OpenHandle, early: EarlyRead, count: number): FileData | Promise<FileData | Errno> {
    handle.early = undefined
    const data = early.isOver ? undefined : this.#early.take(early, count)
    return data ?? this.read(handle, 0, count)
  }

  /** Nearly always one request and its whole answer. */
  async #readPlain (inode: Inode, open: OpenState, offset: number, count: number): Promise<FileData | Errno> {
    if (count <= this.#backend.capabilities.readBytesMax) {
      const sent = this.#attributes.stamp()
      const answer = await this.#backend.read(open, offset, count)
      if (isErrno(answer)) {
        this.#attributes.noteFailure(inode, answer)
        return answer
      }
      this.#attributes.apply(inode, answer.attributes, sent)
      const bytes = answer.data.length
      if (bytes === count || answer.eof) {
        return { parts: bytes === 0 ? [] : [answer.data], bytes, release: () => { answer.release() } }
      }
      const rest = await this.#readSpan(inode, open, offset + bytes, offset + count)
      if (!isErrno(rest)) {
        return together({
          parts: [answer.data, ...rest.parts], bytes: bytes + rest.bytes,
          releases: [() => { answer.release() }, ...rest.releases]
        })
      }
      answer.release()
      return rest
    }
    const data = await this.#readSpan(inode, open, offset, offset + count)
    return isErrno(data) ? data : together(data)
  }

  async #readAround (
    inode: Inode,
    open: OpenState,
    wanted: Wanted,
    gaps: [number, number][]
  ): Promise<FileData | Errno> {
    const first = gaps[0]?.[0] ?? wanted.offset
    const last = gaps.at(-1)?.[1] ?? wanted.end
    const spans: [number, number][] = gaps.length > gapsMax ? [[first, last]] : gaps
    const answers = await Promise.all(
      spans.map(async ([start, end]) => ({ start, data: await this.#readSpan(inode, open, start, end) }))
    )
    const good: { start: number, data: ServerData }[] = []
    let failure: Errno | undefined
    for (const { start, data } of answers) {
      if (isErrno(data)) failure ??= data
      else good.push({ start, data })
    }
    const release = (): void => { for (const { data } of good) for (const free of data.releases) free() }
    if (failure === undefined) return this.#assemble(wanted, good, release)
    release()
    for (const range of wanted.own) this.#writeback.packer.release(range.slab)
    return failure
  }

  /** Our own bytes, the server's where we have none, zeros where only the length is known, up to the end of the
   * file. */
  #assemble (
    wanted: Wanted,
    server: readonly { start: number, data: ServerData }[],
    releaseServer: () => void
  ): FileData {
    const { own, offset, end, localEnd } = wanted
    const parts: Buffer[] = []
    let at = offset
    for (const range of own) {
      if (!appendGap(parts, at, range.start, server, localEnd)) break
      at = Math.max(at, range.start)
      const until = Math.min(range.end, end)
      const from = range.slabOffset + at - range.start
      parts.push(range.slab.block.buffer.subarray(from, from + until - at))
      at = until
    }
    appendGap(parts, at, end, server, localEnd)
    const bytes = parts.reduce((sum, part) => sum + part.length, 0)
    return {
      parts,
      bytes,
      release: () => {
        releaseServer()
        for (const range of own) this.#writeback.packer.release(range.slab)
      }
    }
  }

  /** [start, end) from the server, in as many requests at once as it takes, up to the first one that meets the end of
   * the file. */
  async #readSpan (inode: Inode, open: OpenState, start: number, end: number): Promise<ServerData | Errno> {
    const most = this.#backend.capabilities.readBytesMax
    if (end - start <= most) return this.#readChunk(inode, open, start, end)
    const chunks: Promise<ServerData | Errno>[] = []
    for (let at = start; at < end; at += most) chunks.push(this.#readChunk(inode, open, at, Math.min(end, at + most)))
    const answers = await Promise.all(chunks)
    const whole: ServerData = { parts: [], bytes: 0, releases: [] }
    const failure = answers.find(isErrno)
    let isAtEnd = failure !== undefined
    for (const [index, answer] of answers.entries()) {
      if (isErrno(answer)) continue
      whole.releases.push(...answer.releases)
      if (isAtEnd) continue
      whole.parts.push(...answer.parts)
      whole.bytes += answer.bytes
      isAtEnd = answer.bytes < Math.min(most, end - start - index * most)
    }
    if (failure === undefined) return whole
    for (const free of whole.releases) free()
    return failure
  }

  /** One request, and more of them when the server answers less than it has. */
  async #readChunk (inode: Inode, open: OpenState, start: number, end: number): Promise<ServerData | Errno> {
    const whole: ServerData = { parts: [], bytes: 0, releases: [] }
    let empty = 0
    while (start + whole.bytes < end) {
      const sent = this.#attributes.stamp()
      const answer = await this.#backend.read(open, start + whole.bytes, end - start - whole.bytes)
      if (isErrno(answer)) {
        for (const free of whole.releases) free()
        this.#attributes.noteFailure(inode, answer)
        return answer
      }
      this.#attributes.apply(inode, answer.attributes, sent)
      whole.releases.push(() => { answer.release() })
      if (answer.data.length > 0) whole.parts.push(answer.data)
      whole.bytes += answer.data.length
      if (answer.eof) break
      empty = answer.data.length === 0 ? empty + 1 : 0
      if (empty >= emptyAnswersMax) {
        for (const free of whole.releases) free()
        return Errno.EIO
      }
    }
    return whole
  }
}

function together ({ parts, bytes, releases }: ServerData): FileData {
  return { parts, bytes, release: () => { for (const free of releases) free() } }
}

interface Wanted {
  readonly own: readonly OwnRange[]
  readonly offset: number
  readonly end: number
  readonly localEnd: number
}

function gapsBetween (own: readonly OwnRange[], offset: number, end: number): [number, number][] {
  const gaps: [number, number][] = []
  let at = offset
  for (const range of own) {
    if (range.start > at) gaps.push([at, range.start])
    at = Math.max(at, range.end)
  }
  if (at < end) gaps.push([at, end])
  return gaps
}

/** Adds [at, until) without our own bytes; false when the file ends before. */
function appendGap (
  parts: Buffer[],
  at: number,
  until: number,
  server: readonly { start: number, data: ServerData }[],
  localEnd: number
): boolean {
  while (at < until) {
    const taken = appendServer(parts, at, until, server)
    at += taken
    if (taken > 0) continue
    const zeroUntil = Math.min(until, localEnd)
    if (at >= zeroUntil) return false
    const length = Math.min(zeroUntil - at, zeros.length)
    parts.push(zeros.subarray(0, length))
    at += length
  }
  return true
}

function appendServer (
  parts: Buffer[],
  at: number,
  until: number,
  server: readonly { start: number, data: ServerData }[]
): number {
  let taken = 0
  for (const { start, data } of server) {
    let partStart = start
    for (const part of data.parts) {
      const from = Math.max(at + taken, partStart)
      const to = Math.min(until, partStart + part.length)
      if (from === at + taken && from < to) {
        parts.push(part.subarray(from - partStart, to - partStart))
        taken += to - from
      }
      partStart += part.length
    }
  }
  return taken
}
