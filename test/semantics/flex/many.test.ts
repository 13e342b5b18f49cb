/**
 * The Flex door in numbers: many rounds, many pods at once, many bad option objects, all through the packed binary in
 * the plugin folder.
 */
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import path from 'node:path'
import process from 'node:process'
import test from 'ava'
import { pause } from '../../../agent/base/deadline.ts'
import { randomOf } from '../../model/exercise.ts'
import { mutate, whyNever } from '../../model/flex-options.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { flexCall, Kubelet, type FlexDriver } from '../../peers/kubelet.ts'
import { missing } from '../../peers/needs.ts'
import { skipped, testNeeding } from '../../peers/testing.ts'
import { binary, mountsBelow, processesOf, shell, TestNode } from '../endtoend/node.ts'
import { chooseSeed } from '../../model/seed.ts'

const needs = ['root', 'fuse', 'ganesha'] as const
const check = testNeeding(...needs)
const isLong = process.env['VOLBRIDGE_LONG'] === '1'

let server: Ganesha
let node: TestNode
let kubelet: Kubelet
let flex: FlexDriver
let options: Record<string, string>

test.before(async () => {
  if (missing(...needs) !== undefined) return
  server = await Ganesha.start()
  node = new TestNode()
  kubelet = new Kubelet(node.kubelet)
  flex = {
    file: path.join(node.makeFolder('plugins/volbridge.io~volbridge'), 'volbridge'),
    env: { VOLBRIDGE_STATE_DIR: node.state, VOLBRIDGE_RUN_DIR: node.runtime }
  }
  copyFileSync(binary, flex.file)
  options = { server: server.host, share: server.folder, mountOptions: server.mountOptions }
})

test.after.always(async () => {
  await node?.close()
  await server?.close()
})

const target = (pod: string): string => kubelet.flexTarget(pod, 'volbridge.io/volbridge', 'data')
const inFolder = (name: string): Record<string, string> => {
  mkdirSync(path.join(server.folder, name), { recursive: true })
  return { ...options, subDir: name }
}
const pidsOf = async (role: string): Promise<readonly number[]> =>
  (await processesOf(node.state)).filter((line) => line.includes(` ${role} `)).map((line) => Number(line.split(' ')[0]))

/** What a round could leave behind. A session that has been told to end may still be dying. */
async function traces (): Promise<object> {
  const [agent = 0] = await pidsOf('agent')
  return {
    mounts: mountsBelow(node.folder).length, sessions: (await pidsOf('session')).length,
    agents: (await pidsOf('agent')).length,
    files: (await shell(`find ${node.folder} -xdev ! -name '*.log*' | wc -l`)).trim(),
    descriptors: readdirSync(`/proc/${agent}/fd`).length
  }
}

const rounds = isLong ? 1000 : 30

check(`${rounds} rounds of mount and unmount leave no process, mount, descriptor or file behind`, async (t) => {
  t.timeout(300_000 + rounds * 10_000)
  const stays = await kubelet.flexMount(flex, target('stays'), inFolder('stays'))
  t.is(stays?.answer.status, 'Success', stays?.answer.message)
  const round = async (n: number): Promise<void> => {
    const pod = target(`round-${n % 5}`)
    // Every fifth starts a session of its own, the others share the one that stays.
    const mounted = await kubelet.flexMount(flex, pod, n % 5 === 0 ? inFolder('comes-and-goes') : inFolder('stays'))
    if (mounted?.answer.status !== 'Success') throw new Error(`round ${n}: ${mounted?.answer.message ?? 'not called'}`)
    writeFileSync(path.join(pod, 'file'), `${n}`)
    const unmounted = await kubelet.flexUnmount(flex, pod)
    if (unmounted?.answer.status !== 'Success') {
      throw new Error(`round ${n}: ${unmounted?.answer.message ?? 'not called'}`)
    }
  }
  for (let n = 0; n < 10; n++) await round(n)
  await pause(1000)
  const before = await traces()
  for (let n = 0; n < rounds; n++) await round(n)
  let after = await traces()
  // Sockets of calls that have just ended are closed a moment later.
  for (let tries = 0; tries < 100 && JSON.stringify(after) !== JSON.stringify(before); tries++) {
    await pause(100)
    after = await traces()
  }
  t.deepEqual(after, before)
  t.is((await kubelet.flexUnmount(flex, target('stays')))?.answer.status, 'Success')
  t.deepEqual([
    mountsBelow(node.folder), await pidsOf('session'), readdirSync(path.join(node.state, 'journal')),
    readdirSync(path.join(node.runtime, 'sessions'))
  ], [[], [], [], []])
})

const long = isLong ? check : skipped
long('100 pods with different shares are mounted at once, and unmounted at once', async (t) => {
  t.timeout(1_200_000)
  const pods = Array.from({ length: 100 }, (_, n) => n)
  const mounted = await Promise.all(
    pods.map(async (n) => await kubelet.flexMount(flex, target(`many-${n}`), inFolder(`dir-${n}`)))
  )
  t.deepEqual(mounted.map((result) => result?.answer), pods.map(() => ({ status: 'Success' })))
  for (const n of pods) {
    writeFileSync(path.join(target(`many-${n}`), 'mine'), `${n}`)
    t.is(readFileSync(path.join(server.folder, `dir-${n}`, 'mine'), 'utf8'), `${n}`)
  }
  const unmounted = await Promise.all(pods.map(async (n) => await kubelet.flexUnmount(flex, target(`many-${n}`))))
  t.deepEqual(unmounted.map((result) => result?.answer), pods.map(() => ({ status: 'Success' })))
  t.log(
    `mount ${Math.round(Math.max(...mounted.map((result) => result?.ms ?? 0)))} ms, unmount ${Math.round(Math.max(...unmounted.map((result) => result?.ms ?? 0)))} ms for the slowest`
  )
  t.deepEqual([mountsBelow(node.folder), await pidsOf('session')], [[], []])
})

const objects = isLong ? 600 : 40

check(`${objects} option objects changed at random: one JSON each, and a mount only where there may be one`, async (t) => {
  t.timeout(objects * 20_000)
  const seed = chooseSeed((line) => { t.log(line) })
  const random = randomOf(seed)
  // A share of another name is not there, and a wrong port refuses at once.
  const good = {
    'kubernetes.io/readwrite': 'rw', ...inFolder('changed'),
    mountOptions: `${server.mountOptions},soft,timeo=10,retrans=1,retry=0`
  }
  const pod = target('changed')
  mkdirSync(pod, { recursive: true })
  for (let n = 0; n < objects;) {
    const json = mutate(good, random)
    // No argument of a program can hold that. A name that asks the network for an address is another test's.
    if (
      json.includes('\0') ||
      JSON.stringify(json).includes('"server\\":\\"') && !json.includes(`"server":"${server.host}"`)
    ) continue
    n++
    const { exitCode, answer } = await flexCall(flex, ['mount', pod, json])
    t.is(exitCode, 0)
    if (answer.status === 'Success') {
      t.is(whyNever(json), undefined, json)
      t.is(mountsBelow(pod).length, 1, json)
      t.is((await flexCall(flex, ['unmount', pod])).answer.status, 'Success')
    } else {
      t.truthy(answer.message)
      t.deepEqual([answer.status, mountsBelow(pod), readdirSync(pod)], ['Failure', [], []], json)
    }
  }
  t.notThrows(() => { rmdirSync(pod) })
})

check('the longest options that a program can be given are answered; longer ones never reach it', async (t) => {
  const pod = target('long')
  mkdirSync(pod, { recursive: true })
  // MAX_ARG_STRLEN of binfmts.h: 32 pages with the NUL at the end.
  const fill = (length: number): string =>
    JSON.stringify({ ...options, filler: 'x'.repeat(length - JSON.stringify({ ...options, filler: '' }).length) })
  const { exitCode, answer } = await flexCall(flex, ['mount', pod, fill(131_071)])
  t.deepEqual([exitCode, answer.status], [0, 'Failure'])
  t.regex(answer.message ?? '', /filler/)
  t.true((answer.message ?? '').length < 1000)
  await t.throwsAsync(flexCall(flex, ['mount', pod, fill(131_072)]), { code: 'E2BIG' })
  rmdirSync(pod)
})

check('whoever else listens on the agent\'s socket, the answer is one JSON that says so, in time', async (t) => {
  const folder = node.makeFolder('stranger')
  const stranger = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')
  })
  await new Promise<void>((resolve) => { stranger.listen(path.join(folder, 'agent.sock'), resolve) })
  try {
    const pod = target('stranger')
    mkdirSync(pod, { recursive: true })
    const { exitCode, answer, ms } = await flexCall({
      ...flex, env: { VOLBRIDGE_RUN_DIR: folder, VOLBRIDGE_STATE_DIR: path.join(folder, 'state') }
    }, ['mount', pod, JSON.stringify(options)])
    t.deepEqual([exitCode, answer.status], [0, 'Failure'])
    t.regex(answer.message ?? '', /agent/i, answer.message)
    t.true(ms < 130_000)
    t.false(existsSync(path.join(pod, 'from-server')))
    rmdirSync(pod)
  } finally {
    stranger.close()
  }
})
