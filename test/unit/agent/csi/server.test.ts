import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, lstatSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { status } from '@grpc/grpc-js'
import test from 'ava'
import { toStageKey, toVolumeId } from '../../../../agent/base/brands.ts'
import { VolumeError } from '../../../../agent/base/errors.ts'
import { agentService } from '../../../../agent/csi/agent-service.ts'
import { identityService } from '../../../../agent/csi/identity.ts'
import { nodeService } from '../../../../agent/csi/node.ts'
import { RpcServer } from '../../../../agent/csi/server.ts'
import type { CallFacts, CallOutcome } from '../../../../agent/csi/unary.ts'
import { CallError, CsiClient } from '../../../../proto/csi/client.ts'
import { loadServices } from '../../../../proto/csi/load.ts'
import type { NodePublishVolumeRequest } from '../../../../proto/csi/types.ts'
import { nodeParts, ScriptedVolumes, statisticsOf, viewOf } from './scripted-volumes.ts'

const services = loadServices()

interface Fixture {
  volumes: ScriptedVolumes
  client: CsiClient
  socketPath: string
  folder: string
  calls: (CallFacts & CallOutcome)[]
  server: RpcServer
}

async function withServer (
  options: { answerMs?: number, door?: 'csi' },
  run: (fixture: Fixture) => Promise<void>
): Promise<void> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'vb-csi-'))
  const socketPath = path.join(folder, 'csi.sock')
  const volumes = new ScriptedVolumes()
  const calls: (CallFacts & CallOutcome)[] = []
  const server = new RpcServer({
    services, socketPath, field: '--csi-endpoint',
    unary: {
      door: options.door, ...(options.answerMs === undefined ? {} : { answerMs: options.answerMs }),
      observer: (facts) => (outcome) => { calls.push({ ...facts, ...outcome }) }
    }
  }, {
    Identity: identityService({ driverName: 'csi.test', version: '1.2.3', isReady: () => true }),
    Node: nodeService({ ...nodeParts, volumes, nodeId: 'node-a' }),
    Agent: agentService({
      volumes, version: '1.2.3', driverName: 'csi.test', nodeId: 'node-a', uptimeMs: () => 5,
      registration: () => undefined
    })
  })
  await server.listen()
  const client = new CsiClient(services, socketPath)
  try {
    await run({ volumes, client, socketPath, folder, calls, server })
  } finally {
    client.close()
    await server.close({ graceMs: 200 })
    rmSync(folder, { recursive: true })
  }
}

const deadlineMs = 20_000
const publish: Partial<NodePublishVolumeRequest> = {
  volumeId: 'v1', targetPath: '/k/pods/p/mount', stagingTargetPath: '/k/s',
  volumeContext: { server: 'nas', share: '/export' },
  volumeCapability: {
    accessMode: { mode: 'MULTI_NODE_MULTI_WRITER' }, mount: { fsType: '', mountFlags: [], volumeMountGroup: '' }
  }
}
const codeOf = async (call: Promise<unknown>): Promise<CallError> => {
  try {
    await call
  } catch (error) {
    if (error instanceof CallError) return error
    throw error
  }
  throw new Error('the call did not fail')
}

test('the plugin names itself, claims what it does, and is ready', async (t) => {
  await withServer({}, async ({ client }) => {
    t.like(await client.call('Identity', 'GetPluginInfo', {}, { deadlineMs }), {
      name: 'csi.test', vendorVersion: '1.2.3'
    })
    t.deepEqual(await client.call('Identity', 'Probe', {}, { deadlineMs }), { ready: { value: true } })
    const { capabilities } = await client.call('Node', 'NodeGetCapabilities', {}, { deadlineMs })
    t.deepEqual(capabilities.map(({ rpc }) => rpc.type), [
      'STAGE_UNSTAGE_VOLUME', 'GET_VOLUME_STATS', 'VOLUME_CONDITION', 'SINGLE_NODE_MULTI_WRITER', 'VOLUME_MOUNT_GROUP'
    ])
    t.like(await client.call('Node', 'NodeGetInfo', {}, { deadlineMs }), { nodeId: 'node-a' })
  })
})

test('Flex takes the kernel\'s client with hard only from a driver whose mounts kubelet does not measure', async (t) => {
  await withServer({}, async ({ client, volumes }) => {
    const flex = { ...publish, stagingTargetPath: '' }
    const call = async (volumeContext: Record<string, string>, more: Record<string, string> = {}): Promise<unknown> =>
      await client.call('Node', 'NodePublishVolume', { ...flex, volumeContext }, {
        deadlineMs, metadata: { 'volbridge-door': 'flex', ...more }
      })
    for (const hard of [{ client: 'kernel' }, { mountOptions: 'vers=4.1' }, {
      client: 'kernel', mountOptions: 'hard,vers=3'
    }]) {
      const error = await codeOf(call({ server: 'nas', share: '/export', ...hard }))
      t.regex(
        error.details,
        /client "kernel" with hard would hold up kubelet.*flex-install --kernel.*soft in mountOptions/
      )
      t.is(error.code, status.INVALID_ARGUMENT)
    }
    t.is(volumes.asked.length, 0)
    await call({ server: 'nas', share: '/export', client: 'kernel' }, { 'volbridge-unmeasured': '1' })
    await call({ server: 'nas', share: '/export', client: 'kernel', mountOptions: 'soft' })
    await call({ server: 'nas', share: '/export' })
    await client.call('Node', 'NodePublishVolume', {
      ...publish, volumeContext: { server: 'nas', share: '/export', client: 'kernel' }
    }, { deadlineMs, metadata: { 'volbridge-door': 'hand' } })
    t.is(volumes.asked.length, 4)
  })
})

test('a publish reaches the engine parsed, with the door it came through', async (t) => {
  await withServer({ door: 'csi' }, async ({ client, volumes }) => {
    await client.call('Node', 'NodePublishVolume', publish, { deadlineMs, metadata: { 'volbridge-door': 'flex' } })
    t.is(volumes.asked.length, 1)
    t.like(volumes.asked[0]?.request, {
      volume: 'v1', target: '/k/pods/p/mount', staging: '/k/s', door: 'csi', readOnly: false
    })
  })
})

test('on the agent\'s own socket the caller says its door, and an unknown one is a person', async (t) => {
  await withServer({}, async ({ client, volumes }) => {
    for (const metadata of [{ 'volbridge-door': 'flex' }, { 'volbridge-door': 'no such' }, {}]) {
      await client.call('Node', 'NodeUnpublishVolume', { volumeId: 'v', targetPath: '/a' }, { deadlineMs, metadata })
    }
    t.deepEqual(volumes.asked.map(({ request }) => (request as { door: string }).door), ['flex', 'hand', 'hand'])
  })
})

test('a failure arrives with its code, its sentence and the engine\'s own word, and is observed once', async (t) => {
  await withServer({}, async ({ client, volumes, calls }) => {
    volumes.before = () => {
      throw new VolumeError('UNAVAILABLE', 'server nas does not answer', { remedy: 'look at it' })
    }
    const error = await codeOf(client.call('Node', 'NodePublishVolume', publish, { deadlineMs }))
    t.is(error.code, status.UNAVAILABLE)
    t.is(error.details, 'server nas does not answer; look at it')
    t.true(error.agentAnswered)
    t.deepEqual(calls.map(({ method, code }) => [method, code]), [['NodePublishVolume', 'UNAVAILABLE']])
  })
})

test('a bad request is refused without asking the engine', async (t) => {
  await withServer({}, async ({ client, volumes }) => {
    const error = await codeOf(
      client.call('Node', 'NodePublishVolume', {
        ...publish, volumeContext: { server: 'nas', share: '/x', nonsense: '1' }
      }, { deadlineMs })
    )
    t.is(error.code, status.INVALID_ARGUMENT)
    t.regex(error.details, /nonsense/)
    t.is(volumes.asked.length, 0)
  })
})

test('a call that takes too long is answered in time and its work goes on', async (t) => {
  await withServer({ answerMs: 50 }, async ({ client, volumes }) => {
    let release = (): void => undefined
    let ended = false
    volumes.before = async () => {
      await new Promise<void>((resolve) => { release = resolve })
      ended = true
    }
    const error = await codeOf(client.call('Node', 'NodePublishVolume', publish, { deadlineMs }))
    t.is(error.code, status.DEADLINE_EXCEEDED)
    t.true(error.agentAnswered)
    t.false(ended)
    release()
    await new Promise((resolve) => setImmediate(resolve))
    t.true(ended)
  })
})

test('a server that is closed lets its calls end and be answered, and takes no new ones', async (t) => {
  await withServer({}, async ({ client, volumes, server, socketPath }) => {
    let [began, release] = [(): void => undefined, (): void => undefined]
    const running = new Promise<void>((resolve) => { began = resolve })
    volumes.before = async () => {
      began()
      await new Promise<void>((resolve) => { release = resolve })
    }
    const call = client.call('Node', 'NodePublishVolume', publish, { deadlineMs })
    await running
    let isClosed = false
    const closing = server.close({ graceMs: 30_000 }).then(() => { isClosed = true })
    const late = new CsiClient(services, socketPath)
    t.is((await codeOf(late.call('Identity', 'Probe', {}, { deadlineMs }))).code, status.UNAVAILABLE)
    late.close()
    t.false(isClosed)
    release()
    t.deepEqual(await call, {})
    await closing
  })
})

test('a server that is closed waits for a call that does not end as long as it was told, and no longer', async (t) => {
  await withServer({}, async ({ client, volumes, server }) => {
    let began = (): void => undefined
    const running = new Promise<void>((resolve) => { began = resolve })
    volumes.before = async () => {
      began()
      await new Promise<void>(() => undefined)
    }
    const call = codeOf(client.call('Node', 'NodePublishVolume', publish, { deadlineMs }))
    await running
    await server.close({ graceMs: 50 })
    t.false((await call).agentAnswered)
  })
})

test('the answer comes before a caller\'s own shorter deadline', async (t) => {
  await withServer({}, async ({ client, volumes }) => {
    volumes.before = async () => { await new Promise<void>(() => undefined) }
    // From five seconds on the answer is a second early, which both ends of one busy process need here.
    const error = await codeOf(client.call('Node', 'NodePublishVolume', publish, { deadlineMs: 5500 }))
    t.is(error.code, status.DEADLINE_EXCEEDED)
    t.true(error.agentAnswered)
  })
})

test('statistics come with bytes, inodes and the condition, stale ones marked', async (t) => {
  await withServer({}, async ({ client, volumes }) => {
    const request = { volumeId: 'v1', volumePath: '/k/pods/p/mount' }
    t.deepEqual(await client.call('Node', 'NodeGetVolumeStats', request, { deadlineMs }), {
      usage: [
        { unit: 'BYTES', total: '1152921504606846976', used: '5', available: '1152921504606846971' },
        { unit: 'INODES', total: '100', used: '1', available: '99' }
      ],
      volumeCondition: { abnormal: false, message: 'healthy' }
    })
    volumes.statisticsAnswer = statisticsOf({
      stale: true, health: { state: 'unreachable', reason: 'nas is away; start it' }
    })
    const { volumeCondition } = await client.call('Node', 'NodeGetVolumeStats', request, { deadlineMs })
    t.true(volumeCondition?.abnormal)
    t.regex(volumeCondition?.message ?? '', /^unreachable: nas is away; start it; .*last known/)
  })
})

test('an expansion answers what the server has, and OUT_OF_RANGE for more', async (t) => {
  await withServer({}, async ({ client }) => {
    const ask = (requiredBytes: string): Promise<{ capacityBytes: string }> =>
      client.call('Node', 'NodeExpandVolume', {
        volumeId: 'v1', volumePath: '/p', capacityRange: { requiredBytes, limitBytes: '0' }
      }, { deadlineMs })
    t.is((await ask('1000')).capacityBytes, '1152921504606846976')
    t.is((await codeOf(ask('1152921504606846977'))).code, status.OUT_OF_RANGE)
  })
})

test('a call that is not served is UNIMPLEMENTED', async (t) => {
  await withServer({}, async ({ client }) => {
    t.is(
      (await codeOf(client.call('Node', 'NodeGetVolumeHealth', { volumeId: 'v' }, { deadlineMs }))).code,
      status.UNIMPLEMENTED
    )
  })
})

test('status shows each volume, with usage where it can be had', async (t) => {
  await withServer({}, async ({ client, volumes }) => {
    volumes.views = [
      viewOf(),
      viewOf({
        volume: toVolumeId('v2'), key: toStageKey('cd'), targets: [], sessionPid: undefined,
        health: { state: 'dead', reason: 'session ended; unmount it' }
      })
    ]
    const answer = await client.call('Agent', 'Status', {}, { deadlineMs })
    t.like(answer, { version: '1.2.3', nodeId: 'node-a', registration: '' })
    t.like(answer.volumes[0], {
      volumeId: 'v1', source: 'server:/export', health: 'healthy', sessionPid: 7, counters: { reads: 3 },
      usage: { totalInodes: '100', stale: false }
    })
    t.like(answer.volumes[1], { health: 'dead', healthReason: 'session ended; unmount it', usage: null, sessionPid: 0 })
  })
})

// Serial: encoding it holds the event loop that the others' deadlines run on.
test.serial('the status of many volumes fits into an answer', async (t) => {
  const targets = Array.from(
    { length: 20 },
    (_, index) => ({
      path: `/${'x'.repeat(2500)}${index}`, resolved: '/x', readOnly: false, owner: 'shop/web', problem: '',
      unprotected: ''
    })
  )
  await withServer({}, async ({ client, volumes }) => {
    volumes.views = Array.from(
      { length: 100 },
      (_, index) => viewOf({ volume: toVolumeId(`v${index}`), key: toStageKey(`${index}`), targets })
    )
    const answer = await client.call('Agent', 'Status', {}, { deadlineMs })
    t.deepEqual([answer.volumes.length, answer.volumes[99]?.targets.length], [100, 20])
    t.true(JSON.stringify(answer).length > 4 * 1024 * 1024, 'more than gRPC takes when it is not told')
  })
})

test('status shows the health that was found while usage was asked for', async (t) => {
  await withServer({}, async ({ client, volumes }) => {
    volumes.views = [viewOf()]
    volumes.before = () => {
      volumes.views = [viewOf({ health: { state: 'unreachable', reason: 'nas is away' } })]
      throw new VolumeError('UNAVAILABLE', 'nas is away')
    }
    t.like((await client.call('Agent', 'Status', {}, { deadlineMs })).volumes[0], {
      health: 'unreachable', usage: null
    })
  })
})

test('unmount by hand finds the volume by its folder, and leaves a pod\'s alone unless forced', async (t) => {
  await withServer({}, async ({ client, volumes }) => {
    const unmount = (targetPath: string, force: boolean): Promise<unknown> =>
      client.call('Agent', 'Unmount', { targetPath, force }, { deadlineMs })
    t.is((await codeOf(unmount('/mnt/a', false))).code, status.NOT_FOUND)
    volumes.views = [viewOf({ door: 'csi' })]
    t.is((await codeOf(unmount('/mnt/a', false))).code, status.INVALID_ARGUMENT)
    t.deepEqual(volumes.asked, [])
    await unmount('/mnt/a/', true)
    t.like(volumes.asked[0], {
      deed: 'unpublish', request: { volume: 'v1', target: '/mnt/a', door: 'csi', force: true }
    })
  })
})

test('the socket is private, and nothing else is left in its folder', async (t) => {
  await withServer({}, async ({ socketPath, folder, server }) => {
    t.is(lstatSync(socketPath).mode & 0o777, 0o600)
    t.deepEqual(readdirSync(folder), ['csi.sock'])
    t.true(server.isInPlace)
    await server.close({ graceMs: 100 })
    t.false(existsSync(socketPath))
  })
})

test('a stale socket is replaced, and a successor\'s socket is not removed by the predecessor', async (t) => {
  await withServer({}, async ({ socketPath, server, volumes }) => {
    const successor = new RpcServer({
      services, socketPath, field: 'x', unary: { door: 'csi', observer: () => () => undefined }
    }, {
      Node: nodeService({ ...nodeParts, volumes, nodeId: 'node-b' })
    })
    await successor.listen()
    t.false(server.isInPlace)
    await server.close({ graceMs: 100 })
    const client = new CsiClient(services, socketPath)
    t.like(await client.call('Node', 'NodeGetInfo', {}, { deadlineMs }), { nodeId: 'node-b' })
    client.close()
    await successor.close({ graceMs: 100 })
  })
})

test('a socket path that is too long, or in a folder that is none, is refused by option and value', async (t) => {
  const listen = async (socketPath: string): Promise<void> => {
    await new RpcServer({
      services, socketPath, field: '--csi-endpoint', unary: { door: 'csi', observer: () => () => undefined }
    }, {}).listen()
  }
  const long = path.join(os.tmpdir(), 'x'.repeat(110))
  const error = await t.throwsAsync(listen(long), { instanceOf: VolumeError })
  t.is(error?.field, '--csi-endpoint')
  t.regex(error?.message ?? '', /107.*shorter/)
  await t.throwsAsync(listen('/nonexistent/csi.sock'), {
    instanceOf: VolumeError, message: /--csi-endpoint: .*\/nonexistent/
  })
})

test('a file in the socket\'s place is replaced like a stale socket', async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'vb-csi-'))
  const socketPath = path.join(folder, 'csi.sock')
  writeFileSync(socketPath, 'left over')
  const server = new RpcServer({
    services, socketPath, field: 'x', unary: { door: 'csi', observer: () => () => undefined }
  }, {})
  await server.listen()
  t.true(lstatSync(socketPath).isSocket())
  await server.close({ graceMs: 100 })
  rmSync(folder, { recursive: true })
})

test('bytes that are no HTTP/2 end that connection and no other', async (t) => {
  await withServer({}, async ({ socketPath, client }) => {
    for (const rubbish of [
      'GET / HTTP/1.1\r\n\r\n', '\0'.repeat(100), `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n${'\xff'.repeat(64)}`
    ]) {
      const socket = connect(socketPath)
      socket.on('error', () => undefined)
      socket.resume()
      socket.write(Buffer.from(rubbish, 'latin1'))
      // A peer that says nothing sensible may also be gone at once.
      if (rubbish.startsWith('GET')) socket.destroy()
      await new Promise<void>((resolve) => { socket.once('close', () => { resolve() }) })
    }
    t.like(await client.call('Node', 'NodeGetInfo', {}, { deadlineMs }), { nodeId: 'node-a' })
  })
})

test('a lost connection is told apart from the engine\'s own UNAVAILABLE', async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'vb-csi-'))
  const client = new CsiClient(services, path.join(folder, 'nobody.sock'))
  const error = await codeOf(client.call('Node', 'NodeGetInfo', {}, { deadlineMs: 2000 }))
  t.is(error.code, status.UNAVAILABLE)
  t.false(error.agentAnswered)
  client.close()
  rmSync(folder, { recursive: true })
})

test('the last answer of a process that ends is whole', async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'vb-csi-'))
  const socketPath = path.join(folder, 'agent.sock')
  const child = spawn(process.execPath, [
    '--no-warnings', path.join(import.meta.dirname, 'ending-server.ts'), socketPath
  ], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  const client = new CsiClient(services, socketPath)
  try {
    await once(child.stdout, 'data')
    t.like(await client.call('Agent', 'HandOver', { version: '1.2.4', stays: true }, { deadlineMs }), {
      accepted: true, pid: child.pid
    })
    t.deepEqual(await ended, [0, null])
  } finally {
    client.close()
    child.kill('SIGKILL')
    rmSync(folder, { recursive: true })
  }
})
