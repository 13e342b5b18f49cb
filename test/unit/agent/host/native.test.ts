/** The addon's own promises, where no caller of it can see them: bad arguments, bad moments. Each in a process of its
 * own, also under sanitizers (scripts/testing/sanitized). */
import { execFile, execFileSync } from 'node:child_process'
import { existsSync, globSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { encodeProgram } from '../../../../agent/host/host-program.ts'
import { chooseSeed } from '../../../model/seed.ts'

const run = promisify(execFile)
const addonModule = pathToFileURL('agent/host/addon.ts').href
const folder = mkdtempSync(path.join(tmpdir(), 'volbridge-native-'))
test.after.always(() => { rmSync(folder, { recursive: true, force: true }) })

const slowCalls = path.join(folder, 'slow-calls.so')
execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', slowCalls, path.join(import.meta.dirname, 'slow-calls.c')])
const slow = { ...process.env, LD_PRELOAD: [process.env['LD_PRELOAD'], slowCalls].filter(Boolean).join(':') }

async function inProcess (script: string, env: NodeJS.ProcessEnv = process.env): Promise<string> {
  const source = `import { loadAddon } from ${JSON.stringify(addonModule)}\nconst addon = loadAddon()\n${script}`
  const args = ['--no-warnings', '--input-type=module-typescript', '--eval', source]
  return (await run(process.execPath, args, { env, timeout: 120_000 })).stdout
}

test('a host call whose agent died before the child could ask to die with it does nothing', async (t) => {
  const made = path.join(folder, 'made')
  const program = encodeProgram([{ op: 'mkdir', path: made, mode: 0o700 }]).toString('hex')
  let said = ''
  await t.throwsAsync(
    inProcess(
      `import { writeSync } from 'node:fs'
      const [pid] = addon.startHostCall(Buffer.from('${program}', 'hex'), new Int32Array(0))
      writeSync(1, String(pid))
      process.kill(process.pid, 'SIGKILL')`,
      slow
    ).catch((error: unknown) => {
      said = (error as { stdout: string }).stdout
      throw error
    })
  )
  t.regex(said, /^\d+$/)
  for (let waits = 0; existsSync(`/proc/${said}`) && waits < 1_000; waits++) {
    await new Promise((resolve) => { setTimeout(resolve, 10) })
  }
  t.false(existsSync(`/proc/${said}`), 'the child has ended')
  t.false(existsSync(made))
})

test('a notification that is being written when its environment ends does no harm', async (t) => {
  const said = await inProcess(
    `import { once } from 'node:events'
    import { Worker } from 'node:worker_threads'
    const work = \`
      import { loadAddon } from ${JSON.stringify(addonModule)}
      const addon = loadAddon()
      const [ours] = addon.socketPair()
      const device = new addon.FuseDevice(ours, {
        requests: Buffer.alloc(65536), replies: Buffer.alloc(65536), table: new Int32Array(128),
        results: new Int32Array(64), notified: new Int32Array(64), requestBytesMax: 8192, onEvent () {}
      })
      if (device.notify(Buffer.alloc(4097)) !== 0) throw new Error('refused')
      setTimeout(() => { process.exit() }, 100)\`
    for (let round = 0; round < 4; round++) {
      const source = new URL('data:text/javascript,' + encodeURIComponent(work))
      const [code] = await once(new Worker(source), 'exit')
      if (code !== 0) throw new Error('worker ' + code)
    }
    setTimeout(() => { console.log('done') }, 500)`,
    slow
  )
  t.is(said, 'done\n')
})

test('the addon is built also with the headers of a node that knows none of the newer system calls', async (t) => {
  const newer = ['open_tree', 'move_mount', 'close_range', 'openat2'].map((name) => `#undef SYS_${name}\n`)
  const old = path.join(folder, 'old-headers.h')
  writeFileSync(old, `#include <sys/syscall.h>\n${newer.join('')}`)
  const include = path.join(path.dirname(process.execPath), '../include/node')
  for (const file of globSync('agent/host/native/*.c')) {
    await t.notThrowsAsync(
      run('gcc', ['-std=gnu11', '-fsyntax-only', '-D_GNU_SOURCE', '-include', old, '-I', include, file]),
      file
    )
  }
})

test('arguments of every kind, at random, are taken or refused, and cost neither the process nor a descriptor', async (t) => {
  const seed = chooseSeed((line) => { t.log(line) })
  const fuzz = path.join(import.meta.dirname, 'native-fuzz.ts')
  const { stdout: said } = await run(process.execPath, ['--no-warnings', fuzz, String(seed)], { timeout: 120_000 })
  t.regex(said, /^\d+ calls, \d+ refused\n$/)
  t.log(said.trim())
})
