/**
 * An NFSv3 server over a real folder that can be told to misbehave; also the embedded server of the demo.
 *
 * Owns connections, the life of a call and the carrying out of verdicts. MOUNT, NFS and portmapper answer on one port.
 * A test uses it to see what a client does with a server that is wrong; whether it is right is judged by libnfs, an
 * independent client.
 */
import { randomBytes } from 'node:crypto'
import net, { type AddressInfo } from 'node:net'
import { pause } from '../../../agent/base/deadline.ts'
import { WireError } from '../../../agent/base/errors.ts'
import type { XdrWriter } from '../../../proto/xdr/writer.ts'
import {
  acceptedReply,
  acceptStatus,
  decodeCall,
  deniedReply,
  markRecord,
  RecordAssembler,
  type CallMessage
} from './call-message.ts'
import { dataProcedures } from './data.ts'
import { directoryProcedures } from './directories.ts'
import { mountProcedures, portmapProcedures, PROGRAMS } from './mounting.ts'
import { nameProcedures } from './names.ts'
import { objectProcedures } from './objects.ts'
import type { Call, Offer, Procedure } from './procedure.ts'
import type { Script, SeenCall, Verdict } from './script.ts'
import { nfsStatus, statusOf, type NfsStatus } from './status.ts'
import { Tree, type Disguise } from './tree.ts'
import { UnstableData } from './unstable.ts'

export interface NfsServerOptions {
  readonly folder: string
  /** The name clients mount; default `/export`. */
  readonly share?: string
  readonly port?: number
  readonly host?: string
  readonly offer?: Partial<Offer>
  readonly script?: Script
  /** UNSTABLE data is lost by `restart()` unless it was committed. */
  readonly losesUnstable?: boolean
  /** Link counts and inode numbers other than those of the folder's objects. */
  readonly disguise?: Disguise
  /** Answers to calls that must not run twice, kept by address and xid (RFC 1813 section 4.5). 0: none. Default 256. */
  readonly replyCacheMax?: number
}

interface Program {
  readonly name: SeenCall['program']
  readonly version: number
  readonly rows: ReadonlyMap<number, readonly [name: string, procedure: Procedure]>
}

const rowsOf = (procedures: Readonly<Record<string, Procedure>>): Program['rows'] =>
  new Map(Object.entries(procedures).map(([name, procedure]) => [procedure.number, [name, procedure]]))

const programs = new Map<number, Program>([
  [PROGRAMS.NFS, {
    name: 'NFS', version: 3,
    rows: rowsOf({ ...objectProcedures, ...dataProcedures, ...nameProcedures, ...directoryProcedures })
  }],
  [PROGRAMS.MOUNT, { name: 'MOUNT', version: 3, rows: rowsOf(mountProcedures) }],
  [PROGRAMS.PORTMAP, { name: 'PORTMAP', version: 2, rows: rowsOf(portmapProcedures) }]
])

/** Running these twice gives another answer than running them once. */
const unrepeatable = new Set(['SETATTR', 'CREATE', 'MKDIR', 'SYMLINK', 'MKNOD', 'REMOVE', 'RMDIR', 'RENAME', 'LINK'])

/** The kernel's listen backlog is not a limit that a test should meet. */
const backlog = 1024

export class NfsServer {
  readonly host: string
  readonly share: string
  readonly folder: string
  script: Script | undefined
  /** Calls by name since the start, executed or not. */
  readonly calls: Record<string, number> = {}
  #verifier: Buffer = randomBytes(8)
  readonly #tree: Tree
  readonly #unstable: UnstableData
  readonly #offer: Offer
  readonly #sockets = new Set<net.Socket>()
  readonly #replies = new Map<string, readonly Buffer[]>()
  readonly #replyCacheMax: number
  #listener: net.Server | undefined
  #port: number
  #connections = 0

  private constructor (options: NfsServerOptions) {
    this.host = options.host ?? '127.0.0.1'
    this.share = options.share ?? '/export'
    this.folder = options.folder
    this.script = options.script
    this.#port = options.port ?? 0
    this.#tree = new Tree(Buffer.from(options.folder).toString('latin1'), options.disguise)
    this.#unstable = new UnstableData(options.losesUnstable === true)
    this.#offer = {
      readBytesMax: 1024 * 1024, writeBytesMax: 1024 * 1024, directoryBytesMax: 64 * 1024, ...options.offer
    }
    this.#replyCacheMax = options.replyCacheMax ?? 256
  }

  static async start (options: NfsServerOptions): Promise<NfsServer> {
    const server = new NfsServer(options)
    await server.#listen()
    return server
  }

  get port (): number { return this.#port }
  get nfsPort (): number { return this.#port }
  get mountPort (): number { return this.#port }
  get mountOptions (): string { return `vers=3,nolock,proto=tcp,port=${this.#port},mountport=${this.#port}` }
  get verifier (): Buffer { return this.#verifier }
  get connectionCount (): number { return this.#sockets.size }
  url (below = ''): string {
    return `nfs://${this.host}${this.share}${below}?version=3&nfsport=${this.#port}&mountport=${this.#port}`
  }

  /** Another write verifier, as after a reboot or an IO error, with nothing else changed. */
  rollVerifier (): void { this.#verifier = randomBytes(8) }

  /** Connections are reset and nobody listens. */
  async stop (): Promise<void> {
    const listener = this.#listener
    this.#listener = undefined
    for (const socket of this.#sockets) socket.resetAndDestroy()
    if (listener !== undefined) await new Promise((resolve) => { listener.close(resolve) })
  }

  /** A new life on the same port: new verifier, no reply cache, and, if so wanted, without what was not committed.
   * Handles stay good. */
  async restart (): Promise<void> {
    await this.stop()
    this.#unstable.crash(this.#tree)
    this.#replies.clear()
    this.rollVerifier()
    await this.#listen()
  }

  /** Connections are reset; new ones are welcome. */
  resetConnections (): void {
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }

  async close (): Promise<void> {
    await this.stop()
    this.#tree.close()
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.close() }

  async #listen (): Promise<void> {
    const listener = net.createServer({ noDelay: true }, (socket) => { this.#serve(socket) })
    this.#listener = listener
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject)
      listener.listen({ port: this.#port, host: this.host, backlog }, resolve)
    })
    this.#port = (listener.address() as AddressInfo).port
  }

  #serve (socket: net.Socket): void {
    const connection = this.#connections++
    const assembler = new RecordAssembler()
    this.#sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => { this.#sockets.delete(socket) })
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const record of assembler.push(chunk)) void this.#answer(socket, connection, decodeCall(record))
      } catch {
        // A client that breaks the protocol is cut off; its own log says why.
        socket.destroy()
      }
    })
  }

  /** The life of a call: seen by the script, executed or not, answered or not. Never rejects. */
  async #answer (socket: net.Socket, connection: number, message: CallMessage): Promise<void> {
    const program = programs.get(message.program)
    const row = program?.rows.get(message.procedure)
    const name = row?.[0] ?? `procedure ${message.procedure}`
    const nth = this.calls[name] ?? 0
    this.calls[name] = nth + 1
    const decided = this.script?.({
      program: program?.name ?? 'NFS', procedure: name, xid: message.xid, nth, connection, ...message.credential
    })
    const verdict = (decided instanceof Promise ? await decided : decided) ?? {}
    if (verdict.close === true) socket.end()
    if (verdict.loseRequest === true || verdict.close === true) return
    const parts = await this.#replyTo(socket, message, program, row, verdict)
    if (verdict.delayMs !== undefined) await pause(verdict.delayMs)
    if (verdict.loseReply !== true) this.#send(socket, parts, verdict)
  }

  async #replyTo (
    socket: net.Socket, message: CallMessage, program: Program | undefined,
    row: readonly [string, Procedure] | undefined, verdict: Verdict
  ): Promise<readonly Buffer[]> {
    const { xid } = message
    if (verdict.authStatus !== undefined) return deniedReply(xid, verdict.authStatus).finish()
    if (verdict.acceptStatus !== undefined) return acceptedReply(xid, verdict.acceptStatus).finish()
    if (program === undefined) return acceptedReply(xid, acceptStatus.PROG_UNAVAIL).finish()
    if (message.version !== program.version) {
      const out = acceptedReply(xid, acceptStatus.PROG_MISMATCH)
      out.uint32(program.version)
      out.uint32(program.version)
      return out.finish()
    }
    if (row === undefined) return acceptedReply(xid, acceptStatus.PROC_UNAVAIL).finish()
    const [name, procedure] = row
    if (verdict.status !== undefined) return failure(xid, procedure, verdict.status).finish()
    const key = `${socket.remoteAddress ?? ''} ${xid} ${name}`
    const known = this.#replies.get(key)
    if (known !== undefined) return known
    const parts = (await this.#execute(message, procedure, verdict)).finish()
    if (unrepeatable.has(name) && this.#replyCacheMax > 0) this.#remember(key, parts)
    return parts
  }

  #remember (key: string, parts: readonly Buffer[]): void {
    this.#replies.set(key, parts)
    const oldest = this.#replies.keys().next().value
    if (this.#replies.size > this.#replyCacheMax && oldest !== undefined) this.#replies.delete(oldest)
  }

  async #execute (message: CallMessage, procedure: Procedure, verdict: Verdict): Promise<XdrWriter> {
    const call: Call = {
      tree: this.#tree,
      credential: message.credential,
      verdict,
      verifier: this.#verifier,
      unstable: this.#unstable,
      offer: this.#offer,
      share: this.share,
      port: this.#port
    }
    try {
      const running = procedure.run(message.args, call)
      const answer = running instanceof Promise ? await running : running
      const out = acceptedReply(message.xid, acceptStatus.SUCCESS)
      if (procedure.bare !== true) out.uint32(nfsStatus.OK)
      answer(out)
      return out
    } catch (error) {
      if (error instanceof WireError) return acceptedReply(message.xid, acceptStatus.GARBAGE_ARGS)
      return failure(message.xid, procedure, statusOf(error))
    }
  }

  #send (socket: net.Socket, parts: readonly Buffer[], verdict: Verdict): void {
    const { garbage, truncateBytes } = verdict
    let body = garbage === undefined ? parts : [Buffer.concat(parts).subarray(0, 4), garbage]
    if (verdict.trailing !== undefined) body = [...body, verdict.trailing]
    if (truncateBytes !== undefined) body = [Buffer.concat(body).subarray(0, truncateBytes)]
    const record = markRecord(body, verdict.fragmentBytes)
    if (verdict.resetAfterBytes !== undefined) {
      socket.write(Buffer.concat(record).subarray(0, verdict.resetAfterBytes), () => { socket.resetAndDestroy() })
      return
    }
    for (let copy = 0; copy < (verdict.copies ?? 1) && socket.writable; copy++) {
      socket.cork()
      for (const part of record) socket.write(part)
      socket.uncork()
    }
  }
}

function failure (xid: number, procedure: Procedure, status: NfsStatus): XdrWriter {
  const out = acceptedReply(xid, acceptStatus.SUCCESS)
  out.uint32(nfsStatus[status])
  for (let word = 0; word < procedure.failWords; word++) out.uint32(0)
  return out
}
