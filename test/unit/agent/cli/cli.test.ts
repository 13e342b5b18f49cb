import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import { identityService } from '../../../../agent/csi/identity.ts'
import { RpcServer } from '../../../../agent/csi/server.ts'
import { askReady } from '../../../../agent/cli/node-view.ts'
import { loadServices } from '../../../../proto/csi/load.ts'
import { VolumeError } from '../../../../agent/base/errors.ts'
import { findAgent, isListening, openAgent } from '../../../../agent/cli/agent-process.ts'
import { runCommandLine } from '../../../../agent/cli/arguments.ts'
import type { Commands } from '../../../../agent/cli/arguments.ts'
import { checks, examine, formatFindings } from '../../../../agent/cli/doctor.ts'
import { isKernelEnough } from '../../../../agent/cli/flex-driver/floor.ts'
import { mountByHand } from '../../../../agent/cli/mount.ts'
import { choosePlaces, makePlaces } from '../../../../agent/cli/places.ts'
import { parseMountArguments, parseSource } from '../../../../agent/cli/source.ts'
import { formatStatus } from '../../../../agent/cli/status.ts'
import { CallError, type CsiClient } from '../../../../proto/csi/client.ts'
import type { StatusResponse } from '../../../../proto/csi/types.ts'

interface Run { code: number, out: string, err: string, asked: unknown[] }

async function run (argv: readonly string[], failure?: Error): Promise<Run> {
  const result: Run = { code: -1, out: '', err: '', asked: [] }
  const note = async (...asked: unknown[]): Promise<number> => {
    result.asked.push(asked)
    if (failure !== undefined) throw failure
    return await Promise.resolve(0)
  }
  const commands: Commands = {
    agent: async (options) => await note('agent', options),
    mount: async (...rest) => await note('mount', ...rest),
    unmount: async (...rest) => await note('unmount', ...rest),
    status: async (options) => await note('status', options),
    doctor: async (options) => await note('doctor', options),
    flexInstall: async (options) => await note('flexInstall', options),
    flexUninstall: async (options) => await note('flexUninstall', options)
  }
  result.code = await runCommandLine(argv, '1.2.3', commands, {
    out: (text) => { result.out += text }, err: (text) => { result.err += text }
  })
  return result
}

for (const [what, argv, words] of [
  ['an unknown command', ['mont', 'a:/b', 'c'], /unknown command 'mont'[^]*mount/],
  ['a missing argument', ['mount', 'a:/b'], /missing required argument 'dir'/],
  ['an argument too many', ['unmount', 'a', 'b'], /too many arguments/],
  ['an unknown option', ['status', '--jason'], /unknown option '--jason'[^]*--json/],
  ['an option without its value', ['agent', '--listen'], /--listen/],
  ['a log level that is none', ['agent', '--log-level', 'loud'], /loud[^]*debug, info, warn, error/],
  ['idle seconds that are none', ['agent', '--leave-when-idle', 'soon'], /soon[^]*number of seconds/]
] as const) {
  test(`${what} is wrong usage, told on standard error, and runs nothing`, async (t) => {
    const { code, out, err, asked } = await run(argv)
    t.is(code, 2)
    t.is(out, '')
    t.regex(err, words)
    t.deepEqual(asked, [])
  })
}

test('a refusal by the agent is told as its sentence alone', async (t) => {
  const refusal = new CallError('NodePublishVolume', 3, 'share: "/none" is not exported by the server', {
    agentAnswered: true
  })
  t.like(await run(['mount', 'a:/none', 'c'], refusal), {
    code: 1, err: 'volbridge: share: "/none" is not exported by the server\n'
  })
})

test('mounting over another share names the folder and what to do, not a volume name that nobody chose', async (t) => {
  const conflict = new CallError('NodePublishVolume', 6, 'volume_id: "hand-1" is in use with other attributes', {
    agentAnswered: true
  })
  const agent = { call: async () => await Promise.reject(conflict) } as unknown as CsiClient
  const error = await t.throwsAsync(mountByHand(agent, { server: 'a', share: '/b' }, '/mnt/x'), {
    instanceOf: VolumeError
  })
  t.is(
    error.message,
    '/mnt/x: something else is mounted there already; `volbridge unmount /mnt/x` first, or choose another folder'
  )
})

test('help and version are no errors', async (t) => {
  t.like(await run(['--version']), { code: 0, out: '1.2.3\n' })
  t.like(await run(['version']), { code: 0, out: '1.2.3\n' })
  const help = await run(['--help'])
  t.is(help.code, 0)
  for (const command of ['agent', 'mount', 'unmount', 'status', 'doctor', 'version']) {
    t.regex(help.out, new RegExp(`\\b${command}\\b`))
  }
})

test('a failed command exits 1 with its sentence, a wrong value exits 2', async (t) => {
  t.like(await run(['status'], new VolumeError('UNAVAILABLE', 'no agent is running', { remedy: 'start one' })), {
    code: 1, err: 'volbridge: no agent is running; start one\n'
  })
  t.is((await run(['mount', 'a:/b', '/c'], new VolumeError('INVALID', 'x', { field: '-o' }))).code, 2)
})

test('options of mount may be given as several lists', async (t) => {
  const { asked } = await run(['mount', 'nas:/e', '/mnt', '-o', 'ro,hard', '-o', 'client=fuse', '--foreground'])
  t.like((asked[0] as unknown[])[3], { options: ['ro,hard', 'client=fuse'], foreground: true })
})

test('the driver is ours unless others are named, and a host root has no slash at its end', async (t) => {
  const optionsOf = async (argv: readonly string[]): Promise<unknown> => (await run(argv)).asked.flat()[1]
  t.like(await optionsOf(['flex-install']), { driver: ['volbridge.io/volbridge'], hostRoot: '/', watch: undefined })
  t.like(await optionsOf(['flex-install', '--driver', 'a/b', '--driver', 'c/d', '--host-root', '/host/', '--watch']), {
    driver: ['a/b', 'c/d'], hostRoot: '/host', watch: 30
  })
  t.like(await optionsOf(['flex-uninstall', '--host-root', '/']), { hostRoot: '/' })
  t.like(await optionsOf(['flex-install', '--kernel']), {
    driver: ['volbridge.io/volbridge', 'volbridge.io/volbridge-kernel']
  })
  t.like(await optionsOf(['flex-install', '--kernel', '--driver', 'a/b', '--driver', 'a/b-kernel']), {
    driver: ['a/b', 'a/b-kernel']
  })
  t.is((await run(['flex-install', '--host-root', 'host'])).code, 2)
})

test('an agent leaves when idle only if told', async (t) => {
  const optionsOf = async (argv: readonly string[]): Promise<unknown> => (await run(argv)).asked.flat()[1]
  t.is((await optionsOf(['agent']) as { leaveWhenIdle?: number }).leaveWhenIdle, undefined)
  t.is((await optionsOf(['agent', '--leave-when-idle']) as { leaveWhenIdle?: number }).leaveWhenIdle, 300)
  t.is((await optionsOf(['agent', '--leave-when-idle', '5']) as { leaveWhenIdle?: number }).leaveWhenIdle, 5)
})

for (const [source, expected] of [
  ['nas:/export/a', { server: 'nas', share: '/export/a' }],
  ['nas://export/a', { server: 'nas', share: '//export/a' }],
  ['10.0.0.1,10.0.0.2:/x', { server: '10.0.0.1,10.0.0.2', share: '/x' }],
  ['[fe80::1%eth0]:/x:y', { server: '[fe80::1%eth0]', share: '/x:y' }],
  ['nfs://nas/a%20b', { server: 'nas', share: '/a b' }],
  ['nfs://[::1]:2050/x', { server: '[::1]', share: '/x', mountOptions: 'port=2050' }]
] as const) {
  test(`${source} is understood as a source`, (t) => { t.deepEqual(parseSource(source), expected) })
}

test('sources that are none are refused with the value and how to write one', (t) => {
  for (const bad of [
    '', 'nas', 'nas:', 'nas:export', ':/x', '/local/path', 'nfs://', 'nfs://nas', 'nfs:///x', 'nfs://nas:port/x',
    'nfs://nas/%zz', '::1:/x', 'http://nas/x'
  ]) {
    const error = t.throws(() => parseSource(bad), { instanceOf: VolumeError }, bad)
    t.true(error?.message.startsWith(`SOURCE: ${JSON.stringify(bad)}`), error?.message)
  }
})

test('-o takes volume attributes out of the nfs options, in any case, and refuses two values', (t) => {
  t.deepEqual(parseMountArguments('nfs://nas:2050/x', ['hard,subdir=a/b', 'Client=fuse,port=2050']), {
    server: 'nas', share: '/x', subDir: 'a/b', client: 'fuse', mountOptions: 'port=2050,hard,port=2050'
  })
  t.throws(() => parseMountArguments('nas:/x', ['client=fuse,client=kernel']), {
    instanceOf: VolumeError, message: /-o: "client=kernel" contradicts client=fuse/
  })
})

test('places come from options, then the environment, then the defaults; relative ones are refused by name', (t) => {
  t.like(choosePlaces({}, {}), {
    stateDir: '/var/lib/volbridge', runDir: '/run/volbridge', agentSocket: '/run/volbridge/agent.sock'
  })
  t.like(choosePlaces({ runDir: '/a' }, { VOLBRIDGE_RUN_DIR: '/b', VOLBRIDGE_STATE_DIR: '/c' }), {
    stateDir: '/c', agentSocket: '/a/agent.sock'
  })
  t.throws(() => choosePlaces({ stateDir: 'x' }, {}), { message: /^--state-dir: "x"/ })
  t.throws(() => choosePlaces({}, { VOLBRIDGE_RUN_DIR: '../x' }), { message: /^VOLBRIDGE_RUN_DIR/ })
})

test('folders that nobody can make are refused by option, folder and remedy, at once', async (t) => {
  const folder = folderOf()
  const error = await t.throwsAsync(makePlaces(choosePlaces({ stateDir: '/proc/volbridge/x', runDir: folder }, {})), {
    instanceOf: VolumeError
  })
  t.like(error, { code: 'INVALID', field: '--state-dir' })
  t.regex(
    error?.message ?? '',
    /^--state-dir: the folder \/proc\/volbridge\/x can't be made or used: .*; give one on a local file system/
  )
  const second = await t.throwsAsync(makePlaces(choosePlaces({ stateDir: folder, runDir: '/proc/volbridge' }, {})), {
    instanceOf: VolumeError
  })
  t.is(second?.field, '--run-dir')
  rmSync(folder, { recursive: true })
})

test('status shows source, client and why, health and its reason, folders and stale figures', (t) => {
  const status: StatusResponse = {
    version: '1.2.3', pid: 7, driverName: 'd', nodeId: 'node-a', uptimeMs: '120000', registration: 'refused',
    registrationError: 'no', timeMs: '0', trends: [], troubles: [], http: '127.0.0.1:9810', httpError: 'EADDRINUSE',
    volumes: [{
      volumeId: 'v1', door: 'csi', source: 'nas:/x', client: 'fuse', clientReason: 'auto', state: 'published',
      staging: '/s', health: 'unreachable', healthReason: 'nas is away',
      targets: [{ path: '/t', readOnly: true, owner: 'shop/web', problem: '', unprotected: '' }], locks: 'node-local',
      sessionPid: 9,
      counters: {
        fuseReadBytes: 2048, fuseWrittenBytes: 0, 'fuseRequests:READ': 2, 'fuseRequests:LOOKUP': 1,
        'fuseErrors:READ': 1, retransmissions: 1, disconnects: 2, connects: 3, garbage: 0
      },
      gauges: { dirtyBytes: 4096, waitingWriters: 1 }, key: 'k', heals: 0,
      latency: {
        READ: { count: '2', sumSeconds: 0.03, buckets: [] }, LOOKUP: { count: '1', sumSeconds: 0, buckets: [] }
      },
      usage: {
        totalBytes: '1024', usedBytes: '512', availableBytes: '512', totalInodes: '9', usedInodes: '1',
        availableInodes: '8', stale: true
      },
      exclusive: false,
      notes: ['mount group 7: the root was not given to it'],
      metricLabel: '3bfc269594ef6492'
    }],
    losses: [{ source: 'nas:/y', bytes: '3072', at: '2026-01-01T00:00:00.000Z' }]
  }
  const text = formatStatus(status)
  for (const words of [
    'agent 7, up 2 min, node node-a, kubelet: refused (no)', 'nas:/x  unreachable: nas is away', 'fuse (auto)',
    '/t (read-only) for shop/web', '512 B of 1.00 KiB used', '(last known)',
    'v1, published through csi, in metrics 3bfc269594ef6492', 'HTTP is not served at 127.0.0.1:9810: EADDRINUSE',
    'read 2.00 KiB, written 0 B, 3 requests, 10 ms on average',
    'READ 1', '1 retransmission, connection lost 2 times', '4.00 KiB not on the server yet, 1 writer waiting',
    'note     mount group 7: the root was not given to it',
    'nas:/y: 3.00 KiB that programs had written were lost when it was unmounted at 2026-01-01T00:00:00.000Z'
  ]) {
    t.true(text.includes(words), words)
  }
  t.false(/garbage|not understood|connects/.test(text))
  const [volume] = status.volumes
  const second = {
    ...volume!, volumeId: 'v2',
    targets: [{ path: '/u', readOnly: false, owner: '', problem: 'restart the pod', unprotected: '' }]
  }
  const shared = formatStatus({ ...status, volumes: [volume!, second] })
  t.is(shared.split('process 9').length - 1, 1, 'a shared session is said once')
  t.is(shared.split('2.00 KiB').length - 1, 1)
  t.true(shared.includes('v2, published through csi') && shared.includes('at /u: restart the pod'))
  const caching = (changes: object): string =>
    /caching +(.*)/.exec(formatStatus({ ...status, volumes: [{ ...volume!, ...changes }] }))?.[1] ?? ''
  t.is(caching({}), '')
  t.regex(
    caching({ exclusive: true }),
    /^standard; the volume is for one pod alone \(ReadWriteOncePod\): consistency=solowriter would/
  )
  t.is(caching({ exclusive: true, gauges: { soloWriter: 1 } }), 'solowriter')
  t.regex(
    caching({ gauges: { soloWriter: 1 }, counters: { soloWriterEnded: 2 } }),
    /^solowriter, ended for 2 files and folders that somebody else changed/
  )
  t.is(formatStatus({ ...status, volumes: [volume!, { ...second, key: 'other' }] }).split('process 9').length - 1, 2)
  t.true(formatStatus({ ...status, volumes: [] }).includes('no volumes'))
})

test('every check of the doctor says something, and what is not ok says what to do', async (t) => {
  const findings = await examine({
    places: choosePlaces({ stateDir: '/none/state', runDir: '/none/run' }, {}), kubeletDir: '/none/kubelet'
  })
  t.deepEqual(findings.map(({ check }) => check), Object.keys(checks))
  for (const { check, verdict, found, remedy } of findings) {
    t.not(found, '', check)
    if (verdict === 'warning' || verdict === 'failed') t.not(remedy, '', check)
    t.notRegex(found, /could not be checked/)
  }
  t.is(findings.find(({ check }) => check === 'kubelet folder')?.verdict, 'warning')
  t.is(
    formatFindings(findings).split('\n').length - 1,
    findings.length + findings.filter(({ remedy }) => remedy !== '').length
  )
})

test('the doctor says that no folder can be made below /proc', async (t) => {
  const findings = await examine({
    places: choosePlaces({ stateDir: '/proc/x', runDir: '/proc/y' }, {}), kubeletDir: '/none'
  })
  const folder = findings.find(({ check }) => check === 'state folder')
  t.is(folder?.verdict, 'failed')
  t.regex(folder?.remedy ?? '', /--state-dir/)
})

test('the kernel floor is 4.18', (t) => {
  t.deepEqual(['4.17.19', '4.18.0-305.el8', '3.10.0', '5.4', '10.0'].map(isKernelEnough), [
    false, true, false, true, true
  ])
})

// Finding and starting an agent, with stand-ins for it.

const listener =
  'const n=require("node:net");const i=process.argv.indexOf("--agent-socket");n.createServer(c=>c.resume()).listen(process.argv[i+1]);setTimeout(()=>process.exit(),20000)'
const folderOf = (): string => mkdtempSync(path.join(os.tmpdir(), 'vb-cli-'))

test('without an agent a command that needs one says so and starts none', async (t) => {
  const folder = folderOf()
  const error = await t.throwsAsync(findAgent(choosePlaces({ runDir: folder }, {})), { instanceOf: VolumeError })
  t.regex(error?.message ?? '', /no agent is running.*volbridge agent/)
  t.deepEqual(readdirSync(folder), [])
  rmSync(folder, { recursive: true })
})

test('ten callers at once start one agent', async (t) => {
  const folder = folderOf()
  const starts = path.join(folder, 'starts')
  const script = path.join(folder, 'agent.cjs')
  writeFileSync(
    script,
    `require("node:fs").appendFileSync(${JSON.stringify(starts)},process.pid+"\\n");setTimeout(()=>{${listener}},300)`
  )
  const places = choosePlaces({ runDir: path.join(folder, 'run'), stateDir: path.join(folder, 'state') }, {})
  const clients = await Promise.all(
    Array.from(
      { length: 10 },
      async () => await openAgent({ places, program: { file: process.execPath, args: [script] } })
    )
  )
  for (const client of clients) client.close()
  const { readFileSync } = await import('node:fs')
  const pids = readFileSync(starts, 'utf8').trim().split('\n').map(Number)
  t.is(pids.length, 1)
  t.false(existsSync(path.join(places.runDir, 'agent.starting')))
  process.kill(pids[0]!)
  rmSync(folder, { recursive: true })
})

test('a start lock left by a dead starter is taken over', async (t) => {
  const folder = folderOf()
  const script = path.join(folder, 'agent.cjs')
  const pidFile = path.join(folder, 'pid')
  writeFileSync(script, `require("node:fs").writeFileSync(${JSON.stringify(pidFile)},String(process.pid));${listener}`)
  const dead = spawnSync(process.execPath, ['-e', '']).pid
  writeFileSync(path.join(folder, 'agent.starting'), `${dead}\n`)
  const places = choosePlaces({ runDir: folder, stateDir: path.join(folder, 'state') }, {})
  const client = await openAgent({ places, program: { file: process.execPath, args: [script] } })
  client.close()
  t.true(await isListening(places.agentSocket))
  const { readFileSync } = await import('node:fs')
  process.kill(Number(readFileSync(pidFile, 'utf8')))
  rmSync(folder, { recursive: true })
})

test('an agent that ends at once is reported with its last words', async (t) => {
  const folder = folderOf()
  const places = choosePlaces({ runDir: folder, stateDir: path.join(folder, 'state') }, {})
  const script = path.join(folder, 'agent.cjs')
  writeFileSync(
    script,
    `require("node:fs").writeFileSync(${JSON.stringify(places.logFile)},JSON.stringify({msg:"the addon is missing"})+"\\n");process.exit(1)`
  )
  const error = await t.throwsAsync(openAgent({ places, program: { file: process.execPath, args: [script] } }), {
    instanceOf: VolumeError
  })
  t.regex(error?.message ?? '', /exited with code 1(?: at once)?: the addon is missing; see .*agent\.log/)
  rmSync(folder, { recursive: true })
})

test('a socket path that is too long is refused before anything is started', async (t) => {
  await t.throwsAsync(
    openAgent({
      places: choosePlaces({ runDir: `/tmp/${'x'.repeat(120)}` }, {}), program: { file: '/none', args: [] }
    }),
    { instanceOf: VolumeError, message: /--run-dir|socket path/ }
  )
  t.false(existsSync(`/tmp/${'x'.repeat(120)}`))
})

test('an agent of an earlier version, which does not know the question, lives', async (t) => {
  const folder = folderOf()
  const socketPath = path.join(folder, 's')
  const server = new RpcServer({
    services: loadServices(), socketPath, field: 'x', unary: { observer: () => () => undefined, door: 'csi' }
  }, { Identity: identityService({ driverName: 'd', version: '0', isReady: () => true }) })
  await server.listen()
  t.deepEqual(await askReady(socketPath), { ready: true, reason: '', http: '', httpError: '' })
  await server.close({ graceMs: 100 })
  rmSync(folder, { recursive: true })
})
