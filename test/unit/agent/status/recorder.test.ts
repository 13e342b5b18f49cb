import test from 'ava'
import { toStageKey } from '../../../../agent/base/brands.ts'
import { Recorder, trendsMax, type HealthChange } from '../../../../agent/status/recorder.ts'
import { sharedFor } from '../../../../agent/status/shared.ts'
import { Troubles, troublesMax } from '../../../../agent/status/troubles.ts'
import type { VolumeHealthState, VolumeView } from '../../../../agent/volumes/operations.ts'
import { viewOf } from '../csi/scripted-volumes.ts'

function recorderOf (): { recorder: Recorder, views: VolumeView[], told: HealthChange[] } {
  const views: VolumeView[] = []
  const told: HealthChange[] = []
  let clockMs = 0
  const recorder = new Recorder({
    list: async () => await Promise.resolve([...views]), onHealth: (change) => { told.push(change) },
    nowMs: () => (clockMs += 5000), timeMs: () => clockMs
  })
  return { recorder, views, told }
}

test('a session that volumes share is remembered once, and forgotten with its last volume', async (t) => {
  const { recorder, views } = recorderOf()
  views.push(viewOf(), viewOf(), viewOf({ key: toStageKey('cd') }))
  await recorder.look()
  await recorder.look()
  t.deepEqual(recorder.trends().map(({ key, requestsPerSecond }) => [key, requestsPerSecond]), [['ab', [0]], ['cd', [
    0
  ]]])
  views.length = 1
  await recorder.look()
  t.deepEqual(recorder.trends().map(({ key }) => key), ['ab'])
})

test('more sessions than there is room for have no history, and the others keep theirs', async (t) => {
  const { recorder, views } = recorderOf()
  for (let n = 0; n < trendsMax + 50; n++) views.push(viewOf({ key: toStageKey(`${n}`) }))
  await recorder.look()
  t.is(recorder.trends().length, trendsMax)
})

test('a health that lasts two looks is told, once, and so is its end; a moment is not', async (t) => {
  const { recorder, views, told } = recorderOf()
  const look = async (state: VolumeHealthState): Promise<void> => {
    views[0] = viewOf({ health: { state, reason: state === 'healthy' ? '' : 'nas is away' } })
    await recorder.look()
  }
  for (const state of [
    'healthy', 'degraded', 'healthy', 'unreachable', 'unreachable', 'unreachable', 'healthy', 'healthy'
  ] as const) await look(state)
  t.deepEqual(told, [
    { source: 'server:/export', before: 'healthy', now: 'unreachable', reason: 'nas is away' },
    { source: 'server:/export', before: 'unreachable', now: 'healthy', reason: '' }
  ])
})

test('a look that takes long is not joined by another', async (t) => {
  let looks = 0
  let release = (): void => undefined
  const recorder = new Recorder({
    list: async () => {
      looks++
      return await new Promise((resolve) => { release = () => { resolve([]) } })
    },
    onHealth: () => undefined
  })
  const first = recorder.look()
  await recorder.look()
  t.is(looks, 1)
  release()
  await first
  void recorder.look()
  t.is(looks, 2)
  release()
})

test('warnings and errors of the log are kept, newest first, equal ones once with their number; the rest is not', (t) => {
  let clockMs = 0
  const troubles = new Troubles(() => (clockMs += 1000))
  const lines: string[] = []
  const log = troubles.watch((level, { op }) => { lines.push(`${level} ${op}`) })
  log('info', { op: 'start' })
  log('warn', { op: 'NodePublishVolume', volume: 'v1' }, 'server: "x" has no address; check DNS')
  log('error', { op: 'mount-died', source: 'nas:/x' }, 'it is not served')
  log('warn', { op: 'NodePublishVolume', volume: 'v1' }, 'server: "x" has no address; check DNS')
  t.deepEqual(lines, ['info start', 'warn NodePublishVolume', 'error mount-died', 'warn NodePublishVolume'])
  t.deepEqual(troubles.list(), [
    {
      timeMs: '3000', count: 2, level: 'warn', operation: 'NodePublishVolume', subject: 'v1',
      message: 'server: "x" has no address', remedy: 'check DNS'
    },
    {
      timeMs: '2000', count: 1, level: 'error', operation: 'mount-died', subject: 'nas:/x', message: 'it is not served',
      remedy: ''
    }
  ])
})

test('a flood of long troubles stays short', (t) => {
  const troubles = new Troubles()
  const log = troubles.watch(() => undefined)
  for (let n = 0; n < 1000; n++) {
    log(
      'error',
      { op: 'x'.repeat(10_000), volume: 'y'.repeat(10_000) },
      `${n} ${'z'.repeat(10_000)}; ${'w'.repeat(10_000)}`
    )
  }
  t.is(troubles.list().length, troublesMax)
  t.true(JSON.stringify(troubles.list()).length < troublesMax * 2000)
  t.true(troubles.list()[0]?.message.startsWith('999 '))
})

test('who asks at about the same time gets one answer; a failure is not kept', async (t) => {
  let asked = 0
  let clockMs = 0
  const ask = sharedFor(1000, async () => {
    asked++
    if (asked === 2) throw new Error('no')
    return await Promise.resolve(asked)
  }, () => clockMs)
  t.deepEqual(await Promise.all([ask(), ask()]), [1, 1])
  clockMs = 1000
  await t.throwsAsync(ask())
  t.is(await ask(), 3)
})
