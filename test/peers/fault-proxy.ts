/**
 * A TCP proxy between an RPC client and its server that understands record marking.
 *
 * Owns connections, the taking apart of both streams into records, and what a script decides about each. Records of a
 * reply are known by the xid of their call. Does not know the programs' messages beyond their headers: program, version
 * and procedure number.
 */
import net, { type AddressInfo } from 'node:net'
import { pause } from '../../agent/base/deadline.ts'

export interface ProxiedRecord {
  readonly direction: 'call' | 'reply'
  readonly xid: number
  readonly program: number
  /** Procedure number; of the call it answers when it is a reply, -1 when that call was never seen. */
  readonly procedure: number
  /** The record without its marker. */
  readonly bytes: Buffer
  /** How many records of this direction and procedure came before. */
  readonly nth: number
  readonly connection: number
}

/** What happens to one record. Nothing mentioned: it passes. */
export interface ProxyVerdict {
  readonly drop?: boolean
  readonly delayMs?: number
  /** It and everything behind it on its connection come later. */
  readonly stallMs?: number
  /** Sent so often. */
  readonly copies?: number
  /** Kept back until so many later records of the same direction have passed. */
  readonly behind?: number
  /** Correctly marked, but only so many bytes. */
  readonly truncateBytes?: number
  readonly fragmentBytes?: number
  /** So many bytes of the marked record are sent, then both sides are reset. */
  readonly resetAfterBytes?: number
  /** Both sides are closed in order instead. */
  readonly close?: boolean
  readonly replaceWith?: Buffer
}

export interface FaultProxyOptions {
  readonly port: number
  readonly host?: string
  readonly listenPort?: number
  readonly decide?: (record: ProxiedRecord) => ProxyVerdict | undefined
  /** Added to each direction; records keep their order. */
  readonly latencyMs?: number
}

type Side = 'call' | 'reply'

/** One direction of one connection. */
interface Lane {
  readonly to: net.Socket
  pending: Buffer[]
  pendingBytes: number
  /** Records kept back by `behind`. */
  held: { bytes: Buffer, behind: number }[]
  /** Waits that are not over. */
  stalls: number
  /** Ends when everything before has been sent: latency keeps order. */
  sent: Promise<void>
}

const markerOf = (bytes: number, isLast: boolean): Buffer => {
  const marker = Buffer.alloc(4)
  marker.writeUInt32BE((bytes | (isLast ? 0x8000_0000 : 0)) >>> 0)
  return marker
}

function marked (record: Buffer, fragmentBytes = Math.max(record.length, 1)): Buffer {
  if (record.length === 0) return markerOf(0, true)
  const parts: Buffer[] = []
  for (let at = 0; at < record.length; at += fragmentBytes) {
    const fragment = record.subarray(at, at + fragmentBytes)
    parts.push(markerOf(fragment.length, at + fragment.length === record.length), fragment)
  }
  return Buffer.concat(parts)
}

const word = (bytes: Buffer, index: number): number =>
  bytes.length >= index * 4 + 4 ? bytes.readUInt32BE(index * 4) : -1

export class FaultProxy {
  decide: FaultProxyOptions['decide']
  latencyMs: number
  readonly #options: FaultProxyOptions
  readonly #listener: net.Server
  readonly #sockets = new Set<net.Socket>()
  readonly #seen = new Map<string, number>()
  #isBlackHole = false
  /** What arrived meanwhile, to be passed when the hole closes. */
  #waiting: (() => void)[] = []
  #connections = 0

  private constructor (options: FaultProxyOptions) {
    this.#options = options
    this.decide = options.decide
    this.latencyMs = options.latencyMs ?? 0
    this.#listener = net.createServer({ noDelay: true }, (client) => { this.#join(client) })
  }

  static async start (options: FaultProxyOptions): Promise<FaultProxy> {
    const proxy = new FaultProxy(options)
    await new Promise<void>((resolve, reject) => {
      proxy.#listener.once('error', reject)
      proxy.#listener.listen(options.listenPort ?? 0, '127.0.0.1', resolve)
    })
    return proxy
  }

  get port (): number { return (this.#listener.address() as AddressInfo).port }
  get connections (): number { return this.#connections }

  /** From now on bytes vanish from sight: connections stay open and silent, as behind a cut cable. */
  blackHole (): void { this.#isBlackHole = true }

  /** The cable is back: what waited is delivered, as TCP would. */
  heal (): void {
    this.#isBlackHole = false
    const waiting = this.#waiting
    this.#waiting = []
    for (const deliver of waiting) deliver()
  }

  /** RST on every connection. */
  reset (): void {
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }

  async close (): Promise<void> {
    const closed = new Promise((resolve) => { this.#listener.close(resolve) })
    this.reset()
    await closed
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.close() }

  #join (client: net.Socket): void {
    const connection = this.#connections++
    const server = net.connect({ port: this.#options.port, host: this.#options.host ?? '127.0.0.1', noDelay: true })
    const calls = new Map<number, { program: number, procedure: number }>()
    const lane = (to: net.Socket): Lane => ({
      to, pending: [], pendingBytes: 0, held: [], stalls: 0, sent: Promise.resolve()
    })
    const sides = [[client, server, 'call'], [server, client, 'reply']] as const
    for (const [from, to, side] of sides) {
      const target = lane(to)
      this.#sockets.add(from)
      from.on('error', () => { to.resetAndDestroy() })
      from.on('close', () => { this.#sockets.delete(from); to.destroy() })
      from.on('data', (chunk: Buffer) => {
        const deliver = (): void => { this.#receive(target, side, chunk, connection, calls) }
        if (this.#isBlackHole) this.#waiting.push(deliver)
        else deliver()
      })
      from.on('end', () => {
        const deliver = (): void => { void target.sent.then(() => to.end()) }
        if (this.#isBlackHole) this.#waiting.push(deliver)
        else deliver()
      })
    }
  }

  #receive (
    lane: Lane,
    side: Side,
    chunk: Buffer,
    connection: number,
    calls: Map<number, { program: number, procedure: number }>
  ): void {
    lane.pending.push(chunk)
    lane.pendingBytes += chunk.length
    for (let bytes = takeRecord(lane); bytes !== undefined; bytes = takeRecord(lane)) {
      const xid = word(bytes, 0)
      if (side === 'call') calls.set(xid, { program: word(bytes, 3), procedure: word(bytes, 5) })
      const { program, procedure } = calls.get(xid) ?? { program: -1, procedure: -1 }
      const key = `${side} ${program} ${procedure}`
      const nth = this.#seen.get(key) ?? 0
      this.#seen.set(key, nth + 1)
      const verdict = this.decide?.({ direction: side, xid, program, procedure, bytes, nth, connection }) ?? {}
      this.#carryOut(lane, bytes, verdict)
    }
  }

  #carryOut (lane: Lane, bytes: Buffer, verdict: ProxyVerdict): void {
    const { drop, delayMs, stallMs, copies = 1, behind, truncateBytes, fragmentBytes, resetAfterBytes, replaceWith } =
      verdict
    const record = marked((replaceWith ?? bytes).subarray(0, truncateBytes), fragmentBytes)
    if (stallMs !== undefined) this.#stall(lane, stallMs)
    if (verdict.close === true) {
      this.#later(lane, () => { lane.to.end() })
    } else if (resetAfterBytes !== undefined) {
      this.#later(lane, () => {
        lane.to.write(record.subarray(0, resetAfterBytes), () => { lane.to.resetAndDestroy() })
      })
    } else if (drop !== true && behind !== undefined) {
      lane.held.push({ bytes: record, behind })
      return
    } else if (drop !== true && delayMs !== undefined) {
      // Only this record is late; those after it overtake.
      void pause(delayMs).then(() => { write(lane.to, record, copies) })
    } else if (drop !== true) this.#later(lane, () => { write(lane.to, record, copies) })
    this.#release(lane)
  }

  /** Records kept back come after enough others have passed. */
  #release (lane: Lane): void {
    for (const held of lane.held) held.behind--
    for (const held of lane.held.filter(({ behind }) => behind <= 0)) {
      this.#later(lane, () => { write(lane.to, held.bytes, 1) })
    }
    lane.held = lane.held.filter(({ behind }) => behind > 0)
  }

  #stall (lane: Lane, ms: number): void {
    lane.stalls++
    const due = pause(ms)
    lane.sent = lane.sent.then(async () => { await due; lane.stalls-- })
  }

  #later (lane: Lane, send: () => void): void {
    if (this.latencyMs === 0 && lane.stalls === 0) {
      send()
      return
    }
    const due = pause(this.latencyMs)
    lane.sent = lane.sent.then(async () => { await due; send() })
  }
}

function write (to: net.Socket, record: Buffer, copies: number): void {
  for (let copy = 0; copy < copies && to.writable; copy++) to.write(record)
}

/** The next whole record of a lane, fragments joined; undefined when it has not all come. */
function takeRecord (lane: Lane): Buffer | undefined {
  if (lane.pendingBytes < 4) return undefined
  if (lane.pending.length > 1 && !isEnough(lane)) return undefined
  const all = lane.pending.length === 1 ? lane.pending[0] as Buffer : Buffer.concat(lane.pending)
  lane.pending = [all]
  const fragments: Buffer[] = []
  for (let at = 0; at + 4 <= all.length;) {
    const marker = all.readUInt32BE(at)
    const end = at + 4 + (marker & 0x7fff_ffff)
    if (end > all.length) return undefined
    fragments.push(all.subarray(at + 4, end))
    at = end
    if ((marker & 0x8000_0000) === 0) continue
    const rest = all.subarray(at)
    lane.pending = rest.length === 0 ? [] : [rest]
    lane.pendingBytes = rest.length
    return fragments.length === 1 ? fragments[0] : Buffer.concat(fragments)
  }
  return undefined
}

/** Whether the first fragment can be complete: chunks of a megabyte's record are not joined one by one. */
function isEnough (lane: Lane): boolean {
  const first = lane.pending[0] as Buffer
  return first.length < 4 || lane.pendingBytes >= 4 + (first.readUInt32BE(0) & 0x7fff_ffff)
}
