/** What an operator reads when the kernel has only a number, and when an older version is worth a try. */
import test from 'ava'
import { HostError, VolumeError } from '../../../../../agent/base/errors.ts'
import { isOlderWorthTrying, toKernelError } from '../../../../../agent/volumes/kernel/kernel-errors.ts'
import { parseVolumeSpec } from '../../../../../agent/volumes/spec/spec.ts'

const spec = parseVolumeSpec({ server: 'nas', share: '/data', subDir: 'team/a', client: 'kernel' })
const told = (code: string, isAboutFolder = false): VolumeError => {
  const error = toKernelError(new HostError({ code, errno: 1, call: 'mount /x' }), {
    spec, version: '4.1', isAboutFolder
  })
  if (!(error instanceof VolumeError)) throw error
  return error
}

test('each number names field, value and remedy', (t) => {
  for (const [code, field, words] of [
    ['ENODEV', 'client', /no NFS client; use client=fuse/],
    ['EPROTONOSUPPORT', 'mountOptions', /vers=4\.1 .*is not spoken/],
    ['ENOENT', 'share', /"\/data" .*no such path/],
    ['EACCES', 'share', /"\/data" .*refuses/],
    ['ECONNREFUSED', 'server', /"nas" .*refuses the connection/]
  ] as const) {
    const error = told(code)
    t.is(error.field, field, code)
    t.regex(error.message, words)
    t.truthy(error.remedy)
  }
  for (const [code, words] of [['ENOENT', /"team\/a" does not exist/], ['ELOOP', /symbolic link/], [
    'ENOTDIR', /not a directory/
  ]] as const) {
    t.is(told(code, true).field, 'subDir')
    t.regex(told(code, true).message, words)
  }
})

test('a number that is not known keeps its name', (t) => {
  t.regex(told('EUCLEAN').message, /EUCLEAN/)
})

test('an older version is tried when the newer one is not spoken, version 3 also for what only version 4 lacks', (t) => {
  t.true(isOlderWorthTrying(told('EPROTONOSUPPORT'), '4.0'))
  t.true(isOlderWorthTrying(told('EINVAL'), '4.1'))
  t.false(isOlderWorthTrying(told('ENOENT'), '4.1'))
  t.true(isOlderWorthTrying(told('ENOENT'), '3'))
  t.true(isOlderWorthTrying(told('ECONNREFUSED'), '3'))
  t.false(isOlderWorthTrying(told('ENODEV'), '3'))
  t.false(isOlderWorthTrying(told('ELOOP', true), '3'))
})
