/**
 * Mount, run the user's command, unmount, tell the verdict; in one container that is gone afterwards.
 * Owns the order and the removal. Does not know what the command does.
 */
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { messageOf } from '../../agent/base/errors.ts'
import { startServerProcess } from '../../test/peers/nfs-server/process.ts'
import { Cleanup } from '../demonstration/cleanup.ts'
import { writeBundle } from './bundle.ts'

const binary = path.resolve(import.meta.dirname, '../../dist/volbridge')
const say = (text: string): void => { process.stderr.write(`${text}\n`) }

/** Runs in the container. $1 is the source, $2 the options, the rest the user's command. Its verdict is the user's, unless unmounting lost data. */
const inside = `
source=$1 options=$2; shift 2
volbridge mount "$source" /mnt -o "$options" || exit 125
"$@"; verdict=$?
cd / && volbridge unmount /mnt || { echo "unmount failed" >&2; [ $verdict -ne 0 ] || verdict=125; }
grep -q ' /mnt ' /proc/self/mountinfo && { echo "/mnt is still mounted" >&2; verdict=125; }
exit $verdict`

const example = ['/bin/sh', '-c', 'cp -a /etc/. /mnt/container-test.$$ && diff -r --no-dereference /etc /mnt/container-test.$$; code=$?; rm -r /mnt/container-test.$$; exit $code']

interface Wish { readonly server: string | undefined, readonly options: string | undefined, readonly command: readonly string[] }

function parse (args: readonly string[]): Wish {
  const split = args.indexOf('--')
  const own = split === -1 ? args : args.slice(0, split)
  const values = new Map<string, string>()
  for (let index = 0; index < own.length; index += 2) {
    const name = own[index] ?? ''
    const value = own[index + 1]
    if (!['--server', '-o'].includes(name) || value === undefined) throw new Error(`${name}: use --server HOST:/EXPORT, -o OPTIONS, and -- before your command`)
    values.set(name, value)
  }
  const command = split === -1 ? [] : args.slice(split + 1)
  return { server: values.get('--server'), options: values.get('-o'), command: command.length === 0 ? example : command }
}

async function serve (folder: string, cleanup: Cleanup): Promise<{ source: string, options: string }> {
  const exported = path.join(folder, 'export')
  mkdirSync(exported)
  const server = await startServerProcess({ folder: exported })
  cleanup.add('NFS server', async () => { await server.close() })
  return { source: `127.0.0.1:${server.share}`, options: server.mountOptions }
}

async function runContainer (wish: Wish, cleanup: Cleanup): Promise<number> {
  const folder = mkdtempSync('/var/tmp/volbridge-container-')
  cleanup.add('folder', () => {
    const mounted = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter((line) => line.split(' ')[4]?.startsWith(folder) === true)
    if (mounted.length > 0) throw new Error(`still mounted below ${folder}`)
    rmSync(folder, { recursive: true, force: true })
  })
  const { source, options } = wish.server === undefined ? await serve(folder, cleanup) : { source: wish.server, options: wish.options ?? 'hard' }
  const id = path.basename(folder)
  const terminal = process.stdin.isTTY && process.stdout.isTTY
  writeBundle(folder, { binary, hostname: 'volbridge-test', command: ['/bin/sh', '-c', inside, 'container-test', source, options, ...wish.command], terminal })
  const runc = ['--root', path.join(folder, 'runc')]
  cleanup.add('container', () => { spawnSync('runc', [...runc, 'delete', '--force', id], { stdio: 'ignore' }) })
  const child = spawn('runc', [...runc, 'run', '--bundle', folder, id], { stdio: terminal ? 'inherit' : ['ignore', 'inherit', 'inherit'] })
  return await new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => { resolve(code ?? 125) })
  })
}

const cleanup = new Cleanup()
cleanup.onSignals(say)
let verdict = 125
try {
  const wish = parse(process.argv.slice(2))
  verdict = await runContainer(wish, cleanup)
  say(verdict === 0 ? 'PASSED' : `FAILED: the command ended with ${verdict}`)
} catch (error) {
  say(`container-test: ${messageOf(error)}`)
}
for (const failure of await cleanup.run()) {
  say(`cleaning up: ${failure}`)
  verdict = 125
}
process.exitCode = verdict
