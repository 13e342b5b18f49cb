/** What paths lead to, compared with what kubelet's folder leads to. */
import test from 'ava'
import { VolumeError } from '../../../../agent/base/errors.ts'
import { DoorFolder, isBelow } from '../../../../agent/volumes/door-folder.ts'
import type { VolumeHost } from '../../../../agent/volumes/volume-host.ts'
import { World, path, specOf, volume } from './world.ts'

test('a folder is below another by its components, not by its letters', (t) => {
  t.true(isBelow('/a/b/c', '/a/b'))
  t.true(isBelow('/a', '/'))
  t.true(isBelow('/a//b', '/a/'))
  t.false(isBelow('/a/b', '/a/b'))
  t.false(isBelow('/a/bc', '/a/b'))
  t.false(isBelow('/a', '/a/b'))
})

test('kubelet\'s folder is resolved once, and again before a path is refused', async (t) => {
  let leadsTo = '/data/kubelet'
  let looks = 0
  const host = {
    inspect: async () => {
      looks++
      return await Promise.resolve({ kind: 'folder', path: leadsTo })
    }
  } as unknown as VolumeHost
  const folder = new DoorFolder(host, '/var/lib/kubelet')
  const given = path('/var/lib/kubelet/pods/a')
  await folder.require('/data/kubelet/pods/a', given, 'target_path')
  await folder.require('/data/kubelet/pods/b', given, 'target_path')
  t.is(looks, 1)
  const refused = await t.throwsAsync(folder.require('/etc/a', given, 'target_path'), { instanceOf: VolumeError })
  t.like(refused, { code: 'INVALID', field: 'target_path' })
  t.regex(refused?.message ?? '', /^target_path: "\/var\/lib\/kubelet\/pods\/a" leads to "\/etc\/a", .*--kubelet-dir/)
  leadsTo = '/moved/kubelet'
  await folder.require('/moved/kubelet/pods/a', given, 'target_path')
  t.is(looks, 3)
})

test('an unpublish takes the bind away where it was made, wherever its name leads by now', async (t) => {
  const world = new World()
  const engine = world.incarnation()
  await engine.recover()
  const publish = async (name: string, pod: string): Promise<void> => {
    await engine.service.publish({
      volume: volume(name), spec: specOf(`/${name}`), target: path(pod), staging: undefined, readOnly: false,
      door: 'hand', owner: undefined
    })
  }
  await publish('v1', '/pods/a')
  await publish('v2', '/pods/b')
  const inspect = engine.inspect.bind(engine)
  engine.inspect = async (name) => await inspect(name === '/pods/a' ? '/pods/b' : name)
  await engine.service.unpublish({ volume: volume('v1'), target: path('/pods/a'), door: 'hand' })
  t.deepEqual(world.summary().mounts.filter((mount) => mount.startsWith('/pods')), ['/pods/b'])
})
