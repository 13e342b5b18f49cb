/**
 * Processes and folders that pretend to be kubelet's: doctor and flex-install run as root and believe none of them.
 * The packed binary, real processes of uid nobody in namespaces of their own.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import {
  chmodSync, chownSync, copyFileSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync,
  writeFileSync
} from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { pause } from '../../../agent/base/deadline.ts'
import { testNeeding } from '../../peers/testing.ts'
import { binary, run, type Ran } from '../endtoend/node.ts'

const check = testNeeding('root', 'gcc')
const nobody = 65534

/** Sleeps. Asked for its version, it tells who asked: a program that somebody has root run. */
const program = `
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main (int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--version") == 0) {
    int fd = open(WITNESS, O_WRONLY | O_CREAT, 0644);
    return fd < 0 || dprintf(fd, "ran as uid %d\\n", (int)getuid()) < 0;
  }
  for (;;) pause();
}`

let folder: string
let compiled: string
const started: ChildProcess[] = []

test.before(() => {
  folder = mkdtempSync('/var/tmp/volbridge-impostors-')
  chmodSync(folder, 0o755)
  mkdirSync(path.join(folder, 'open'))
  chmodSync(path.join(folder, 'open'), 0o777)
  writeFileSync(path.join(folder, 'p.c'), program)
  compiled = path.join(folder, 'compiled')
  execFileSync('gcc', [
    '-O1', `-DWITNESS="${path.join(folder, 'open/witness')}"`, '-o', compiled, path.join(folder, 'p.c')
  ])
})
test.afterEach.always(() => { for (const child of started.splice(0)) child.kill('SIGKILL') })
test.after.always(() => { if (folder !== undefined) rmSync(folder, { recursive: true, force: true }) })

/** A folder of nobody's with a program named kubelet. */
function theirs (name: string): string {
  const own = path.join(folder, name)
  mkdirSync(own)
  copyFileSync(compiled, path.join(own, 'kubelet'))
  for (const each of [own, path.join(own, 'kubelet')]) chownSync(each, nobody, nobody)
  return own
}

async function untilNamed (child: ChildProcess): Promise<void> {
  const isNamed = (): boolean => {
    const all = execFileSync('ps', ['-eo', 'pid=,comm='], { encoding: 'utf8' })
    return all.split('\n').some((line) => line.trim().endsWith(' kubelet'))
  }
  for (let n = 0; !isNamed(); n++) {
    if (n > 500 || child.exitCode !== null) throw new Error(`no process is named kubelet (${child.exitCode})`)
    await pause(20)
  }
}

/** As any process of the node can: root of a user and a mount namespace of its own, and nobody outside of them. */
async function pretend (own: string, ...args: readonly string[]): Promise<void> {
  const child = spawn('setpriv', [
    '--reuid', String(nobody), '--regid', String(nobody), '--clear-groups', 'unshare', '--user', '--map-root-user',
    '--mount',
    path.join(own, 'kubelet'), ...args
  ], { stdio: 'ignore', cwd: '/' })
  started.push(child)
  await untilNamed(child)
}

/** A program that root has put where root alone can, run by root. */
async function runReal (...args: readonly string[]): Promise<void> {
  const own = path.join(folder, 'sbin')
  mkdirSync(own, { recursive: true })
  if (!existsSync(path.join(own, 'kubelet'))) copyFileSync(compiled, path.join(own, 'kubelet'))
  const child = spawn(path.join(own, 'kubelet'), [...args], { stdio: 'ignore', cwd: '/' })
  started.push(child)
  await untilNamed(child)
}

/** Everything about what lies in a folder that root could have changed. */
function factsOf (at: string): readonly string[] {
  return ['', ...readdirSync(at, { recursive: true, encoding: 'utf8' })].sort().map((name) => {
    const { uid, gid, mode, size, ino, ctimeMs } = lstatSync(path.join(at, name))
    return `${name} ${uid}:${gid} ${mode.toString(8)} ${size} ${ino} ${ctimeMs}`
  })
}

const hangMs = 60_000
const doctor = async (): Promise<string> => (await run(binary, ['doctor'], { timeoutMs: hangMs })).stdout
const install = async (...args: readonly string[]): Promise<Ran> =>
  await run(binary, ['flex-install', ...args], { timeoutMs: hangMs })

/**
 * A root folder in which no place of a distribution is known, so that processes alone can say where; theirs is in it.
 */
function bareRoot (...shown: readonly string[]): string {
  const root = mkdtempSync(path.join(folder, 'root-'))
  for (const name of ['etc', 'usr', ...shown]) mkdirSync(path.join(root, name), { recursive: true })
  for (const name of shown) chownSync(path.join(root, name), nobody, nobody)
  return root
}

check('doctor runs no other process’s program, whatever it calls itself, and says that it is not believed', async (t) => {
  const own = theirs('runner')
  await pretend(own, `--volume-plugin-dir=${own}`)
  const said = await doctor()
  t.regex(said, /kubelet.* process \d+ has a kubelet's name and is not believed \(it runs as uid 65534\)/)
  await runReal()
  t.regex(await doctor(), /ok +kubelet +kubelet runs \(process \d+/)
  t.false(existsSync(path.join(folder, 'open/witness')), 'neither was run')
})

check('flex-install takes no folder from a process that only says that it is kubelet, and touches nothing of it', async (t) => {
  const own = theirs('trapper')
  const root = bareRoot(own)
  const before = [factsOf(own), factsOf(path.join(root, own))]
  await pretend(own, `--volume-plugin-dir=${own}`)
  const ran = await install('--host-root', root)
  t.is(ran.code, 1)
  t.regex(ran.stderr, /no kubelet runs.*is not believed.*--plugin-dir/)
  t.deepEqual([factsOf(own), factsOf(path.join(root, own))], before)
})

check('processes that sleep under kubelet’s name block no install', async (t) => {
  const plugins = path.join(folder, 'plugins')
  await runReal(`--volume-plugin-dir=${plugins}`)
  for (const name of ['sleeper', 'second']) {
    await pretend(theirs(name), `--volume-plugin-dir=${path.join(folder, name)}`)
  }
  const ran = await install()
  t.is(ran.code, 0, ran.stderr)
  t.true(existsSync(path.join(plugins, 'volbridge.io~volbridge/volbridge')))
  t.is((await run(binary, ['flex-uninstall', '--state-dir', path.join(folder, 'no-state')])).code, 0)
  t.deepEqual(readdirSync(plugins), [])
})

check('a pipe as kubelet’s configuration hangs neither doctor nor flex-install, and is told', async (t) => {
  const pipe = path.join(folder, 'pipe.yaml')
  execFileSync('mkfifo', [pipe])
  await pretend(theirs('piper'), `--config=${pipe}`)
  t.not(await doctor(), '')
  t.regex((await install('--host-root', bareRoot())).stderr, /not believed/)
  await runReal(`--config=${pipe}`)
  t.regex(await doctor(), /WARN +flex plugin folder .*pipe\.yaml is not a regular file/)
  const ran = await install()
  t.is(ran.code, 1)
  t.regex(ran.stderr, /pipe\.yaml is not a regular file.*--plugin-dir/)
})

check('a plugin folder on whose way others can write is refused, and root does nothing there', async (t) => {
  const precious = path.join(folder, 'precious')
  mkdirSync(path.join(precious, 'volbridge.io~volbridge'), { recursive: true })
  writeFileSync(path.join(precious, 'volbridge.io~volbridge/volbridge'), 'volbridge.addonSource', { mode: 0o600 })
  const own = theirs('linker')
  symlinkSync(precious, path.join(own, 'link'))
  execFileSync('chown', ['-h', `${nobody}:${nobody}`, path.join(own, 'link')])
  mkdirSync(path.join(own, 'plain'))
  const before = factsOf(precious)
  for (const name of ['link', 'plain', 'plain/new', 'link/new']) {
    for (const call of ['flex-install', 'flex-uninstall']) {
      const args = call === 'flex-install' ? [] : ['--state-dir', path.join(folder, 'no-state')]
      const ran = await run(binary, [call, '--plugin-dir', path.join(own, name), ...args])
      t.is(ran.code, 1, `${call} ${name}`)
      t.regex(ran.stderr, /plugin folder .*linker belongs to uid 65534.*chown root/)
    }
  }
  t.deepEqual(factsOf(precious), before)
  t.deepEqual(readdirSync(path.join(own, 'plain')), [])
})

check('a driver’s folder that others can write to is refused, and what lies in it is neither run nor replaced', async (t) => {
  const plugins = path.join(folder, 'loose')
  const inside = path.join(plugins, 'volbridge.io~volbridge')
  mkdirSync(inside, { recursive: true })
  copyFileSync(compiled, path.join(inside, 'volbridge'))
  chmodSync(inside, 0o777)
  const before = factsOf(inside)
  const ran = await install('--plugin-dir', plugins)
  t.is(ran.code, 1)
  t.regex(ran.stderr, /volbridge\.io~volbridge can be written by others \(mode 0777\).*chmod go-w/)
  t.deepEqual(factsOf(inside), before)
})

check('journals that others could have written make flex-uninstall change nothing', async (t) => {
  const plugins = path.join(folder, 'kept')
  t.is((await install('--plugin-dir', plugins)).code, 0)
  const state = path.join(folder, 'open/state')
  mkdirSync(path.join(state, 'journal'), { recursive: true })
  const ran = await run(binary, ['flex-uninstall', '--plugin-dir', plugins, '--state-dir', state])
  t.is(ran.code, 1)
  t.regex(ran.stderr, /open can be written by others/)
  t.true(existsSync(path.join(plugins, 'volbridge.io~volbridge/volbridge')))
})
