import { execFileSync } from 'node:child_process'
import test from 'ava'
import { loadServices } from '../../../../proto/csi/load.ts'
import { shapeOf } from '../../../../proto/csi/secret-fields.ts'

const services = loadServices()

test('the compiled descriptors are what the .proto files say', (t) => {
  t.notThrows(() =>
    execFileSync(process.execPath, ['--no-warnings', 'scripts/generate-descriptors.ts', '--check'], { stdio: 'pipe' })
  )
})

// Written down by hand from the field numbers of the specification: tag byte = number << 3 | wire type.
const messages = [
  [
    'NodeStageVolume',
    '0a017612020a001a022f73' + '2206' + '1200' + '1a020805' + '2a060a0161120162' + '32060a016b120176'
  ],
  ['NodePublishVolume', '0a0176' + '1a022f73' + '22022f74' + '2a061200' + '1a020807' + '3001' + '42060a016b120176']
] as const

for (const [method, hex] of messages) {
  test(`${method} request bytes written by hand decode to named fields`, (t) => {
    const decoded = services.Node[method]!.requestDeserialize(Buffer.from(hex, 'hex')) as Record<string, unknown>
    t.is(decoded['volumeId'], 'v')
    t.is(decoded['stagingTargetPath'], '/s')
    t.deepEqual(decoded['volumeContext'], { k: 'v' })
    if (method === 'NodePublishVolume') {
      t.is(decoded['targetPath'], '/t')
      t.true(decoded['readonly'])
      t.like(decoded['volumeCapability'], { accessMode: { mode: 'SINGLE_NODE_MULTI_WRITER' } })
    } else {
      t.deepEqual(decoded['secrets'], { a: 'b' })
      t.like(decoded['volumeCapability'], { accessMode: { mode: 'MULTI_NODE_MULTI_WRITER' } })
    }
  })
}

test('volume statistics carry the condition in field 2 and 64-bit values whole', (t) => {
  const bytes = services.Node['NodeGetVolumeStats']!.responseSerialize({
    usage: [{ total: '9223372036854775807', available: '3', used: '1', unit: 'BYTES' }],
    volumeCondition: { abnormal: true, message: 'x' }
  })
  t.is(bytes.toString('hex'), '0a10' + '0803' + '10ffffffffffffffff7f' + '1801' + '2001' + '1205' + '0801' + '120178')
})

test('an enum value from the future does not fail to decode', (t) => {
  const decoded = services.Node['NodePublishVolume']!.requestDeserialize(Buffer.from('2a041a020863', 'hex')) as {
    volumeCapability: unknown
  }
  t.like(decoded.volumeCapability, { accessMode: { mode: 99 } })
})

test('registration is the service name that kubelet dials', (t) => {
  t.is(services.Registration['GetInfo']!.path, '/pluginregistration.Registration/GetInfo')
  t.is(services.Node['NodePublishVolume']!.path, '/csi.v1.Node/NodePublishVolume')
})

test('the fields that the protocol marks secret are known, also in nested messages', (t) => {
  for (const message of [
    'NodeStageVolumeRequest', 'NodePublishVolumeRequest', 'NodeExpandVolumeRequest', 'NodeGetStorageHealthRequest'
  ]) {
    t.true(shapeOf(message)?.isSecret('secrets'), message)
  }
  const publish = shapeOf('NodePublishVolumeRequest')
  t.false(publish?.isSecret('volumeId'))
  t.true(publish?.message('volumeCapability')?.message('mount')?.isSecret('mountFlags'))
  t.is(shapeOf('NoSuchRequest'), undefined)
})
