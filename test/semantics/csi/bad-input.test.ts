/**
 * Every field of every request absent, empty, oversized or wrong, on the packed agent with a server that would serve:
 * the right code, a message that begins with the field, nothing mounted, no session started, and the agent goes on.
 */
import { chmodSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { status } from '@grpc/grpc-js'
import anyTest from 'ava'
import type { ExecutionContext, TestFn } from 'ava'
import { CallError } from '../../../proto/csi/client.ts'
import type {
  MethodName,
  NodePublishVolumeRequest,
  RequestOf,
  StringMap,
  VolumeCapability
} from '../../../proto/csi/types.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { Kubelet } from '../../peers/kubelet.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { TestNode, mountsBelow, processesOf, run } from '../endtoend/node.ts'
import {
  RawClient,
  frame,
  literals,
  preface,
  requestFields,
  settings
} from '../../unit/agent/csi/authority/raw-client.ts'

interface Context { node: TestNode, ganesha: Ganesha, kubelet: Kubelet, outside: string }
const test = anyTest as TestFn<Context>
type Method = MethodName<'Node'>
type Changes = Partial<NodePublishVolumeRequest> & {
  readonly volumePath?: string
  readonly volumePublishPath?: string
  readonly capacityRange?: RequestOf<'Node', 'NodeExpandVolume'>['capacityRange']
}
/** What is wrong, the code, the field that the message begins with. Functions: the value needs the folders of this
 * run. */
type Row = readonly [
  what: string,
  changes: Changes | ((context: Context) => Changes),
  code: keyof typeof status,
  field: string
]

const needs = ['root', 'fuse', 'ganesha'] as const
const declare = testNeeding(...needs)

if (missing(...needs) === undefined) {
  test.before(async (t) => {
    const ganesha = await Ganesha.start()
    const node = new TestNode()
    await node.startAgent(['--csi-health', '--ephemeral-allow', ganesha.host])
    const outside = node.makeFolder('elsewhere')
    mkdirSync(path.join(outside, 'mount'))
    symlinkSync(outside, path.join(node.kubelet, 'way-out'))
    Object.assign(t.context, { node, ganesha, kubelet: new Kubelet(node.kubelet), outside })
  })
  test.after.always(async (t) => {
    await t.context.node?.close()
    await t.context.ganesha?.close()
  })
}

const mount = (changes: object = {}): VolumeCapability => ({
  accessMode: { mode: 'MULTI_NODE_MULTI_WRITER' },
  mount: { fsType: '', mountFlags: [], volumeMountGroup: '', ...changes }
})
const ids: readonly Row[] = [
  ['no id', { volumeId: '' }, 'INVALID_ARGUMENT', 'volume_id'],
  ['an id of 64 KiB', { volumeId: 'i'.repeat(65_536) }, 'INVALID_ARGUMENT', 'volume_id'],
  ['an id with NUL', { volumeId: 'a\0b' }, 'INVALID_ARGUMENT', 'volume_id'],
  ['an id of two lines', { volumeId: 'a\nlevel=error msg="forged"' }, 'INVALID_ARGUMENT', 'volume_id']
]
const badPaths: readonly (readonly [string, (context: Context) => string])[] = [
  ['a relative path', () => 'pods/p/mount'], ['a path with ..', ({ node }) => `${node.kubelet}/pods/../../etc`],
  ['a path with .', ({ node }) => `${node.kubelet}/./pods`],
  ['a path with NUL', ({ node }) => `${node.kubelet}/pods/a\0b`],
  ['a name of 300 bytes', ({ node }) => `${node.kubelet}/pods/${'n'.repeat(300)}/mount`],
  ['a path of 64 KiB', ({ node }) => `${node.kubelet}/${'p/'.repeat(32_768)}`], ['the root folder', () => '/']
]
/** A path that something is to be done with; one that only says where to look is NOT_FOUND. */
const paths = (key: keyof Changes, field: string, code: keyof typeof status = 'INVALID_ARGUMENT'): readonly Row[] => [
  [`no ${field}`, { [key]: '' }, 'INVALID_ARGUMENT', field],
  ...badPaths.map(([what, make]): Row => [`${field} ${what}`, (context) => ({ [key]: make(context) }), code, field])
]
const outside = (key: keyof Changes, field: string): readonly Row[] => [
  [
    `${field} outside kubelet's folder`, (context) => ({ [key]: path.join(context.outside, 'mount') }),
    'INVALID_ARGUMENT', field
  ],
  [`${field} beside kubelet's folder`, ({ node }) => ({ [key]: `${node.kubelet}-2/mount` }), 'INVALID_ARGUMENT', field]
]
const capabilities: readonly Row[] = [
  ['no capability', { volumeCapability: null }, 'INVALID_ARGUMENT', 'volume_capability'],
  [
    'a capability without access type', { volumeCapability: { accessMode: { mode: 'SINGLE_NODE_WRITER' } } },
    'INVALID_ARGUMENT', 'volume_capability'
  ],
  [
    'a block device', { volumeCapability: { accessMode: { mode: 'SINGLE_NODE_WRITER' }, block: {} } },
    'INVALID_ARGUMENT', 'volume_capability.block'
  ],
  [
    'no access mode', { volumeCapability: { ...mount(), accessMode: null } }, 'INVALID_ARGUMENT',
    'volume_capability.access_mode'
  ],
  [
    'an access mode from the future', { volumeCapability: { ...mount(), accessMode: { mode: 99 } } },
    'INVALID_ARGUMENT', 'volume_capability.access_mode'
  ],
  [
    'a group by name', { volumeCapability: mount({ volumeMountGroup: 'staff' }) }, 'INVALID_ARGUMENT',
    'volume_capability.mount.volume_mount_group'
  ],
  [
    'a group below zero', { volumeCapability: mount({ volumeMountGroup: '-1' }) }, 'INVALID_ARGUMENT',
    'volume_capability.mount.volume_mount_group'
  ],
  [
    'a group beyond 32 bits', { volumeCapability: mount({ volumeMountGroup: '4294967295' }) }, 'INVALID_ARGUMENT',
    'volume_capability.mount.volume_mount_group'
  ],
  [
    'a group of 64 KiB', { volumeCapability: mount({ volumeMountGroup: '1'.repeat(65_536) }) }, 'INVALID_ARGUMENT',
    'volume_capability.mount.volume_mount_group'
  ],
  [
    'a mount flag that is none', { volumeCapability: mount({ mountFlags: ['hard', 'sofft'] }) }, 'INVALID_ARGUMENT',
    'mountOptions: "'
  ],
  [
    'mount flags that contradict each other', { volumeCapability: mount({ mountFlags: ['hard', 'soft'] }) },
    'INVALID_ARGUMENT', 'mountOptions: "'
  ],
  [
    'a mount flag of 64 KiB', { volumeCapability: mount({ mountFlags: ['x'.repeat(65_536)] }) }, 'INVALID_ARGUMENT',
    'mountOptions: "'
  ]
]
const context = (changes: (good: StringMap) => StringMap): (context: Context) => Changes => ({ ganesha }) => ({
  volumeContext: changes({ server: ganesha.host, share: ganesha.folder, mountOptions: ganesha.mountOptions })
})
const contexts: readonly Row[] = [
  ['no attributes', { volumeContext: {} }, 'INVALID_ARGUMENT', 'server'],
  ['no share', context(({ server = '' }) => ({ server })), 'INVALID_ARGUMENT', 'share'],
  ['an empty server', context((good) => ({ ...good, server: '' })), 'INVALID_ARGUMENT', 'server'],
  ['a relative share', context((good) => ({ ...good, share: 'export' })), 'INVALID_ARGUMENT', 'share'],
  ['a subDir that climbs', context((good) => ({ ...good, subDir: 'a/../../b' })), 'INVALID_ARGUMENT', 'subDir'],
  [
    'an attribute that is none', context((good) => ({ ...good, sahre: '/x' })), 'INVALID_ARGUMENT',
    'volume attributes: "sahre"'
  ],
  [
    'an attribute of 64 KiB', context((good) => ({ ...good, server: 'h'.repeat(65_536) })), 'INVALID_ARGUMENT',
    'server'
  ],
  ['another type of volume', context((good) => ({ ...good, type: 'smb' })), 'INVALID_ARGUMENT', 'type'],
  ['a client that is none', context((good) => ({ ...good, client: 'userspace' })), 'INVALID_ARGUMENT', 'client'],
  [
    'a client that does not speak the version',
    context((good) => ({ ...good, client: 'fuse', mountOptions: 'vers=4.1' })), 'INVALID_ARGUMENT', 'mountOptions: "'
  ],
  [
    'a consistency that is none', context((good) => ({ ...good, consistency: 'eventual' })), 'INVALID_ARGUMENT',
    'consistency'
  ],
  [
    'permissions that are none', context((good) => ({ ...good, mountPermissions: 'rwx' })), 'INVALID_ARGUMENT',
    'mountPermissions'
  ],
  ['a share with ..', context((good) => ({ ...good, share: '/a/../b' })), 'INVALID_ARGUMENT', 'share'],
  [
    'a subDir with a name of 300 bytes', context((good) => ({ ...good, subDir: 'n'.repeat(300) })), 'INVALID_ARGUMENT',
    'subDir'
  ],
  [
    'a port that is none', context((good) => ({ ...good, mountOptions: 'port=70000' })), 'INVALID_ARGUMENT',
    'mountOptions: "'
  ],
  [
    'times that contradict each other', context((good) => ({ ...good, mountOptions: 'acregmin=60,acregmax=3' })),
    'INVALID_ARGUMENT', 'mountOptions: "'
  ],
  ['an attribute with NUL', context((good) => ({ ...good, share: '/a\0b' })), 'INVALID_ARGUMENT', 'share']
]

const tables: Readonly<Partial<Record<Method, readonly Row[]>>> = {
  NodeStageVolume: [
    ...ids, ...paths('stagingTargetPath', 'staging_target_path'),
    ...outside('stagingTargetPath', 'staging_target_path'), ...capabilities, ...contexts
  ],
  NodeUnstageVolume: [
    ...ids, ...paths('stagingTargetPath', 'staging_target_path'),
    ...outside('stagingTargetPath', 'staging_target_path')
  ],
  NodePublishVolume: [
    ...ids, ...paths('targetPath', 'target_path'), ...outside('targetPath', 'target_path'),
    ...paths('stagingTargetPath', 'staging_target_path').slice(1), ...capabilities, ...contexts,
    ['no staging path', { stagingTargetPath: '' }, 'FAILED_PRECONDITION', 'staging_target_path'],
    [
      'a staging path where nothing is staged', ({ node }) => ({ stagingTargetPath: `${node.kubelet}/plugins/other` }),
      'FAILED_PRECONDITION', 'staging_target_path'
    ]
  ],
  NodeUnpublishVolume: [...ids, ...paths('targetPath', 'target_path'), ...outside('targetPath', 'target_path')],
  NodeGetVolumeStats: [
    ...ids, ...paths('volumePath', 'volume_path', 'NOT_FOUND'),
    ...paths('stagingTargetPath', 'staging_target_path').slice(1),
    ['a volume that is not there', {}, 'NOT_FOUND', 'volume_path']
  ],
  NodeExpandVolume: [
    ...ids, ...paths('volumePath', 'volume_path', 'NOT_FOUND'),
    ...paths('stagingTargetPath', 'staging_target_path').slice(1), ...capabilities.slice(1, 8),
    [
      'fewer than no bytes', { capacityRange: { requiredBytes: '-1', limitBytes: '0' } }, 'INVALID_ARGUMENT',
      'capacity_range.required_bytes'
    ],
    [
      'a limit below zero', { capacityRange: { requiredBytes: '1', limitBytes: '-9223372036854775808' } },
      'INVALID_ARGUMENT', 'capacity_range.limit_bytes'
    ],
    [
      'more than the limit', { capacityRange: { requiredBytes: '2', limitBytes: '1' } }, 'INVALID_ARGUMENT',
      'capacity_range'
    ],
    ['a volume that is not there', {}, 'NOT_FOUND', 'volume_path']
  ],
  NodeGetVolumeHealth: [
    ...ids, ...paths('volumePublishPath', 'volume_publish_path').slice(1),
    ...paths('stagingTargetPath', 'staging_target_path').slice(1),
    ['a volume that is not there', {}, 'NOT_FOUND', 'volume_id']
  ]
}

async function refused (t: ExecutionContext<Context>, method: Method, changes: Changes): Promise<CallError> {
  const { node, ganesha, kubelet } = t.context
  const target = path.join(node.kubelet, 'pods/p/mount')
  const good = {
    volumeId: 'pv-bad', publishContext: {}, secrets: {}, readonly: false, volumeCapability: mount(), volumePath: target,
    targetPath: target,
    stagingTargetPath: path.join(node.kubelet, 'plugins/stage'),
    volumeContext: { server: ganesha.host, share: ganesha.folder, mountOptions: ganesha.mountOptions }
  }
  const error = await t.throwsAsync(
    kubelet.call(node.csiSocket, method, { ...good, ...changes } as Partial<RequestOf<'Node', Method>>, 60_000),
    { instanceOf: CallError }
  )
  return error as CallError
}

async function nothingHappened (t: ExecutionContext<Context>): Promise<void> {
  const { node, kubelet } = t.context
  t.is(
    node.agentLog.split('\n').find((line) => line.length > 8000)?.slice(0, 200),
    undefined,
    'no log line swells with what a caller sent'
  )
  t.deepEqual(mountsBelow(node.folder), [])
  t.deepEqual((await processesOf(node.folder)).filter((line) => / session( |$)/.test(line)), [])
  t.deepEqual(await kubelet.call(node.csiSocket, 'NodeGetInfo', {}), {
    nodeId: 'test-node', maxVolumesPerNode: '256', accessibleTopology: null
  })
}

for (const [method, rows] of Object.entries(tables) as [Method, readonly Row[]][]) {
  declare<Context>(`${method}: ${rows.length} wrong requests are refused by field, and nothing is mounted`, async (t) => {
    const { node } = t.context
    for (const folder of ['pods/p', 'plugins/stage', 'plugins/other']) {
      mkdirSync(path.join(node.kubelet, folder), { recursive: true })
    }
    for (const [what, changes, code, field] of rows) {
      const error = await refused(t, method, typeof changes === 'function' ? changes(t.context) : changes)
      t.is(status[error.code], code, `${what}: ${error.details.slice(0, 300)}`)
      t.true(error.details.startsWith(field), `${what}: ${error.details.slice(0, 300)}`)
      t.true(error.details.length < 2000, `${what}: a message of ${error.details.length} characters`)
      t.false(error.details.includes('internal error'), what)
    }
    await nothingHappened(t)
  })
}

declare<Context>('a target that is a file, a symbolic link or under a file, and a staging folder that is missing, are refused by field', async (t) => {
  const { node } = t.context
  const pods = path.join(node.kubelet, 'pods', inlineUid, 'volumes/kubernetes.io~csi')
  mkdirSync(path.join(pods, 'f'), { recursive: true })
  writeFileSync(path.join(pods, 'f/file'), 'mine')
  symlinkSync(t.context.outside, path.join(pods, 'f/link'))
  for (const [method, changes, field] of [
    ['NodeStageVolume', { stagingTargetPath: path.join(pods, 'f/file') }, 'staging_target_path'],
    ['NodeStageVolume', { stagingTargetPath: path.join(pods, 'f/link') }, 'staging_target_path'],
    ['NodeStageVolume', { stagingTargetPath: path.join(pods, 'f/missing') }, 'staging_target_path'],
    ['NodePublishVolume', { targetPath: path.join(pods, 'f/file'), ...inline(t.context) }, 'target_path'],
    ['NodePublishVolume', { targetPath: path.join(pods, 'f/link'), ...inline(t.context) }, 'target_path'],
    ['NodePublishVolume', { targetPath: path.join(pods, 'f/file/mount'), ...inline(t.context) }, 'target_path'],
    ['NodePublishVolume', { targetPath: path.join(pods, 'none/mount'), ...inline(t.context) }, 'target_path']
  ] as const) {
    const { code, details } = await refused(t, method, changes)
    t.true(
      ['INVALID_ARGUMENT', 'NOT_FOUND'].includes(status[code] ?? ''),
      `${method} ${JSON.stringify(changes)}: ${status[code]} ${details}`
    )
    t.true(details.startsWith(field), details)
  }
  t.true(existsSync(path.join(pods, 'f/file')))
  await nothingHappened(t)
})

declare<Context>('a path that leads out of kubelet’s folder through a link in it is refused by field, and nothing is removed there', async (t) => {
  const { node, outside } = t.context
  for (const [method, changes, field] of [
    ['NodeStageVolume', { stagingTargetPath: `${node.kubelet}/way-out/mount` }, 'staging_target_path'],
    ['NodeUnstageVolume', { stagingTargetPath: `${node.kubelet}/way-out/mount` }, 'staging_target_path'],
    ['NodeUnpublishVolume', { targetPath: `${node.kubelet}/way-out/mount` }, 'target_path']
  ] as const) {
    const { code, details } = await refused(t, method, changes)
    t.is(status[code], 'INVALID_ARGUMENT', `${method}: ${details}`)
    t.true(details.startsWith(field) && details.includes(`leads to "${outside}/mount"`), details)
  }
  t.true(existsSync(path.join(outside, 'mount')))
  await nothingHappened(t)
})

const inlineUid = 'pod-f'
/** An inline volume needs no staging. */
const inline = ({ ganesha }: Context): Changes => ({
  stagingTargetPath: '',
  volumeContext: {
    server: ganesha.host, share: ganesha.folder, mountOptions: ganesha.mountOptions,
    'csi.storage.k8s.io/ephemeral': 'true', 'csi.storage.k8s.io/pod.uid': inlineUid
  }
})

declare<Context>('a request beyond gRPC\'s size, and bytes that are no message, are refused, and the agent goes on', async (t) => {
  const { node } = t.context
  const large = await refused(t, 'NodeStageVolume', { volumeContext: { server: 'x'.repeat(5_000_000) } })
  t.is(status[large.code], 'RESOURCE_EXHAUSTED')
  for (const payload of [
    Buffer.alloc(100, 0xff), Buffer.from([0, 0, 0, 0, 3, 0x0a, 0xff, 0x01]), Buffer.from([1, 0, 0, 0, 1, 0]),
    Buffer.from([0, 0xff, 0xff, 0xff, 0xff])
  ]) {
    const client = new RawClient(node.csiSocket)
    client.send(
      preface,
      settings,
      frame(1, 4, 1, literals(requestFields('/csi.v1.Node/NodePublishVolume', '/x'))),
      frame(0, 1, 1, payload)
    )
    const answer = await client.answer(1)
    t.not(answer?.status, '0')
    await client.close()
  }
  await nothingHappened(t)
})

declare<Context>('another user of the machine cannot connect to any socket, even where he may see it', async (t) => {
  const { node, kubelet } = t.context
  const registration = path.join(node.kubelet, 'plugins_registry/csi.volbridge.io-reg.sock')
  for (const socket of [node.csiSocket, node.agentSocket, registration]) {
    t.true(existsSync(socket), socket)
    // The worst case: somebody has opened the folders above.
    for (let folder = path.dirname(socket); folder.startsWith(node.folder); folder = path.dirname(folder)) {
      chmodSync(folder, 0o755)
    }
    const script =
      'const s = require("net").connect(process.argv[1]); s.on("connect", () => { console.log("connected"); s.destroy() }); s.on("error", (e) => console.log(e.code))'
    const { stdout, stderr } = await run(process.execPath, ['-e', script, socket], { uid: 65534, gid: 65534, env: {} })
    t.is(stdout.trim(), 'EACCES', `${socket}: ${stderr}`)
  }
  t.like(await kubelet.call(node.csiSocket, 'NodeGetInfo', {}), { nodeId: 'test-node' })
})
