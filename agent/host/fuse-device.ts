/**
 * /dev/fuse, typed. Owns the buffers shared with the addon and the split of its one callback into three.
 * Knows that a message begins with its length and that replies are packed 8-aligned; nothing else of the FUSE protocol.
 */
import { errnoName } from '../base/errno.ts'

interface NativeOptions {
  readonly requests: Buffer
  readonly replies: Buffer
  readonly table: Int32Array
  readonly results: Int32Array
  readonly notified: Int32Array
  readonly requestBytesMax: number
  onEvent (event: number, value: number): void
}

/** The addon's object; its functions are described beside their C source (`native/fuse_device.c`). */
interface NativeFuseDevice {
  start (): void
  pause (): void
  flush (bytes: number): number
  send (offset: number, headerBytes: number, parts: readonly Buffer[]): number
  notify (message: Buffer): number
  close (): void
}

export interface FuseAddon {
  readonly FuseDevice: new (fd: number, options: NativeOptions) => NativeFuseDevice
}

/** What happens on a device. Called from the event loop, never from inside a method of the device. */
export interface FuseDeviceEvents {
  /** `count` requests lie in `requests`; `table[2i]` is where request i begins, `table[2i + 1]` its length. They are
   * gone after the call. */
  requests (count: number): void
  /** The connection is over; called once. ENODEV: unmounted. ECONNABORTED: aborted through fusectl. EPERM: never
   * mounted. */
  ended (errno: number): void
  /** The oldest `count` notifications were written: `notified[i]` is 0 or an errno, in order of submission. */
  notified (count: number): void
}

/** A session's side of the FUSE connection; the tests have a scripted one. */
export interface FuseDevice {
  readonly requests: Buffer
  readonly replies: Buffer
  readonly table: Int32Array
  readonly results: Int32Array
  readonly notified: Int32Array
  listen (events: FuseDeviceEvents): void
  /** Reads from now on. Only once the file system is mounted: before that the kernel refuses (EPERM). */
  start (): void
  /** Leaves requests in the kernel until `start`. */
  pause (): void
  /** Writes the replies packed in `replies[0, bytes)`; answers how many were not accepted, `results[i]` says why. */
  flush (bytes: number): number
  /** One reply: `headerBytes` of `replies` at `offset`, then the parts, uncopied. Answers 0 or an errno. */
  send (offset: number, headerBytes: number, parts: readonly Buffer[]): number
  /** Queues a notification (copied) for the writer thread. Answers 0, EAGAIN when the queue is full, or another
   * errno. */
  notify (message: Buffer): number
  /** Closes the descriptor. Safe to call twice, and from any event. */
  close (): void
}

/** Must hold the largest request (1 MiB write and its headers) and leaves room to drain several behind one another. */
const requestBytesDefault = 4 * 1024 * 1024
/** fuse_in_header + fuse_write_in + max_write, rounded up to a page (kernel fs/fuse/dev.c, fuse_dev_do_read). */
const requestBytesMax = 1024 * 1024 + 4096
/** Small replies gathered before they are written, and the longest folder listing. */
const replyBytesDefault = 512 * 1024
const requestsPerCallMax = 64
const repliesPerFlushMax = replyBytesDefault / 16
const noticesPerCallMax = 256

const nothing: FuseDeviceEvents = { requests () {}, ended () {}, notified () {} }

class NativeDevice implements FuseDevice {
  readonly requests = Buffer.alloc(requestBytesDefault)
  readonly replies = Buffer.alloc(replyBytesDefault)
  readonly table = new Int32Array(2 * requestsPerCallMax)
  readonly results = new Int32Array(repliesPerFlushMax)
  readonly notified = new Int32Array(noticesPerCallMax)
  readonly #native: NativeFuseDevice
  #events = nothing

  constructor (addon: FuseAddon, fd: number) {
    const { requests, replies, table, results, notified } = this
    const onEvent = (event: number, value: number): void => {
      if (event === 0) this.#events.requests(value)
      else if (event === 1) this.#events.ended(value)
      else this.#events.notified(value)
    }
    this.#native = new addon.FuseDevice(fd, { requests, replies, table, results, notified, requestBytesMax, onEvent })
  }

  listen (events: FuseDeviceEvents): void { this.#events = events }
  start (): void { this.#native.start() }
  pause (): void { this.#native.pause() }
  flush (bytes: number): number { return this.#native.flush(bytes) }
  send (offset: number, headerBytes: number, parts: readonly Buffer[]): number {
    return this.#native.send(offset, headerBytes, parts)
  }
  notify (message: Buffer): number { return this.#native.notify(message) }
  close (): void { this.#native.close() }
}

/** Takes over `fd`, a descriptor of /dev/fuse: it is closed with the device, also when this throws. */
export function attachFuseDevice (addon: FuseAddon, fd: number): FuseDevice {
  return new NativeDevice(addon, fd)
}

/** For log lines: why a connection ended. */
export function showEnd (errno: number): string {
  const meanings: Record<string, string> = { ENODEV: 'unmounted', ECONNABORTED: 'aborted', EPERM: 'not mounted' }
  const name = errnoName(errno)
  return meanings[name] ?? name
}
