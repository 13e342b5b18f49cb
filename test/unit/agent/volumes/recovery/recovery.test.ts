/** The recovery plan as a table: journal, mounts and live sessions in, steps out. */
import test from 'ava'
import { toDeviceNumber, toStageKey } from '../../../../../agent/base/brands.ts'
import { parseMountinfo } from '../../../../../agent/host/mountinfo.ts'
import type { BindRecord, JournalRecord, MountRecord } from '../../../../../agent/volumes/records/records.ts'
import { planRecovery } from '../../../../../agent/volumes/recovery/recovery.ts'
import { path, specOf, volume } from '../world.ts'

const key = toStageKey('k1')
const mount = (change: Partial<MountRecord> = {}): MountRecord => ({
  kind: 'mount', key, phase: 'mounted', spec: specOf(), mountPoint: '/state/mounts/k1', bootId: 'now',
  facts: { socketPath: '/s', process: undefined, device: toDeviceNumber('0:40') }, ...change
})
const bind = (change: Partial<BindRecord> = {}): BindRecord => ({
  kind: 'bind', role: 'target', phase: 'attached', volume: volume('v'), key, path: path('/pods/a'), resolved: '/pods/a',
  readOnly: false,
  door: 'csi', owner: undefined, madeFolder: true, bootId: 'now', ...change
})
const line = (mountPoint: string, device = '0:40', type = 'fuse.volbridge'): string =>
  `40 22 ${device} / ${mountPoint} rw - ${type} nas:/x rw\n`
const shared = line('/state/mounts/k1')
const pod = line('/pods/a')

const cases: ReadonlyArray<readonly [string, readonly JournalRecord[], string, boolean, readonly string[]]> = [
  ['nothing is nothing', [], '', false, []],
  ['all is well', [mount(), bind()], shared + pod, true, ['keepBind', 'adoptMount']],
  ['the session died: the mount is kept as dead for its pod', [mount(), bind()], shared + pod, false, [
    'keepBind', 'keepDeadMount'
  ]],
  ['the session died and nobody uses it', [mount()], shared, false, ['endMount']],
  ['served, unused: taken on, released afterwards', [mount()], shared, true, ['adoptMount']],
  ['somebody unmounted the pod\'s bind', [mount(), bind()], shared, true, ['forgetBind', 'adoptMount']],
  ['somebody unmounted the shared mount', [mount(), bind()], pod, true, ['keepBind', 'restoreMount']],
  [
    'somebody unmounted the shared mount, and a subPath is all that is left', [mount()],
    line('/pods/a/sub').replace(' / ', ' /sub '), true, ['adoptMount']
  ],
  ['everything was unmounted under a live session', [mount(), bind()], '', true, ['forgetBind', 'endMount']],
  ['crash while attaching', [mount(), bind({ phase: 'attaching' })], shared + pod, true, ['endBind', 'adoptMount']],
  ['crash while detaching', [mount(), bind({ phase: 'detaching' })], shared, true, ['endBind', 'adoptMount']],
  ['crash while starting', [mount({ phase: 'starting' }), bind({ phase: 'attaching' })], shared, true, [
    'endBind', 'endMount'
  ]],
  ['crash while ending', [mount({ phase: 'ending' })], shared, true, ['endMount']],
  ['reboot', [mount({ bootId: 'before' }), bind({ bootId: 'before' })], '', false, ['forgetBind', 'forgetMount']],
  [
    'reboot, and somebody mounted something there', [mount({ bootId: 'before' }), bind({ bootId: 'before' })],
    line('/pods/a', '8:1', 'ext4'), false, ['forgetBind', 'forgetMount']
  ],
  ['a foreign mount took the place of the bind', [mount(), bind()], shared + line('/pods/a', '8:1', 'ext4'), true, [
    'forgetBind', 'adoptMount'
  ]],
  [
    'a foreign mount lies on top of the bind: ours is still there', [mount(), bind()],
    shared + pod + line('/pods/a', '8:1', 'ext4'), true, ['keepBind', 'adoptMount']
  ],
  ['a bind whose mount record was damaged stays for its pod', [bind()], line('/state/mounts/k1') + pod, false, [
    'keepBind'
  ]],
  ['a mount in our folder without record and without users', [], shared, false, ['detachOrphan']],
  ['a mount in our folder without record, but with a pod', [], shared + pod, false, []],
  ['a foreign mount in our folder is left alone', [], line('/state/mounts/zz', '8:1', 'ext4'), false, []],
  ['mounts of another agent elsewhere are left alone', [], line('/other/mounts/k9', '0:99'), false, []]
]

test('a bare shared mount is bound back from a bind that shows all of it, a writable one if there is one', (t) => {
  const mounts = parseMountinfo(
    `${line('/pods/sub').replace(' / ', ' /sub ')}${line('/pods/a').replace(' rw -', ' ro -')}${line('/pods/b')}`
  )
  const steps = planRecovery({
    records: [mount()], mounts, live: new Set([key]), bootId: 'now', mountsFolder: '/state/mounts',
    isOurType: (type) => type === 'fuse.volbridge'
  })
  t.like(steps[0], { do: 'restoreMount', from: '/pods/b' })
})

for (const [name, records, mounts, isLive, expected] of cases) {
  test(name, (t) => {
    const steps = planRecovery({
      records, mounts: parseMountinfo(mounts), live: new Set(isLive ? [key] : []), bootId: 'now',
      mountsFolder: '/state/mounts',
      isOurType: (type) => type === 'fuse.volbridge'
    })
    t.deepEqual(steps.map((step) => step.do), expected)
    t.true(steps.every((step) => step.why.length > 0))
  })
}
