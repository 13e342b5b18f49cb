/** The journal on a real folder: what was written is read, what was damaged is set aside and told. */
import test from 'ava'
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { toStageKey } from '../../../../../agent/base/brands.ts'
import { FileJournal, formatRecord, parseRecord } from '../../../../../agent/volumes/records/journal.ts'
import { recordId, type BindRecord, type MountRecord } from '../../../../../agent/volumes/records/records.ts'
import { path, specOf, volume } from '../world.ts'

const mount: MountRecord = {
  kind: 'mount', key: toStageKey('ab'.repeat(32)), phase: 'mounted', spec: specOf(), mountPoint: '/state/mounts/x',
  facts: { socketPath: '/run/x.sock', process: { pid: 7, startTicks: '9' }, device: undefined }, bootId: 'b'
}
const bind: BindRecord = {
  kind: 'bind', role: 'target', phase: 'attached', volume: volume('ä"\n'), key: mount.key, path: path('/pods/a'),
  resolved: '/pods/a', readOnly: true,
  door: 'csi', owner: 'ns/pod', madeFolder: true, bootId: 'b'
}
const folderOf = (t: { teardown: (f: () => void) => void }): string => {
  const folder = mkdtempSync(join(tmpdir(), 'volbridge-journal-'))
  t.teardown(() => { rmSync(folder, { recursive: true }) })
  return folder
}
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

test('records come back as they were, replaced ones once, dropped ones not', async (t) => {
  const folder = folderOf(t)
  const journal = new FileJournal(folder)
  await journal.put(mount)
  await journal.put({ ...bind, phase: 'attaching' })
  await journal.put(bind)
  const { records, damaged } = await new FileJournal(folder).load()
  t.deepEqual(plain(records), plain([bind, mount]))
  t.deepEqual(damaged, [])
  await journal.drop(recordId(bind))
  await journal.drop(recordId(bind))
  t.is((await new FileJournal(folder).load()).records.length, 1)
})

test('every kind of damage is said and set aside, and the other records are read', async (t) => {
  const good = formatRecord(bind)
  const damages: Record<string, string> = {
    empty: '', half: good.slice(0, good.length / 2), 'cut at the end': good.slice(0, -1),
    'one bit': good.replace('"readOnly":true', '"readOnly":falsE'),
    'not JSON': 'hello\n{}\n', newer: good.replace('"volbridge":1', '"volbridge":99'),
    'another name': formatRecord({ ...bind, path: path('/pods/b') }),
    'something behind': `${good}x\n`, zeros: '\0'.repeat(good.length)
  }
  for (const [name, text] of Object.entries(damages)) {
    const folder = folderOf(t)
    const journal = new FileJournal(folder)
    await journal.put(mount)
    const file = join(folder, `${recordId(bind)}.json`)
    writeFileSync(file, text)
    const { records, damaged } = await journal.load()
    t.is(records.length, 1, name)
    t.is(damaged.length, 1, name)
    t.is(damaged[0]?.file, file)
    t.regex(damaged[0]?.reason ?? '', /set aside as/)
    t.is(readFileSync(`${file}.damaged`, 'utf8'), text, 'nothing is lost')
    t.deepEqual((await journal.load()).damaged, [], 'said once')
  }
})

test('every prefix of a record is refused', (t) => {
  const good = formatRecord(mount)
  for (let length = 0; length < good.length; length++) t.throws(() => parseRecord(good.slice(0, length)))
  t.deepEqual(plain(parseRecord(good)), plain(mount))
})

test('what a crash left of a write is swept away', async (t) => {
  const folder = folderOf(t)
  writeFileSync(join(folder, '.0123456789ab.fresh'), 'half')
  t.deepEqual(await new FileJournal(folder).load(), { records: [], damaged: [] })
  t.deepEqual(readdirSync(folder), [])
})
