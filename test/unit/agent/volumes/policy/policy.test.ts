/** The rules of who may ask for what, case by case: what is allowed, what is refused, and by which rule. */
import test from 'ava'
import { VolumeError } from '../../../../../agent/base/errors.ts'
import { parseAllowRule, ruleFor } from '../../../../../agent/volumes/policy/allow-list.ts'
import {
  PolicyRefusal,
  judge,
  noConsents,
  type Asker,
  type Consents
} from '../../../../../agent/volumes/policy/policy.ts'
import { stageKeyOf } from '../../../../../agent/volumes/spec/key.ts'
import { parseVolumeSpec } from '../../../../../agent/volumes/spec/spec.ts'

const rule = (text: string): ReturnType<typeof parseAllowRule> => parseAllowRule(text, '--ephemeral-allow')
const spec = (attributes: Record<string, string> = {}, mountGroup?: number): ReturnType<typeof parseVolumeSpec> =>
  parseVolumeSpec({ server: 'nas', share: '/data', ...attributes }, { mountFlags: [], mountGroup })
const all: Consents = { allowSuidDev: true, trustFlexOptions: true, ephemeral: [rule('nas')] }
const ask = (
  asker: Asker,
  attributes: Record<string, string> = {},
  consents: Consents = noConsents,
  mountGroup?: number
): string => {
  try {
    const { rule: by, spec: given } = judge({ asker, spec: spec(attributes, mountGroup), namespace: 'team' }, consents)
    return `${given.restraint ?? 'free'} by ${by}`
  } catch (error) {
    if (!(error instanceof PolicyRefusal)) throw error
    return `${error.code} ${error.field} by ${error.rule}`
  }
}

test('an operator who has agreed to nothing: persistent, Flex and hand volumes as they are, without powers; no inline ones', (t) => {
  t.is(ask('persistent'), 'free by persistent volume')
  t.is(ask('persistent', { mountPermissions: '0777' }, noConsents, 5), 'free by persistent volume')
  t.is(ask('flex'), 'free by flexVolume')
  t.is(ask('flex', {}, noConsents, 5), 'no-changes by flexVolume')
  t.is(ask('flex', { mountPermissions: '0777' }), 'DENIED mountPermissions by --trust-flex-options')
  t.is(
    ask('hand', { mountOptions: 'suid,dev', mountPermissions: '0777', client: 'kernel' }),
    'free by root on this node'
  )
  t.is(ask('flex', { identity: '1000:1000' }), 'DENIED identity by --trust-flex-options')
  t.is(ask('persistent', { identity: '1000:1000' }), 'free by persistent volume')
  t.is(ask('ephemeral'), 'DENIED volume_context by --ephemeral-allow')
  for (const asker of ['persistent', 'flex'] as const) {
    for (const option of ['suid', 'dev']) {
      t.is(ask(asker, { mountOptions: option }), 'DENIED mountOptions by --allow-suid-dev')
    }
  }
})

test('consents allow what they name, and nothing of it to inline volumes', (t) => {
  t.is(ask('persistent', { mountOptions: 'suid,dev' }, all), 'free by persistent volume, --allow-suid-dev')
  t.is(
    ask('flex', { mountOptions: 'suid', mountPermissions: '0777' }, all, 5),
    'free by flexVolume, --trust-flex-options, --allow-suid-dev'
  )
  t.is(ask('ephemeral', {}, all, 5), 'anonymous by --ephemeral-allow nas')
  for (const option of ['suid', 'dev']) {
    t.is(ask('ephemeral', { mountOptions: option }, all), 'DENIED mountOptions by inline volume')
  }
  t.is(ask('ephemeral', { mountPermissions: '0700' }, all), 'DENIED mountPermissions by inline volume')
  t.is(ask('ephemeral', { identity: '1000:1000' }, all), 'DENIED identity by inline volume')
  t.is(ask('flex', { identity: '1000:1000' }, all), 'free by flexVolume, --trust-flex-options')
  t.is(ask('ephemeral', { client: 'kernel' }, all), 'DENIED client by inline volume')
  t.is(ask('ephemeral', { mountOptions: 'vers=4.1' }, all), 'DENIED client by inline volume')
  t.is(ask('ephemeral', { server: 'other' }, all), 'DENIED server by --ephemeral-allow')
})

test('a restrained volume shares its mount with none that is free, and what is free keeps the key it always had', (t) => {
  const keys = [undefined, 'no-changes', 'anonymous'] as const
  t.is(new Set(keys.map((restraint) => stageKeyOf({ ...spec(), restraint }))).size, 3)
  t.is(stageKeyOf({ ...spec(), restraint: undefined }), stageKeyOf(spec()))
})

test('a rule allows its servers and shares, and what lies below a share by subDir alone', (t) => {
  const allows = (text: string, attributes: Record<string, string>, namespace: string | null = 'team'): boolean =>
    ruleFor([rule(text)], spec(attributes).target, namespace ?? undefined) !== undefined
  t.true(allows('nas', { share: '/anything' }))
  t.true(allows('NAS', { server: 'nas' }))
  t.true(allows('nas:/data', { share: '/data', subDir: 'a/b' }))
  t.true(allows('nas:/data/', { share: '/data//' }))
  t.false(allows('nas:/data', { share: '/data/a' }), 'a share of a longer name is the server\'s to resolve')
  t.false(allows('nas:/data', { share: '/database' }))
  t.false(allows('nas:/data', { share: '/' }))
  t.true(allows('nas:/data/a', { share: '/data', subDir: 'a/b' }))
  t.false(allows('nas:/data/a', { share: '/data', subDir: 'ab' }))
  t.false(allows('nas:/data/a', { share: '/data' }))
  t.true(allows('nas:/exports/*', { share: '/exports/team' }))
  t.true(allows('nas:/exports/*', { share: '/exports/team', subDir: 'x' }))
  t.false(allows('nas:/exports/*', { share: '/exports' }))
  t.false(allows('nas:/exports/*', { share: '/exports-2/x' }))
  t.false(allows('nas', { server: 'nas,other' }), 'every address must be allowed')
  t.true(allows('nas,other', { server: 'other,nas' }))
  t.true(allows('[fd00::1]:/data', { server: '[fd00::1]' }))
  t.true(allows('team=nas', {}))
  t.false(allows('team=nas', {}, 'other'))
  t.false(allows('team=nas', {}, null), 'a namespace that nobody vouches for is none')
})

test('a rule that says nothing sensible is refused naming option, value and form', (t) => {
  for (const text of [
    '', ':/data', '/data', 'nas:data', 'nas:', 'nas:/a/../b', 'nas:/a/*/b', 'Team=nas', '=nas', 'nas/data', '[nas]:/x',
    'a b:/x', 'nas:/a*', 'nfs://nas/data'
  ]) {
    const error = t.throws(() => rule(text), { instanceOf: VolumeError }, text)
    t.is(error?.field, '--ephemeral-allow')
    t.regex(error?.message ?? '', /write SERVER, SERVER:\/SHARE or SERVER:\/FOLDER\/\*/)
  }
})
