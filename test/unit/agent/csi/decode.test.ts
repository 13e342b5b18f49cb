import test from 'ava'
import { parseAbsolutePath } from '../../../../agent/base/brands.ts'
import { VolumeError } from '../../../../agent/base/errors.ts'
import {
  decodeCapability,
  decodeExpand,
  decodePublish,
  decodeStage,
  decodeStatistics,
  decodeUnpublish,
  decodeUnstage,
  requireWithin,
  volumeIdBytesMax
} from '../../../../agent/csi/decode.ts'
import { parseVolumeSpec } from '../../../../agent/volumes/spec/spec.ts'
import type { AccessMode, NodePublishVolumeRequest, VolumeCapability } from '../../../../proto/csi/types.ts'

const capability = (mode: AccessMode | number = 'MULTI_NODE_MULTI_WRITER'): VolumeCapability => ({
  accessMode: { mode }, mount: { fsType: '', mountFlags: [], volumeMountGroup: '' }
})

const publish = (changes: Partial<NodePublishVolumeRequest> = {}): NodePublishVolumeRequest => ({
  volumeId: 'v1', publishContext: {}, stagingTargetPath: '/k/staging', targetPath: '/k/pods/p/mount',
  volumeCapability: capability(), readonly: false,
  secrets: {}, volumeContext: { server: 'nas', share: '/export' }, ...changes
})

const refused = (call: () => unknown): VolumeError => {
  try {
    call()
  } catch (error) {
    if (error instanceof VolumeError) return error
    throw error
  }
  throw new Error('was not refused')
}

const badPaths = [
  '', 'relative/path', '/a/../b', '/a/./b', '/', '//', `/${'x'.repeat(256)}`, `/a\0b`, `/${'y/'.repeat(2500)}`
]
const badPublishes: readonly (readonly [string, Partial<NodePublishVolumeRequest>, string])[] = [
  ['no id', { volumeId: '' }, 'volume_id'],
  ['an id of too many bytes', { volumeId: 'ü'.repeat(volumeIdBytesMax / 2 + 1) }, 'volume_id'],
  ['an id with a line end', { volumeId: 'a\nb' }, 'volume_id'],
  ['no capability', { volumeCapability: null }, 'volume_capability'],
  ['no access type', { volumeCapability: { accessMode: { mode: 'SINGLE_NODE_WRITER' } } }, 'volume_capability'],
  [
    'a block device', { volumeCapability: { accessMode: { mode: 'SINGLE_NODE_WRITER' }, block: {} } },
    'volume_capability.block'
  ],
  ['no access mode', { volumeCapability: { ...capability(), accessMode: null } }, 'volume_capability.access_mode'],
  ['the unknown access mode', { volumeCapability: capability('UNKNOWN') }, 'volume_capability.access_mode'],
  ['an access mode from the future', { volumeCapability: capability(42) }, 'volume_capability.access_mode'],
  ['a group that is no number', {
    volumeCapability: { ...capability(), mount: { fsType: '', mountFlags: [], volumeMountGroup: 'staff' } }
  }, 'volume_capability.mount.volume_mount_group'],
  ['a group beyond 32 bits', {
    volumeCapability: { ...capability(), mount: { fsType: '', mountFlags: [], volumeMountGroup: '4294967295' } }
  }, 'volume_capability.mount.volume_mount_group'],
  ['no server', { volumeContext: { share: '/x' } }, 'server'],
  ['a relative staging path', { stagingTargetPath: 'x' }, 'staging_target_path']
]

for (const [what, changes, field] of badPublishes) {
  test(`publish with ${what} is refused naming ${field}`, (t) => {
    const error = refused(() => decodePublish(publish(changes), 'csi', parseVolumeSpec))
    t.is(error.code, 'INVALID')
    t.is(error.field, field)
    t.true(error.message.startsWith(field), error.message)
  })
}

test('every bad path is refused in every field that takes one', (t) => {
  for (const bad of badPaths) {
    t.is(
      refused(() => decodePublish(publish({ targetPath: bad }), 'csi', parseVolumeSpec)).field,
      'target_path',
      bad.slice(0, 20)
    )
    t.is(
      refused(() => decodeStage(publish({ stagingTargetPath: bad }), 'csi', parseVolumeSpec)).field,
      'staging_target_path'
    )
    t.is(refused(() => decodeUnstage({ volumeId: 'v', stagingTargetPath: bad })).field, 'staging_target_path')
    t.is(refused(() => decodeUnpublish({ volumeId: 'v', targetPath: bad })).field, 'target_path')
    const notThere = refused(() => decodeStatistics({ volumeId: 'v', volumePath: bad, stagingTargetPath: '' }))
    t.is(notThere.field, 'volume_path')
    t.is(notThere.code, bad === '' ? 'INVALID' : 'NOT_FOUND', 'where nothing can be mounted no volume is found')
  }
})

test('only SINGLE_NODE_SINGLE_WRITER is exclusive', (t) => {
  const modes = [
    'SINGLE_NODE_WRITER', 'SINGLE_NODE_READER_ONLY', 'MULTI_NODE_READER_ONLY', 'MULTI_NODE_SINGLE_WRITER',
    'MULTI_NODE_MULTI_WRITER',
    'SINGLE_NODE_SINGLE_WRITER', 'SINGLE_NODE_MULTI_WRITER'
  ] as const
  t.deepEqual(
    modes.filter((mode) =>
      decodePublish(publish({ volumeCapability: capability(mode) }), 'csi', parseVolumeSpec).exclusive
    ),
    ['SINGLE_NODE_SINGLE_WRITER']
  )
})

test('a path is in kubelet\'s folder, by any of its names, or refused naming field and folder', (t) => {
  const check = (folders: readonly string[], path: string): void => {
    requireWithin(folders, parseAbsolutePath(path, 'x'), 'target_path')
  }
  t.notThrows(() => { check(['/var/lib/kubelet'], '/var/lib/kubelet/pods/p/mount') })
  t.notThrows(() => { check(['/var/lib/kubelet', '/data/kubelet'], '/data/kubelet/pods/p/mount') })
  t.notThrows(() => { check(['/'], '/a') })
  for (const outside of ['/etc', '/var/lib/kubelet', '/var/lib/kubelet-2/pods', '/var/lib']) {
    const error = refused(() => { check(['/var/lib/kubelet'], outside) })
    t.is(error.code, 'INVALID')
    t.is(error.field, 'target_path')
    t.regex(error.message, /^target_path .*\/var\/lib\/kubelet.*--kubelet-dir/)
  }
})

test('stage and publish of one volume give equal specs, whoever mounts it read-only', (t) => {
  const request = publish({
    volumeCapability: {
      ...capability(), mount: { fsType: 'nfs', mountFlags: ['hard', 'nconnect=2'], volumeMountGroup: '' }
    }
  })
  const staged = decodeStage(request, 'csi', parseVolumeSpec)
  const published = decodePublish({ ...request, readonly: true }, 'csi', parseVolumeSpec)
  t.deepEqual(staged.spec, published.spec)
  t.true(published.readOnly)
})

test('read-only comes from the request, the access mode or the mount options', (t) => {
  const readOnly = (changes: Partial<NodePublishVolumeRequest>): boolean =>
    decodePublish(publish(changes), 'csi', parseVolumeSpec).readOnly
  t.false(readOnly({}))
  t.true(readOnly({ readonly: true }))
  t.true(readOnly({ volumeCapability: capability('MULTI_NODE_READER_ONLY') }))
  t.true(readOnly({ volumeContext: { server: 'nas', share: '/x', mountOptions: 'ro' } }))
  for (const mode of [
    'SINGLE_NODE_WRITER', 'MULTI_NODE_SINGLE_WRITER', 'SINGLE_NODE_SINGLE_WRITER', 'SINGLE_NODE_MULTI_WRITER'
  ] as const) {
    t.false(decodeCapability(capability(mode)).readOnly, mode)
  }
})

test('an inline volume comes without a staging path', (t) => {
  const inline = { server: 'nas', share: '/x', 'csi.storage.k8s.io/ephemeral': 'true' }
  t.is(
    decodePublish(publish({ stagingTargetPath: '', volumeContext: inline }), 'csi', parseVolumeSpec).staging,
    undefined
  )
  t.is(decodePublish(publish({ stagingTargetPath: '' }), 'flex', parseVolumeSpec).staging, undefined)
})

test('a volume that kubelet has not staged and not marked as inline is refused with what to do', (t) => {
  const error = t.throws(() => decodePublish(publish({ stagingTargetPath: '' }), 'csi', parseVolumeSpec), {
    instanceOf: VolumeError, message: /stage the volume first.*podInfoOnMount/
  })
  t.like(error, { code: 'PRECONDITION', field: 'staging_target_path' })
})

test('the pod is named by what kubelet adds to the attributes', (t) => {
  const context = {
    server: 'nas', share: '/x', 'csi.storage.k8s.io/pod.name': 'web', 'csi.storage.k8s.io/pod.namespace': 'shop'
  }
  t.is(decodePublish(publish({ volumeContext: context }), 'csi', parseVolumeSpec).owner, 'shop/web')
  const forged = { ...context, 'csi.storage.k8s.io/pod.name': '\u001b[2Jweb\n' }
  t.is(decodePublish(publish({ volumeContext: forged }), 'csi', parseVolumeSpec).owner, 'shop/?[2Jweb?')
})

test('an expansion without a range asks for nothing', (t) => {
  const request = {
    volumeId: 'v', volumePath: '/p', stagingTargetPath: '', capacityRange: null, volumeCapability: null, secrets: {}
  }
  t.is(decodeExpand(request).requiredBytes, 0n)
})
