/** Credentials and the question whether a caller is dying. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import process from 'node:process'
import test from 'ava'
import { Credentials, parseGroups } from '../../../../agent/session/credentials.ts'
import { Interrupts, isDying } from '../../../../agent/session/interrupts.ts'
import { createTaskReader, statusHeadBytes } from '../../../../agent/session/proc-status.ts'
import { Tasks } from '../../../../agent/session/tasks.ts'

/** Tasks whose status is this; what another thread reads comes a turn later. */
const tasksOf = (read: (tid: number) => string | undefined, now = () => 0): Tasks =>
  new Tasks({ head: (tid) => read(tid)?.slice(0, statusHeadBytes), later: async (tid) => read(tid) }, now)

const status = (groups: string): string =>
  `Name:\tsh\nState:\tS (sleeping)\nUid:\t1\t1\t1\t1\nGroups:\t${groups} \nSigPnd:\t0000000000000000\n`

test('groups are read from the status text, none is an empty list', (t) => {
  t.deepEqual(parseGroups(status('4 24 1000')), [4, 24, 1000])
  t.deepEqual(parseGroups(status('')), [])
  t.deepEqual(parseGroups('Name:\tx\n'), [])
})

test('a task is asked once a second, and again when its user changes', (t) => {
  let now = 0
  const asked: number[] = []
  const credentials = new Credentials(
    tasksOf((tid) => { asked.push(tid); return status('7 8') }),
    () => now
  )
  const first = credentials.of(1, 2, 50)
  t.is(credentials.of(1, 2, 50), first)
  t.deepEqual(asked, [50])
  t.deepEqual(first.groups, [7, 8])
  credentials.of(3, 2, 50)
  now = 1500
  credentials.of(3, 2, 50)
  t.deepEqual(asked, [50, 50, 50])
})

test('equal rights of two tasks are one object', (t) => {
  const credentials = new Credentials(tasksOf(() => status('7')), () => 0)
  t.is(credentials.of(1, 2, 50), credentials.of(1, 2, 51))
  t.not(credentials.of(1, 2, 50), credentials.of(1, 3, 50))
})

test('a task that is gone, or that we cannot see, has no groups', (t) => {
  const credentials = new Credentials(tasksOf((tid) => tid === 0 ? status('9') : undefined), () => 0)
  t.deepEqual(credentials.of(1, 2, 50).groups, [])
  t.deepEqual(credentials.of(1, 2, 0).groups, [])
})

test('this very process has the groups that the system says', (t) => {
  const read = createTaskReader().head
  // Node adds the effective group to the list.
  t.deepEqual(new Set([...parseGroups(read(process.pid) ?? ''), process.getegid?.()]), new Set(process.getgroups?.()))
  t.is(read(2 ** 30), undefined)
})

test('pending signals other than SIGKILL do not make a caller dying', (t) => {
  const reader = (pending: string, shared: string, state = 'S (sleeping)') => () =>
    `State:\t${state}\nSigPnd:\t${pending}\nShdPnd:\t${shared}\n`
  const none = '0000000000000000'
  t.false(isDying(5, reader(none, none)))
  t.false(isDying(5, reader('0000000000002000', '0000000000400000')))
  t.true(isDying(5, reader('0000000000000100', none)))
  t.true(isDying(5, reader(none, 'ffffffff00000100')))
  t.true(isDying(5, reader(none, none, 'Z (zombie)')))
  t.true(isDying(5, () => undefined))
  t.false(isDying(0, () => undefined))
})

test('a thread that has ended had asked without waiting: what becomes of its process decides', (t) => {
  const none = '0000000000000000'
  const text = (state: string, threads = 1, shared = none): string =>
    `State:\t${state}\nTgid:\t50\nThreads:\t${threads}\nSigPnd:\t${none}\nShdPnd:\t${shared}\n`
  const withLeader = (leader: string | undefined) => (tid: number) => tid === 50 ? leader : undefined
  t.false(isDying(51, withLeader(text('S (sleeping)')), 50))
  t.false(isDying(51, withLeader(text('Z (zombie)', 2)), 50), 'the first thread ended, others go on')
  t.false(isDying(50, withLeader(text('Z (zombie)', 2)), 50), 'the first thread had asked')
  t.true(isDying(51, withLeader(text('Z (zombie)', 2, '0000000000000100')), 50), 'killed, and waiting for its I/O')
  t.true(isDying(51, withLeader(text('Z (zombie)')), 50))
  t.true(isDying(51, withLeader(undefined), 50))
  t.false(isDying(51, () => undefined, 0), 'we never saw its process')
  t.true(isDying(51, () => undefined), 'what is always waited for')
})

test('the process of a thread is known for a second from the text that its groups come from', (t) => {
  let now = 0
  const asked: number[] = []
  const credentials = new Credentials(
    tasksOf((tid) => {
      asked.push(tid)
      return tid === 9 ? undefined : `${status('7')}Tgid:\t40\n`
    }),
    () => now
  )
  credentials.of(1, 2, 41)
  t.is(credentials.processOf(1, 41), 40)
  t.deepEqual(asked, [41])
  now = 1500
  t.is(credentials.processOf(1, 41), 40)
  t.deepEqual(asked, [41, 41])
  t.is(credentials.processOf(1, 9), 0)
})

test('a process that was killed is seen to be dying, one that sleeps is not', async (t) => {
  const child = spawn('sleep', ['100'])
  await once(child, 'spawn')
  const read = createTaskReader().head
  t.false(isDying(child.pid ?? 0, read))
  child.kill('SIGKILL')
  await once(child, 'exit')
  t.true(isDying(child.pid ?? 0, read))
})

test('a blocked request is looked at again and again until its caller dies', async (t) => {
  let isKilled = false
  const interrupts = new Interrupts(tasksOf(() => isKilled ? undefined : 'State:\tS\n'))
  const { promise, resolve } = Promise.withResolvers<void>()
  const request = { uid: 1, pid: 5, giveUp: resolve }
  let looks = 0
  const keepAlive = setInterval(() => {}, 1000)
  interrupts.start(() => {
    looks++
    if (looks === 2) isKilled = true
    return [request]
  })
  await promise
  t.is(looks, 2)
  interrupts.close()
  clearInterval(keepAlive)
})

/** As the kernel prints it. */
const withGroups = (count: number, more = 'SigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n'): string =>
  `Name:\tsh\nState:\tS (sleeping)\nTgid:\t40\nGroups:\t${
    Array.from({ length: count }, (_, index) => 1_000_000 + index).join(' ')
  } \n${more}`

const manyGroups = withGroups(65_536)

test('of 65,536 groups seventeen are kept, and the text is not read any further', (t) => {
  const credentials = new Credentials(tasksOf(() => manyGroups), () => 0)
  const { groups, key } = credentials.of(1, 2, 50)
  t.deepEqual(groups, Array.from({ length: 17 }, (_, index) => 1_000_000 + index))
  t.true(key.length < 200)
})

test('a group repeated a hundred times is one, and half a number is none', (t) => {
  t.deepEqual(parseGroups(`Name:\tx\nGroups:\t${'7 '.repeat(100)}8 9 \n`), [7, 8, 9])
  t.deepEqual(parseGroups(`Name:\tx\nGroups:\t${'7 '.repeat(100)}8 12`), [7, 8])
})

test('a user whose groups take long to read waits for them alone: others are asked at once', async (t) => {
  let now = 0
  const heads: number[] = []
  const reader = {
    head: (tid: number) => {
      heads.push(tid)
      now += tid < 100 ? 25 : 0
      return (tid < 100 ? manyGroups : withGroups(3)).slice(0, statusHeadBytes)
    },
    later: async () => manyGroups
  }
  const tasks = new Tasks(reader, () => now)
  const credentials = new Credentials(tasks, () => now)
  t.is(credentials.ofSlow(1, 1, 50), undefined, 'nobody knows yet')
  credentials.of(1, 1, 50)
  for (let tid = 51; tid < 90; tid++) t.is((await credentials.ofSlow(1, 1, tid))?.groups.length, 17)
  t.is(credentials.ofSlow(2, 2, 100), undefined)
  t.is(credentials.of(2, 2, 100).groups.length, 3)
  t.deepEqual(heads, [50, 100])
})

test('many users with many groups: the time that goes to noticing them is bounded, and comes back', async (t) => {
  let now = 0
  let spentMs = 0
  const tasks = new Tasks({
    head: () => {
      now += 25
      spentMs += 25
      return manyGroups.slice(0, statusHeadBytes)
    },
    later: async () => manyGroups.slice(0, statusHeadBytes)
  }, () => now)
  const credentials = new Credentials(tasks, () => now)
  for (let uid = 1; uid <= 1_000; uid++) {
    const later = credentials.ofSlow(uid, 1, uid)
    if (later === undefined) credentials.of(uid, 1, uid)
    else t.is((await later).uid, uid)
  }
  t.true(spentMs <= 75, `${spentMs} ms`)
  now += 10_000
  t.is(credentials.ofSlow(5_000, 1, 5_000), undefined)
})

test('users are read in turn: one with a thousand tasks does not keep another waiting behind them', async (t) => {
  const order: number[] = []
  const tasks = new Tasks({
    head: () => undefined,
    later: async (tid) => {
      order.push(tid)
      return undefined
    }
  }, () => 0)
  const flood = Array.from({ length: 1_000 }, async (_, index) => await tasks.later(1, index))
  await tasks.later(2, 5_000)
  t.true(order.length <= 10, `${order.length} were read first`)
  await Promise.all(flood)
  t.is(new Set(order).size, 1_001)
})

test('the signals of a task with 65,536 groups are seen, though they stand behind them', async (t) => {
  const signals = (pending: string): string => `Threads:\t1\nSigPnd:\t${pending}\nShdPnd:\t0000000000000000\n`
  const given = async (pending: string): Promise<boolean> => {
    const interrupts = new Interrupts(tasksOf(() => withGroups(65_536, signals(pending))))
    let isGivenUp = false
    interrupts.consider({ uid: 1, pid: 5, giveUp: () => { isGivenUp = true } })
    await new Promise((resolve) => { setImmediate(resolve) })
    return isGivenUp
  }
  t.true(await given('0000000000000100'))
  t.false(await given('0000000000000200'))
})

test('beginning and end of a long text are read from the system, and the middle is left out', async (t) => {
  const text = await createTaskReader().later(process.pid)
  t.is(/^Tgid:.*$/m.exec(text ?? '')?.[0], /^Tgid:.*$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[0])
  t.is(await createTaskReader().later(2 ** 30), undefined)
  const folder = mkdtempSync(path.join(tmpdir(), 'volbridge-tasks-'))
  t.teardown(() => { rmSync(folder, { recursive: true }) })
  mkdirSync(path.join(folder, '7'))
  writeFileSync(path.join(folder, '7/status'), manyGroups)
  const long = await createTaskReader(folder).later(7) ?? ''
  t.true(long.length <= 2 * statusHeadBytes, `${long.length} bytes`)
  t.is(parseGroups(long).length, 17)
  t.regex(long, /^SigPnd:\t0{16}$/m)
  t.regex(long, /^ShdPnd:\t0{16}$/m)
  t.is(createTaskReader(folder).head(7)?.length, statusHeadBytes)
})
