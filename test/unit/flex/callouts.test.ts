import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import { VolumeError } from '../../../agent/base/errors.ts'
import { encodeReply, failure } from '../../../flex/answer.ts'
import type { NodeDoor } from '../../../flex/node-door.ts'
import { callOut } from '../../../flex/callouts.ts'
import { decodeMount, decodeUnmount } from '../../../flex/decode.ts'
import { isFlexDriver, isKernelDriver } from '../../../flex/personality.ts'
import { CallError } from '../../../proto/csi/client.ts'
import { flexCall } from '../../peers/kubelet.ts'
import type { FlexDriver } from '../../peers/kubelet.ts'
import { chooseSeed } from '../../model/seed.ts'

const main = path.resolve('agent/main.ts')
const flex: FlexDriver = { file: process.execPath, args: ['--no-warnings', main, 'flex'] }
const options = (more: Record<string, string> = {}): string =>
  JSON.stringify({
    'kubernetes.io/readwrite': 'rw', 'kubernetes.io/pod.name': 'web', 'kubernetes.io/pod.namespace': 'shop',
    server: 'nas', share: '/export', ...more
  })

const init = {
  status: 'Success',
  capabilities: { attach: false, selinuxRelabel: false, supportsMetrics: true, fsGroup: false, requiresFSResize: false }
}

// The whole process, as kubelet execs it.

test('init states all five capabilities', async (t) => {
  const { exitCode, answer } = await flexCall(flex, ['init'])
  t.is(exitCode, 0)
  t.deepEqual(answer as unknown, init)
})

test('a binary in a vendor~driver folder is a Flex driver by its name alone', async (t) => {
  const { answer } = await flexCall({
    ...flex, args: ['--no-warnings', main], argv0: '/plugins/volbridge.io~volbridge/volbridge'
  }, ['init'])
  t.deepEqual(answer as unknown, init)
})

test('the driver for client=kernel says that its mounts are not to be asked for statistics', async (t) => {
  for (const name of ['volbridge.io~volbridge-kernel/volbridge-kernel', 'acme~nas-kernel/nas-kernel']) {
    const { answer } = await flexCall({ ...flex, args: ['--no-warnings', main], argv0: `/plugins/${name}` }, ['init'])
    t.deepEqual(answer as unknown, {
      status: 'Success', capabilities: { ...init.capabilities, supportsMetrics: false }
    })
  }
  t.false(isKernelDriver('/plugins/volbridge.io~volbridge/volbridge-kernel'))
})

test('through it everything is client=kernel, and says so to the agent; another client is refused', async (t) => {
  const made: Made[] = []
  t.is((await callOut(['mount', '/a', options()], doorOf(made), 'kernel')).status, 'Success')
  t.is(
    (await callOut(['mount', '/a', options({ client: 'auto', mountOptions: 'vers=3' })], doorOf(made), 'kernel'))
      .status,
    'Success'
  )
  for (const { request, metadata } of made) {
    t.like(request, { volumeContext: { client: 'kernel' } })
    t.like(metadata, { 'volbridge-door': 'flex', 'volbridge-unmeasured': '1' })
  }
  const refused = await callOut(['mount', '/a', options({ client: 'fuse' })], doorOf(made), 'kernel')
  t.is(refused.status, 'Failure')
  t.regex(refused.message ?? '', /"fuse" contradicts this driver.*without "-kernel"/)
})

for (const [what, args, status] of [
  ['no call-out at all', [], 'Failure'],
  ['an unknown call-out', ['frobnicate'], 'Not supported'],
  ['the name of an inherited property', ['constructor'], 'Not supported'],
  ['attach', ['attach', '{}', 'node'], 'Not supported'],
  ['getvolumename', ['getvolumename', '{}'], 'Not supported'],
  ['mount without a folder', ['mount'], 'Failure'],
  ['mount without options', ['mount', '/tmp/x'], 'Failure'],
  ['unmount without a folder', ['unmount'], 'Failure'],
  ['unmount of the root folder', ['unmount', '/'], 'Failure'],
  ['unmount of a relative path', ['unmount', 'a/b'], 'Failure']
] as const) {
  test(`${what} gets one JSON ${status} and exit code 0`, async (t) => {
    const { exitCode, answer } = await flexCall(flex, args)
    t.is(exitCode, 0)
    t.is(answer.status, status)
    t.truthy(answer.message)
  })
}

test('a hostile environment changes neither the answer nor its being the only output', async (t) => {
  const env = {
    NODE_DEBUG: 'net,http2,module,fs', GRPC_TRACE: 'all', GRPC_VERBOSITY: 'DEBUG', NODE_EXTRA_CA_CERTS: '/none',
    http_proxy: 'http://127.0.0.1:1', NODE_PENDING_DEPRECATION: '1'
  }
  const { NODE_DEBUG: _debug, ...quiet } = env
  t.deepEqual((await flexCall({ ...flex, env: quiet }, ['init'])).answer as unknown, init)
  const run = mkdtempSync(path.join(os.tmpdir(), 'vb-flex-'))
  const { exitCode, answer } = await flexCall({
    ...flex, env: { ...quiet, VOLBRIDGE_RUN_DIR: '/proc/none', VOLBRIDGE_STATE_DIR: path.join(run, 's') }
  }, ['unmount', '/tmp/vb-nothing'])
  t.is(exitCode, 0)
  t.is(answer.status, 'Failure')
  rmSync(run, { recursive: true })
})

test('an option with a bad place in the environment is a Failure that names the variable', async (t) => {
  const { answer } = await flexCall({ ...flex, env: { VOLBRIDGE_RUN_DIR: 'relative' } }, ['unmount', '/tmp/vb-nothing'])
  t.is(answer.status, 'Failure')
  t.regex(answer.message ?? '', /VOLBRIDGE_RUN_DIR: "relative"/)
})

test('an agent that can\'t start is a Failure with its reason, and leaves no start lock', async (t) => {
  const run = mkdtempSync(path.join(os.tmpdir(), 'vb-flex-'))
  const driver: FlexDriver = { ...flex, env: { VOLBRIDGE_RUN_DIR: run, VOLBRIDGE_STATE_DIR: '/dev/null/state' } }
  const { exitCode, answer } = await flexCall(driver, ['unmount', '/tmp/vb-nothing'])
  t.is(exitCode, 0)
  t.is(answer.status, 'Failure')
  t.regex(answer.message ?? '', /\/dev\/null/)
  t.deepEqual(readdirSync(run), [])
  rmSync(run, { recursive: true })
})

test('SIGTERM in the middle of a call still gives one JSON and exit code 0', async (t) => {
  const run = mkdtempSync(path.join(os.tmpdir(), 'vb-flex-'))
  // An agent that accepts and never speaks.
  const { createServer } = await import('node:net')
  const server = createServer((socket) => { socket.on('error', () => undefined) })
  let accepted = (): void => undefined
  const connected = new Promise<void>((resolve) => { accepted = resolve })
  let count = 0
  // The first connection only looks whether somebody listens; the second is gRPC's.
  server.on('connection', () => { if (++count === 2) accepted() })
  await new Promise<void>((resolve) => { server.listen(path.join(run, 'agent.sock'), resolve) })
  let pid = 0
  const call = flexCall({ ...flex, env: { VOLBRIDGE_RUN_DIR: run, VOLBRIDGE_STATE_DIR: path.join(run, 's') } }, [
    'mount', path.join(run, 'm'), options()
  ], (spawned) => { pid = spawned })
  await connected
  process.kill(pid, 'SIGTERM')
  const { exitCode, signal, answer } = await call
  t.deepEqual([exitCode, signal], [0, null])
  t.like(answer, { status: 'Failure' })
  t.regex(answer.message ?? '', /SIGTERM/)
  server.close()
  rmSync(run, { recursive: true })
})

test('init runs no code of the other roles', async (t) => {
  const loaded = await new Promise<string>((resolve, reject) => {
    const program = `process.argv.push('flex', 'init')
      const { registerHooks } = require('node:module')
      const seen = []
      registerHooks({ load (url, context, next) { seen.push(url); return next(url, context) } })
      process.on('exit', () => require('node:fs').writeFileSync(3, seen.join('\\n')))
      import(${JSON.stringify(main)})`
    const child = execFile('/bin/sh', [
      '-c', 'exec "$0" --no-warnings -e "$1" x 3>&1 >/dev/null', process.execPath, program
    ], (error, stdout) => {
      if (error === null) resolve(stdout)
      else reject(error)
    })
    t.truthy(child.pid)
  })
  const modules = loaded.split('\n').filter((url) => url.startsWith('file:')).map((url) =>
    path.relative(process.cwd(), url.slice('file://'.length))
  )
  t.true(modules.includes('agent/main.ts'))
  t.deepEqual(
    modules.filter((name) => /node_modules|agent\/(csi|cli|volumes|host|nfs|fs|session|observe)\//.test(name)),
    []
  )
})

// The rule for the personality.

test('the personality is the folder\'s, except for roles that the binary starts itself', (t) => {
  t.true(isFlexDriver('/x/volbridge.io~volbridge/volbridge', ['init']))
  t.true(isFlexDriver('/x/volbridge.io~volbridge/volbridge', ['status']))
  t.true(isFlexDriver('/x/volbridge.io~volbridge/volbridge', []))
  for (const role of ['agent', 'session', 'flex']) t.false(isFlexDriver('/x/a~b/b', [role]), role)
  for (const file of [
    '/usr/bin/volbridge', 'volbridge', '', '/a~b', '/x/~b/b', '/x/a~/b', '/x/a~b~c/d', '/home/a~b/bin/volbridge'
  ]) t.false(isFlexDriver(file, ['init']), file)
})

// What a call-out becomes.

interface Made { method: string, request: Record<string, unknown>, metadata: unknown }
const doorOf = (made: Made[], answer: () => void = () => undefined): () => Promise<NodeDoor> => async () =>
  await Promise.resolve({
    call: async (_service: 'Node', method: string, request: object, { metadata }: { metadata?: unknown }) => {
      made.push({ method, request: request as Record<string, unknown>, metadata })
      answer()
      return await Promise.resolve({})
    },
    close: () => undefined
  } as unknown as NodeDoor)

test('mount becomes NodePublishVolume with the user\'s options as attributes and kubelet\'s own left out', async (t) => {
  const made: Made[] = []
  const json = options({
    mountOptions: 'hard', 'kubernetes.io/fsType': 'x',
    'kubernetes.io/secret/user': Buffer.from('bob').toString('base64'), 'csi.storage.k8s.io/ephemeral': 'true'
  })
  t.deepEqual(await callOut(['mount', '/pods/p/volumes/v~d/vol/', json], doorOf(made)), { status: 'Success' })
  t.is(made.length, 1)
  t.like(made[0], { method: 'NodePublishVolume', metadata: { 'volbridge-door': 'flex' } })
  t.like(made[0]?.request, {
    targetPath: '/pods/p/volumes/v~d/vol', readonly: false, secrets: { user: 'bob' },
    volumeContext: {
      server: 'nas', share: '/export', mountOptions: 'hard', 'csi.storage.k8s.io/pod.name': 'web',
      'csi.storage.k8s.io/pod.namespace': 'shop'
    }
  })
  t.deepEqual(
    Object.keys(made[0]?.request['volumeContext'] as object).filter((key) =>
      key.startsWith('kubernetes.io/') || key.endsWith('ephemeral')
    ),
    []
  )
})

test('mount and unmount of one folder speak of one volume', (t) => {
  t.is(decodeMount(['/a//b/', options()]).volumeId, decodeUnmount(['/a/b']).volumeId)
  t.not(decodeUnmount(['/a/b']).volumeId, decodeUnmount(['/a/c']).volumeId)
})

test('ro and rw are kubelet\'s words, anything else is refused', (t) => {
  t.true(decodeMount(['/a', options({ 'kubernetes.io/readwrite': 'ro' })]).readonly)
  t.throws(() => decodeMount(['/a', options({ 'kubernetes.io/readwrite': 'maybe' })]), {
    instanceOf: VolumeError, message: /kubernetes\.io\/readwrite.*maybe/
  })
})

for (const [what, json, message] of [
  ['text that is no JSON', '{"kubernetes.io/secret/p":"c2VjcmV0', /not JSON/],
  ['a list', '["c2VjcmV0"]', /not an object/],
  ['null', 'null', /not an object/],
  ['a number', '7', /not an object/],
  ['a value that is no string', '{"server":{"c2VjcmV0":1}}', /"server" is not a string/],
  ['a secret that is no base64', '{"kubernetes.io/secret/p":"c2VjcmV0!"}', /secret\/p" is not base64/],
  ['nothing', '', /not JSON/]
] as const) {
  test(`options that are ${what} are a Failure that quotes none of it`, async (t) => {
    const made: Made[] = []
    const reply = await callOut(['mount', '/a', json], doorOf(made))
    t.is(reply.status, 'Failure')
    t.regex(reply.message ?? '', message)
    t.notRegex(reply.message ?? '', /c2VjcmV0/)
    t.deepEqual(made, [])
  })
}

test('a failure of the agent becomes a Failure with its sentence', async (t) => {
  const reply = await callOut(
    ['mount', '/a', options()],
    doorOf([], () => {
      throw new CallError('NodePublishVolume', 14, 'server nas does not answer', { agentAnswered: true })
    })
  )
  t.deepEqual(reply, failure('server nas does not answer'))
})

test('what is no agent of this version is told in an operator\'s words', async (t) => {
  for (const [code, words] of [[12, /does not know this call, it is of another version.*restart it/], [
    14, /agent does not answer \(boom\); `volbridge doctor`/
  ], [13, /agent does not answer/]] as const) {
    const reply = await callOut(
      ['unmount', '/a'],
      doorOf([], () => { throw new CallError('x', code, 'boom', { agentAnswered: false }) })
    )
    t.is(reply.status, 'Failure')
    t.regex(reply.message ?? '', words)
  }
})

test('a call lost with its agent is made once more, a second loss is a Failure', async (t) => {
  const made: Made[] = []
  let losses = 1
  const lose = (): void => {
    if (losses-- > 0) throw new CallError('x', 14, 'connection lost', { agentAnswered: false })
  }
  t.is((await callOut(['unmount', '/a'], doorOf(made, lose))).status, 'Success')
  t.is(made.length, 2)
  losses = 9
  t.is((await callOut(['unmount', '/a'], doorOf(made, lose))).status, 'Failure')
  t.is(made.length, 4)
})

test('a reply is one line of JSON, also with a message of many lines and bytes', (t) => {
  const text = encodeReply(failure(`a\nb\u0000c "q" ${'x'.repeat(5000)}`))
  t.is(text.split('\n').length, 2)
  t.true(text.length < 1200)
  t.regex((JSON.parse(text) as { message: string }).message, /^a b c "q" x+…$/)
})

test('random options never end in anything but a decoded request or a named refusal', (t) => {
  const seed = chooseSeed((line) => { t.log(line) })
  let state = seed
  const random = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return (state >>> 8) % below
  }
  const valid = options({ 'kubernetes.io/secret/k': 'dmFsdWU=', subDir: 'x', client: 'fuse' })
  for (let round = 0; round < 5000; round++) {
    const bytes = Buffer.from(valid)
    for (let changes = random(4) + 1; changes > 0; changes--) bytes[random(bytes.length)] = random(256)
    try {
      t.truthy(decodeMount(['/a', bytes.toString('utf8')]).volumeId)
    } catch (error) {
      if (!(error instanceof VolumeError)) throw error
    }
  }
})
