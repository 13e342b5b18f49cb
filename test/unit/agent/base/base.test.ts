/** The ground everything stands on: paths, deadlines, errors, secrets. */
import test from 'ava'
import { fileNameOfBytes, parseAbsolutePath, showName, toFileName } from '../../../../agent/base/brands.ts'
import { pause, within } from '../../../../agent/base/deadline.ts'
import { Errno, errnoName, isErrno } from '../../../../agent/base/errno.ts'
import { HostError, InvariantError, VolumeError, invariant, messageOf } from '../../../../agent/base/errors.ts'
import { showSource } from '../../../../agent/base/volume-spec.ts'
import { parseVolumeSpec } from '../../../../agent/volumes/spec/spec.ts'
import { constants } from 'node:os'

test('an absolute path is normalised', (t) => {
  t.is<string, string>(parseAbsolutePath('//var//lib/x/', 'f'), '/var/lib/x')
  t.is<string, string>(parseAbsolutePath('/', 'f'), '/')
})

for (const [text, message] of [
  ['', /f: "" is empty/], ['a/b', /f: "a\/b" is not absolute/], ['/a/../b', /contains "\." or "\.\."/],
  ['/a/./b', /contains/], ['/a\0', /NUL/],
  [`/${'x'.repeat(256)}`, /more than 255 bytes/], [`/${'ä'.repeat(128)}`, /more than 255 bytes/],
  ['/x'.repeat(2100), /longer than 4095/]
] as const) {
  test(`a path is refused by name: ${JSON.stringify(text.slice(0, 20))}`, (t) => {
    t.like(t.throws(() => parseAbsolutePath(text, 'f'), { instanceOf: VolumeError, message }), {
      code: 'INVALID', field: 'f'
    })
  })
}

test('file names keep every byte', (t) => {
  const bytes = Buffer.from([0x66, 0xff, 0xc3, 0xa4])
  t.deepEqual(Buffer.from(fileNameOfBytes(bytes), 'latin1'), bytes)
  t.is(showName(toFileName(Buffer.from('ä').toString('latin1'))), 'ä')
})

test('errnos are Linux\'s', (t) => {
  for (const [name, value] of Object.entries(constants.errno)) {
    const own = (Errno as Record<string, number>)[name]
    if (own !== undefined) t.is(own, value, name)
  }
  t.is(errnoName(2), 'ENOENT')
  t.is(errnoName(9999), 'errno 9999')
  t.true(isErrno(Errno.EIO))
  t.false(isErrno({}))
})

test('work that is late gives what late makes, work in time its result', async (t) => {
  t.is(await within(5, new Promise(() => undefined), () => 'late'), 'late')
  t.is(await within(60_000, Promise.resolve('done'), () => 'late'), 'done')
  await t.throwsAsync(
    within(5, new Promise(() => undefined), () => { throw new Error('x') }),
    { message: 'x' }
  )
  await t.throwsAsync(within(60_000, Promise.reject(new Error('y')), () => 0), { message: 'y' })
})

test('a pause ends at once when it is told to', async (t) => {
  await pause(60_000, AbortSignal.abort())
  const stop = new AbortController()
  const paused = pause(60_000, stop.signal)
  stop.abort()
  await paused
  t.pass()
})

test('errors carry their facts, and a volume error its remedy in the text', (t) => {
  const error = new VolumeError('INVALID', 'x: bad', { field: 'x', remedy: 'do y' })
  t.is(error.message, 'x: bad; do y')
  t.is(new HostError({ code: 'EPERM', errno: 1, call: 'mount(2) on /x' }).message, 'mount(2) on /x: EPERM')
  t.throws(() => { invariant(undefined, 'never') }, { instanceOf: InvariantError, message: 'never' })
  t.notThrows(() => { invariant(0, 'zero is a value') })
  t.is(messageOf('text'), 'text')
})

test('a source is shown as people write it', (t) => {
  const show = (server: string, share: string, subDir = ''): string =>
    showSource(parseVolumeSpec({ server, share, subDir }))
  t.is(show('nas', '/a'), 'nas:/a')
  t.is(show('nas', '/', 'b/c'), 'nas:/b/c')
  t.is(show('[fd00::1],nas', '/a', 'ä'), '[fd00::1],nas:/a/ä')
})
