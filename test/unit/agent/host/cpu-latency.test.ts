/**
 * When idle CPUs are asked to stay awake. What is asked is read from a file in the device's place: the kernel's own
 * value belongs to all processes.
 */
import { execFile } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { loadAddon } from '../../../../agent/host/addon.ts'
import { judgeCpuLatency } from '../../../../agent/host/cpu-latency.ts'

const run = promisify(execFile)
const addonModule = path.resolve('agent/host/addon.ts')

interface Asked {
  /** In microseconds and in order. */
  readonly wishes: readonly number[]
  readonly turnsPerSecond: number
  readonly busyMs: number
  readonly heldMs: number
}

/** What a process asks for that passes a byte to itself for a while and then waits until its loop is quiet. */
async function asked (milliseconds: number, flags = 'a'): Promise<Asked> {
  const folder = mkdtempSync(path.join(tmpdir(), 'volbridge-latency-'))
  const file = path.join(folder, 'device')
  const source = `
    import { createServer, connect } from 'node:net'
    import { openSync } from 'node:fs'
    import { loadAddon } from ${JSON.stringify(addonModule)}
    const heldMs = new Float64Array(1)
    loadAddon().startCpuLatencyRequests(openSync(process.argv[1], ${JSON.stringify(flags)}), heldMs)
    let turns = 0
    const since = performance.now()
    const finish = (busyMs) => {
      let before = -1
      const timer = setInterval(() => {
        // Held no more: several looks in which it has not grown.
        if (heldMs[0] !== before) { before = heldMs[0]; return }
        clearInterval(timer)
        console.log(JSON.stringify({ turnsPerSecond: 1000 * turns / busyMs, busyMs, heldMs: before }))
      }, 100)
    }
    const server = createServer((socket) => { socket.pipe(socket) }).listen(0, () => {
      const client = connect(server.address().port)
      client.on('data', () => {
        turns++
        const passed = performance.now() - since
        if (passed < ${milliseconds}) client.write('x'); else { client.end(); server.close(); finish(passed) }
      })
      client.write('x')
    })`
  try {
    closeSync(openSync(file, 'w'))
    const { stdout } = await run(process.execPath, [
      '--no-warnings', '--input-type=module-typescript', '--eval', source, file
    ], { timeout: 60_000 })
    const bytes = readFileSync(file)
    const wishes = Array.from({ length: bytes.length / 4 }, (_, at) => bytes.readInt32LE(4 * at))
    return { wishes, ...JSON.parse(stdout) as Omit<Asked, 'wishes'> }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test('a busy loop asks that CPUs stay awake, and takes it back when it has nothing more to do', async (t) => {
  const { wishes, turnsPerSecond, busyMs, heldMs } = await asked(600)
  t.log(
    `held for ${heldMs} of ${Math.round(busyMs)} ms in ${wishes.length / 2} pieces, ${Math.round(turnsPerSecond)} turns/s`
  )
  t.deepEqual(wishes, wishes.map((_, at) => at % 2 === 0 ? 0 : -1))
  // What was asked for was taken back each time.
  t.is(wishes.length % 2, 0)
  t.is(wishes.length === 0, heldMs === 0)
  // Each piece may go on for two looks, of 5 ms and what the machine adds to that.
  t.true(heldMs < busyMs + 500, `${heldMs} ${busyMs}`)
  // Each round trip is a turn or two. A machine too slow for four thousand has nothing to ask for.
  if (turnsPerSecond > 8000) t.true(heldMs > busyMs / 4, `${heldMs} ${busyMs}`)
})

test('a loop that turns a few hundred times a second asks for nothing', async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'volbridge-latency-'))
  const file = path.join(folder, 'device')
  const source = `
    import { openSync } from 'node:fs'
    import { loadAddon } from ${JSON.stringify(addonModule)}
    loadAddon().startCpuLatencyRequests(openSync(process.argv[1], 'w'), new Float64Array(1))
    let left = 100
    const timer = setInterval(() => { if (--left === 0) clearInterval(timer) }, 3)`
  await run(process.execPath, ['--no-warnings', '--input-type=module-typescript', '--eval', source, file], {
    timeout: 60_000
  })
  t.is(readFileSync(file).length, 0)
  rmSync(folder, { recursive: true })
})

test('a device that takes no wish is let go: nothing is held, and the process lives on', async (t) => {
  const { wishes, heldMs } = await asked(200, 'r')
  t.deepEqual(wishes, [])
  t.is(heldMs, 0)
})

test('a worker thread that ends while it holds one gives it back', async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'volbridge-latency-'))
  const file = path.join(folder, 'device')
  const source = `
    import { openSync, readlinkSync } from 'node:fs'
    import { Worker } from 'node:worker_threads'
    const file = process.argv[1]
    const fd = openSync(file, 'w')
    const program = 'import(' + JSON.stringify(${JSON.stringify(addonModule)}) + ').then(({ loadAddon }) => { loadAddon().startCpuLatencyRequests(' + fd + ', new Float64Array(1)); let left = 3000; const turn = () => { if (--left > 0) setImmediate(turn); else process.exit(0) }; turn() })'
    new Worker(program, { eval: true }).on('exit', (code) => {
      let open = true
      try { readlinkSync('/proc/self/fd/' + fd) } catch { open = false }
      console.log(JSON.stringify({ code, open }))
    })`
  const { stdout } = await run(process.execPath, [
    '--no-warnings', '--input-type=module-typescript', '--eval', source, file
  ], { timeout: 60_000 })
  t.deepEqual(JSON.parse(stdout), { code: 0, open: false })
  rmSync(folder, { recursive: true })
})

test('only a descriptor and a place for the time are taken', (t) => {
  const { startCpuLatencyRequests } = loadAddon()
  for (const wrong of [-1, '3', undefined]) {
    t.throws(() => { startCpuLatencyRequests(wrong as never, new Float64Array(1)) }, { code: 'ERR_INVALID_ARG' })
  }
  for (const wrong of [[], new Float64Array(0), new Int32Array(1)]) {
    t.throws(() => { startCpuLatencyRequests(0, wrong as never) }, { code: 'ERR_INVALID_ARG' })
  }
})

test('it is done in small virtual machines that halt at once alone, and says why not elsewhere', (t) => {
  const small = {
    cpuCount: 2, driver: 'haltpoll', governor: 'haltpoll', haltPollNs: 0, shrinks: true, refusal: undefined
  }
  t.deepEqual(judgeCpuLatency(small), {
    isWanted: true, why: 'they stay awake while a volume is busy: a virtual machine with 2 CPUs'
  })
  const cases = [
    [
      { ...small, driver: 'intel_idle' },
      /sleep as the kernel decides \(cpuidle driver intel_idle, governor haltpoll\)/
    ],
    [{ ...small, driver: undefined }, /cpuidle driver none/],
    [{ ...small, governor: 'menu' }, /governor menu/],
    [{ ...small, shrinks: false }, /one wish would last for ever/],
    [{ ...small, haltPollNs: undefined }, /cpuidle driver haltpoll/],
    [{ ...small, haltPollNs: 200_000 }, /the kernel has them wait awake itself, up to 200 µs/],
    [{ ...small, cpuCount: 1 }, /there are not two of them/],
    [{ ...small, cpuCount: 5 }, /with 5 CPUs too many would be kept awake/]
  ] as const
  for (const [facts, why] of cases) {
    const verdict = judgeCpuLatency(facts)
    t.false(verdict.isWanted)
    t.regex(verdict.why, why)
    t.is(verdict.remedy, undefined)
  }
  const refused = judgeCpuLatency({ ...small, refusal: 'EPERM' })
  t.false(refused.isWanted)
  t.regex(refused.why, /\/dev\/cpu_dma_latency can't be opened \(EPERM\)/)
  t.regex(refused.remedy ?? '', /privileged: true/)
})
