/**
 * Calls everything the addon has with arguments at random, some as they should be and some of any kind, for
 * native.test.ts. Owns what may be tried without harm to the machine: operations that only look, descriptors of its own
 * or such that nobody has. Says how many calls it made; a wrong error or a lost descriptor is an exception.
 */
import { closeSync, fstatSync, readdirSync, readFileSync } from 'node:fs'
import { loadAddon } from '../../../../agent/host/addon.ts'
import { encodeProgram } from '../../../../agent/host/host-program.ts'
import { randomOf } from '../../../model/exercise.ts'

const addon = loadAddon()
const random = randomOf(Number(process.argv[2]))
const below = (count: number): number => Math.floor(random() * count)
const oneOf = <T>(list: readonly T[]): T => list[below(list.length)] as T

/** No process has as many descriptors: an addon that believes the number gets EBADF. */
const nobodys = 1_000_000
const numbersOfAllKinds = [
  -1, -0.5, Number.NaN, Infinity, -Infinity, -(2 ** 31), 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 53, 1e300, nobodys
]
const bytes = (): Buffer => Buffer.from(Array.from({ length: below(80) }, () => below(256)))
const anything: readonly (() => unknown)[] = [
  () => undefined, () => null, () => true, () => 'text', () => '', () => 'x'.repeat(70_000), () => '\0\uD800',
  () => 10n, () => Symbol('s'), () => ({}), () => [], () => [bytes(), 1, undefined], () => () => undefined,
  () => oneOf(numbersOfAllKinds), () => bytes(), () => Buffer.alloc(0), () => new Float64Array(2),
  () => new Int32Array(0), () => Int32Array.of(-1, -(2 ** 31), 2 ** 31 - 1, 3, 3), () => new Int32Array(below(40)),
  () => new Int32Array(new SharedArrayBuffer(8)), () => new ArrayBuffer(8), () => new DataView(new ArrayBuffer(8)),
  () =>
    new Proxy({}, { get () { throw new Error('a trap') } })
]
const any = (): unknown => oneOf(anything)()

/** Mostly as it should be. */
const rather = (right: () => unknown, share = 0.75): () => unknown => () => random() < share ? right() : any()

const opened: number[] = []
function ownSocket (): number {
  const ends = addon.socketPair()
  opened.push(...ends)
  return ends[0]
}

/** Changes lengths and counts of a program, and cuts it, but never what is to be done. */
function program (): Buffer {
  const path = '/nonexistent/volbridge'
  const ops = [
    { op: 'stat', path }, { op: 'statfs', path }, { op: 'inspect', path }, { op: 'empty', path },
    { op: 'pause', ms: 1 },
    { op: 'beneath', base: path, path: 'x', flags: 0 }
  ] as const
  const made = encodeProgram(Array.from({ length: 1 + below(4) }, () => oneOf(ops)))
  if (random() < 0.4) made.writeUInt32LE(oneOf([0, 1, 2, 5, 0x7fff_ffff, 0xffff_ffff, made.length]), 12)
  if (random() < 0.4 && made.length >= 20) {
    made.writeUInt32LE(oneOf([0, 1, 3, 2 ** 31, 0xffff_ffff, made.length, made.length - 20]), 16)
  }
  if (random() < 0.1) made.writeUInt32LE(oneOf([0, 2 ** 16, 2 ** 31, 0xffff_ffff]), 0)
  return made.subarray(0, random() < 0.7 ? made.length : below(made.length))
}

function launchStrings (): Buffer {
  const words = [
    '/bin/true', '/bin/true', 'A=b', '/nonexistent/volbridge', oneOf(['', 'x']), oneOf(['r', 'b', '?', '']),
    oneOf(['/usr', '665-', '1-9'])
  ]
  const strings = Buffer.from(words.map((text) => `${text}\0`).join(''))
  return strings.subarray(0, random() < 0.4 ? 24 : random() < 0.6 ? strings.length : below(strings.length + 1))
}

const fewDescriptors = (): Int32Array => Int32Array.of(...oneOf([[-1, -1, -1], [-1], [-1, -1, nobodys], []]))

const calls: Readonly<Record<string, readonly (() => unknown)[]>> = {
  startHostCall: [rather(program), rather(() => Int32Array.of(...oneOf([[], [0, 1, 2], [2, 1], [nobodys], [-7]])))],
  reapHostCall: [rather(() => nobodys)],
  startProgram: [
    rather(launchStrings), rather(() => Int32Array.of(0, 1, below(2), below(2), below(2))), rather(fewDescriptors),
    rather(() => Int32Array.of(...oneOf([[], [1024, 0], [1]])))
  ],
  // What it takes lasts: only what it refuses is tried.
  restart: [rather(launchStrings), () => Int32Array.of(...oneOf([[0, 1], [1], [-1, 0], []])), any],
  becomeUser: [() => oneOf([0, -1, 2 ** 31, 'x']), any],
  reapProgram: [rather(() => nobodys)],
  sendDescriptors: [rather(ownSocket), rather(() => Int32Array.of(...oneOf([[], [0], [0, 1], [-1]]))), rather(bytes)],
  receiveDescriptors: [rather(ownSocket), rather(() => Buffer.alloc(below(64)))],
  peerOf: [rather(ownSocket)],
  memoryFile: [rather(() => 'name'), rather(() => below(1 << 20))],
  lockFile: [rather(ownSocket)],
  trimMemory: [], socketPair: [],
  // Both are for the life of the process: what they refuse is tried, and what they take only now and then.
  startBusyPoll: [() => random() < 0.03 ? 5 : any(), () => random() < 0.03 ? new Int32Array(1) : any()],
  startCpuLatencyRequests: [() => oneOf([-1, nobodys, 'x']), () => random() < 0.05 ? new Float64Array(1) : any()]
}

const right = 0.97
const buffer = (): unknown => Buffer.alloc(random() < right ? 65_536 : oneOf([0, 16, 8192]))
const numbersOf = (length: number): unknown => new Int32Array(random() < right ? length : below(length))
const device = {
  requests: rather(buffer, right),
  replies: rather(buffer, right),
  table: rather(() => numbersOf(128), right),
  results: rather(() => numbersOf(64), right),
  notified: rather(() => numbersOf(64), right),
  requestBytesMax: rather(() => random() < right ? 8192 : oneOf([0, 65_536, 65_537]), right),
  onEvent: rather(() => () => undefined, right)
}
const methods: Readonly<Record<string, readonly (() => unknown)[]>> = {
  start: [], pause: [], close: [],
  flush: [rather(() => below(64))],
  send: [rather(() => below(70_000)), rather(() => below(200)), rather(() => [bytes(), bytes()])],
  notify: [rather(() => Buffer.alloc(below(200)))]
}

let made = 0
let refused = 0

type Callable = (this: unknown, ...values: unknown[]) => unknown

/** What it answers, or undefined when it refuses; it may do so only with an error that says why. */
function attempt (call: () => unknown): unknown {
  made += 1
  try {
    return call()
  } catch (error) {
    refused += 1
    const { errno, code, message } = error as { errno?: unknown, code?: unknown, message: string }
    // The last is V8's, for a method of something that is no device.
    const isExpected = typeof errno === 'number' || typeof code === 'string' || message === 'a trap' ||
      message === 'Illegal invocation'
    if (isExpected) return undefined
    throw error
  }
}

const argumentsOf = (makers: readonly (() => unknown)[]): unknown[] => {
  const values = makers.map((make) => make())
  return random() < 0.1 ? values.slice(0, -1) : random() < 0.05 ? [...values, any()] : values
}

/** Descriptors and processes that a call has answered with are given back. */
function settle (name: string, answer: unknown): void {
  if (name === 'memoryFile' && typeof answer === 'number') closeSync(answer)
  if (!Array.isArray(answer)) return
  if (name === 'socketPair') for (const fd of answer as number[]) closeSync(fd)
  if (name === 'receiveDescriptors') for (const fd of (answer as number[]).slice(1)) closeSync(fd)
  if (name !== 'startHostCall' && name !== 'startProgram') return
  const [pid, fd] = answer as [number, number]
  readFileSync(fd)
  closeSync(fd)
  const isGone = (): boolean =>
    name === 'startHostCall' ? addon.reapHostCall(pid) : addon.reapProgram(pid) !== undefined
  while (!isGone()) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1)
}

const isOpen = (fd: number): boolean => {
  try {
    fstatSync(fd)
    return true
  } catch {
    return false
  }
}

function tryDevice (): void {
  const [ours, theirs] = addon.socketPair()
  const entries = Object.entries(device).filter(() => random() < 0.99).map(([name, make]) => [name, make()] as const)
  const options = random() < right ? Object.fromEntries(entries) : any()
  const values = [random() < right ? ours : any(), options].slice(0, random() < right ? 2 : below(2))
  const make = addon.FuseDevice as unknown as new (...list: unknown[]) => Record<string, Callable>
  const made = attempt(() => Reflect.construct(make, values)) as Record<string, Callable> | undefined
  if (values[0] === ours && made === undefined && isOpen(ours)) throw new Error('a refused device left its descriptor')
  for (let step = below(12); made !== undefined && step > 0; step--) {
    const name = oneOf(Object.keys(methods))
    const receiver = random() < 0.95 ? made : any()
    attempt(() => (made[name] as Callable).apply(receiver, argumentsOf(methods[name] ?? [])))
  }
  made?.['close']?.()
  for (const fd of [ours, theirs]) if (isOpen(fd)) closeSync(fd)
}

const openNow = (): string[] => readdirSync('/proc/self/fd')
const before = openNow()
for (let round = 0; round < 4_000; round++) {
  const name = oneOf([...Object.keys(calls), 'FuseDevice'])
  if (name === 'FuseDevice') tryDevice()
  else {
    const values = argumentsOf(calls[name] ?? [])
    settle(name, attempt(() => (addon as unknown as Record<string, Callable>)[name]?.(...values)))
  }
  for (const fd of opened.splice(0)) closeSync(fd)
}
// The notifier's thread closes its own copy of a device's descriptor when it gets to it.
setTimeout(() => {
  const left = openNow()
  if (left.length > before.length) throw new Error(`descriptors left: ${left.length - before.length}`)
  console.log(`${made} calls, ${refused} refused`)
}, 500)
