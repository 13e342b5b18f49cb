/**
 * A small virtual machine with a real kernel: QEMU without KVM, a root file system in memory, a shell on a serial line.
 *
 * Owns its process, its files and its deadlines, and removes them: on close(), at the end of this process, and, because
 * QEMU dies with its parent (PR_SET_PDEATHSIG), also when that is killed. The host's loopback is 10.0.2.2 in there.
 * Does not know what is tested in it.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import process from 'node:process'
import { createInterface } from 'node:readline'
import { within } from '../../../agent/base/deadline.ts'
import { freePort } from '../ganesha.ts'
import { findProgram } from '../needs.ts'
import { buildImage, type ImageContents } from './image.ts'

export interface MachineOptions extends ImageContents {
  readonly memoryMebibytes?: number
  /** Ports of the guest that the host may connect to. */
  readonly ports?: readonly number[]
  /** A raw disk image: /dev/vda in the guest. */
  readonly disk?: string
}

export interface Answer { readonly code: number, readonly output: string }

/** The host as the guest sees it. */
export const hostAddress = '10.0.2.2'
/** About five seconds on an idle machine; one that is shared by twenty programs needs minutes. */
const bootMs = 240_000
const commandMs = 240_000

export class VirtualMachine {
  readonly #folder: string
  readonly #child: ChildProcess
  readonly #forwards: ReadonlyMap<number, number>
  readonly #line: net.Socket
  readonly #waiting: ((answer: Answer) => void)[] = []
  readonly #listeners: net.Server[] = []
  #output: string[] | undefined
  #ready: () => void = () => undefined
  readonly #onExit = (): void => { this.#dispose() }

  private constructor (folder: string, child: ChildProcess, forwards: ReadonlyMap<number, number>, line: net.Socket) {
    this.#folder = folder
    this.#child = child
    this.#forwards = forwards
    this.#line = line
    process.once('exit', this.#onExit)
  }

  /** Boots and waits until the guest's shell answers. */
  static async start (options: MachineOptions): Promise<VirtualMachine> {
    const folder = mkdtempSync(path.join(process.env['VOLBRIDGE_TEST_DIR'] ?? '/var/tmp', 'volbridge-vm-'))
    try {
      const image = buildImage(folder, options)
      const forwards = new Map<number, number>()
      for (const port of options.ports ?? []) forwards.set(port, await freePort())
      const socketPath = path.join(folder, 'line')
      const { child, line } = await boot({ folder, image, forwards, socketPath, options })
      const machine = new VirtualMachine(folder, child, forwards, line)
      await machine.#listen()
      return machine
    } catch (error) {
      rmSync(folder, { recursive: true, force: true })
      throw error
    }
  }

  async #listen (): Promise<void> {
    const ready = new Promise<void>((resolve) => { this.#ready = resolve })
    createInterface({ input: this.#line }).on('line', (line) => { this.#read(line) })
    const ended = new Promise<string>((resolve) => { this.#child.once('exit', () => { resolve('it ended') }) })
    const trouble = await within(bootMs, Promise.race([ready, ended]), () => `it did not answer within ${bootMs} ms`)
    if (trouble === undefined) return
    const words = `the virtual machine does not start: ${trouble}\n${this.console().slice(-4000)}`
    await this.close()
    throw new Error(words)
  }

  #read (line: string): void {
    const text = line.trim()
    if (text === '@ready') this.#ready()
    else if (text === '@output') this.#output = []
    else if (text.startsWith('@code ') && this.#output !== undefined) {
      const output = Buffer.from(this.#output.join(''), 'base64').toString('utf8')
      this.#output = undefined
      this.#waiting.shift()?.({ code: Number(text.slice('@code '.length)), output })
    } else this.#output?.push(text)
  }

  /** Runs a shell script in the guest, after those that were given before. A failure is an answer. */
  async run (script: string, deadlineMs = commandMs): Promise<Answer> {
    const answer = new Promise<Answer>((resolve) => { this.#waiting.push(resolve) })
    this.#line.write(`${Buffer.from(script).toString('base64')}\n`)
    return await within(deadlineMs, answer, () => {
      throw new Error(`no answer from the guest within ${deadlineMs} ms to: ${script}\n${this.console().slice(-4000)}`)
    })
  }

  /** The same, and its output alone; throws when it fails. */
  async shell (script: string, deadlineMs = commandMs): Promise<string> {
    const { code, output } = await this.run(`set -e\n${script}`, deadlineMs)
    if (code !== 0) throw new Error(`in the guest: ${script}\nexit ${code}\n${output.slice(-6000)}`)
    return output
  }

  /** A unix socket of the host that leads to a port of the guest, where `bridge` leads on to a unix socket. */
  async socketTo (guestPort: number): Promise<string> {
    const file = path.join(this.#folder, `port-${guestPort}`)
    const listener = net.createServer((near) => {
      const far = net.connect({ port: this.portOf(guestPort), host: '127.0.0.1' })
      near.pipe(far).pipe(near)
      for (const [one, other] of [[near, far], [far, near]] as const) {
        one.on('error', () => { other.destroy() })
        one.on('close', () => { other.destroy() })
      }
    })
    await new Promise<void>((resolve) => { listener.listen(file, resolve) })
    listener.unref()
    this.#listeners.push(listener)
    return file
  }

  /** Where the host reaches a port of the guest, on its own loopback. */
  portOf (guestPort: number): number {
    const port = this.#forwards.get(guestPort)
    if (port === undefined) throw new Error(`port ${guestPort} is not forwarded`)
    return port
  }

  /** What the guest's kernel said. */
  console (): string { return readFileSync(path.join(this.#folder, 'console'), 'utf8') }

  async close (): Promise<void> {
    const { exitCode, signalCode } = this.#child
    const gone = exitCode !== null || signalCode !== null ? Promise.resolve() : new Promise((resolve) => {
      this.#child.once('exit', resolve)
    })
    this.#dispose()
    await gone
  }

  #dispose (): void {
    process.removeListener('exit', this.#onExit)
    this.#line.destroy()
    for (const listener of this.#listeners) listener.close()
    this.#child.kill('SIGKILL')
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

interface Boot {
  readonly folder: string
  readonly image: { readonly kernel: string, readonly archive: string }
  readonly forwards: ReadonlyMap<number, number>
  readonly socketPath: string
  readonly options: MachineOptions
}

/** The serial line is a socket that we listen on, so that nothing the guest says is lost. */
async function boot ({ folder, image, forwards, socketPath, options }: Boot): Promise<
  { child: ChildProcess, line: net.Socket }
> {
  const [qemu, setpriv] = [findProgram('qemu-system-x86_64'), findProgram('setpriv')]
  if (qemu === undefined || setpriv === undefined) {
    throw new Error('qemu-system-x86_64 and setpriv are needed (apt: qemu-system-x86 util-linux)')
  }
  const listener = net.createServer()
  await new Promise<void>((resolve) => { listener.listen(socketPath, resolve) })
  const connected = new Promise<net.Socket>((resolve) => { listener.once('connection', resolve) })
  const forwarded = [...forwards].map(([guest, host]) => `,hostfwd=tcp:127.0.0.1:${host}-:${guest}`).join('')
  const child = spawn(setpriv, [
    '--pdeathsig', 'KILL', qemu, '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-machine', 'q35',
    '-cpu', 'max', '-accel', 'tcg', '-smp', '1',
    '-m', `${options.memoryMebibytes ?? 1024}`,
    '-kernel', image.kernel, '-initrd', image.archive, '-append',
    'console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off',
    '-serial', `file:${path.join(folder, 'console')}`, '-chardev', `socket,id=line,path=${socketPath}`, '-serial',
    'chardev:line',
    '-netdev', `user,id=net${forwarded}`, '-device', 'virtio-net-pci,netdev=net',
    ...options.disk === undefined ? [] : ['-drive', `file=${options.disk},format=raw,if=virtio,cache=unsafe`]
  ], { stdio: ['ignore', 'ignore', 'pipe'] })
  let complaint = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => { complaint += text })
  const ended = new Promise<undefined>((resolve) => {
    child.once('error', () => { resolve(undefined) })
    child.once('exit', () => { resolve(undefined) })
  })
  const line = await Promise.race([connected, ended])
  listener.close()
  if (line === undefined) throw new Error(`qemu does not start: ${complaint}`)
  line.on('error', () => undefined)
  return { child, line }
}
