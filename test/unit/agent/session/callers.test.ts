/** Credentials and the question whether a caller is dying. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import test from 'ava'
import { Credentials, parseGroups } from '../../../../agent/session/credentials.ts'
import { Interrupts, isDying } from '../../../../agent/session/interrupts.ts'
import { createStatusReader } from '../../../../agent/session/proc-status.ts'

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
  const credentials = new Credentials((tid) => { asked.push(tid); return status('7 8') }, () => now)
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
  const credentials = new Credentials(() => status('7'), () => 0)
  t.is(credentials.of(1, 2, 50), credentials.of(1, 2, 51))
  t.not(credentials.of(1, 2, 50), credentials.of(1, 3, 50))
})

test('a task that is gone, or that we cannot see, has no groups', (t) => {
  const credentials = new Credentials((tid) => tid === 0 ? status('9') : undefined, () => 0)
  t.deepEqual(credentials.of(1, 2, 50).groups, [])
  t.deepEqual(credentials.of(1, 2, 0).groups, [])
})

test('this very process has the groups that the system says', (t) => {
  const read = createStatusReader()
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
  const credentials = new Credentials((tid) => {
    asked.push(tid)
    return tid === 9 ? undefined : `${status('7')}Tgid:\t40\n`
  }, () => now)
  credentials.of(1, 2, 41)
  t.is(credentials.processOf(41), 40)
  t.deepEqual(asked, [41])
  now = 1500
  t.is(credentials.processOf(41), 40)
  t.deepEqual(asked, [41, 41])
  t.is(credentials.processOf(9), 0)
})

test('a process that was killed is seen to be dying, one that sleeps is not', async (t) => {
  const child = spawn('sleep', ['100'])
  await once(child, 'spawn')
  const read = createStatusReader()
  t.false(isDying(child.pid ?? 0, read))
  child.kill('SIGKILL')
  await once(child, 'exit')
  t.true(isDying(child.pid ?? 0, read))
})

test('a blocked request is looked at again and again until its caller dies', async (t) => {
  let isKilled = false
  const interrupts = new Interrupts(() => isKilled ? undefined : 'State:\tS\n')
  const { promise, resolve } = Promise.withResolvers<void>()
  const request = { pid: 5, giveUp: resolve }
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
