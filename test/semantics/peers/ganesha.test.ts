import { execFile, spawn } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { promisify } from 'node:util'
import { Ganesha } from '../../peers/ganesha.ts'
import { testNeeding } from '../../peers/testing.ts'
import { pause } from '../../../agent/base/deadline.ts'

const run = promisify(execFile)
const test = testNeeding('root', 'ganesha', 'libnfs')

test('two servers at once serve their own folders to an independent client', async (t) => {
  await using first = await Ganesha.start()
  await using second = await Ganesha.start({ squash: 'Root_Squash' })
  writeFileSync(path.join(first.folder, 'only-here'), 'one')
  writeFileSync(path.join(second.folder, 'only-there'), 'two')
  const listed = await Promise.all([first, second].map(async (server) => (await run('nfs-ls', [server.url()])).stdout))
  t.regex(listed[0] ?? '', /only-here/)
  t.regex(listed[1] ?? '', /only-there/)
})

test('a killed server comes back on the same ports with the same files', async (t) => {
  await using server = await Ganesha.start()
  const source = path.join(server.folder, 'kept')
  writeFileSync(source, 'kept')
  const before = server.pid
  await server.kill9()
  await t.throwsAsync(run('nfs-ls', [server.url()]))
  await server.restart()
  t.not(server.pid, before)
  t.regex((await run('nfs-ls', [server.url()])).stdout, /kept/)
})

test('what is created in the folder itself is seen by a client at once', async (t) => {
  await using server = await Ganesha.start()
  for (let round = 0; round < 5; round++) {
    writeFileSync(path.join(server.folder, `round-${round}`), 'x'.repeat(round))
    t.regex((await run('nfs-ls', [server.url()])).stdout, new RegExp(` ${round} round-${round}`))
  }
})

for (const signal of ['SIGINT', 'SIGKILL'] as const) {
  test(`${signal} to the process that started it leaves no server`, async (t) => {
    const script = `import { Ganesha } from ${JSON.stringify(path.resolve('test/peers/ganesha.ts'))}
      const server = await Ganesha.start(); console.log(server.pid + ' ' + server.folder); setInterval(() => {}, 1000)`
    const starter = spawn(process.execPath, ['--no-warnings', '--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit']
    })
    const said = await new Promise<string>((resolve) => {
      starter.stdout.once('data', (data: Buffer) => { resolve(data.toString()) })
    })
    const [pid, folder] = said.trim().split(' ')
    const gone = new Promise((resolve) => { starter.once('exit', resolve) })
    starter.kill(signal)
    await gone
    const isRunning = (): boolean =>
      existsSync(`/proc/${pid}/stat`) && !/\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
    while (isRunning()) await pause(20)
    if (signal === 'SIGINT') t.false(existsSync(folder ?? ''))
    else {
      await using sweeper = await Ganesha.start()
      t.truthy(sweeper.pid)
      t.false(existsSync(folder ?? ''), 'the next start sweeps up')
    }
  })
}
