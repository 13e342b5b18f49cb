/** Keys outlive releases: live mounts, their folders and journals are named by them. */
import { createHash } from 'node:crypto'
import test from 'ava'
import type { VolumeSpec } from '../../../../../agent/base/volume-spec.ts'
import { canonicalJson, stageKeyOf } from '../../../../../agent/volumes/spec/key.ts'
import { parseVolumeSpec } from '../../../../../agent/volumes/spec/spec.ts'
import { World, path, specOf, volume } from '../world.ts'

const attributes = (more: Record<string, string> = {}): Record<string, string> => ({
  server: 'nas', share: '/export', ...more
})

/** A change of one of these makes every live mount of such a volume a stranger to the next version. */
const pinned: readonly (readonly [Record<string, string>, string])[] = [
  [{}, '5d7bd959e9284e32a28f9ef2d68fd3b45bec1e5192bb841fbd5bbb078c578786'],
  [{ subDir: 'a/b' }, 'c91fc2aabe5de40db79242495634fa24c9983f0a779c131e5baf1e30a02bf5da'],
  [{ mountOptions: 'soft,timeo=50,nconnect=4' }, '59bb05c16999fbd6303ec0e5d6a0c0e254a88b7bfb34493b86c21398bc63fff0'],
  [{ mountOptions: 'noexec,noatime' }, '2bcc1cafdf434823d1290665044fe117d54f288c4a06fb84cb769dabc80aa4f8'],
  [{ consistency: 'solowriter' }, '7535fbbeaa41d4424b2ab8083801579707e2084b155ec865ec7af31e870fc09a'],
  [{ client: 'kernel', mountOptions: 'vers=4.1' }, '09a7b2f59443be07f33d9503b74a7e8264642c65bdcb53ea7881c7bb68facaa7'],
  [{ mountPermissions: '0770' }, '935bb89aa3ae892014121e5e780a9ed4a839dcd87ed917b18f6677464c847f39']
]

for (const [more, key] of pinned) {
  test(`the key of ${JSON.stringify(more)} is what it always was`, (t) => {
    t.is<string, string>(stageKeyOf(parseVolumeSpec(attributes(more))), key)
  })
}

test('a key holds what differs from the defaults: options said as they are anyway, and options of other versions, change nothing', (t) => {
  const spec = parseVolumeSpec(attributes())
  const said =
    'hard,timeo=600,retrans=2,acregmin=3,acregmax=60,acdirmin=30,acdirmax=60,cto,lookupcache=all,nosuid,nodev,exec,nconnect=1,sec=sys'
  t.is(stageKeyOf(parseVolumeSpec(attributes({ mountOptions: said }))), stageKeyOf(spec))
  const { cto, ...fewer } = spec.target.options
  const older = { ...spec, target: { ...spec.target, options: fewer } } as unknown as VolumeSpec
  t.true(cto)
  t.is(stageKeyOf(older), stageKeyOf(spec), 'written before the option was known')
  t.is(stageKeyOf(JSON.parse(JSON.stringify(spec)) as VolumeSpec), stageKeyOf(spec), 'read from the journal')
  const unknown = { ...spec, target: { ...spec.target, options: { ...spec.target.options, later: 'x' } } } as VolumeSpec
  t.not(stageKeyOf(unknown), stageKeyOf(spec), 'what is not known may make a difference')
  t.not(stageKeyOf({ ...spec, later: 'x' } as VolumeSpec), stageKeyOf(spec))
})

/** The key as the first builds made it: of every option, defaults too. */
function firstKeyOf (spec: VolumeSpec): string {
  const { retryMs, ...options } = spec.target.options
  const { readOnly, ...flags } = spec.flags
  void [retryMs, readOnly]
  const { type, client, consistency, mountPermissions, mountGroup } = spec
  const target = { ...spec.target, servers: [...spec.target.servers].sort(), options }
  const essence = { type, target, client, consistency, flags, mountPermissions, mountGroup }
  return createHash('sha256').update(canonicalJson(essence)).digest('hex')
}

/** What `world` holds, under the key that the first builds would have given it. */
function renameKey (world: World, from: string, to: string): void {
  const renamed = <T>(value: T): T => JSON.parse(JSON.stringify(value).replaceAll(from, to)) as T
  for (const [id, record] of [...world.journal]) {
    world.journal.delete(id)
    world.journal.set(renamed(id), renamed(record))
  }
  world.mounts = renamed(world.mounts)
  for (const folder of [...world.folders].filter((name) => name.includes(from))) {
    world.folders.delete(folder)
    world.folders.add(renamed(folder))
  }
  for (const session of world.sessions.values()) Object.assign(session, { key: renamed(session.key) })
}

test('live volumes of a build that named them otherwise are taken over: repeats, further pods, and the end', async (t) => {
  const world = new World()
  const v1 = volume('v1')
  const [staging, target, other] = ['/staging/v1', '/pods/a/m', '/pods/b/m'].map(path) as [
    ReturnType<typeof path>,
    ReturnType<typeof path>,
    ReturnType<typeof path>
  ]
  const spec = specOf()
  const door = 'csi' as const
  const first = world.incarnation()
  await first.recover()
  await first.service.stage({ volume: v1, spec, staging, door })
  const publish = { volume: v1, spec, staging, door, owner: undefined, readOnly: false }
  await first.service.publish({ ...publish, target })
  renameKey(world, stageKeyOf(spec), firstKeyOf(spec))
  t.is(JSON.stringify([...world.journal]).includes(stageKeyOf(spec)), false)

  const next = world.incarnation()
  await next.recover()
  await next.service.stage({ volume: v1, spec: specOf(), staging, door })
  await next.service.publish({ ...publish, spec: specOf(), target })
  await next.service.publish({ ...publish, spec: specOf(), target: other })
  await next.service.publish({
    volume: volume('flex'), spec: specOf(), target: path('/pods/c'), staging: undefined, door: 'flex', owner: undefined,
    readOnly: false
  })
  t.is(world.sessions.size, 1, 'all share the session that was there')
  await t.throwsAsync(next.service.publish({ ...publish, spec: specOf('/export', { mountOptions: 'soft' }), target }), {
    code: 'CONFLICT'
  })
  await next.service.unpublish({ volume: v1, target, door })
  await next.service.unpublish({ volume: v1, target: other, door })
  await next.service.unpublish({ volume: volume('flex'), target: path('/pods/c'), door: 'flex' })
  await next.service.unstage({ volume: v1, staging })
  t.deepEqual(world.summary(), { mounts: [], sessions: 0, records: [], folders: [] })
  await next.service.publish({ ...publish, staging: undefined, target })
  t.true([...world.journal.keys()].includes(`mount-${stageKeyOf(spec)}`), 'a new mount has the new name')
})
