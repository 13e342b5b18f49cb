/**
 * When idle CPUs are asked to stay awake. What is asked is read from a file in the device's place: the kernel's own value belongs to all processes.
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

/** What a process asks for, in microseconds and in order, that runs `script`; `say` prints the time it was held in milliseconds. */
async function asked (script: string, flags = 'a'): Promise<{ readonly wishes: readonly number[], readonly said: string }> {
  const folder = mkdtempSync(path.join(tmpdir(), 'volbridge-latency-'))
  const file = path.join(folder, 'device')
  const source = `
    import { createServer, connect } from 'node:net'
    import { openSync } from 'node:fs'
    import { loadAddon } from ${JSON.stringify(addonModule)}
    const heldMs = new Float64Array(1)
    loadAddon().startCpuLatencyRequests(openSync(process.argv[1], ${JSON.stringify(flags)}), heldMs)
    const say = () => { console.log(heldMs[0]) }
    ${script}`
  try {
    closeSync(openSync(file, 'w'))
    const { stdout } = await run(process.execPath, ['--no-warnings', '--input-type=module-typescript', '--eval', source, file], { timeout: 60_000 })
    const bytes = readFileSync(file)
    return { wishes: Array.from({ length: bytes.length / 4 }, (_, at) => bytes.readInt32LE(4 * at)), said: stdout.trim() }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const busyFor = (milliseconds: number, then: string): string => `
  const server = createServer((socket) => { socket.pipe(socket) }).listen(0, () => {
    const client = connect(server.address().port)
    const until = performance.now() + ${milliseconds}
    client.on('data', () => { if (performance.now() < until) client.write('x'); else { client.end(); server.close(); ${then} } })
    client.write('x')
  })`

test('a busy loop asks once, and takes it back when it has nothing more to do', async (t) => {
  const { wishes, said } = await asked(busyFor(400, 'setTimeout(say, 100)'))
  // A loop that the machine keeps from running for a moment has begun anew.
  t.true(wishes.length >= 2 && wishes.length % 2 === 0, wishes.join())
  t.deepEqual(wishes, wishes.map((_, at) => at % 2 === 0 ? 0 : -1))
  t.log(`held for ${said} of 400 ms in ${wishes.length / 2} pieces`)
  t.true(Number(said) > 100 && Number(said) < 500, said)
})

test('a loop that turns a few hundred times a second asks for nothing', async (t) => {
  const { wishes } = await asked(`let left = 100
    const timer = setInterval(() => { if (--left === 0) clearInterval(timer) }, 3)`)
  t.deepEqual(wishes, [])
})

test('a device that takes no wish is let go: nothing is held, and the process lives on', async (t) => {
  const { wishes, said } = await asked(busyFor(200, 'say()'), 'r')
  t.deepEqual(wishes, [])
  t.is(said, '0')
})

test('only a descriptor and a place for the time are taken', (t) => {
  const { startCpuLatencyRequests } = loadAddon()
  for (const wrong of [-1, '3', undefined]) t.throws(() => { startCpuLatencyRequests(wrong as never, new Float64Array(1)) }, { code: 'ERR_INVALID_ARG' })
  for (const wrong of [[], new Float64Array(0), new Int32Array(1)]) t.throws(() => { startCpuLatencyRequests(0, wrong as never) }, { code: 'ERR_INVALID_ARG' })
})

test('it is done in small virtual machines that halt at once alone, and says why not elsewhere', (t) => {
  const small = { cpuCount: 2, driver: 'haltpoll', haltPollNs: 0, refusal: undefined }
  t.deepEqual(judgeCpuLatency(small), { isWanted: true, why: 'they stay awake while a volume is busy: a virtual machine with 2 CPUs' })
  const cases = [
    [{ ...small, driver: 'intel_idle' }, /sleep as the kernel decides \(cpuidle driver: intel_idle\)/],
    [{ ...small, driver: undefined }, /cpuidle driver: none/],
    [{ ...small, haltPollNs: undefined }, /cpuidle driver: haltpoll/],
    [{ ...small, haltPollNs: 200_000 }, /the kernel has them wait awake itself, up to 200 µs/],
    [{ ...small, cpuCount: 1 }, /there is one CPU/],
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
