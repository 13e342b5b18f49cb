/**
 * A real NFS server (nfs-ganesha, FSAL VFS) over a throw-away folder, as many at once as a test wants.
 *
 * Owns its process, configuration, ports and folder, and removes them: on close(), at the end of this process and on
 * Ctrl-C. The server itself dies with this process even when that is killed (PR_SET_PDEATHSIG). Does not know who
 * mounts it.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  closeSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statfsSync,
  writeFileSync
} from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import process from 'node:process'
import { monotonicMs, pause } from '../../agent/base/deadline.ts'
import { findProgram } from './needs.ts'

export interface GaneshaOptions {
  /** Export this folder instead of a throw-away one. It is not removed. */
  readonly folder?: string
  readonly squash?: 'No_Root_Squash' | 'Root_Squash' | 'All_Squash'
  readonly accessType?: 'RW' | 'RO' | 'MDONLY' | 'NONE'
  /** Ask the server's own user database for groups instead of believing AUTH_SYS. */
  readonly manageGids?: boolean
  /** The server's own users and groups, lines of passwd(5) and group(5), instead of this machine's. */
  readonly accounts?: { readonly passwd: readonly string[], readonly group: readonly string[] }
  /** Seconds that ganesha trusts its attribute cache. 0: what a test changes in the folder itself is seen at once. */
  readonly attributeCacheSeconds?: number
  readonly protocols?: '3' | '4' | '3,4'
  /** NFS version 4 sends users as numbers, so that a client without a user database (idmapd) knows them. */
  readonly numericOwners?: boolean
  /** Largest READ and WRITE offered. */
  readonly readBytesMax?: number
  readonly writeBytesMax?: number
  /** More lines for the EXPORT block, and whole blocks beside it, in ganesha's own language. */
  readonly exportLines?: readonly string[]
  readonly blocks?: readonly string[]
  /** Part of every file handle. */
  readonly exportId?: number
  readonly logLevel?: 'WARN' | 'EVENT' | 'DEBUG' | 'FULL_DEBUG'
}

const NFS_PROGRAM = 100003
const MOUNT_PROGRAM = 100005
const namePrefix = 'volbridge-ganesha-'
/** A server that is not there after this long hangs; it normally takes about a second. */
const readyMs = 30_000

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** File systems without usable handles: FSAL VFS starts on them and then fails every lookup. */
const handlelessMagics = new Map([[0x0102_1994, 'tmpfs'], [0x794c_7630, 'overlay'], [0x6573_5546, 'fuse']])

function workFolder (): string {
  const parent = process.env['VOLBRIDGE_TEST_DIR'] ?? '/var/tmp'
  const kind = handlelessMagics.get(statfsSync(parent).type)
  if (kind !== undefined) {
    throw new Error(
      `${parent} is ${kind}, which gives nfs-ganesha no file handles; set VOLBRIDGE_TEST_DIR to a folder on ext4 or xfs`
    )
  }
  // A pid means something only in its own namespace: an owner in another one looks dead from here. Its inode is part of
  // the name.
  const ours = `${namePrefix}${/\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? 'none'}-`
  for (const name of readdirSync(parent).filter((entry) => entry.startsWith(ours))) {
    const owner = Number(name.slice(ours.length).split('-')[0])
    if (!isAlive(owner)) rmSync(path.join(parent, name), { recursive: true, force: true })
  }
  return mkdtempSync(path.join(parent, `${ours}${process.pid}-`))
}

/** Whether the program answers a NULL call: ganesha listens long before it serves, and may still give up in between. */
async function answers (port: number, program: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = net.connect({ port, host: '127.0.0.1' })
    const settle = (isThere: boolean): void => { socket.destroy(); resolve(isThere) }
    // RFC 5531: one fragment of 40 bytes; xid 1, CALL, RPC 2, program, version 3, NULL, and two empty AUTH_NONE.
    const words = [0x8000_0028, 1, 0, 2, program, 3, 0, 0, 0, 0, 0]
    const call = Buffer.alloc(words.length * 4)
    words.forEach((word, index) => call.writeUInt32BE(word, index * 4))
    socket.once('connect', () => { socket.write(call) })
    socket.once('data', () => { settle(true) })
    for (const event of ['error', 'close'] as const) socket.once(event, () => { settle(false) })
    socket.setTimeout(1000, () => { settle(false) })
  })
}

async function isFree (port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const server = net.createServer()
    server.once('error', () => { resolve(false) })
    server.listen(port, '127.0.0.1', () => { server.close(() => { resolve(true) }) })
  })
}

/** Below the range that the kernel gives to outgoing connections: a restarted server must find its port free again. */
export async function freePort (): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000)
    if (await isFree(port)) return port
  }
}

/**
 * ganesha refuses to start when it cannot register with rpcbind, though no client of ours asks there. It gets a /run of
 * its own in which somebody says yes to every registration (RFC 1833: the answer to SET and UNSET is a bool): the
 * node's rpcbind stays untouched.
 */
async function listenAsRpcbind (socketPath: string): Promise<net.Server> {
  rmSync(socketPath, { force: true })
  const server = net.createServer((socket) => {
    let pending = Buffer.alloc(0)
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      pending = Buffer.concat([pending, chunk])
      while (pending.length >= 4 && pending.length >= 4 + (pending.readUInt32BE(0) & 0x7fff_ffff)) {
        const recordBytes = pending.readUInt32BE(0) & 0x7fff_ffff
        const xid = pending.readUInt32BE(4)
        pending = pending.subarray(4 + recordBytes)
        // REPLY, MSG_ACCEPTED, AUTH_NONE with an empty body, SUCCESS, TRUE.
        const words = [0x8000_001c, xid, 1, 0, 0, 0, 0, 1]
        const reply = Buffer.alloc(words.length * 4)
        words.forEach((word, index) => reply.writeUInt32BE(word, index * 4))
        socket.write(reply)
      }
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(socketPath, resolve)
  })
  return server.unref()
}

function configuration (
  ganesha: { work: string, folder: string, nfsPort: number, mountPort: number },
  options: GaneshaOptions
): string {
  const line = (name: string, value: string | number | boolean | undefined): string =>
    value === undefined ? '' : `  ${name} = ${value};`
  return [
    'NFS_CORE_PARAM {',
    line('NFS_Port', ganesha.nfsPort), line('MNT_Port', ganesha.mountPort), line('NLM_Port', 0), line('Rquota_Port', 0),
    line('Enable_NLM', false), line('Enable_RQUOTA', false), line('Protocols', options.protocols ?? '3,4'),
    line('Enable_UDP', false), line('Bind_addr', '127.0.0.1'),
    '}',
    'NFSV4 {', line('Graceless', true), line('Only_Numeric_Owners', options.numericOwners),
    line('RecoveryRoot', `"${ganesha.work}/recovery"`), '}',
    'EXPORT {',
    line('Export_Id', options.exportId ?? 1), line('Path', `"${ganesha.folder}"`), line('Pseudo', '/export'),
    line('Access_Type', options.accessType ?? 'RW'), line('Squash', options.squash ?? 'No_Root_Squash'),
    line('SecType', 'sys'),
    line('Protocols', options.protocols ?? '3,4'), line('Transports', 'TCP'), line('Manage_Gids', options.manageGids),
    line('Attr_Expiration_Time', options.attributeCacheSeconds ?? 0),
    line('MaxRead', options.readBytesMax), line('PrefRead', options.readBytesMax),
    line('MaxWrite', options.writeBytesMax), line('PrefWrite', options.writeBytesMax),
    ...options.exportLines ?? [],
    '  FSAL { Name = VFS; }',
    '}',
    `LOG { Default_Log_Level = ${options.logLevel ?? 'WARN'}; }`,
    ...options.blocks ?? [],
    ''
  ].filter((text, index, all) => text !== '' || index === all.length - 1).join('\n')
}

export class Ganesha {
  readonly host = '127.0.0.1'
  readonly nfsPort: number
  readonly mountPort: number
  /** The exported folder: the share of v3 clients, and where a test looks behind the server's back. */
  readonly folder: string
  /** The share of v4 clients. */
  readonly pseudo = '/export'
  readonly #work: string
  readonly #options: GaneshaOptions
  /** Without v3 there is no MOUNT service. */
  readonly #isV3: boolean
  #child: ChildProcess | undefined
  readonly #onExit = (): void => { this.#dispose() }
  readonly #onSignal = (signal: NodeJS.Signals): void => {
    this.#dispose()
    process.kill(process.pid, signal)
  }

  private constructor (
    work: string,
    folder: string,
    ports: { nfsPort: number, mountPort: number },
    options: GaneshaOptions
  ) {
    this.#work = work
    this.#options = options
    this.#isV3 = options.protocols !== '4'
    this.folder = folder
    this.nfsPort = ports.nfsPort
    this.mountPort = ports.mountPort
    process.once('exit', this.#onExit)
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, this.#onSignal)
  }

  /** Starts a server and waits until it serves. */
  static async start (options: GaneshaOptions = {}): Promise<Ganesha> {
    const work = workFolder()
    const folder = options.folder ?? path.join(work, 'export')
    mkdirSync(folder, { recursive: true, mode: 0o755 })
    mkdirSync(path.join(work, 'recovery', 'v4recov'), { recursive: true })
    const ganesha = new Ganesha(
      work,
      folder,
      { nfsPort: await freePort(), mountPort: await freePort() },
      options
    )
    ganesha.#configure(options)
    try {
      await ganesha.#run()
    } catch (error) {
      await ganesha.close()
      throw error
    }
    return ganesha
  }

  /** The nfs(5) options that lead a v3 client here without a portmapper. */
  get mountOptions (): string { return `vers=3,nolock,proto=tcp,port=${this.nfsPort},mountport=${this.mountPort}` }
  /** The share as a libnfs URL. */
  url (below = ''): string {
    return `nfs://${this.host}${this.folder}${below}?version=3&nfsport=${this.nfsPort}&mountport=${this.mountPort}`
  }
  get pid (): number | undefined { return this.#child?.pid }
  /** What the server has logged so far. */
  log (): string {
    const file = path.join(this.#work, 'ganesha.log')
    return existsSync(file) ? readFileSync(file, 'utf8') : ''
  }

  /** The log without the lines about its own log levels. */
  complaints (): string { return this.log().split('\n').filter((line) => !line.includes('log level of')).join('\n') }

  async #run (): Promise<void> {
    const program = findProgram('ganesha.nfsd')
    const setpriv = findProgram('setpriv')
    if (program === undefined || setpriv === undefined) {
      throw new Error('ganesha.nfsd and setpriv are needed (apt: nfs-ganesha nfs-ganesha-vfs util-linux)')
    }
    const at = (name: string): string => path.join(this.#work, name)
    mkdirSync(at('run'), { recursive: true })
    const ofItsOwn = this.#writeAccounts()
    const registry = await listenAsRpcbind(at('run/rpcbind.sock'))
    const output = openSync(at('output'), 'w')
    const child = spawn(setpriv, [
      '--pdeathsig', 'KILL', 'unshare', '--mount', '--propagation', 'private', 'sh', '-c',
      `mount --bind "$1" /run && ${ofItsOwn} shift && exec "$@"`, 'sh',
      at('run'), program, '-F', '-f', at('ganesha.conf'), '-L', at('ganesha.log'), '-p', at('ganesha.pid')
    ], { stdio: ['ignore', output, output] })
    closeSync(output)
    child.once('error', () => {})
    this.#child = child
    // It goes on listening for as long as the server lives: that registers, and when it ends takes its registrations
    // back.
    child.once('close', () => { registry.close() })
    const endMs = monotonicMs() + readyMs
    while (
      !(await answers(this.nfsPort, NFS_PROGRAM) && (!this.#isV3 || await answers(this.mountPort, MOUNT_PROGRAM)))
    ) {
      if (child.exitCode !== null || child.signalCode !== null || monotonicMs() > endMs) {
        throw new Error(`nfs-ganesha did not start:\n${readFileSync(at('output'), 'utf8')}\n${this.complaints()}`)
      }
      await pause(20)
    }
  }

  /** Shell commands that put the server's users in the place of this machine's, in its own mount namespace. */
  #writeAccounts (): string {
    const files = Object.entries(this.#options.accounts ?? {})
    for (const [name, lines] of files) writeFileSync(path.join(this.#work, name), `${lines.join('\n')}\n`)
    return files.map(([name]) => `mount --bind '${path.join(this.#work, name)}' /etc/${name} && `).join('')
  }

  /** SIGKILL, as a crash: whatever was not committed and not yet on disk is the server's to lose. */
  async kill9 (): Promise<void> {
    const child = this.#child
    if (child === undefined) return
    this.#child = undefined
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise((resolve) => { child.once('exit', resolve) })
    child.kill('SIGKILL')
    await gone
  }

  #configure (options: GaneshaOptions): void {
    const { folder, nfsPort, mountPort } = this
    writeFileSync(
      path.join(this.#work, 'ganesha.conf'),
      configuration({ work: this.#work, folder, nfsPort, mountPort }, options)
    )
  }

  /** A new server process on the same ports and folder; the old one is killed first if it lives. */
  async restart (changes: GaneshaOptions = {}): Promise<void> {
    await this.kill9()
    this.#configure({ ...this.#options, ...changes })
    await this.#run()
  }

  /** SIGSTOP: connections stay open and nothing answers. */
  stop (): void { this.#child?.kill('SIGSTOP') }
  /** SIGCONT after stop(). */
  resume (): void { this.#child?.kill('SIGCONT') }

  #dispose (): void {
    this.#child?.kill('SIGKILL')
    rmSync(this.#work, { recursive: true, force: true })
  }

  async close (): Promise<void> {
    await this.kill9()
    this.#dispose()
    process.removeListener('exit', this.#onExit)
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.removeListener(signal, this.#onSignal)
  }

  async [Symbol.asyncDispose] (): Promise<void> { await this.close() }
}
