/**
 * Mount, run the user's command, unmount, tell the verdict; in one container that is gone afterwards.
 * Owns the order and the removal. Does not know what the command does.
 */
import { spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { pause } from '../../agent/base/deadline.ts'
import { messageOf } from '../../agent/base/errors.ts'
import { startServerProcess } from '../../test/peers/nfs-server/process.ts'
import { doAndUndo, type Cleanup } from '../demonstration/cleanup.ts'
import { writeBundle } from './bundle.ts'

const binary = path.resolve(import.meta.dirname, '../../dist/volbridge')
const say = (text: string): void => { process.stderr.write(`${text}\n`) }

/** What `docker run` answers when it is not the command that failed. */
const couldNotRun = 125

/** Runs in the container. $1 is the source, $2 the options, the rest the user's command. Its verdict is the user's,
 * unless unmounting lost data. */
const inside = `
source=$1 options=$2; shift 2
volbridge mount "$source" /mnt -o "$options" || exit ${couldNotRun}
"$@"; verdict=$?
cd / && volbridge unmount /mnt || { echo "unmount failed" >&2; [ $verdict -ne 0 ] || verdict=${couldNotRun}; }
grep -q ' /mnt ' /proc/self/mountinfo && { echo "/mnt is still mounted" >&2; verdict=${couldNotRun}; }
exit $verdict`

const example = [
  '/bin/sh', '-c',
  'cp -a /etc/. /mnt/container-test.$$ && diff -r --no-dereference /etc /mnt/container-test.$$; code=$?; rm -r /mnt/container-test.$$; exit $code'
]

interface Wish {
  readonly server: string | undefined
  readonly options: string | undefined
  readonly command: readonly string[]
}

function parse (args: readonly string[]): Wish {
  const split = args.indexOf('--')
  const own = split === -1 ? args : args.slice(0, split)
  const values = new Map<string, string>()
  for (let index = 0; index < own.length; index += 2) {
    const name = own[index] ?? ''
    const value = own[index + 1]
    if (!['--server', '-o'].includes(name) || value === undefined) {
      throw new Error(`${name}: use --server HOST:/EXPORT, -o OPTIONS, and -- before your command`)
    }
    values.set(name, value)
  }
  const command = split === -1 ? [] : args.slice(split + 1)
  return {
    server: values.get('--server'), options: values.get('-o'), command: command.length === 0 ? example : command
  }
}

async function serve (folder: string, cleanup: Cleanup): Promise<{ source: string, options: string }> {
  const exported = path.join(folder, 'export')
  mkdirSync(exported)
  const server = await startServerProcess({ folder: exported })
  cleanup.add('NFS server', async () => { await server.close() })
  return { source: `127.0.0.1:${server.share}`, options: server.mountOptions }
}

const mountsBelow = (folder: string): readonly string[] =>
  readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
    .map((line) => line.split(' ')[4] ?? '').filter((point) => point.startsWith(folder))

function processesOf (folder: string): readonly string[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(folder)
    } catch {
      return false
    }
  })
}

async function runContainer (folder: string, wish: Wish, cleanup: Cleanup): Promise<number> {
  mkdirSync(folder, { mode: 0o700 })
  cleanup.add('folder', () => {
    if (mountsBelow(folder).length > 0) throw new Error(`still mounted below ${folder}`)
    rmSync(folder, { recursive: true, force: true })
  })
  const { source, options } = wish.server === undefined
    ? await serve(folder, cleanup)
    : { source: wish.server, options: wish.options ?? 'hard' }
  cleanup.interrupted.throwIfAborted()
  const id = path.basename(folder)
  const terminal = process.stdin.isTTY && process.stdout.isTTY
  writeBundle(folder, {
    binary, hostname: 'volbridge-test',
    command: ['/bin/sh', '-c', inside, 'container-test', source, options, ...wish.command], terminal
  })
  const runc = ['--root', path.join(folder, 'runc')]
  const child = spawn('runc', [...runc, 'run', '--bundle', folder, id], {
    stdio: terminal ? 'inherit' : ['ignore', 'inherit', 'inherit']
  })
  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => { resolve(code ?? couldNotRun) })
  })
  const remove = (): void => { spawnSync('runc', [...runc, 'delete', '--force', id], { stdio: 'ignore' }) }
  cleanup.add('container', async () => {
    // The container may be about to be made: it is removed until runc itself has ended, and once more.
    for (let isOver = false; !isOver;) {
      remove()
      isOver = await Promise.race([ended.then(() => true, () => true), pause(100).then(() => false)])
    }
    remove()
  })
  return await cleanup.orInterrupted(ended)
}

function parsed (): Wish | undefined {
  try {
    return parse(process.argv.slice(2))
  } catch (error) {
    say(`container-test: ${messageOf(error)}`)
    return undefined
  }
}

const wish = parsed()
if (wish === undefined) process.exit(couldNotRun)
const folder = path.join(process.env['TMPDIR'] ?? '/var/tmp', `volbridge-container-${randomBytes(4).toString('hex')}`)
const verdict = await doAndUndo({
  say,
  failedCode: couldNotRun,
  work: async (cleanup) => await runContainer(folder, wish, cleanup),
  leftovers: () => [
    ...mountsBelow(folder).map((point) => `mount ${point}`), ...processesOf(folder).map((pid) => `process ${pid}`),
    ...existsSync(folder) ? [`folder ${folder}`] : []
  ]
})
if (verdict === 0) say('PASSED')
else if (verdict === couldNotRun) {
  say(
    `FAILED (${couldNotRun}): the container, the mount or the unmount failed, not the command; what is above says why`
  )
} else say(`FAILED: the command ended with ${verdict}`)
process.exit(verdict)
