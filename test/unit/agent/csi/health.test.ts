import test from 'ava'
import { toStageKey, toVolumeId } from '../../../../agent/base/brands.ts'
import { VolumeError } from '../../../../agent/base/errors.ts'
import { storageHealth, volumeHealth } from '../../../../agent/csi/health.ts'
import { encodeStatistics, nodeService } from '../../../../agent/csi/node.ts'
import type { VolumeHealthState } from '../../../../agent/volumes/operations.ts'
import { nodeParts, ScriptedVolumes, statisticsOf, viewOf } from './scripted-volumes.ts'

const request = { volumeId: 'v1', volumePublishPath: '', stagingTargetPath: '' }
const at = { ...request, volumePublishPath: '/mnt/a' }

for (const [state, expected] of [
  ['healthy', []],
  ['degraded', [{ status: 'DEGRADED', reason: 'Degraded', message: 'because' }]],
  ['unreachable', [{ status: 'INACCESSIBLE', reason: 'ServerUnreachable', message: 'because' }]],
  ['stale', [{ status: 'INACCESSIBLE', reason: 'ShareStale', message: 'because' }]],
  ['dead', [{ status: 'INACCESSIBLE', reason: 'MountDead', message: 'because' }]]
] as const satisfies readonly (readonly [VolumeHealthState, readonly object[]])[]) {
  test(`a volume that is ${state}: the health call and the condition of the statistics say the same`, async (t) => {
    const volumes = new ScriptedVolumes()
    const health = { state, reason: state === 'healthy' ? '' : 'because' }
    volumes.views = [viewOf({ health })]
    volumes.statisticsAnswer = statisticsOf({ health })
    t.deepEqual(await volumeHealth(volumes, request, 100), expected, 'from the list')
    t.deepEqual(await volumeHealth(volumes, at, 100), expected, 'from the path')
    t.is(encodeStatistics(volumes.statisticsAnswer).volumeCondition?.abnormal, expected.length > 0)
  })
}

test('lost data is said beside the state of the mount, in both dialects', async (t) => {
  const volumes = new ScriptedVolumes()
  const lost = 'lost at noon'
  for (const [health, statuses, message] of [
    [{ state: 'degraded', reason: lost, lost }, ['DATA_LOSS UnsavedDataDropped'], 'data loss: lost at noon'],
    [{ state: 'unreachable', reason: 'nas is away', lost }, [
      'DATA_LOSS UnsavedDataDropped', 'INACCESSIBLE ServerUnreachable'
    ], 'unreachable: nas is away; data loss: lost at noon']
  ] as const) {
    volumes.views = [viewOf({ health })]
    t.deepEqual((await volumeHealth(volumes, request, 100)).map((entry) => `${entry.status} ${entry.reason}`), statuses)
    t.deepEqual(encodeStatistics(statisticsOf({ health })).volumeCondition, { abnormal: true, message })
  }
})

test('figures that came too late are an abnormal condition in both dialects', async (t) => {
  const volumes = new ScriptedVolumes()
  volumes.views = [viewOf()]
  volumes.statisticsAnswer = statisticsOf({ stale: true })
  t.like(await volumeHealth(volumes, at, 100), [{ status: 'DEGRADED', reason: 'ServerSlow' }])
  t.true(encodeStatistics(volumes.statisticsAnswer).volumeCondition?.abnormal)
})

test('a volume without figures, or at a path where it was only tried, has the health of its mount', async (t) => {
  const volumes = new ScriptedVolumes()
  volumes.views = [viewOf({ health: { state: 'unreachable', reason: 'nas is away' } })]
  t.like(await volumeHealth(volumes, { ...request, volumePublishPath: '/mnt/never' }, 100), [{
    reason: 'ServerUnreachable'
  }])
  t.deepEqual(volumes.asked, [], 'nobody is asked about a path where it is not')
  volumes.before = () => { throw new VolumeError('UNAVAILABLE', 'no figures') }
  t.like(await volumeHealth(volumes, at, 100), [{ reason: 'ServerUnreachable' }])
})

test('the worst of several mounts counts, and a volume that is not here is NOT_FOUND', async (t) => {
  const volumes = new ScriptedVolumes()
  volumes.views = [
    viewOf(), viewOf({ key: toStageKey('cd'), health: { state: 'dead', reason: 'x' } }),
    viewOf({ volume: toVolumeId('v2'), health: { state: 'stale', reason: 'y' } })
  ]
  t.like(await volumeHealth(volumes, request, 100), [{ reason: 'MountDead' }])
  await t.throwsAsync(volumeHealth(volumes, { ...request, volumeId: 'v3' }, 100), {
    instanceOf: VolumeError, message: /volume_id.*v3/
  })
})

for (const [field, changes] of [
  ['volume_id', { volumeId: '' }], ['volume_publish_path', { volumePublishPath: 'relative' }],
  ['staging_target_path', { stagingTargetPath: '/a/../b' }]
] as const) {
  test(`a wrong ${field} is refused by name`, async (t) => {
    const error = await t.throwsAsync(volumeHealth(new ScriptedVolumes(), { ...request, ...changes }, 100), {
      instanceOf: VolumeError
    })
    t.is(error?.code, 'INVALID')
    t.is(error?.field, field)
  })
}

test('silent servers are one entry, each reason once; what is wrong with a mount is not said of the storage', async (t) => {
  const volumes = new ScriptedVolumes()
  volumes.views = [
    viewOf(), viewOf({ health: { state: 'dead', reason: 'session ended' } }),
    viewOf({ health: { state: 'degraded', reason: 'not to be seen' } })
  ]
  t.deepEqual(await storageHealth(volumes), [])
  volumes.views.push(
    ...['a', 'b', 'a'].map((server) => viewOf({ health: { state: 'unreachable', reason: `${server} is away` } }))
  )
  t.deepEqual(await storageHealth(volumes), [{
    status: 'STORAGE_UNREACHABLE', reason: 'ServerUnreachable', message: 'a is away; b is away', volumeCapability: null
  }])
  volumes.views = Array.from(
    { length: 500 },
    (_, index) => viewOf({ health: { state: 'unreachable', reason: `server ${index} is away` } })
  )
  t.is((await storageHealth(volumes))[0]?.message.length, 1000)
})

test('capabilities 7 and 8 and their calls are there only when asked for', (t) => {
  const volumes = new ScriptedVolumes()
  const context = { door: 'csi', unmeasured: false } as const
  const types = (health: boolean): unknown => {
    const node = nodeService({ ...nodeParts, volumes, nodeId: 'n', health })
    const answer = node.NodeGetCapabilities?.({}, context) as { capabilities: { rpc: { type: string } }[] }
    return {
      types: answer.capabilities.map(({ rpc }) => rpc.type),
      calls: Object.keys(node).filter((name) => name.endsWith('Health'))
    }
  }
  const always = [
    'STAGE_UNSTAGE_VOLUME', 'GET_VOLUME_STATS', 'VOLUME_CONDITION', 'SINGLE_NODE_MULTI_WRITER', 'VOLUME_MOUNT_GROUP'
  ]
  t.deepEqual(types(false), { types: always, calls: [] })
  t.deepEqual(types(true), {
    types: [...always, 'GET_VOLUME_HEALTH', 'GET_STORAGE_HEALTH'],
    calls: ['NodeGetVolumeHealth', 'NodeGetStorageHealth']
  })
})
