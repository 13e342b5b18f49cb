/** The engine on a real kernel: real FUSE mounts, real session processes (a stand-in without NFS). */
import { mkdirSync, readdirSync, statSync, statfsSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { execFileSync, spawn } from 'node:child_process'
import { join } from 'node:path'
import { testNeeding } from '../../peers/testing.ts'
import { TestNode, specOf, volume } from './node.ts'

const system = testNeeding('root', 'fuse')

system('stage, publish twice, unpublish, unstage: real mounts come and go, sessions too', async (t) => {
  const node = new TestNode()
  t.teardown(() => { node.cleanUp() })
  const { service } = await node.start()
  const [v, spec, staging] = [volume('v'), specOf(), node.folder('staging/v')]
  const target = node.path('pods/mount')
  await service.stage({ volume: v, spec, staging, door: 'csi' })
  await service.stage({ volume: v, spec, staging, door: 'csi' })
  t.is(node.mounts().length, 1)
  const publish = { volume: v, spec, target, staging, readOnly: true, door: 'csi', owner: undefined } as const
  await service.publish(publish)
  await service.publish(publish)
  t.is(node.mounts().length, 2)
  const bind = node.mounts().find((mount) => mount.mountPoint === target)
  t.is(bind?.type, 'fuse.volbridge')
  t.is(bind?.source, '127.0.0.1:/export')
  t.true(bind?.options.includes('ro'))
  t.true(bind?.options.includes('nosuid') && bind.options.includes('nodev'))
  t.true(statSync(target).isDirectory())
  t.throws(() => { writeFileSync(join(target, 'x'), '') }, { code: 'EROFS' })
  t.is(node.sessions().length, 1)
  const statistics = await service.statistics({ volume: v, path: target, deadlineMs: 1000 })
  t.is(statistics.totalBytes, 4_096_000n)
  t.is(statistics.health.state, 'healthy')
  const [view] = await service.list()
  t.like(view, { state: 'published', client: 'fuse', locks: 'node-local', source: '127.0.0.1:/export' })
  await t.throwsAsync(service.publish({ ...publish, readOnly: false }), { code: 'CONFLICT' })
  await t.throwsAsync(service.publish({ ...publish, spec: specOf('/other') }), { code: 'CONFLICT' })
  await service.unpublish({ volume: v, target, door: 'csi' })
  await service.unpublish({ volume: v, target, door: 'csi' })
  t.throws(() => statSync(target), { code: 'ENOENT' })
  await service.unstage({ volume: v, staging })
  await service.unstage({ volume: v, staging })
  t.deepEqual(node.mounts(), [])
  t.deepEqual(node.sessions(), [])
  t.deepEqual(readdirSync(join(node.root, 'state', 'journal')), [])
  t.deepEqual(readdirSync(join(node.root, 'state', 'mounts')), [])
  t.deepEqual(readdirSync(join(node.root, 'run', 'sessions')), [])
})

system('a server\'s refusal is the caller\'s error and leaves nothing', async (t) => {
  const node = new TestNode()
  t.teardown(() => { node.cleanUp() })
  const { service } = await node.start()
  const target = node.path('pods/refused')
  const error = await t.throwsAsync(
    service.publish({
      volume: volume('v'), spec: specOf('/refused'), target, staging: undefined, readOnly: false, door: 'csi',
      owner: undefined
    }),
    { code: 'NOT_FOUND' }
  )
  t.is(error?.message, 'the server has no export "/refused"; export it')
  t.deepEqual([node.mounts(), node.sessions()], [[], []])
  t.throws(() => statSync(target), { code: 'ENOENT' })
  t.deepEqual(readdirSync(join(node.root, 'state', 'journal')), [])
  t.deepEqual(readdirSync(join(node.root, 'state', 'mounts')), [])
})

system('what stands at a target decides: file, symlink, full folder, foreign mount, missing folder, missing parent', async (t) => {
  const node = new TestNode()
  t.teardown(() => { node.cleanUp() })
  const { service } = await node.start()
  const root = node.folder('pods/odd')
  writeFileSync(join(root, 'file'), '')
  mkdirSync(join(root, 'full', 'x'), { recursive: true })
  symlinkSync('full', join(root, 'link'))
  mkdirSync(join(root, 'foreign'))
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', join(root, 'foreign')])
  const expected = {
    file: 'INVALID', full: 'INVALID', link: 'INVALID', foreign: 'CONFLICT', missing: 'NOT_FOUND',
    'no/parent': 'NOT_FOUND'
  }
  for (const [name, code] of Object.entries(expected)) {
    const target = node.path(`pods/odd/${name}`)
    const error = await t.throwsAsync(
      service.publish({
        volume: volume(name), spec: specOf(), target, staging: undefined, readOnly: false, door: 'flex',
        owner: undefined
      }),
      { code },
      name
    )
    t.true(error?.message.includes(target), error?.message)
  }
  await t.throwsAsync(
    service.unpublish({ volume: volume('foreign'), target: node.path('pods/odd/foreign'), door: 'flex' }),
    { code: 'CONFLICT' }
  )
  t.is(node.mounts().length, 1, 'the foreign mount is untouched')
})

system('a successor finds live sessions again and goes on; a dead one is said to be dead and replaced', async (t) => {
  const node = new TestNode()
  t.teardown(() => { node.cleanUp() })
  const first = await node.start()
  const target = node.folder('pods/flex')
  const publish = {
    volume: volume('f'), spec: specOf(), target, staging: undefined, readOnly: false, door: 'flex', owner: undefined
  } as const
  await first.service.publish(publish)
  await t.throwsAsync(node.start(), { code: 'CONFLICT', message: /another agent \(pid \d+\)/ })
  first.close()
  const second = await node.start()
  t.deepEqual(second.recovered.map((step) => step.do), ['keepBind', 'adoptMount'])
  t.is(node.sessions().length, 1)
  t.is((await second.service.statistics({ volume: publish.volume, path: target, deadlineMs: 1000 })).stale, false)
  await second.service.publish(publish)
  t.is(node.mounts().length, 2)
  const [pid] = node.sessions()
  process.kill(pid ?? 0, 'SIGKILL')
  const look = async () => await second.service.statistics({ volume: publish.volume, path: target, deadlineMs: 1000 })
  while ((await look()).health.state !== 'dead') await new Promise((resolve) => { setTimeout(resolve, 10) })
  t.true((await look()).stale)
  t.throws(() => statfsSync(target), { code: 'ENOTCONN' })
  await second.service.publish(publish)
  t.is(statfsSync(target).blocks, 1000)
  t.is(node.mounts().length, 2)
  await second.service.unpublish({ volume: publish.volume, target, door: 'flex' })
  t.deepEqual([node.mounts(), node.sessions()], [[], []])
  t.true(statSync(target).isDirectory(), 'the folder of a Flex mount is kubelet\'s')
})

system('a successor takes on a session that is too busy to answer, and does not end it', async (t) => {
  const node = new TestNode()
  t.teardown(() => { node.cleanUp() })
  const first = await node.start()
  const target = node.folder('pods/busy')
  const publish = {
    volume: volume('b'), spec: specOf(), target, staging: undefined, readOnly: false, door: 'flex', owner: undefined
  } as const
  await first.service.publish(publish)
  first.close()
  const [pid = 0] = node.sessions()
  process.kill(pid, 'SIGSTOP')
  const second = await node.start()
  t.deepEqual(second.recovered.map((step) => step.do), ['keepBind', 'adoptMount'])
  t.like((await second.service.list())[0]?.health, { state: 'degraded' })
  await second.service.publish({ ...publish, volume: volume('other'), target: node.folder('pods/other') })
  process.kill(pid, 'SIGCONT')
  t.deepEqual(node.sessions(), [pid])
  t.is(statfsSync(target).blocks, 1000)
  t.is((await second.service.statistics({ volume: publish.volume, path: target, deadlineMs: 1000 })).stale, false)
})

system('a shared mount unmounted by hand is bound back writable from a read-only bind', async (t) => {
  const node = new TestNode()
  t.teardown(() => { node.cleanUp() })
  const { service } = await node.start()
  const [a, b] = [node.folder('pods/a'), node.folder('pods/b')]
  const publish = (target: typeof a, readOnly: boolean) =>
    service.publish({
      volume: volume(target), spec: specOf(), target, staging: undefined, readOnly, door: 'flex', owner: undefined
    })
  await publish(a, true)
  const sessions = node.sessions()
  const shared = node.mounts().find((mount) => mount.mountPoint.startsWith(join(node.root, 'state')))?.mountPoint ?? ''
  execFileSync('umount', [shared])
  await publish(b, false)
  t.deepEqual(node.sessions(), sessions)
  t.deepEqual(
    node.mounts().map((mount) => [mount.mountPoint, mount.options.includes('ro'), mount.options.includes('nosuid')]),
    [[a, true, true], [shared, false, true], [b, false, true]]
  )
})

system('two pods share one session; taking one away leaves the other unharmed, also while files are open in both', async (t) => {
  const node = new TestNode()
  t.teardown(() => { node.cleanUp() })
  const { service } = await node.start()
  const [a, b] = [node.folder('pods/a'), node.folder('pods/b')]
  const publish = (target: typeof a) =>
    service.publish({
      volume: volume(target), spec: specOf(), target, staging: undefined, readOnly: false, door: 'flex',
      owner: undefined
    })
  await Promise.all([publish(a), publish(b)])
  t.is(node.sessions().length, 1)
  const pods = [a, b].map((cwd) => spawn('/bin/sleep', ['60'], { cwd }))
  t.teardown(() => { for (const pod of pods) pod.kill('SIGKILL') })
  await service.unpublish({ volume: volume(a), target: a, door: 'flex' })
  t.is(statfsSync(b).blocks, 1000)
  t.is(node.mounts().filter((mount) => mount.mountPoint === a).length, 0)
  await service.unpublish({ volume: volume(b), target: b, door: 'flex' })
  t.deepEqual(node.mounts(), [])
  t.deepEqual(node.sessions(), [], 'the session ends although a process still has the mount open')
})

system('a session that answers nothing is unmounted all the same, and lost bytes are told', async (t) => {
  const node = new TestNode()
  t.teardown(() => { node.cleanUp() })
  const { service } = await node.start()
  const [deaf, dirty] = [node.folder('pods/deaf'), node.folder('pods/dirty')]
  const publish = (target: typeof deaf, share: string) =>
    service.publish({
      volume: volume(share), spec: specOf(share), target, staging: undefined, readOnly: false, door: 'flex',
      owner: undefined
    })
  await publish(deaf, '/deaf')
  await publish(dirty, '/dirty')
  const blocked = spawn('/bin/ls', [deaf], { stdio: 'ignore' })
  t.teardown(() => { blocked.kill('SIGKILL') })
  await service.publish({
    volume: volume('/deaf'), spec: specOf('/deaf'), target: deaf, staging: undefined, readOnly: false, door: 'flex',
    owner: undefined
  })
  for (const pid of node.sessions()) process.kill(pid, 'SIGSTOP')
  t.like(await service.unpublish({ volume: volume('/deaf'), target: deaf, door: 'flex' }), { lostBytes: 0 })
  for (const pid of node.sessions()) process.kill(pid, 'SIGCONT')
  t.like(await service.unpublish({ volume: volume('/dirty'), target: dirty, door: 'flex' }), { lostBytes: 4096 })
  t.true(node.events.some((event) => event.kind === 'data-lost' && event.lostBytes === 4096))
  t.deepEqual([node.mounts(), node.sessions()], [[], []])
})

system('two calls for one volume: one works, the other is told that it is in progress', async (t) => {
  const node = new TestNode()
  t.teardown(() => { node.cleanUp() })
  const { service } = await node.start()
  const target = node.folder('pods/twice')
  const publish = () =>
    service.publish({
      volume: volume('v'), spec: specOf(), target, staging: undefined, readOnly: false, door: 'flex', owner: undefined
    })
  const outcomes = await Promise.allSettled([publish(), publish()])
  t.deepEqual(outcomes.map((outcome) => outcome.status).sort(), ['fulfilled', 'rejected'])
  const rejected = outcomes.find((outcome) => outcome.status === 'rejected')
  t.like(rejected?.reason, { code: 'IN_PROGRESS' })
})

system('logs of sessions that are no more do not pile up, those of living ones stay', async (t) => {
  const node = new TestNode()
  t.teardown(() => { node.cleanUp() })
  const { service } = await node.start()
  const publish = (share: string) =>
    service.publish({
      volume: volume(share), spec: specOf(share), target: node.folder(`pods${share}`), staging: undefined,
      readOnly: false, door: 'flex', owner: undefined
    })
  await publish('/old')
  const logs = join(node.root, 'state', 'log')
  const [living] = readdirSync(logs)
  utimesSync(join(logs, living ?? ''), 1, 1)
  for (let n = 0; n < 150; n++) writeFileSync(join(logs, `session-${n.toString(16).padStart(16, '0')}.log`), '')
  await publish('/new')
  t.true(readdirSync(logs).includes(living ?? ''))
  t.true(readdirSync(logs).length <= 101, `${readdirSync(logs).length} logs`)
})

system('mountPermissions reaches the root of the volume', async (t) => {
  const node = new TestNode()
  t.teardown(() => { node.cleanUp() })
  const { service } = await node.start()
  const target = node.folder('pods/mode')
  await service.publish({
    volume: volume('v'), spec: specOf('/export', { mountPermissions: '0770' }), target, staging: undefined,
    readOnly: false, door: 'flex', owner: undefined
  })
  t.is(statSync(target).mode & 0o7777, 0o770)
})
