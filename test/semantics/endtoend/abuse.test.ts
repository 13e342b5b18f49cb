/**
 * stress-ng, which was made to break file systems, dbench, which repeats an office's day, programs killed in the middle
 * of it all, and with `scripts/test --long` (VOLBRIDGE_LONG) an hour of everyday work in which the session must not
 * grow.
 */
import { spawn } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { pause } from '../../../agent/base/deadline.ts'
import { testNeeding } from '../../peers/testing.ts'
import { processesOf, run, shell } from './node.ts'
import { standing } from './standing.ts'

const needs = ['root', 'fuse', 'ganesha'] as const
const check = testNeeding(...needs)
const isLong = process.env['VOLBRIDGE_LONG'] === '1'
const seconds = isLong ? 60 : 2

const stand = standing(needs)

interface Volume { readonly gauges: Readonly<Record<string, number>> }

/** A machine that is busy with the programs of the test may need more than one question. */
async function volume (): Promise<Volume> {
  let why = ''
  for (let tries = 0; tries < 10; tries++) {
    const { code, stdout, stderr } = await stand.node.command(['status', '--json', ...stand.node.places])
    const first = code === 0 ? (JSON.parse(stdout) as { volumes: Volume[] }).volumes[0] : undefined
    if (first !== undefined) return first
    why = stderr
    await pause(1000)
  }
  throw new Error(`no volume: ${why}`)
}

async function sessionPid (): Promise<number> {
  return Number((await processesOf(stand.node.runtime)).find((line) => line.includes(' session '))?.split(' ')[0])
}

const kibibytesOf = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])

/** A folder of this test on the mount. */
async function folder (name: string): Promise<string> {
  const made = path.join(stand.mounted, name)
  await shell(`mkdir ${made}`)
  return made
}

/** What they are told to do in a folder, with every check they have. flock is the kernel's own here; it must not
 * disturb the others. */
const stressors = [
  'hdd', 'dentry', 'rename', 'link', 'chmod', 'flock',
  ...isLong ? ['symlink', 'filename', 'utime', 'dir', 'fstat'] : []
]

testNeeding(...needs, 'stressNg')('stress-ng finds nothing wrong', async (t) => {
  t.timeout((seconds * 20 + 240) * 1000)
  const below = await folder('stress')
  const args = stressors.flatMap((name) => [`--${name}`, '1'])
  const ran = await run('stress-ng', [
    ...args, '--dentries', '200', '--hdd-bytes', '16m', '--verify', '--temp-path', below, '--timeout', `${seconds}s`,
    '--metrics-brief'
  ])
  t.is(ran.code, 0, ran.stdout + ran.stderr)
  t.notRegex(ran.stdout + ran.stderr, /\bfail:/)
  t.deepEqual(readdirSync(below), [])
})

testNeeding(...needs, 'dbench')('dbench gets from every call the answer that its record says', async (t) => {
  t.timeout((seconds * 20 + 240) * 1000)
  const below = await folder('office')
  const ran = await run('dbench', ['-D', below, '-t', `${seconds * 2}`, '-c', '/usr/share/dbench/client.txt', '4'])
  t.is(ran.code, 0, ran.stdout.slice(-2000) + ran.stderr)
  t.regex(ran.stdout, /^Throughput [1-9]/m)
  t.notRegex(ran.stdout + ran.stderr, /failed for handle|ERROR|expected/i)
})

check('programs killed in the middle of anything leave no request, no handle and no difference behind', async (t) => {
  const below = await folder('killed')
  const works = [
    'while :; do dd if=/dev/urandom of=w$$ bs=64k count=20 conv=fsync status=none; dd if=w$$ of=/dev/null bs=1M status=none; done',
    'while :; do : > n$$; mv n$$ m$$; ln -f m$$ l$$; rm -f m$$ l$$; done',
    'while :; do ls -lR . > /dev/null; find . -newer . > /dev/null; done',
    'while :; do for i in 1 2 3 4 5; do echo $i >> a; done; truncate -s 0 a; done'
  ]
  const start = (n: number): ReturnType<typeof spawn> =>
    spawn('/bin/bash', ['-c', works[n % works.length] ?? ''], { cwd: below, detached: true, stdio: 'ignore' })
  const kill = (child: ReturnType<typeof spawn>): void => {
    if (child.pid !== undefined) try { process.kill(-child.pid, 'SIGKILL') } catch { /* it has ended by itself */ }
  }
  const children = Array.from({ length: 8 }, (_, n) => start(n))
  try {
    for (let killed = 0; killed < 40 * seconds; killed++) {
      await pause(25)
      const index = killed % children.length
      const child = children[index]
      if (child !== undefined) kill(child)
      children[index] = start(killed)
    }
  } finally {
    children.forEach(kill)
  }
  // What a killed program had open is closed by the kernel, a moment after it.
  for (let tries = 0; tries < 100; tries++) {
    const { gauges } = await volume()
    if (gauges['handles'] === 0 && gauges['fuseInFlight'] === 0 && gauges['dirtyBytes'] === 0) break
    await pause(100)
  }
  const { gauges } = await volume()
  t.like(gauges, { handles: 0, fuseInFlight: 0, dirtyBytes: 0 })
  const sums = async (top: string): Promise<string> =>
    await shell(`cd ${top} && ls -A && find . -type f -print0 | sort -z | xargs -0 -r sha256sum`)
  t.is(await sums(below), await sums(path.join(stand.server.folder, 'killed')))
  await shell(`rm -r ${below}`)
})

if (isLong) {
  const minutes = Number(process.env['VOLBRIDGE_CHURN_MINUTES'] ?? '60')
  check('an hour of files made, read, renamed, listed and removed by four programs lets the session grow no further', async (t) => {
    t.timeout((minutes + 10) * 60_000)
    const below = await folder('churn')
    const work =
      `cd ${below} && mkdir p$$ && cd p$$ && while :; do mkdir -p a/b; for i in $(seq 40); do head -c $((RANDOM % 20000)) /dev/zero > a/f$i; done; cat a/f* > a/b/all; ls -l a > /dev/null; ` +
      'for i in $(seq 40); do mv a/f$i a/b/g$i; done; cp -r a c; exec 3< c/b/g1; rm -r a c; cat <&3 > /dev/null; exec 3<&-; done'
    const children = Array.from(
      { length: 4 },
      () => spawn('/bin/bash', ['-c', work], { detached: true, stdio: 'ignore' })
    )
    const pid = await sessionPid()
    const samples: number[] = []
    try {
      for (let minute = 0; minute < minutes; minute++) {
        await pause(60_000)
        samples.push(kibibytesOf(pid))
        const { gauges } = await volume()
        t.log(
          `minute ${minute + 1}: ${Math.round((samples.at(-1) ?? 0) / 1024)} MiB, ${gauges['inodes']} inodes, ${gauges['names']} names, ${gauges['handles']} handles`
        )
      }
    } finally {
      for (const child of children) {
        if (child.pid !== undefined) {
          try { process.kill(-child.pid, 'SIGKILL') } catch { /* it has ended by itself: the shell hit an error */ }
        }
      }
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
