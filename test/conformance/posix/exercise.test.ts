/**
 * One file, random calls, and a model of its bytes in memory: write, read, truncate, mmap, fsync, reopen, stat, on a
 * real mount, through the page cache and past it, with a second descriptor, with reboots of the server, and from two
 * mounts in turns. The seed is printed; VOLBRIDGE_SEED repeats a run, VOLBRIDGE_EXERCISE_STEPS makes it longer.
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import test, { type ExecutionContext } from 'ava'
import { Ganesha } from '../../peers/ganesha.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { TestNode } from '../../semantics/endtoend/node.ts'
import { CallingUser, compileCaller } from './judge.ts'
import { chooseSeed } from '../../model/seed.ts'

const check = testNeeding('root', 'fuse', 'ganesha', 'gcc')
const steps = Number(process.env['VOLBRIDGE_EXERCISE_STEPS'] ?? '1000')

let server: Ganesha
let node: TestNode
let users: readonly CallingUser[] = []
let solo: readonly CallingUser[] = []

test.before(async () => {
  if (missing('root', 'fuse', 'ganesha', 'gcc') !== undefined) return
  node = new TestNode()
  server = await Ganesha.start({ folder: node.makeFolder('export') })
  await node.startAgent()
  const program = await compileCaller(node.folder)
  const join = async (name: string, options: string): Promise<CallingUser> => {
    const point = node.makeFolder(name)
    await node.mount(`${server.host}:${server.folder}`, point, `${server.mountOptions},timeo=10,${options}`)
    const user = new CallingUser(program, 'root')
    await user.call(`cd ${point}`)
    return user
  }
  users = [await join('one', 'actimeo=600'), await join('two', 'actimeo=601')]
  solo = [await join('solo', 'consistency=solowriter')]
})

test.after.always(async () => {
  await Promise.all([...users, ...solo].map(async (user) => { await user.close() }))
  await node?.close()
  await server?.close()
})

/** mulberry32: small, seeded, good enough to choose calls. */
function randomFrom (seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return Math.floor(((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32 * below)
  }
}

/** Runs of one byte as caller.c writes them. */
function show (bytes: Buffer): string {
  if (bytes.length === 0) return 'ok'
  let text = 'ok '
  for (let at = 0; at < bytes.length;) {
    const byte = bytes[at] ?? 0
    let same = 1
    while (at + same < bytes.length && bytes[at + same] === byte) same++
    const one = byte > 32 && byte < 127 && byte !== 37
      ? String.fromCharCode(byte)
      : `%${byte.toString(16).padStart(2, '0')}`
    text += same >= 8 ? `{${same}*${one}}` : one.repeat(same)
    at += same
  }
  return text
}

interface Shape {
  readonly bytesMax: number
  readonly aligned: boolean
  readonly reboots: boolean
  readonly inTurns?: boolean
  readonly solo?: boolean
  readonly flags: readonly string[]
}

class Exercise {
  readonly #t: ExecutionContext
  readonly #name: string
  readonly #shape: Shape
  readonly #random: (below: number) => number
  readonly #trace: string[] = []
  #model = Buffer.alloc(0)
  #fds: string[] = []
  #letter = 0
  #user: CallingUser | undefined

  constructor (t: ExecutionContext, name: string, shape: Shape, seed: number) {
    this.#t = t
    this.#name = name
    this.#shape = shape
    this.#random = randomFrom(seed)
    this.#user = shape.solo === true ? solo[0] : users[0]
  }

  async #call (line: string, wanted: string | RegExp): Promise<string> {
    this.#trace.push(`${this.#user === users[1] ? '  other: ' : ''}${line}`)
    const got = await this.#user?.call(line) ?? 'nobody is there'
    const isRight = typeof wanted === 'string' ? got === wanted : wanted.test(got)
    if (!isRight) {
      this.#t.fail(
        `${this.#trace.slice(-25).join('\n')}\nwanted ${String(wanted).slice(0, 300)}\ngot    ${got.slice(0, 300)}`
      )
      throw new Error('the file and its model disagree')
    }
    return got
  }

  get #fd (): string { return this.#fds[this.#random(this.#fds.length)] ?? '' }

  #place (): { offset: number, length: number } {
    const { aligned, bytesMax } = this.#shape
    const unit = aligned ? 4096 : 1
    const offset = Math.floor(this.#random(bytesMax) / unit) * unit
    const most = this.#random(4) === 0 ? bytesMax - offset : Math.min(bytesMax - offset, 70_000)
    return { offset, length: Math.max(unit, Math.floor(this.#random(most + 1) / unit) * unit) }
  }

  #set (offset: number, length: number): string {
    this.#letter = (this.#letter + 1) % 26
    const letter = 97 + this.#letter
    if (offset + length > this.#model.length) {
      this.#model = Buffer.concat([this.#model, Buffer.alloc(offset + length - this.#model.length)])
    }
    this.#model.fill(letter, offset, offset + length)
    return `{${length}*${String.fromCharCode(letter)}}`
  }

  async #write (): Promise<void> {
    const { offset, length } = this.#place()
    await this.#call(`pwrite ${this.#fd} ${this.#set(offset, length)} ${offset}`, `ok ${length}`)
  }

  async #read (): Promise<void> {
    const { offset, length } = this.#place()
    await this.#call(
      `pread ${this.#fd} ${length} ${offset}`,
      show(this.#model.subarray(offset, offset + length)).replace(/^ok$/, 'ok -')
    )
  }

  async #truncate (): Promise<void> {
    const size = this.#place().offset
    const longer = Buffer.alloc(size)
    this.#model.copy(longer, 0, 0, Math.min(size, this.#model.length))
    this.#model = longer
    await this.#call(this.#random(2) === 0 ? `truncate ${this.#name} ${size}` : `ftruncate ${this.#fd} ${size}`, 'ok')
  }

  async #mapWrite (): Promise<void> {
    if (this.#model.length === 0) return
    const offset = this.#random(this.#model.length)
    const length = Math.min(this.#model.length - offset, 1 + this.#random(30_000))
    await this.#call(
      `mapwrite ${this.#fd} ${offset} ${this.#set(offset, length)}${this.#random(2) === 0 ? ' sync' : ''}`,
      'ok'
    )
  }

  async #mapRead (): Promise<void> {
    if (this.#model.length === 0) return
    const offset = this.#random(this.#model.length)
    const length = Math.min(this.#model.length - offset, 1 + this.#random(50_000))
    await this.#call(`mapread ${this.#fd} ${offset} ${length}`, show(this.#model.subarray(offset, offset + length)))
  }

  async #stat (): Promise<void> {
    // Only an open asks the server: a path may be believed for as long as the caches last.
    const byName = this.#shape.inTurns !== true && this.#random(2) === 0
    await this.#call(byName ? `stat ${this.#name}` : `fstat ${this.#fd}`, new RegExp(` size=${this.#model.length} `))
  }

  async #reopen (): Promise<void> {
    const index = this.#random(this.#fds.length)
    await this.#call(`close ${this.#fds[index] ?? ''}`, 'ok')
    this.#fds[index] = await this.#open()
  }

  /** All descriptors of one mount are closed before the other opens: what close-to-open is about. */
  async #turn (): Promise<void> {
    for (const fd of this.#fds) await this.#call(`close ${fd}`, 'ok')
    this.#user = users[this.#random(users.length)]
    if (this.#random(3) === 0 && this.#model.length < this.#shape.bytesMax * 2) {
      const data = this.#set(this.#model.length, 1 + this.#random(5000))
      await this.#call(`add ${this.#name} ${data}`, /^ok \d+$/)
    }
    this.#fds = [await this.#open(), await this.#open()]
  }

  async #open (): Promise<string> {
    const { flags } = this.#shape
    return (await this.#call(`open ${this.#name} ${flags[this.#random(flags.length)] ?? 'RDWR'}`, /^ok \d+$/)).slice(3)
  }

  async run (): Promise<void> {
    await this.#call(`open ${this.#name} CREAT|RDWR 0644`, /^ok \d+$/).then(async (answer) => {
      await this.#call(`close ${answer.slice(3)}`, 'ok')
    })
    this.#fds = [await this.#open(), await this.#open()]
    const { aligned, inTurns, reboots } = this.#shape
    for (let step = 0; step < steps; step++) {
      const choice = this.#random(100)
      if (inTurns === true && this.#random(6) === 0) await this.#turn()
      else if (choice < 35) await this.#write()
      else if (choice < 65) await this.#read()
      else if (choice < 73) await this.#truncate()
      else if (choice < 80) await (aligned ? this.#read() : this.#mapWrite())
      else if (choice < 86) await (aligned ? this.#read() : this.#mapRead())
      else if (choice < 91) await this.#stat()
      else if (choice < 94) await this.#call(`fsync ${this.#fd}`, 'ok')
      else if (choice < 99 || !reboots) await this.#reopen()
      else if (this.#random(6) === 0) await server.restart()
    }
    for (const fd of this.#fds) await this.#call(`close ${fd}`, 'ok')
    // What nobody asks for any more was promised by close: it is on the server itself.
    this.#t.true(readFileSync(path.join(server.folder, this.#name)).equals(this.#model), 'the exported file is another')
  }
}

const shapes: readonly (Shape & { readonly what: string })[] = [
  { what: 'a small file, every byte', bytesMax: 20_000, aligned: false, reboots: false, flags: ['RDWR'] },
  {
    what: 'a file of some requests', bytesMax: 3_000_000, aligned: false, reboots: false, flags: ['RDWR', 'RDWR|SYNC']
  },
  {
    what: 'O_DIRECT beside the page cache', bytesMax: 600_000, aligned: true, reboots: false,
    flags: ['RDWR', 'RDWR|DIRECT']
  },
  { what: 'two mounts in turns', bytesMax: 200_000, aligned: false, reboots: false, inTurns: true, flags: ['RDWR'] },
  {
    what: 'two mounts in turns, a server that reboots', bytesMax: 50_000, aligned: false, reboots: true, inTurns: true,
    flags: ['RDWR']
  },
  { what: 'a server that reboots', bytesMax: 1_000_000, aligned: false, reboots: true, flags: ['RDWR'] },
  {
    what: 'a solo writer', bytesMax: 300_000, aligned: false, reboots: false, solo: true, flags: ['RDWR', 'RDWR|SYNC']
  },
  {
    what: 'a solo writer, O_DIRECT beside the page cache', bytesMax: 600_000, aligned: true, reboots: false, solo: true,
    flags: ['RDWR', 'RDWR|DIRECT']
  },
  {
    what: 'a solo writer, a server that reboots', bytesMax: 1_000_000, aligned: false, reboots: true, solo: true,
    flags: ['RDWR']
  }
]

for (const shape of shapes) {
  check(`random calls on one file agree with a model of it: ${shape.what}`, async (t) => {
    t.timeout(600_000)
    const seed = chooseSeed((line) => { t.log(line) })
    await new Exercise(t, `exercised-${shapes.indexOf(shape)}`, shape, seed).run()
  })
}
