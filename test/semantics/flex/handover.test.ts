/**
 * Several agents of several versions on one node and one state folder: who goes on, and that volumes do not notice.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import type { StatusResponse } from '../../../proto/csi/types.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { Kubelet, type FlexDriver } from '../../peers/kubelet.ts'
import { testNeeding } from '../../peers/testing.ts'
import { binary, mountsBelow, processesOf, run, shell, TestNode, type Ran } from '../endtoend/node.ts'

const root = path.resolve(import.meta.dirname, '../../..')

/** The same sources under another version. */
async function sourcesOf (node: TestNode, version: string): Promise<readonly string[]> {
  const folder = node.makeFolder(`version-${version}`)
  await shell(
    `cd ${root} && cp -r agent flex proto package.json ${folder} && mkdir ${folder}/build && cp -r build/Release ${folder}/build && ln -s ${root}/node_modules ${folder}/node_modules`
  )
  const file = path.join(folder, 'package.json')
  writeFileSync(file, readFileSync(file, 'utf8').replace(/"version": "[^"]+"/, `"version": "${version}"`))
  return [process.execPath, '--no-warnings', path.join(folder, 'agent/main.ts')]
}

testNeeding('root', 'fuse', 'ganesha')('an agent that stays takes over from one that Flex started, a newer one from an older; equal and older ones say so and end; pods go on', async (t) => {
  const server = await Ganesha.start()
  const node = new TestNode()
  const children: ChildProcess[] = []
  const status = async (): Promise<StatusResponse | undefined> => {
    const ran = await node.command(['status', '--json', ...node.places])
    return ran.code === 0 ? JSON.parse(ran.stdout) as StatusResponse : undefined
  }
  const pidsOf = async (role: string): Promise<readonly number[]> =>
    (await processesOf(node.state)).filter((line) => line.includes(` ${role} `)).map((line) =>
      Number(line.split(' ')[0])
    )
  const becomes = async (version: string, not: number): Promise<number> => {
    for (const untilMs = monotonicMs() + 120_000; monotonicMs() < untilMs; await pause(100)) {
      const now = await status()
      if (now !== undefined && now.version === version && now.pid !== not) return now.pid
    }
    throw new Error(`no agent ${version}: ${JSON.stringify(await status())}`)
  }
  const start = ([program = '', ...args]: readonly string[]): void => {
    children.push(spawn(program, [...args, 'agent', ...node.places], { stdio: 'ignore' }))
  }
  const refused = async ([program = '', ...args]: readonly string[]): Promise<Ran> =>
    await run(program, [...args, 'agent', ...node.places])
  try {
    const [newer, older] = [await sourcesOf(node, '99.0.0'), await sourcesOf(node, '0.0.1')]
    const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string }
    const folder = node.makeFolder('plugins/volbridge.io~volbridge')
    copyFileSync(binary, path.join(folder, 'volbridge'))
    const flex: FlexDriver = {
      file: path.join(folder, 'volbridge'), env: { VOLBRIDGE_STATE_DIR: node.state, VOLBRIDGE_RUN_DIR: node.runtime }
    }
    const kubelet = new Kubelet(node.kubelet)
    const target = kubelet.flexTarget('pod', 'volbridge.io/volbridge', 'data')
    const mounted = await kubelet.flexMount(flex, target, {
      server: server.host, share: server.folder, mountOptions: server.mountOptions
    })
    t.is(mounted?.answer.status, 'Success', mounted?.answer.message)
    const sessions = await pidsOf('session')
    const writing = shell(
      `while [ ! -e ${node.folder}/enough ]; do echo line >> ${target}/journal; sleep 0.1; done; wc -l < ${target}/journal`
    )

    const first = await becomes(version, 0)
    start([binary])
    const second = await becomes(version, first)
    const equal = await refused([binary])
    t.is(equal.code, 1)
    t.regex(
      equal.stderr,
      new RegExp(
        `agent ${version} \\(pid ${second}\\) works with the state folder .* and goes on; this is ${version}; one agent a node`
      )
    )

    start(newer)
    const third = await becomes('99.0.0', second)
    t.true((await refused([binary])).stderr.includes(`agent 99.0.0 (pid ${third})`))
    t.true((await refused(older)).stderr.includes('this is 0.0.1'))
    t.deepEqual(await pidsOf('agent'), [third])

    writeFileSync(path.join(node.folder, 'enough'), '')
    const lines = Number((await writing).trim())
    t.is(readFileSync(path.join(server.folder, 'journal'), 'utf8').split('\n').length - 1, lines)
    t.deepEqual(await pidsOf('session'), sessions)
    t.is((await status())?.volumes[0]?.health, 'healthy')
    t.is((await kubelet.flexUnmount(flex, target))?.answer.status, 'Success')
    t.false(existsSync(target))
    t.deepEqual(mountsBelow(node.folder), [])
  } finally {
    for (const child of children) child.kill('SIGTERM')
    await node.close()
    await server.close()
  }
})
