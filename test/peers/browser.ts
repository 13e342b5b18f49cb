/**
 * A real browser without a window: Debian's Chromium, driven over its DevTools protocol.
 *
 * Owns its process, profile folder and pages, and removes them. Tells what a page complained about: errors, refused by
 * policy, thrown. Does not know what is looked at. (No driver package: the protocol is JSON over one WebSocket, which
 * Node has.)
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { monotonicMs, pause, within } from '../../agent/base/deadline.ts'
import { findProgram } from './needs.ts'

const startMs = 60_000
const answerMs = 60_000

const flags = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync', '--disable-breakpad', '--disable-dev-shm-usage', '--disable-extensions',
  '--no-default-browser-check', '--remote-debugging-port=0'
]

interface Message {
  readonly id?: number
  readonly sessionId?: string
  readonly method?: string
  readonly params?: unknown
  readonly result?: unknown
  readonly error?: { readonly message: string }
}
type Listener = (method: string, params: unknown) => void

/** One connection; calls by number, events by session. */
class DevTools {
  readonly #socket: WebSocket
  readonly #waiting = new Map<number, (message: Message) => void>()
  readonly #listeners = new Map<string, Listener>()
  #count = 0

  private constructor (socket: WebSocket) {
    this.#socket = socket
    socket.addEventListener('message', ({ data }) => { this.#take(JSON.parse(String(data)) as Message) })
  }

  static async connect (url: string): Promise<DevTools> {
    const socket = new WebSocket(url)
    await new Promise<void>((resolve, reject) => {
      socket.addEventListener('open', () => { resolve() }, { once: true })
      socket.addEventListener('error', () => { reject(new Error(`${url} can't be reached`)) }, { once: true })
    })
    return new DevTools(socket)
  }

  #take (message: Message): void {
    if (message.id !== undefined) this.#waiting.get(message.id)?.(message)
    else if (message.method !== undefined) {
      this.#listeners.get(message.sessionId ?? '')?.(message.method, message.params)
    }
  }

  listen (sessionId: string, listener: Listener): void { this.#listeners.set(sessionId, listener) }

  async call<T> (method: string, params: object = {}, sessionId?: string): Promise<T> {
    const id = ++this.#count
    const answered = new Promise<Message>((resolve) => { this.#waiting.set(id, resolve) })
    this.#socket.send(JSON.stringify({ id, method, params, ...sessionId === undefined ? {} : { sessionId } }))
    const { result, error } = await within(answerMs, answered, () => { throw new Error(`${method} was not answered`) })
    this.#waiting.delete(id)
    if (error !== undefined) throw new Error(`${method}: ${error.message}`)
    return result as T
  }

  close (): void { this.#socket.close() }
}

export interface AccessibleNode { readonly role: string, readonly name: string }
interface RawAccessibleNode {
  readonly ignored: boolean
  readonly role?: { readonly value: string }
  readonly name?: { readonly value: string }
}

export class BrowserPage {
  readonly #tools: DevTools
  readonly #session: string
  /** What the page complained about since it was opened. */
  readonly complaints: string[] = []
  #loads = 0

  constructor (tools: DevTools, session: string) {
    this.#tools = tools
    this.#session = session
    const listeners: Readonly<Record<string, (params: never) => void>> = {
      'Page.loadEventFired': () => { this.#loads++ },
      'Log.entryAdded': ({ entry }: { entry: { level: string, text: string, url?: string } }) => {
        this.complaints.push(`${entry.level}: ${entry.text} ${entry.url ?? ''}`)
      },
      'Runtime.consoleAPICalled': ({ type }: { type: string }) => { this.complaints.push(`console.${type}`) },
      'Runtime.exceptionThrown': ({ exceptionDetails }: { exceptionDetails: { text: string } }) => {
        this.complaints.push(exceptionDetails.text)
      },
      'Page.javascriptDialogOpening': ({ message }: { message: string }) => {
        this.complaints.push(`dialog: ${message}`)
      }
    }
    tools.listen(session, (method, params) => { listeners[method]?.(params as never) })
  }

  /** How often a document was loaded; a page that exchanges its own content loads none. */
  get loads (): number { return this.#loads }

  async call<T> (method: string, params: object = {}): Promise<T> {
    return await this.#tools.call<T>(method, params, this.#session)
  }

  async open (url: string): Promise<void> {
    const before = this.#loads
    const { errorText } = await this.call<{ errorText?: string }>('Page.navigate', { url })
    if (errorText !== undefined) throw new Error(`${url}: ${errorText}`)
    for (const endMs = monotonicMs() + answerMs; this.#loads === before;) {
      if (monotonicMs() > endMs) throw new Error(`${url} does not load`)
      await pause(20)
    }
  }

  async evaluate<T> (expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.call<{ result: { value: T }, exceptionDetails?: { text: string } }>(
      'Runtime.evaluate',
      { expression, returnByValue: true, awaitPromise: true }
    )
    if (exceptionDetails !== undefined) throw new Error(`${expression}: ${exceptionDetails.text}`)
    return result.value
  }

  async text (selector = 'body'): Promise<string> {
    return await this.evaluate<string>(`document.querySelector(${JSON.stringify(selector)})?.innerText ?? ''`)
  }

  /** Waits until the page's text fits, as somebody who looks at it would. A document that is just being loaded anew has
   * none. */
  async until (expected: RegExp, timeoutMs: number): Promise<string> {
    for (const endMs = monotonicMs() + timeoutMs;;) {
      const text = await this.text().catch(() => '')
      if (expected.test(text)) return text
      if (monotonicMs() > endMs) throw new Error(`the page never said ${expected}, but:\n${text}`)
      await pause(100)
    }
  }

  /** What a screen reader is told. */
  async accessible (): Promise<readonly AccessibleNode[]> {
    const { nodes } = await this.call<{ nodes: readonly RawAccessibleNode[] }>('Accessibility.getFullAXTree')
    return nodes.filter(({ ignored }) => !ignored).map(({ role, name }) => ({
      role: role?.value ?? '', name: name?.value ?? ''
    }))
  }
}

export class Browser {
  readonly #child: ChildProcess
  readonly #profile: string
  readonly #tools: DevTools

  private constructor (child: ChildProcess, profile: string, tools: DevTools) {
    this.#child = child
    this.#profile = profile
    this.#tools = tools
  }

  static async start (): Promise<Browser> {
    const program = findProgram('chromium')
    const setpriv = findProgram('setpriv')
    if (program === undefined || setpriv === undefined) {
      throw new Error('chromium and setpriv are needed (apt: chromium util-linux)')
    }
    const profile = mkdtempSync(path.join(os.tmpdir(), 'volbridge-browser-'))
    // A group of its own: it starts many processes, and all of them end with it.
    const child = spawn(setpriv, [
      '--pdeathsig', 'KILL', program, ...flags, `--user-data-dir=${profile}`, 'about:blank'
    ], { stdio: ['ignore', 'ignore', 'pipe'], detached: true, env: { ...process.env, HOME: profile } })
    try {
      return new Browser(child, profile, await DevTools.connect(await addressOf(child)))
    } catch (error) {
      await end(child, profile)
      throw error
    }
  }

  async page ({ scripts = true }: { scripts?: boolean } = {}): Promise<BrowserPage> {
    const { targetId } = await this.#tools.call<{ targetId: string }>('Target.createTarget', { url: 'about:blank' })
    const { sessionId } = await this.#tools.call<{ sessionId: string }>('Target.attachToTarget', {
      targetId, flatten: true
    })
    const page = new BrowserPage(this.#tools, sessionId)
    for (const domain of ['Page', 'Runtime', 'Log']) await page.call(`${domain}.enable`)
    // Each page is looked at, also when another was opened later.
    await page.call('Emulation.setFocusEmulationEnabled', { enabled: true })
    await page.call('Emulation.setScriptExecutionDisabled', { value: !scripts })
    return page
  }

  async close (): Promise<void> {
    this.#tools.close()
    await end(this.#child, this.#profile)
  }
}

/** Chromium says on its standard error where it listens. */
async function addressOf (child: ChildProcess): Promise<string> {
  let said = ''
  const found = new Promise<string>((resolve, reject) => {
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-10_000)
      const address = /DevTools listening on (ws:\S+)/.exec(said)?.[1]
      if (address !== undefined) resolve(address)
    })
    child.once('exit', () => { reject(new Error(`chromium ended: ${said}`)) })
    child.once('error', reject)
  })
  return await within(startMs, found, () => { throw new Error(`chromium does not listen: ${said}`) })
}

async function end (child: ChildProcess, profile: string): Promise<void> {
  const gone = child.exitCode !== null || child.signalCode !== null ? Promise.resolve() : new Promise((resolve) => {
    child.once('exit', resolve)
  })
  try { process.kill(-(child.pid ?? Number.NaN), 'SIGKILL') } catch { /* It has ended. */ }
  await gone
  rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
}
