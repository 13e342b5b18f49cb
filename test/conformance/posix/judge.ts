/**
 * The judge: tables of system calls and what POSIX.1-2017 and the Linux manual pages say they answer, run on any
 * folder.
 *
 * Owns the small language of the tables, the users who call, and the comparison. Does not know which file system is
 * judged: the same tables run on a local file system, which shows that the tables themselves are right.
 *
 * A line is `USER CALL ARGUMENT… [= ANSWER] [@nfs ANSWER]`, `… : FIELD=VALUE… [@nfs FIELD=VALUE…]` for stat, or `… ->
 * NAME` to keep a descriptor, used as `$NAME`. Without an answer "ok" is expected; `A/B` is one of them. `@nfs` is what
 * a mount says where NFSv3 or the server cannot do better. `@ganesha` is where only that server can't, `@solo` what a
 * mount for one writer says. `note FILE`, `later FILE TIME…` and `kept FILE FIELD…` compare a file with itself. Calls
 * are those of caller.c.
 */
import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { chmodSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { pause } from '../../../agent/base/deadline.ts'

export interface Case { readonly title: string, readonly lines: readonly string[] }

/** One table entry; blank lines separate nothing. */
export function rule (title: string, text: string): Case {
  return { title, lines: text.split('\n').map((line) => line.trim()).filter((line) => line !== '') }
}

/** `owner` and `member` have the supplementary group 3000; nobody has it as first group. */
const identities = {
  root: ['0', '0'],
  owner: ['2001', '2001', '3000'],
  member: ['2002', '2002', '2500', '3000'],
  other: ['2003', '2003']
} as const
export type User = keyof typeof identities

/** A process of one user that makes system calls when told. */
export class CallingUser {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>
  readonly #waiting: ((answer: string) => void)[] = []

  constructor (program: string, user: User) {
    const child = spawn(program, [...identities[user]], { stdio: ['pipe', 'pipe', 'inherit'], cwd: '/' })
    createInterface({ input: child.stdout }).on('line', (line) => { this.#waiting.shift()?.(line.trimEnd()) })
    child.once('exit', () => { for (const done of this.#waiting.splice(0)) done('the caller ended') })
    child.stdin.on('error', () => undefined)
    this.#child = child
  }

  async call (line: string): Promise<string> {
    return await new Promise((resolve) => {
      this.#waiting.push(resolve)
      this.#child.stdin.write(`${line}\n`)
    })
  }

  async close (): Promise<void> {
    const child = this.#child
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise((resolve) => { child.once('exit', resolve) })
    child.stdin.end()
    const late = setTimeout(() => { child.kill('SIGKILL') }, 10_000)
    await gone
    clearTimeout(late)
  }
}

/** Compiles the caller once a process. */
export async function compileCaller (folder: string): Promise<string> {
  const program = path.join(folder, 'caller')
  const source = path.join(import.meta.dirname, 'caller.c')
  const gcc = spawn('gcc', ['-O1', '-o', program, source], { stdio: 'inherit' })
  const code = await new Promise((resolve) => { gcc.once('exit', resolve) })
  if (code !== 0) throw new Error('caller.c does not compile')
  chmodSync(program, 0o755)
  return program
}

type Fields = ReadonlyMap<string, string>
const fieldsOf = (text: string): Fields =>
  new Map(
    text.split(' ').flatMap((word) => {
      const at = word.indexOf('=')
      return at < 0 ? [] : [[word.slice(0, at), word.slice(at + 1)] as const]
    })
  )

interface Line {
  readonly call: string
  readonly answer: string
  readonly fields: string
  readonly keepAs: string | undefined
}

/** What is judged: all but `local` have the exceptions `@nfs`; all but `local` and `knfsd` those of the server that the
 * others use, `@ganesha`. */
export type Judged = 'local' | 'knfsd' | 'nfs' | 'solo'

function parse (line: string, judged: Judged): Line {
  const [usually = '', ofSolo = ''] = line.split(' @solo ')
  const usual = judged === 'knfsd' ? usually.replace(/ @ganesha .*/, '') : usually.replace(' @ganesha ', ' @nfs ')
  const [plain = '', ofNfsOnly = ''] = usual.split(' @nfs ')
  const ofNfs = judged === 'solo' && ofSolo !== '' ? ofSolo : ofNfsOnly
  const [head = '', fields = ''] = plain.split(' : ')
  const [call = '', keepAs] = head.split(' -> ')
  const [before = '', answer = 'ok'] = call.split(' = ')
  const common = { call: before, answer, fields, keepAs: keepAs?.trim() }
  if (judged === 'local' || ofNfs === '') return common
  return /^\w+=/.test(ofNfs) ? { ...common, fields: ofNfs } : { ...common, answer: ofNfs }
}

/** Only "ok" asked for: any value will do. */
const isAnswer = (wanted: string, got: string): boolean =>
  wanted === got ||
  (wanted === 'ok' ? got.startsWith('ok ') : /^[A-Z/]+$/.test(wanted) && wanted.split('/').includes(got))

export class Judge {
  readonly #program: string
  readonly #folder: string
  readonly #judged: Judged
  readonly #users = new Map<User, CallingUser>()
  #cases = 0

  constructor (parts: { program: string, folder: string, judged: Judged }) {
    this.#program = parts.program
    this.#folder = parts.folder
    this.#judged = parts.judged
  }

  #user (name: string): CallingUser {
    if (!(name in identities)) throw new Error(`nobody is called ${name}`)
    const user = name as User
    const known = this.#users.get(user)
    if (known !== undefined) return known
    const made = new CallingUser(this.#program, user)
    this.#users.set(user, made)
    return made
  }

  /** Runs one case in a fresh folder that everybody may write to. Answers what was not as expected, a line each. */
  async run ({ lines }: Case): Promise<readonly string[]> {
    const folder = path.join(this.#folder, `case-${process.pid}-${++this.#cases}`)
    mkdirSync(folder)
    chmodSync(folder, 0o777)
    for (const user of Object.keys(identities)) await this.#user(user).call(`cd ${folder}`)
    const run = new CaseRun((user, call) => this.#user(user).call(call), this.#judged)
    const wrong: string[] = []
    for (const line of lines) wrong.push(...(await run.line(line)).map((what) => `${line.slice(0, 200)}\n    ${what}`))
    await run.close()
    for (const user of Object.keys(identities)) await this.#user(user).call('cd /')
    return wrong
  }

  async close (): Promise<void> {
    await Promise.all([...this.#users.values()].map((user) => user.close()))
    this.#users.clear()
  }
}

class CaseRun {
  readonly #ask: (user: string, call: string) => Promise<string>
  readonly #judged: Judged
  readonly #open = new Map<string, { user: string, fd: string }>()
  readonly #noted = new Map<string, Fields>()

  constructor (ask: (user: string, call: string) => Promise<string>, judged: Judged) {
    this.#ask = ask
    this.#judged = judged
  }

  async line (line: string): Promise<readonly string[]> {
    // `@solo -`: not asked there.
    if (this.#judged === 'solo' && line.endsWith(' @solo -')) return []
    const [first = '', ...rest] = line.replace(/ @solo .*/, '').split(' ')
    if (first === 'note') return await this.#note(rest[0] ?? '')
    if (first === 'later' || first === 'kept') return await this.#compare(first, rest[0] ?? '', rest.slice(1))
    return await this.#call(parse(line, this.#judged))
  }

  async close (): Promise<void> {
    for (const { user, fd } of this.#open.values()) await this.#ask(user, `close ${fd}`)
  }

  async #call ({ call, answer, fields, keepAs }: Line): Promise<readonly string[]> {
    const [user = '', ...words] = call.trim().split(' ')
    const sent = words.map((word) => word.startsWith('$') ? this.#open.get(word.slice(1))?.fd ?? '-1' : word).join(' ')
    const got = await this.#ask(user, sent)
    if (keepAs !== undefined && got.startsWith('ok ')) this.#open.set(keepAs, { user, fd: got.slice(3) })
    if (words[0] === 'close') this.#open.delete((words[1] ?? '').slice(1))
    if (!isAnswer(answer, got)) return [`wanted ${answer.slice(0, 200)}, got ${got.slice(0, 200)}`]
    const shown = fieldsOf(got)
    return [...fieldsOf(fields)].filter(([name, value]) => shown.get(name) !== value).map(([name, value]) =>
      `wanted ${name}=${value}, got ${shown.get(name) ?? 'none'}`
    )
  }

  /** The clock of the judged file system may tick every few milliseconds. */
  async #note (file: string): Promise<readonly string[]> {
    const got = await this.#ask('root', `lstat ${file}`)
    this.#noted.set(file, fieldsOf(got))
    await pause(12)
    return got.startsWith('ok ') ? [] : [`cannot note: ${got}`]
  }

  async #compare (how: 'later' | 'kept', file: string, names: readonly string[]): Promise<readonly string[]> {
    const now = fieldsOf(await this.#ask('root', `lstat ${file}`))
    const before = this.#noted.get(file)
    return names.flatMap((name) => {
      const [was = '', is = ''] = [before?.get(name), now.get(name)]
      const isRight = how === 'kept' ? was === is : is !== '' && stampOf(is) > stampOf(was)
      return isRight ? [] : [`${name} was ${was}, is ${is}`]
    })
  }
}

function stampOf (text: string): bigint {
  const [seconds = '0', nanoseconds = '0'] = text.split('.')
  return BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds || '0')
}
