/** How many volumes there may be: counted at once, whoever else is on the way. */
import test from 'ava'
import { parseAbsolutePath, toVolumeId } from '../../../../../agent/base/brands.ts'
import { ephemeralVolumesPerPodMax, volumesPerPodMax } from '../../../../../agent/base/limits.ts'
import { PolicyRefusal } from '../../../../../agent/volumes/policy/policy.ts'
import { Quota, podUidOf, type Wanted } from '../../../../../agent/volumes/policy/quota.ts'
import type { Journal } from '../../../../../agent/volumes/records/journal.ts'
import { VolumeTable } from '../../../../../agent/volumes/records/table.ts'
import { parseVolumeSpec } from '../../../../../agent/volumes/spec/spec.ts'

const spec = parseVolumeSpec({ server: 'nas', share: '/data' })
const inline = { ...spec, restraint: 'anonymous' } as const
const nothing: Journal = {
  put: async () => { await Promise.resolve() }, drop: async () => { await Promise.resolve() }
} as unknown as Journal
const quotaOf = (volumesMax: number, ephemeralMax: number): Quota =>
  new Quota(new VolumeTable(nothing), { volumesMax, ephemeralMax })
const wanted = (volume: string, pod: string, name: string, of: Wanted['spec'] = spec): Wanted => ({
  volume: toVolumeId(volume),
  path: parseAbsolutePath(`/var/lib/kubelet/pods/${pod}/volumes/kubernetes.io~csi/${name}/mount`, 'x'), spec: of
})
const ruleOf = (work: () => unknown): string | undefined => {
  try { work() } catch (error) {
    if (error instanceof PolicyRefusal && error.code === 'EXHAUSTED') return error.rule
    throw error
  }
  return undefined
}

test('the node takes so many volumes, inline ones fewer; what is over makes room, and a repeat costs nothing', (t) => {
  const quota = quotaOf(4, 2)
  const first = quota.take(wanted('a', 'p1', 'x', inline))
  quota.take(wanted('b', 'p2', 'x', inline))
  t.is(ruleOf(() => quota.take(wanted('c', 'p3', 'x', inline))), '--ephemeral-max')
  quota.take(wanted('d', 'p3', 'x'))
  quota.take(wanted('e', 'p4', 'x'))
  t.is(ruleOf(() => quota.take(wanted('f', 'p5', 'x'))), '--max-volumes')
  t.is(ruleOf(() => quota.take(wanted('e', 'p6', 'x'))), undefined, 'the same volume in another pod')
  t.is(ruleOf(() => quota.take(wanted('a', 'p1', 'x', inline))), undefined, 'a repeat')
  const repeats = quotaOf(1, 1)
  repeats.take(wanted('a', 'p1', 'x'))()
  t.is(ruleOf(() => repeats.take(wanted('b', 'p1', 'y'))), undefined, 'what came to nothing is not counted')
  first()
})

test('a pod takes so many volumes, inline ones fewer, and another pod its own', (t) => {
  const quota = quotaOf(10_000, 10_000)
  for (let n = 0; n < ephemeralVolumesPerPodMax; n++) quota.take(wanted(`i${n}`, 'p', `i${n}`, inline))
  t.is(ruleOf(() => quota.take(wanted('i', 'p', 'i', inline))), 'inline volumes per pod')
  for (let n = ephemeralVolumesPerPodMax; n < volumesPerPodMax; n++) quota.take(wanted(`v${n}`, 'p', `v${n}`))
  t.is(ruleOf(() => quota.take(wanted('v', 'p', 'v'))), 'volumes per pod')
  t.is(ruleOf(() => quota.take(wanted('v', 'q', 'v', inline))), undefined)
})

test('a pod is known by the uid in the target\'s path, whatever else lies there', (t) => {
  t.is(podUidOf('/var/lib/kubelet/pods/u-1/volumes/kubernetes.io~csi/data/mount'), 'u-1')
  t.is(podUidOf('/data/pods/other/kubelet/pods/u-2/volumes/vendor~driver/data'), 'u-2')
  t.is(podUidOf('/var/lib/kubelet/plugins/kubernetes.io/csi/d/hash/globalmount'), undefined)
  t.is(podUidOf('/mnt'), undefined)
})
