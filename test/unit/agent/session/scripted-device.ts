/** A device without a kernel: requests are pushed in as bytes, replies are kept, write errors can be ordered. */
import type { FuseDevice, FuseDeviceEvents } from '../../../../agent/host/fuse-device.ts'
import { operations } from '../../../../proto/fuse/operations.ts'
import type { OperationName } from '../../../../proto/fuse/operations.ts'

export interface Reply { readonly unique: bigint, readonly errno: number, readonly body: Buffer }

/** A request's bytes, laid out by hand here and not by the code under test. */
export function request (
  name: OperationName | number,
  facts: { unique: number | bigint, nodeid?: number, uid?: number, gid?: number, pid?: number, body?: Buffer }
): Buffer {
  const body = facts.body ?? Buffer.alloc(0)
  const message = Buffer.alloc(40 + body.length)
  message.writeUInt32LE(message.length, 0)
  message.writeUInt32LE(typeof name === 'number' ? name : operations[name].opcode, 4)
  message.writeBigUInt64LE(BigInt(facts.unique), 8)
  message.writeBigUInt64LE(BigInt(facts.nodeid ?? 1), 16)
  message.writeUInt32LE(facts.uid ?? 0, 24)
  message.writeUInt32LE(facts.gid ?? 0, 28)
  message.writeUInt32LE(facts.pid ?? 0, 32)
  body.copy(message, 40)
  return message
}

export const u64 = (...numbers: (number | bigint)[]): Buffer => {
  const bytes = Buffer.alloc(8 * numbers.length)
  numbers.forEach((number, index) => bytes.writeBigUInt64LE(BigInt(number), 8 * index))
  return bytes
}
export const u32 = (...numbers: number[]): Buffer => {
  const bytes = Buffer.alloc(4 * numbers.length)
  numbers.forEach((number, index) => bytes.writeUInt32LE(number, 4 * index))
  return bytes
}
export const name = (text: string): Buffer => Buffer.from(`${text}\0`, 'latin1')
/** fuse_init_in of a recent kernel. */
export const initBody = u32(7, 45, 131072, 0x73ff_fffb, 0x3ff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
/** fuse_read_in */
export const readBody = (fh: number, offset: number, size: number): Buffer =>
  Buffer.concat([u64(fh, offset), u32(size, 0), u64(0), u32(0, 0)])

export class ScriptedDevice implements FuseDevice {
  readonly requests = Buffer.alloc(1024 * 1024)
  readonly replies = Buffer.alloc(64 * 1024)
  readonly table = new Int32Array(128)
  readonly results = new Int32Array(4096)
  readonly notified = new Int32Array(64)
  readonly answered: Reply[] = []
  readonly notices: Buffer[] = []
  /** Errno per write, in order; 0 when the list is used up. */
  writeErrors: number[] = []
  notifyResult = 0
  isClosed = false
  isStarted = false
  #events: FuseDeviceEvents | undefined

  listen (events: FuseDeviceEvents): void { this.#events = events }
  start (): void { this.isStarted = true }
  pause (): void {}

  /** As the addon does: packed one behind the other, 8-aligned, one callback. */
  push (...messages: Buffer[]): void {
    let at = 0
    messages.forEach((message, index) => {
      message.copy(this.requests, at)
      this.table[2 * index] = at
      this.table[2 * index + 1] = message.length
      at = (at + message.length + 7) & ~7
    })
    this.#events?.requests(messages.length)
    this.requests.fill(0xdd, 0, at)
  }

  end (errno: number): void { this.#events?.ended(errno) }
  reportNotified (results: readonly number[]): void {
    this.notified.set(results)
    this.#events?.notified(results.length)
  }

  #write (bytes: Buffer): number {
    const errno = this.writeErrors.shift() ?? 0
    if (errno === 0) {
      this.answered.push({
        unique: bytes.readBigUInt64LE(8), errno: 0 - bytes.readInt32LE(4), body: Buffer.from(bytes.subarray(16))
      })
    }
    return errno
  }

  flush (bytes: number): number {
    let refused = 0
    let index = 0
    for (let at = 0; at < bytes; index++) {
      const length = this.replies.readUInt32LE(at)
      const errno = this.#write(this.replies.subarray(at, at + length))
      this.results[index] = errno
      if (errno !== 0) refused++
      at = (at + length + 7) & ~7
    }
    return refused
  }

  send (offset: number, headerBytes: number, parts: readonly Buffer[]): number {
    const bytes = Buffer.concat([this.replies.subarray(offset, offset + headerBytes), ...parts])
    if (bytes.length !== bytes.readUInt32LE(0)) throw new Error('the length in the header is wrong')
    return this.#write(bytes)
  }

  notify (message: Buffer): number {
    if (this.notifyResult === 0) this.notices.push(Buffer.from(message))
    return this.notifyResult
  }

  close (): void { this.isClosed = true }
}

/** After all promise jobs and next ticks that are due now. */
export const turn = async (): Promise<void> => { await new Promise((resolve) => { setImmediate(resolve) }) }
