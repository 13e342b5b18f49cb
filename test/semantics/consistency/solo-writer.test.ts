/**
 * consistency=solowriter with real clients: what it saves while nobody else writes, and how it ends for a file that
 * somebody else has changed after all, without losing what either has closed.
 */
import { readFileSync, readdirSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { pause } from '../../../agent/base/deadline.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { Clients, type Client } from './clients.ts'

const needs = ['root', 'fuse', 'ganesha', 'gcc'] as const
const check = testNeeding(...needs)

let clients: Clients
let other: Client
let solo: Client
/** Notices soon what it believes for an hour by default. */
let quick: Client

test.before(async () => {
  if (missing(...needs) !== undefined) return
  clients = await Clients.start()
  other = await clients.join('other', 'actimeo=1')
  solo = await clients.join('solo', 'consistency=solowriter')
  quick = await clients.join('quick', 'consistency=solowriter,actimeo=1')
})

test.after.always(async () => { await clients?.close() })

const onServer = (name: string): string => readFileSync(path.join(clients.server.folder, name), 'utf8')

check('many small writes are kept by the kernel, and are on the server when close has answered', async (t) => {
  const fd = await solo.open('small CREAT|RDWR 0644')
  const writing = await solo.sentBy(async () => {
    for (let index = 0; index < 500; index++) {
      t.is(await solo.call(`pwrite ${fd} ${String(index % 10).repeat(20)} ${index * 20}`), 'ok 20')
    }
  })
  t.is(writing['WRITE'] ?? 0, 0)
  const closing = await solo.sentBy(async () => { t.is(await solo.call(`close ${fd}`), 'ok') })
  t.is(closing['WRITE'], 1)
  t.is(onServer('small'), Array.from({ length: 500 }, (_, index) => String(index % 10).repeat(20)).join(''))
})

check('fsync puts everything on the server, and somebody else’s next open reads it', async (t) => {
  const fd = await solo.open('synced CREAT|RDWR 0644')
  await solo.call(`pwrite ${fd} {5000*s} 0`)
  t.is(await solo.call(`fsync ${fd}`), 'ok')
  t.is(onServer('synced'), 's'.repeat(5000))
  t.is(await other.call('get synced'), 'ok {5000*s}')
  await solo.call(`close ${fd}`)
})

check('what is known is opened, read, looked at and listed without asking anybody', async (t) => {
  await solo.call('mkdir known 0755')
  await solo.call('put known/f {20000*k}')
  const all = async (): Promise<void> => {
    t.is(await solo.call('get known/f'), 'ok {20000*k}')
    t.regex(await solo.call('stat known/f'), / size=20000 /)
    t.is(await solo.call('stat known/none'), 'ENOENT')
  }
  for (let round = 0; round < 3; round++) await all()
  t.deepEqual(await solo.sentBy(all), {})
})

check('times that close has stored are the server’s too', async (t) => {
  const fd = await solo.open('timed CREAT|RDWR 0644')
  // The kernel's clock for files ticks every few milliseconds.
  await pause(30)
  await solo.call(`pwrite ${fd} text 0`)
  await solo.call(`close ${fd}`)
  const mine = / mtime=(\S+) /.exec(await solo.call('stat timed'))?.[1]
  t.truthy(mine)
  t.is(/ mtime=(\S+) /.exec(await other.call('stat timed'))?.[1], mine)
})

check('somebody else’s change is seen once it is noticed, with size and bytes, and ends it for that file; status, metric and log say so', async (t) => {
  await quick.call('put ended first')
  await quick.call('put alone mine')
  t.is(await other.call('put ended {7000*x}'), 'ok 7000')
  t.is(await quick.soon('get ended', 'ok {7000*x}'), 'ok {7000*x}')
  t.regex(await quick.call('stat ended'), / size=7000 /)
  // Close-to-open again, however young the caches are.
  for (const text of ['a', 'longer-text', '-', 'xyz']) {
    await other.call(`put ended ${text}`)
    t.is(await quick.call('get ended'), `ok ${text}`)
  }
  t.is(await quick.call('get alone'), 'ok mine')

  const { stdout } = await clients.node.command(['status', ...clients.node.places])
  t.regex(stdout, /caching +solowriter, ended for \d+ files? (and|or) folders? that somebody else changed/)
  const { volumes } = JSON.parse((await clients.node.command(['status', '--json', ...clients.node.places])).stdout) as {
    volumes: { counters: Record<string, number>, gauges: Record<string, number> }[]
  }
  t.true(volumes.some(({ counters, gauges }) => gauges['soloWriter'] === 1 && (counters['soloWriterEnded'] ?? 0) > 0))
  const logs = path.join(clients.node.state, 'log')
  t.true(
    readdirSync(logs).some((name) =>
      /consistency=solowriter has ended for \/ended: somebody else changed it/.test(
        readFileSync(path.join(logs, name), 'utf8')
      )
    )
  )
})

check('bytes side by side in one page, written in turns from two nodes, are all there', async (t) => {
  await quick.call('put page {4000*.}')
  t.is(await other.call('put page {4000*-}'), 'ok 4000')
  t.is(await quick.soon('get page', 'ok {4000*-}'), 'ok {4000*-}')
  for (let round = 0; round < 20; round++) {
    for (const [client, at, letter] of [[quick, 100, 'q'], [other, 2000, 'o']] as const) {
      const fd = await client.open('page RDWR')
      t.is(await client.call(`pwrite ${fd} ${letter} ${at + round}`), 'ok 1')
      t.is(await client.call(`close ${fd}`), 'ok')
    }
  }
  const text = onServer('page')
  t.is(text.slice(100, 120), 'q'.repeat(20))
  t.is(text.slice(2000, 2020), 'o'.repeat(20))
  t.is(text.length, 4000)
})

check('appends in turns lose nothing once it has ended', async (t) => {
  await quick.call('put log 0,')
  await other.call('add log 1,')
  t.is(await quick.soon('get log', 'ok 0,1,'), 'ok 0,1,')
  let whole = '0,1,'
  for (let round = 2; round < 22; round++) {
    const client = round % 2 === 0 ? quick : other
    whole += `${round},`
    t.regex(await client.call(`add log ${round},`), /^ok \d+$/)
  }
  t.is(onServer('log'), whole)
  t.is(await quick.call('get log'), `ok ${whole}`)
})

check('descriptors opened before and after the change read each other’s writes', async (t) => {
  await quick.call('put both {8000*a}')
  const before = await quick.open('both RDWR')
  t.is(await quick.call(`pread ${before} 10 0`), 'ok {10*a}')
  await other.call('put both {8000*b}')
  t.is(await quick.soon('get both', 'ok {8000*b}'), 'ok {8000*b}')
  const after = await quick.open('both RDWR')
  t.is(await quick.soon(`pread ${before} 10 0`, 'ok {10*b}'), 'ok {10*b}')
  await quick.call(`pwrite ${after} new 0`)
  t.is(await quick.soon(`pread ${before} 5 0`, 'ok newbb'), 'ok newbb')
  await quick.call(`pwrite ${before} OLD 3`)
  t.is(await quick.call(`fsync ${before}`), 'ok')
  t.is(await quick.soon(`pread ${after} 8 0`, 'ok newOLDbb'), 'ok newOLDbb')
  for (const fd of [before, after]) t.is(await quick.call(`close ${fd}`), 'ok')
  t.is(onServer('both').slice(0, 9), 'newOLDbbb')
})

check('bytes that a descriptor held when the change came are not lost with it', async (t) => {
  await quick.call('put held {9000*a}')
  const fd = await quick.open('held RDWR')
  t.is(await quick.call(`pwrite ${fd} mine 0`), 'ok 4')
  const their = await other.open('held RDWR')
  await other.call(`pwrite ${their} theirs 8192`)
  await other.call(`close ${their}`)
  t.regex(await quick.soon('stat held', / size=9000 /), / size=9000 /)
  t.is(await quick.call(`close ${fd}`), 'ok')
  const text = onServer('held')
  t.is(text.slice(0, 5), 'minea')
  t.is(text.slice(8192, 8199), 'theirsa')
})

check('a file so ended can still be mapped, shared and for writing', async (t) => {
  await quick.call('put mapped {5000*m}')
  await other.call('put mapped {5000*n}')
  t.is(await quick.soon('get mapped', 'ok {5000*n}'), 'ok {5000*n}')
  const fd = await quick.open('mapped RDWR')
  t.is(await quick.call(`mapread ${fd} 0 10`), 'ok {10*n}')
  t.is(await quick.call(`mapwrite ${fd} 100 MAPPED sync`), 'ok')
  t.is(await quick.call(`fsync ${fd}`), 'ok')
  t.is(onServer('mapped').slice(99, 107), 'nMAPPEDn')
  await quick.call(`close ${fd}`)
})

check('a file that somebody else removed is ESTALE for its descriptor and ENOENT by its name', async (t) => {
  await quick.call('put gone here')
  const fd = await quick.open('gone RDWR')
  await other.call('unlink gone')
  const written = await quick.call(`pwrite ${fd} x 0`)
  t.true(written === 'ESTALE' || await quick.call(`fsync ${fd}`) === 'ESTALE')
  t.is(await quick.soon('open gone RDONLY', 'ENOENT'), 'ENOENT')
  await quick.call(`close ${fd}`)
})
