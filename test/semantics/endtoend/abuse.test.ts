/**
 * stress-ng, which was made to break file systems, and with `scripts/test --long` (VOLBRIDGE_LONG) an hour of everyday work in which the session must
 * not grow.
 */
import { spawn } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import test from 'ava'
import { pause } from '../../../agent/base/deadline.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { processesOf, run, shell, TestNode } from './node.ts'

const needs = ['root', 'fuse', 'ganesha'] as const
const check = testNeeding(...needs)
const isLong = process.env['VOLBRIDGE_LONG'] === '1'
const seconds = isLong ? 60 : 2

let server: Ganesha
let node: TestNode
let mounted: string

test.before(async () => {
  if (missing(...needs) !== undefined) return
  node = new TestNode()
  server = await Ganesha.start({ folder: node.makeFolder('export') })
  await node.startAgent()
  mounted = node.makeFolder('mnt')
  await node.mount(`${server.host}:${server.folder}`, mounted, server.mountOptions)
})

test.after.always(async () => {
  server?.resume()
  await node?.close()
  await server?.close()
})

interface Volume { readonly gauges: Readonly<Record<string, number>> }

/** A machine that is busy with the programs of the test may need more than one question. */
async function volume (): Promise<Volume> {
  let why = ''
  for (let tries = 0; tries < 10; tries++) {
    const { code, stdout, stderr } = await node.command(['status', '--json', ...node.places])
    const first = code === 0 ? (JSON.parse(stdout) as { volumes: Volume[] }).volumes[0] : undefined
    if (first !== undefined) return first
    why = stderr
    await pause(1000)
  }
  throw new Error(`no volume: ${why}`)
}

async function sessionPid (): Promise<number> {
  return Number((await processesOf(node.runtime)).find((line) => line.includes(' session '))?.split(' ')[0])
}

const kibibytesOf = (pid: number): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])

/** A folder of this test on the mount. */
async function folder (name: string): Promise<string> {
  const made = path.join(mounted, name)
  await shell(`mkdir ${made}`)
  return made
}

/** What they are told to do in a folder, with every check they have. flock is the kernel's own here; it must not disturb the others. */
const stressors = ['hdd', 'dentry', 'rename', 'link', 'chmod', 'flock', ...isLong ? ['symlink', 'filename', 'utime', 'dir', 'fstat'] : []]

testNeeding(...needs, 'stressNg')('stress-ng finds nothing wrong', async (t) => {
  t.timeout((seconds * 20 + 240) * 1000)
  const below = await folder('stress')
  const args = stressors.flatMap((name) => [`--${name}`, '1'])
  const ran = await run('stress-ng', [...args, '--dentries', '200', '--hdd-bytes', '16m', '--verify', '--temp-path', below, '--timeout', `${seconds}s`, '--metrics-brief'])
  t.is(ran.code, 0, ran.stdout + ran.stderr)
  t.notRegex(ran.stdout + ran.stderr, /\bfail:/)
  t.deepEqual(readdirSync(below), [])
})

if (isLong) {
  const minutes = Number(process.env['VOLBRIDGE_CHURN_MINUTES'] ?? '60')
  check('an hour of files made, read, renamed, listed and removed by four programs lets the session grow no further', async (t) => {
    t.timeout((minutes + 10) * 60_000)
    const below = await folder('churn')
    const work = `cd ${below} && mkdir p$$ && cd p$$ && while :; do mkdir -p a/b; for i in $(seq 40); do head -c $((RANDOM % 20000)) /dev/zero > a/f$i; done; cat a/f* > a/b/all; ls -l a > /dev/null; ` +
      'for i in $(seq 40); do mv a/f$i a/b/g$i; done; cp -r a c; exec 3< c/b/g1; rm -r a c; cat <&3 > /dev/null; exec 3<&-; done'
    const children = Array.from({ length: 4 }, () => spawn('/bin/bash', ['-c', work], { detached: true, stdio: 'ignore' }))
    const pid = await sessionPid()
    const samples: number[] = []
    try {
      for (let minute = 0; minute < minutes; minute++) {
        await pause(60_000)
        samples.push(kibibytesOf(pid))
        const { gauges } = await volume()
        t.log(`minute ${minute + 1}: ${Math.round((samples.at(-1) ?? 0) / 1024)} MiB, ${gauges['inodes']} inodes, ${gauges['names']} names, ${gauges['handles']} handles`)
      }
    } finally {
      for (const child of children) if (child.pid !== undefined) try { process.kill(-child.pid, 'SIGKILL') } catch { /* it has ended by itself: the shell hit an error */ }
    }
    t.true(children.every(({ exitCode }) => exitCode === null), 'a program met an error')
    const mean = (part: readonly number[]): number => part.reduce((sum, value) => sum + value, 0) / part.length
    const third = Math.max(1, Math.floor(samples.length / 3))
    const [second, last] = [mean(samples.slice(third, 2 * third)), mean(samples.slice(-third))]
    t.true(last <= second * 1.1 + 8 * 1024, `${second} KiB in the middle, ${last} KiB at the end`)
    await shell(`rm -rf ${below}`)
    t.is((await volume()).gauges['handles'], 0)
  })
}
