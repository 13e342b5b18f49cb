/**
 * What SEMANTICS.md promises between nodes, with real clients on one server: how long attributes and names are believed
 * with each option, and what a change of somebody else's does to what is kept. Close-to-open itself has a file of its
 * own in test/conformance.
 */
import test from 'ava'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { Clients, type Client } from './clients.ts'

const needs = ['root', 'fuse', 'ganesha', 'gcc'] as const
const check = testNeeding(...needs)

let clients: Clients
let writer: Client
let patient: Client
let quick: Client

test.before(async () => {
  if (missing(...needs) !== undefined) return
  clients = await Clients.start()
  writer = await clients.join('writer', 'actimeo=1')
  patient = await clients.join('patient', 'actimeo=600')
  quick = await clients.join('quick', 'acregmin=1,acregmax=1,acdirmin=1,acdirmax=1')
})

test.after.always(async () => { await clients?.close() })

check('without a new open, attributes stay as they were for as long as actimeo says, and are asked again after it', async (t) => {
  await writer.call('put f first')
  for (const reader of [patient, quick]) t.regex(await reader.call('stat f'), / size=5 /)
  await writer.call('put f second-one')
  t.regex(await patient.call('stat f'), / size=5 /)
  t.regex(await quick.soon('stat f', / size=10 /), / size=10 /)
  t.regex(await patient.call('stat f'), / size=5 /)
  t.is(await patient.call('get f'), 'ok second-one')
  t.regex(await patient.call('stat f'), / size=10 /)
})

check('a folder made on one node and filled on another: every name is found at once, by whatever asks', async (t) => {
  t.is(await patient.call('mkdir job 755'), 'ok')
  for (const name of ['a', 'b', 'c', 'd', 'e']) t.is(await quick.call(`put job/${name} result-${name}`), 'ok 8')
  t.is(await patient.call('get job/a'), 'ok result-a')
  t.regex(await patient.call('stat job/b'), / size=8 /)
  t.is(await patient.call('rename job/c job/moved'), 'ok')
  t.is(await patient.call('link job/d job/linked'), 'ok')
  t.is(await patient.call('unlink job/e'), 'ok')
  t.is(await quick.soon('get job/moved', 'ok result-c'), 'ok result-c')
})

check('with noac every stat asks, and a write is on the server when it is answered', async (t) => {
  const reader = await clients.join('noac', 'noac')
  await writer.call('put n first')
  for (const text of ['one', 'second', 'the-third']) {
    await writer.call(`put n ${text}`)
    t.regex(await reader.call('stat n'), new RegExp(` size=${text.length} `))
  }
  const fd = await reader.open('n RDWR')
  t.is(await reader.call(`pwrite ${fd} written 0`), 'ok 7')
  t.is(await writer.call('get n'), 'ok writtenrd')
  await reader.call(`close ${fd}`)
})

check('with nocto an open is answered from the caches, and sees a change when they have aged', async (t) => {
  const reader = await clients.join('nocto', 'nocto,actimeo=600')
  await writer.call('put c first')
  t.is(await reader.call('get c'), 'ok first')
  await writer.call('put c other')
  const asked = await reader.sentBy(async () => { t.is(await reader.call('get c'), 'ok first') })
  t.deepEqual(asked, {})
})

check('a name known to be missing is believed with lookupcache=all, and not with positive or none', async (t) => {
  const positive = await clients.join('positive', 'lookupcache=positive,actimeo=601')
  const none = await clients.join('none', 'lookupcache=none,actimeo=602')
  t.is(await writer.call('mkdir names 0755'), 'ok')
  for (const reader of [patient, positive, none]) {
    await reader.call('list names')
    // The first answer may come without the folder's attributes; the second is kept.
    for (let round = 0; round < 3; round++) t.is(await reader.call('stat names/late'), 'ENOENT')
  }
  t.deepEqual(
    await patient.sentBy(async () => { t.is(await patient.call('stat names/late'), 'ENOENT') }),
    {}
  )
  await writer.call('put names/late here')
  t.is(await patient.call('stat names/late'), 'ENOENT')
  t.regex(await positive.call('stat names/late'), / size=4 /)
  t.regex(await none.call('stat names/late'), / size=4 /)
  // Listing the folder asks for it, and everything believed about its names goes.
  await patient.call('list names')
  t.regex(await patient.soon('stat names/late', / size=4 /), / size=4 /)

  t.is(await writer.call('rename names/late names/moved'), 'ok')
  t.regex(await patient.call('stat names/late'), / size=4 /)
  t.regex(await positive.call('stat names/late'), / size=4 /)
  t.is(await none.call('stat names/late'), 'ENOENT')
})

check('an unchanged file keeps its pages from open to open, and a change of somebody else’s drops them', async (t) => {
  await writer.call('put pages {300000*a}')
  const first = await patient.sentBy(async () => { t.is(await patient.call('get pages'), 'ok {300000*a}') })
  t.true((first['READ'] ?? 0) > 0)
  const second = await patient.sentBy(async () => { t.is(await patient.call('get pages'), 'ok {300000*a}') })
  t.is(second['READ'] ?? 0, 0)
  t.true((second['ACCESS'] ?? 0) > 0, 'close-to-open asks')
  await writer.call('put pages {300000*b}')
  t.is(await patient.call('get pages'), 'ok {300000*b}')
})

check('a change that is noticed by asking for attributes drops the pages of a descriptor that stays open', async (t) => {
  await writer.call('put held {9000*a}')
  const fd = await quick.open('held RDONLY')
  t.is(await quick.call(`pread ${fd} 9000 0`), 'ok {9000*a}')
  await writer.call('put held {9000*b}')
  t.is(await quick.soon(`pread ${fd} 9000 0`, 'ok {9000*b}'), 'ok {9000*b}')
  await quick.call(`close ${fd}`)
})

check('a listing fills both caches: looking at each of its names asks nothing more', async (t) => {
  await writer.call('mkdir many 0755')
  for (let index = 0; index < 40; index++) await writer.call(`put many/f${index} ${index}`)
  const listing = await patient.sentBy(async () => { t.regex(await patient.call('list many'), /^ok f0 f1 /) })
  t.true((listing['READDIRPLUS'] ?? 0) > 0)
  const looking = await patient.sentBy(async () => {
    for (let index = 0; index < 40; index++) {
      t.regex(await patient.call(`stat many/f${index}`), new RegExp(` size=${`${index}`.length} `))
    }
  })
  t.deepEqual(looking, {})
})

check('a second listing after somebody removed and made names shows them, however young the first is', async (t) => {
  await writer.call('mkdir turns 0755')
  for (let round = 0; round < 5; round++) {
    await writer.call(`put turns/n${round} x`)
    if (round > 0) await writer.call(`unlink turns/n${round - 1}`)
    t.is(await patient.call('list turns'), `ok n${round}`)
  }
})
