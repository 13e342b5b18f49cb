/**
 * Names that change under root's feet: a process of uid nobody swaps folders, links and pipes in a folder of its own
 * in a loop, while root mounts, unmounts, installs, removes and looks there. Nothing outside of that folder may
 * change.
 */
import { execFileSync, spawn, type ChildProcessByStdio } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync, chownSync, copyFileSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync,
  writeFileSync
} from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import type { Readable } from 'node:stream'
import type { ExecutionContext } from 'ava'
import { monotonicMs } from '../../../agent/base/deadline.ts'
import { HostError, VolumeError } from '../../../agent/base/errors.ts'
import { HostCalls } from '../../../agent/host/host-calls.ts'
import { Mounts } from '../../../agent/host/mounts.ts'
import { NodeVolumeHost } from '../../../agent/volumes/volume-host.ts'
import { chooseSeed } from '../../model/seed.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { testNeeding } from '../../peers/testing.ts'
import { binary, mountsBelow, run, TestNode } from '../endtoend/node.ts'

const nobody = 65534
/** Each of the three parts. */
const partMs = process.env['VOLBRIDGE_LONG'] === '1' ? 60_000 : 6000

/** `theirs` is the attacker's, `precious` is where its links lead. */
interface Ground {
  readonly folder: string
  readonly theirs: string
  readonly precious: string
}

function makePrecious (precious: string): void {
  mkdirSync(path.join(precious, 'target'), { recursive: true, mode: 0o700 })
  mkdirSync(path.join(precious, 'volbridge.io~volbridge'), { mode: 0o700 })
  writeFileSync(path.join(precious, 'volbridge.io~volbridge/volbridge'), 'volbridge.addonSource', { mode: 0o600 })
  mkdirSync(path.join(precious, 'made'))
  writeFileSync(path.join(precious, 'k.yaml'), 'volumePluginDir: /nowhere\n', { mode: 0o600 })
  writeFileSync(path.join(precious, 'secret'), 'root’s', { mode: 0o600 })
}

function makeGround (): Ground {
  const folder = mkdtempSync('/var/tmp/volbridge-renames-')
  chmodSync(folder, 0o755)
  const [theirs, precious] = [path.join(folder, 'theirs'), path.join(folder, 'precious')]
  makePrecious(precious)
  for (const name of ['place/target', 'other/target']) mkdirSync(path.join(theirs, name), { recursive: true })
  symlinkSync(precious, path.join(theirs, 'link'))
  symlinkSync(path.join(precious, 'target'), path.join(theirs, 'place/end'))
  writeFileSync(path.join(theirs, 'place/k.yaml'), 'volumePluginDir: /nowhere\n')
  execFileSync('mkfifo', [path.join(theirs, 'place/pipe')])
  execFileSync('chown', ['-hR', `${nobody}:${nobody}`, theirs])
  return { folder, theirs, precious }
}

/** Everything that root could change about what lies at a path and below it. */
function factsOf (at: string): readonly string[] {
  const flags = [['-R'], ['-d']].map((how) => execFileSync('lsattr', [...how, at], { encoding: 'utf8' })).join('')
  const facts = ['', ...readdirSync(at, { recursive: true, encoding: 'utf8' })].sort().map((name) => {
    const file = path.join(at, name)
    const { uid, gid, mode, size, ino, nlink, ctimeMs } = lstatSync(file)
    const content = lstatSync(file).isFile() ? createHash('sha256').update(readFileSync(file)).digest('hex') : ''
    return `${name} ${uid}:${gid} ${mode.toString(8)} ${size} ${ino} ${nlink} ${ctimeMs} ${content}`
  })
  return [...facts, flags, ...mountsBelow(at).map(({ point, type }) => `${type} at ${point}`)]
}

interface Renamer {
  /** Ends it; answers how often it swapped. */
  stop (): Promise<number>
}

async function startRenamer (theirs: string, seed: number): Promise<Renamer> {
  const child: ChildProcessByStdio<null, Readable, null> = spawn(
    'python3', [path.resolve('test/peers/renamer.py'), theirs, String(seed)],
    { uid: nobody, gid: nobody, stdio: ['ignore', 'pipe', 'inherit'] }
  )
  let said = ''
  const ended = new Promise((resolve) => { child.once('close', resolve) })
  await new Promise<void>((resolve) => {
    child.stdout.on('data', (text: Buffer) => { said += text.toString(); resolve() })
  })
  return {
    stop: async () => {
      child.kill('SIGTERM')
      await ended
      return Number(said.split('\n')[1])
    }
  }
}

/** How a deed ended: done, or refused by an error that says why. Anything else is a fault of the test or of ours. */
async function tried (deed: () => Promise<unknown>): Promise<'done' | 'refused'> {
  try {
    await deed()
    return 'done'
  } catch (error) {
    if (error instanceof HostError || error instanceof VolumeError) return 'refused'
    throw error
  }
}

type Deeds = Readonly<Record<string, () => Promise<'done' | 'refused'>>>

/** A loaded machine gets this long for each deed to be done once. */
const hangMs = 120_000

/**
 * Does them in turn for a while, as long as names change, until each of `wanted` was done; then nothing precious may
 * have changed.
 */
async function whileNamesChange (
  t: ExecutionContext,
  ground: Ground,
  deeds: Deeds,
  wanted: readonly string[] = []
): Promise<Map<string, number>> {
  const before = factsOf(ground.precious)
  const renamer = await startRenamer(
    ground.theirs,
    chooseSeed((text) => { t.log(text) })
  )
  const counts = new Map<string, number>()
  try {
    const isMissing = (name: string): boolean => !counts.has(`${name} done`)
    const begunMs = monotonicMs()
    const isOver = (): boolean => {
      const ms = monotonicMs() - begunMs
      return ms > partMs && (ms > hangMs || !wanted.some(isMissing))
    }
    while (!isOver()) {
      for (const [name, deed] of Object.entries(deeds)) {
        const outcome = `${name} ${await deed()}`
        counts.set(outcome, (counts.get(outcome) ?? 0) + 1)
      }
    }
  } finally {
    const swaps = await renamer.stop()
    t.log(`${swaps} swaps; ${[...counts].map(([outcome, count]) => `${count} ${outcome}`).join(', ')}`)
    t.true(swaps > 1000, 'names have changed all the time')
  }
  t.deepEqual(factsOf(ground.precious), before)
  for (const name of wanted) t.true(counts.has(`${name} done`), `${name} was never done`)
  return counts
}

/** Mounts that are left where the names led at last, and flags that a swap has kept us from clearing: all theirs. */
async function clear ({ folder, theirs }: Ground): Promise<void> {
  for (const { point } of [...mountsBelow(folder)].reverse()) await run('umount', ['-l', point])
  await run('chattr', ['-R', '-f', '-i', theirs])
  rmSync(folder, { recursive: true, force: true })
}

async function onGround (work: (ground: Ground) => Promise<void>): Promise<void> {
  const ground = makeGround()
  try {
    await work(ground)
  } finally {
    await clear(ground)
  }
}

const check = testNeeding('root')
const checkMounts = testNeeding('root', 'fuse', 'ganesha')

check('folders are made, made immutable, mounted on, unmounted and removed where they were looked at, or not at all', async (t) => {
  await onGround(async (ground) => {
    const mounts = new Mounts(new HostCalls())
    const host = new NodeVolumeHost(mounts)
    const source = path.join(ground.folder, 'source')
    mkdirSync(source)
    const at = async (name: string): Promise<string> => {
      const { path: resolved } = await host.inspect(path.join(ground.theirs, 'place', name))
      t.true(resolved.startsWith(`${ground.theirs}/`), resolved)
      return resolved
    }
    const after = async (name: string, deed: (resolved: string) => Promise<void>): Promise<'done' | 'refused'> =>
      await tried(async () => { await deed(await at(name)) })
    await whileNamesChange(t, ground, {
      'immutable': async () =>
        await after('target', async (where) => { await host.setImmutable(where, true) }),
      'plain': async () =>
        await after('target', async (where) => { await host.setImmutable(where, false) }),
      'chmod': async () =>
        await after('target', async (where) => { await mounts.chmod(where, 0o755) }),
      'bind': async () =>
        await after('target', async (target) => { await host.bind({ source, target, flags: 0, readOnly: false }) }),
      'read-only bind': async () =>
        await after('target', async (target) => { await host.bind({ source, target, flags: 0, readOnly: true }) }),
      'detach': async () =>
        await after('target', async (where) => { await host.detachBind(where) }),
      'mkdir': async () =>
        await after('made', async (where) => { await host.makeFolder(where, 0o700) }),
      'rmdir': async () =>
        await after('made', async (where) => { await host.removeFolder(where) })
    }, ['immutable', 'bind', 'read-only bind', 'detach', 'mkdir', 'rmdir'])
  })
})

checkMounts('mounts and unmounts of the agent end up where the folder was looked at, or nowhere', async (t) => {
  await onGround(async (ground) => {
    const [server, node] = [await Ganesha.start(), new TestNode()]
    try {
      await node.startAgent()
      const options = JSON.stringify({ server: server.host, share: server.folder, mountOptions: server.mountOptions })
      const target = path.join(ground.theirs, 'place/target')
      const env = { VOLBRIDGE_STATE_DIR: node.state, VOLBRIDGE_RUN_DIR: node.runtime }
      const flex = async (...args: readonly string[]): Promise<'done' | 'refused'> => {
        const { stdout } = await run(binary, ['flex', ...args], { env })
        return (JSON.parse(stdout) as { status: string }).status === 'Success' ? 'done' : 'refused'
      }
      const byHand = async (...args: readonly string[]): Promise<'done' | 'refused'> =>
        (await node.command([...args, ...node.places])).code === 0 ? 'done' : 'refused'
      await whileNamesChange(t, ground, {
        'publish': async () => await flex('mount', target, options),
        'unpublish': async () => await flex('unmount', target),
        'mount': async () =>
          await byHand('mount', `${server.host}:${server.folder}`, target, '-o', server.mountOptions),
        'unmount': async () => await byHand('unmount', target)
      }, ['publish', 'unpublish'])
    } finally {
      await node.close()
      await server.close()
    }
  })
})

/** bash under kubelet's name: it sleeps, and is told more than it understands. */
function startKubelet (folder: string, ...args: readonly string[]): () => void {
  const file = path.join(folder, 'sbin/kubelet')
  mkdirSync(path.dirname(file))
  copyFileSync('/bin/bash', file)
  chownSync(file, 0, 0)
  const child = spawn(file, ['-c', 'while :; do read -t 60; done', ...args], { stdio: ['pipe', 'ignore', 'ignore'] })
  return () => { child.kill('SIGKILL') }
}

check('flex-install, flex-uninstall and doctor do nothing in a folder whose names others change, and do not wait', async (t) => {
  await onGround(async (ground) => {
    const place = path.join(ground.theirs, 'place')
    const stop = startKubelet(ground.folder, `--config=${place}/k.yaml`)
    try {
      const packed = async (...args: readonly string[]): Promise<'done' | 'refused'> => {
        const { code, stderr } = await run(binary, args, { timeoutMs: 60_000 })
        if (code !== 0 && code !== 1) throw new Error(`${args.join(' ')}: ${code} ${stderr}`)
        return code === 0 ? 'done' : 'refused'
      }
      const state = ['--state-dir', path.join(ground.folder, 'no-state')]
      const counts = await whileNamesChange(t, ground, {
        'install': async () => await packed('flex-install', '--plugin-dir', place),
        'install below': async () => await packed('flex-install', '--plugin-dir', path.join(place, 'new')),
        'uninstall': async () => await packed('flex-uninstall', '--plugin-dir', place, ...state),
        'uninstall with their journal': async () =>
          await packed('flex-uninstall', '--plugin-dir', ground.precious, '--state-dir', place),
        'install where kubelet says': async () => await packed('flex-install'),
        'doctor': async () => {
          await packed('doctor')
          return 'done'
        }
      })
      for (const outcome of counts.keys()) t.regex(outcome, /^doctor done$|refused$/)
      t.deepEqual(readdirSync(place).filter((name) => name.includes('volbridge') || name === 'new'), [])
    } finally {
      stop()
    }
  })
})
