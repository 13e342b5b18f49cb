/**
 * A session without power: what is left of root once it serves, and what an intruder in it would meet.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync, chownSync, closeSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, rmSync, symlinkSync,
  writeFileSync
} from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import path from 'node:path'
import process from 'node:process'
import type { ExecutionContext } from 'ava'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import { agentCapabilities, foregroundCapabilities } from '../../../agent/host/agent-power.ts'
import { capabilitiesAtBirth, capabilityBits } from '../../../agent/host/confine.ts'
import { launch } from '../../../agent/host/launch.ts'
import { readMountinfoSync } from '../../../agent/host/mountinfo.ts'
import { sessionView } from '../../../agent/host/view.ts'
import { sessionOomScore } from '../../../agent/volumes/fuse/births.ts'
import { testNeeding } from '../../peers/testing.ts'
import { binary, processesOf, run, shell, TestNode } from './node.ts'
import { standing } from './standing.ts'

const needs = ['root', 'fuse', 'ganesha'] as const
const check = testNeeding(...needs)
const stand = standing(needs, { prepare: ({ folder }) => { chmodSync(folder, 0o777) } })

const sessionPids = async (): Promise<readonly number[]> =>
  (await processesOf(stand.node.runtime)).filter((line) => line.includes(' session ')).map((line) =>
    Number.parseInt(line, 10)
  )

const fieldOf = (text: string, name: string): string => new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(text)?.[1] ?? ''
const threadsOf = (pid: number): readonly string[] =>
  readdirSync(`/proc/${pid}/task`).map((tid) => readFileSync(`/proc/${pid}/task/${tid}/status`, 'utf8'))
const hex = (...bits: readonly number[]): string =>
  bits.reduce((mask, bit) => mask | 1 << bit, 0).toString(16).padStart(16, '0')
const hasCapability = (bit: number): boolean =>
  (BigInt(`0x${fieldOf(readFileSync('/proc/self/status', 'utf8'), 'CapEff')}`) >> BigInt(bit) & 1n) === 1n
const sysResource = 24

function hasNoPower (t: ExecutionContext, pid: number, kept: readonly number[]): void {
  const threads = threadsOf(pid)
  t.true(threads.length > 1)
  for (const text of threads) {
    const user = fieldOf(text, 'Uid').split('\t')
    t.true(Number(user[0]) >= 1_900_000_000 && new Set(user).size === 1, text)
    t.deepEqual([fieldOf(text, 'Gid'), fieldOf(text, 'Groups').trim()], [fieldOf(text, 'Uid'), ''])
    t.deepEqual([fieldOf(text, 'NoNewPrivs'), fieldOf(text, 'Seccomp')], ['1', '2'])
    t.is(fieldOf(text, 'CapInh'), hex())
    t.is(fieldOf(text, 'CapAmb'), hex())
    t.true(
      [hex(), hex(...kept)].includes(fieldOf(text, 'CapEff')) && fieldOf(text, 'CapPrm') === fieldOf(text, 'CapEff'),
      text
    )
  }
  t.is(fieldOf(readFileSync(`/proc/${pid}/status`, 'utf8'), 'CapEff'), hex(...kept), 'the main thread')
  t.regex(readFileSync(`/proc/${pid}/limits`, 'utf8'), /^Max core file size +0 +0 /m)
  t.is(
    readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8'),
    `${hasCapability(sysResource) ? sessionOomScore : Math.max(sessionOomScore, Number(readFileSync('/proc/self/oom_score_adj', 'utf8')))}\n`
  )
}

check('a serving session is nobody: a user of its own, one capability for reserved ports, no dump, no privileges, few system calls', async (t) => {
  const [pid = 0] = await sessionPids()
  hasNoPower(t, pid, [capabilityBits.NET_BIND_SERVICE])
  t.notRegex(stand.node.agentLog, /can name every file|keeps all capabilities|may gain privileges|no filter sees/)
  const other = spawnSync('setpriv', [
    '--reuid', fieldOf(readFileSync(`/proc/${pid}/status`, 'utf8'), 'Uid').split('\t')[0] ?? '',
    '--clear-groups', 'cat', `/proc/${pid}/environ`
  ], { encoding: 'utf8' })
  t.regex(other.stderr, /Permission denied/, 'dumpable 0: not even its own user looks into it')
})

check('with noresvport a session keeps no capability at all', async (t) => {
  const before = await sessionPids()
  const folder = stand.node.makeFolder('noresvport')
  await stand.node.mount(
    `${stand.server.host}:${stand.server.folder}`,
    folder,
    `${stand.server.mountOptions},noresvport`
  )
  const pid = (await sessionPids()).find((each) => !before.includes(each)) ?? 0
  hasNoPower(t, pid, [])
  await stand.node.unmount(folder)
})

/** Local ports of established connections to a server's port, from proc(5) net/tcp. */
const portsTo = (port: number): readonly number[] =>
  readFileSync('/proc/net/tcp', 'utf8').split('\n').flatMap((line) => {
    const [, local = '', remote = '', state = ''] = line.trim().split(/\s+/)
    return Number.parseInt(remote.split(':')[1] ?? '', 16) === port && state === '01'
      ? [Number.parseInt(local.split(':')[1] ?? '', 16)]
      : []
  })

check('after the server was killed and is back a session without power connects again, from a reserved port, and looks up names', async (t) => {
  const folder = stand.node.makeFolder('by-name')
  await stand.node.mount(`localhost:${stand.server.folder}`, folder, stand.server.mountOptions)
  const port = Number(/(?:^|,)port=(\d+)/.exec(stand.server.mountOptions)?.[1])
  await shell(`echo before > ${folder}/file`)
  await stand.server.restart()
  t.is(await shell(`echo after >> ${folder}/file; cat ${stand.mounted}/file`), 'before\nafter\n')
  const ports = portsTo(port)
  t.true(ports.length > 0)
  t.deepEqual(ports.filter((each) => each >= 1024), [])
  await stand.node.unmount(folder)
})

check('where /proc hides the processes of others a session still knows their groups, and keeps CAP_SYS_PTRACE for that alone', async (t) => {
  const team = path.join(stand.server.folder, 'team')
  mkdirSync(team)
  chownSync(team, 0, 7001)
  chmodSync(team, 0o770)
  const before = await sessionPids()
  execFileSync('mount', ['-o', 'remount,hidepid=2', '/proc'])
  t.teardown(() => { execFileSync('mount', ['-o', 'remount,hidepid=0', '/proc']) })
  const folder = stand.node.makeFolder('hidden')
  await stand.node.mount(
    `${stand.server.host}:${stand.server.folder}`,
    folder,
    `${stand.server.mountOptions},rsize=65536`
  )
  const pid = (await sessionPids()).find((each) => !before.includes(each)) ?? 0
  const member = await run('setpriv', [
    '--reuid', '1300', '--regid', '1300', '--groups', '7001', 'touch', `${folder}/team/file`
  ])
  t.is(member.code, 0, member.stderr)
  t.true(existsSync(path.join(team, 'file')))
  hasNoPower(t, pid, [capabilityBits.NET_BIND_SERVICE, capabilityBits.SYS_PTRACE])
  await stand.node.unmount(folder)
})

const tree = path.resolve(import.meta.dirname, '../../..')
const intruder = path.join(tree, 'test/peers/confined.ts')

/** What it says, or how it was ended. Born as a session is, of a volume whose ports are fixed if `serverPorts` are. */
async function tries (
  attempt: string,
  argument = '',
  { serverPorts, isLimited = true }: { serverPorts?: readonly number[], isLimited?: boolean } = {}
): Promise<string> {
  const out = path.join(stand.node.folder, 'said')
  const stderrFd = openSync(out, 'w')
  const program = [process.execPath, tree].map((what) => ({ kind: 'run', what } as const))
  try {
    const child = await launch({
      file: process.execPath, args: ['--no-warnings', intruder, attempt, argument], env: {}, fds: [], stderrFd,
      capabilities: capabilitiesAtBirth([]),
      ...isLimited
        ? { view: sessionView({ program, socketPath: path.join(stand.node.folder, 'none', 'a.sock'), serverPorts }) }
        : {}
    })
    // The wait for its end keeps nobody alive.
    const alive = setInterval(() => undefined, 1000)
    const how = await child.ended
    clearInterval(alive)
    const said = readFileSync(out, 'utf8')
    return how === 'exited with code 0' ? said : `${said}${how}`
  } finally {
    closeSync(stderrFd)
  }
}

check('an intruder in a session reads no secret, writes nowhere, looks into nobody and cannot be root again; what serving needs goes on', async (t) => {
  const secret = path.join(stand.node.folder, 'secret')
  writeFileSync(secret, 'token', { mode: 0o600 })
  for (const isLimited of [true, false]) {
    t.is(await tries('nothing', '', { isLimited }), 'done')
    t.is(await tries('works on: a thread, a name, a socket, a reserved port', '', { isLimited }), 'done')
    t.is(await tries('reads', secret, { isLimited }), 'EACCES')
  }
  t.is(await tries('works on: an interface by its name', '', { isLimited: false }), 'done')
  t.is(await tries('reads', '/etc/shadow'), 'EACCES')
  t.is(await tries('writes', '/etc/volbridge-intruder'), 'EACCES')
  for (const attempt of ['lists the memory of process 1', 'lists what process 1 has open']) {
    t.is(await tries(attempt), 'EACCES')
  }
  for (const attempt of ['ends another process', 'becomes root again']) t.is(await tries(attempt), 'EPERM')
})

check('an intruder in a session does not even find what every user of the node may read, list or write', async (t) => {
  chmodSync(stand.node.folder, 0o755)
  const open = path.join(stand.node.folder, 'open')
  mkdirSync(open)
  chmodSync(open, 0o777)
  writeFileSync(path.join(open, 'file'), 'everybody\'s')
  chmodSync(path.join(open, 'file'), 0o666)
  for (const isLimited of [false, true]) {
    const expected = isLimited ? 'EACCES' : 'done'
    t.is(await tries('reads', path.join(open, 'file'), { isLimited }), expected)
    t.is(await tries('writes', path.join(open, 'file'), { isLimited }), expected)
    t.is(await tries('writes', path.join(open, 'new'), { isLimited }), expected)
    t.is(await tries('lists', open, { isLimited }), expected)
    t.is(await tries('lists', '/', { isLimited }), expected)
    rmSync(path.join(open, 'new'), { force: true })
  }
  t.is(await tries('reads', '/proc/1/status'), 'done', 'callers\' groups are there')
})

check('an intruder in a session serves no port, speaks to no abstract socket, and where a volume fixes its ports to no other', async (t) => {
  const listener = createServer((socket) => { socket.destroy() }).listen(0, '127.0.0.1')
  const name = `volbridge-${process.pid}`
  const abstract = createServer((socket) => { socket.destroy() }).listen({ path: `\0${name}` })
  await Promise.all([once(listener, 'listening'), once(abstract, 'listening')])
  t.teardown(() => {
    listener.close()
    abstract.close()
  })
  const { port } = listener.address() as AddressInfo
  t.is(await tries('listens on a port', '0', { isLimited: false }), 'done')
  t.is(await tries('listens on a port', '0'), 'EACCES')
  t.is(await tries('listens on a port', '80'), 'EACCES')
  t.is(await tries('speaks to an abstract socket', name, { isLimited: false }), 'done')
  t.is(await tries('speaks to an abstract socket', name), 'EPERM')
  t.is(await tries('connects to a port', String(port)), 'done', 'mountd and nfsd may come back anywhere')
  t.is(await tries('connects to a port', String(port), { serverPorts: [2049, port] }), 'done')
  t.is(await tries('connects to a port', String(port), { serverPorts: [2049, 20048] }), 'EACCES')
})

check('a session reads the resolver\'s file wherever the node has /etc/resolv.conf lead, and nothing beside it', async (t) => {
  chmodSync(stand.node.folder, 0o755)
  const [etc, elsewhere] = [path.join(stand.node.folder, 'etc'), path.join(stand.node.folder, 'elsewhere')]
  execFileSync('cp', ['-a', '/etc', etc])
  mkdirSync(elsewhere)
  for (const name of ['resolv', 'other']) {
    writeFileSync(path.join(elsewhere, name), 'options ndots:1\n')
    chmodSync(path.join(elsewhere, name), 0o644)
  }
  rmSync(path.join(etc, 'resolv.conf'))
  symlinkSync(path.join(elsewhere, 'resolv'), path.join(etc, 'resolv.conf'))
  execFileSync('mount', ['--bind', etc, '/etc'])
  t.teardown(() => { execFileSync('umount', ['/etc']) })
  t.is(await tries('reads', '/etc/resolv.conf'), 'done')
  t.is(await tries('reads', path.join(elsewhere, 'other')), 'EACCES')
})

check('an intruder that executes a program ends its session at once, and cannot start one beside it', async (t) => {
  t.is(await tries('starts a program'), 'EPERM')
  t.is(await tries('becomes a program'), 'was ended by SIGSYS')
})

check('a session without power gives memory back when it is idle, and lives on', async (t) => {
  const [pid = 0] = await sessionPids()
  await shell(
    `head -c 64M /dev/zero > ${stand.mounted}/some; cat ${stand.mounted}/some > /dev/null; rm ${stand.mounted}/some`
  )
  const bytes = (): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024
  for (const endMs = monotonicMs() + 60_000; bytes() > 100 * 1024 * 1024 && monotonicMs() < endMs;) await pause(250)
  t.true(bytes() <= 100 * 1024 * 1024, `${bytes()} bytes`)
  t.deepEqual(await sessionPids(), [pid])
})

/** Names of capabilities in a mask of a status file. */
const namesIn = (text: string, field: string): readonly string[] => {
  const mask = BigInt(`0x${fieldOf(text, field)}`)
  return [...Array(64).keys()].filter((bit) => (mask >> BigInt(bit) & 1n) === 1n).map((bit) =>
    Object.entries(agentCapabilities).find(([, known]) => known.bit === bit)?.[0] ?? `capability ${bit}`
  )
}

check('an agent keeps in every thread the capabilities of its list that it was given, and no way to others', (t) => {
  const given = namesIn(readFileSync('/proc/self/status', 'utf8'), 'CapPrm')
  const expected = Object.keys(agentCapabilities).filter((name) => given.includes(name))
  const threads = threadsOf(stand.node.agentPid ?? 0)
  t.true(threads.length > 1)
  for (const text of threads) {
    for (const field of ['CapPrm', 'CapEff', 'CapBnd']) t.deepEqual(namesIn(text, field), expected, field)
    for (const field of ['CapInh', 'CapAmb']) t.deepEqual(namesIn(text, field), [], field)
  }
})

check('an agent that may not give capabilities away says so and works', async (t) => {
  const node = new TestNode()
  t.teardown(async () => { await node.close() })
  const agent = spawn('setpriv', [
    '--bounding-set', '-setpcap', binary, 'agent', ...node.places, '--kubelet-dir', node.kubelet
  ], { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  agent.stderr.setEncoding('utf8').on('data', (text: string) => { log += text })
  const ended = once(agent, 'exit')
  for (const endMs = monotonicMs() + 20_000; !existsSync(node.agentSocket) && monotonicMs() < endMs;) await pause(20)
  t.regex(log, /the agent keeps all capabilities it was started with: giving some away was refused \(EPERM\)/)
  const folder = node.makeFolder('mounted')
  await node.mount(`${stand.server.host}:${stand.server.folder}`, folder, stand.server.mountOptions)
  t.is(await shell(`echo here > ${folder}/of-the-mighty; cat ${folder}/of-the-mighty`), 'here\n')
  await node.unmount(folder)
  agent.kill('SIGTERM')
  await ended
})

check('mount --foreground keeps what one mount needs and serves with it', async (t) => {
  const folder = stand.node.makeFolder('foreground')
  const child = spawn(binary, [
    'mount', '--foreground', `${stand.server.host}:${stand.server.folder}`, folder, '-o', stand.server.mountOptions
  ], { stdio: 'ignore' })
  const ended = once(child, 'exit')
  for (const endMs = monotonicMs() + 20_000; !existsSync(`${folder}/of-the-foreground`) && monotonicMs() < endMs;) {
    await pause(100)
    if (readMountinfoSync().some(({ mountPoint }) => mountPoint === folder)) {
      await shell(`echo here > ${folder}/of-the-foreground`)
    }
  }
  t.is(await shell(`cat ${folder}/of-the-foreground`), 'here\n')
  const status = readFileSync(`/proc/${child.pid}/status`, 'utf8')
  const given = namesIn(readFileSync('/proc/self/status', 'utf8'), 'CapPrm')
  t.deepEqual(
    namesIn(status, 'CapBnd'),
    Object.keys(agentCapabilities).filter((name) =>
      given.includes(name) && foregroundCapabilities.some((each) => each === name)
    )
  )
  child.kill('SIGTERM')
  await ended
})
