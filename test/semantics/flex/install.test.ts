/**
 * The packed binary installs itself as kubelet's driver: on the node, from a container, over a live mount, and where it
 * cannot.
 */
import { spawn } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  watch,
  writeFileSync
} from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { flexCall, Kubelet, type FlexDriver } from '../../peers/kubelet.ts'
import { showProcess } from '../../peers/node-root.ts'
import { testNeeding } from '../../peers/testing.ts'
import { binary, mountsBelow, run, shell, TestNode, type Ran } from '../endtoend/node.ts'

const check = testNeeding('root')
const checkMounts = testNeeding('root', 'fuse', 'ganesha')

let folder: string

test.beforeEach(() => { folder = mkdtempSync('/var/tmp/volbridge-install-') })
test.afterEach.always(() => { rmSync(folder, { recursive: true, force: true }) })

const plugins = (): string => path.join(folder, 'plugins')
const driver = (name = 'volbridge.io~volbridge/volbridge'): string => path.join(plugins(), name)
const install = async (...args: readonly string[]): Promise<Ran> =>
  await run(binary, ['flex-install', '--plugin-dir', plugins(), ...args])
const uninstall = async (...args: readonly string[]): Promise<Ran> =>
  await run(binary, ['flex-uninstall', '--plugin-dir', plugins(), '--state-dir', path.join(folder, 'state'), ...args])

check('flex-install makes one file that answers init, a second time leaves it alone, flex-uninstall leaves nothing', async (t) => {
  const first = await install()
  t.is(first.code, 0, first.stderr)
  t.regex(first.stdout, /installed \((copy|reflink)\)/)
  t.deepEqual(readdirSync(plugins(), { recursive: true }), [
    'volbridge.io~volbridge', 'volbridge.io~volbridge/volbridge'
  ])
  const facts = lstatSync(driver())
  t.deepEqual([facts.mode & 0o7777, facts.uid, facts.gid, facts.nlink], [0o755, 0, 0, 1])
  t.is((await flexCall({ file: driver(), env: {} }, ['init'])).answer.status, 'Success')
  const again = await install('--json')
  t.is((JSON.parse(again.stdout) as { drivers: Array<{ deed: string }> }).drivers[0]?.deed, 'unchanged')
  t.is(lstatSync(driver()).ino, facts.ino)
  const removed = await uninstall()
  t.is(removed.code, 0, removed.stderr)
  t.deepEqual(readdirSync(plugins()), [])
  t.regex((await uninstall()).stdout, /is not installed/)
})

check('several names share one file on disk, and each is a driver', async (t) => {
  const names = ['--driver', 'volbridge.io/volbridge', '--driver', 'example.org/nfs', '--driver', 'example.org/other']
  const ran = await install(...names)
  t.is(ran.code, 0, ran.stderr)
  const files = ['volbridge.io~volbridge/volbridge', 'example.org~nfs/nfs', 'example.org~other/other'].map(driver)
  t.is(new Set(files.map((file) => lstatSync(file).ino)).size, 1)
  for (const file of files) t.is((await flexCall({ file, env: {} }, ['init'])).answer.status, 'Success')
  t.is((await uninstall(...names)).code, 0)
  t.deepEqual(readdirSync(plugins()), [])
})

check('--kernel adds the driver for client=kernel; kubelet is not to ask its mounts for statistics; flex-uninstall takes both away', async (t) => {
  const ran = await install('--kernel')
  t.is(ran.code, 0, ran.stderr)
  const initOf = async (name: string): Promise<unknown> =>
    (await flexCall({ file: driver(name), env: {} }, ['init'])).answer.capabilities?.['supportsMetrics']
  t.is(await initOf('volbridge.io~volbridge/volbridge'), true)
  t.is(await initOf('volbridge.io~volbridge-kernel/volbridge-kernel'), false)
  const { answer } = await flexCall({ file: driver('volbridge.io~volbridge-kernel/volbridge-kernel'), env: {} }, [
    'mount', '/none', '{"client":"fuse"}'
  ])
  t.regex(answer.message ?? '', /contradicts this driver/)
  mkdirSync(path.join(plugins(), 'example.org~nfs-kernel'))
  t.is((await uninstall()).code, 0)
  t.deepEqual(readdirSync(plugins()), ['example.org~nfs-kernel'])
})

check('a watcher of the folder never sees a plain name without a whole driver behind it', async (t) => {
  mkdirSync(plugins())
  const whole = lstatSync(binary).size
  const seen: string[] = []
  const look = (name: string | null): void => {
    if (name === null || path.basename(name).startsWith('.') || name.startsWith('.')) return
    const size = existsSync(driver()) ? lstatSync(driver()).size : -1
    seen.push(`${name} ${size === whole || size === whole + 4 ? 'whole' : size}`)
  }
  const watching = [watch(plugins(), (_, name) => { look(name) })]
  try {
    t.is((await install()).code, 0)
    watching.push(watch(path.dirname(driver()), (_, name) => { look(name) }))
    const newer = path.join(folder, 'newer')
    copyFileSync(binary, newer)
    appendFileSync(newer, 'next')
    chmodSync(newer, 0o755)
    t.is((await run(newer, ['flex-install', '--plugin-dir', plugins()])).code, 0)
    await pause(100)
  } finally {
    for (const watcher of watching) watcher.close()
  }
  t.true(seen.length > 0)
  t.deepEqual(seen.filter((line) => !line.endsWith(' whole')), [])
})

check('what is in the way is told with a remedy, and is left as it was', async (t) => {
  mkdirSync(driver('other.org~nfs'), { recursive: true })
  writeFileSync(driver('other.org~nfs/nfs'), '#!/bin/sh\n', { mode: 0o755 })
  const foreign = await install('--driver', 'other.org/nfs')
  t.is(foreign.code, 1)
  t.regex(foreign.stderr, /another driver's and is not replaced/)
  t.is(readFileSync(driver('other.org~nfs/nfs'), 'utf8'), '#!/bin/sh\n')
  t.regex((await uninstall('--driver', 'other.org/nfs')).stderr, /another driver's/)

  symlinkSync('/tmp', driver('volbridge.io~volbridge'))
  t.regex((await install()).stderr, /symbolic link, which kubelet does not follow/)
  rmSync(driver('volbridge.io~volbridge'))

  t.is((await install()).code, 0)
  writeFileSync(driver('volbridge.io~volbridge/notes'), 'mine')
  t.regex((await uninstall()).stderr, /notes, which is not ours/)
  t.true(existsSync(driver()))
  t.is((await install('--host-root', path.join(folder, 'empty'))).code, 2)
})

check('a read-only plugin folder, a full one and one without exec are errors with a remedy, and nothing is left in them', async (t) => {
  const cases = [
    ['ro', 'mode=755,size=200m', /read-only.*--volume-plugin-dir/i, 'remount,ro'],
    ['full', 'mode=755,size=8m', /no space left.*make room/i, undefined],
    ['noexec', 'mode=755,size=200m,noexec', /does not run on this node.*noexec/i, undefined]
  ] as const
  for (const [name, options, words, then] of cases) {
    const at = path.join(folder, name)
    mkdirSync(at)
    await shell(`mount -t tmpfs -o ${options} tmpfs ${at}`)
    try {
      if (then !== undefined) await shell(`mount -o ${then} ${at}`)
      const ran = await run(binary, ['flex-install', '--plugin-dir', at])
      t.is(ran.code, 1)
      t.regex(ran.stderr, words)
      t.deepEqual(readdirSync(at), [])
    } finally {
      await shell(`umount ${at}`)
    }
  }
})

check('from a container the node\'s folder is filled, through the node\'s own links; --watch puts back what somebody removed and leaves it at its end', async (t) => {
  const root = path.join(folder, 'node')
  for (const name of ['etc', 'var/lib', 'data/kubelet/plugins', 'lib64']) {
    mkdirSync(path.join(root, name), { recursive: true })
  }
  symlinkSync('/data/kubelet', path.join(root, 'var/lib/kubelet'))
  showProcess(root, 42, { argv: ['kubelet', '--volume-plugin-dir=/var/lib/kubelet/plugins'] })
  writeFileSync(path.join(root, 'proc/1/mountinfo'), '')
  writeFileSync(path.join(root, 'lib64/libc.so.6'), '\0GLIBC_2.28\0')
  writeFileSync(path.join(root, 'lib64/libstdc++.so.6'), '\0GLIBCXX_3.4.21\0')
  const made = path.join(root, 'data/kubelet/plugins/volbridge.io~volbridge/volbridge')
  const watching = spawn(binary, ['flex-install', '--host-root', root, '--watch', '1'], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const ended = new Promise((resolve) => { watching.once('exit', resolve) })
  try {
    const said: string = await new Promise((resolve) => {
      watching.stdout.once('data', (text: Buffer) => { resolve(text.toString()) })
    })
    t.regex(
      said,
      /plugin folder \/var\/lib\/kubelet\/plugins \(--volume-plugin-dir of process 42\)\n.*installed.*: \/var\/lib\/kubelet\/plugins\/volbridge\.io~volbridge\/volbridge/
    )
    rmSync(path.dirname(made), { recursive: true })
    for (const untilMs = monotonicMs() + 60_000; !existsSync(made) && monotonicMs() < untilMs;) await pause(50)
  } finally {
    watching.kill('SIGTERM')
  }
  t.is(await ended, 0)
  t.true(existsSync(made))
  t.is((await run(binary, ['flex-uninstall', '--host-root', root])).code, 0)
  t.deepEqual(readdirSync(path.join(root, 'data/kubelet/plugins')), [])
  writeFileSync(path.join(root, 'lib64/libc.so.6'), '\0GLIBC_2.17\0')
  t.regex(
    (await run(binary, ['flex-install', '--host-root', root])).stderr,
    /below what volbridge needs.*older than glibc 2\.28/
  )
})

checkMounts('an upgrade while a pod has its mount leaves the mount alone, and the next mount works; flex-uninstall says what still lives', async (t) => {
  const server = await Ganesha.start()
  const node = new TestNode()
  try {
    for (const name of ['one', 'two']) mkdirSync(path.join(server.folder, name))
    t.is((await install()).code, 0)
    const flex: FlexDriver = {
      file: driver(), env: { VOLBRIDGE_STATE_DIR: node.state, VOLBRIDGE_RUN_DIR: node.runtime }
    }
    const kubelet = new Kubelet(node.kubelet)
    const options = (subDir: string): Record<string, string> => ({
      server: server.host, share: server.folder, subDir, mountOptions: server.mountOptions
    })
    const [one, two] = ['one', 'two'].map((name) => kubelet.flexTarget(name, 'volbridge.io/volbridge', name)) as [
      string,
      string
    ]
    t.is((await kubelet.flexMount(flex, one, options('one')))?.answer.status, 'Success')
    const newer = path.join(folder, 'newer')
    copyFileSync(binary, newer)
    appendFileSync(newer, 'next')
    const ran = await run(newer, ['flex-install', '--plugin-dir', plugins()])
    t.regex(ran.stdout, /upgraded; mounts that are up go on/, ran.stderr)
    writeFileSync(path.join(one, 'after'), 'upgrade')
    t.is(readFileSync(path.join(server.folder, 'one/after'), 'utf8'), 'upgrade')
    const mounted = await kubelet.flexMount(flex, two, options('two'))
    t.is(mounted?.answer.status, 'Success', mounted?.answer.message)
    const removed = await run(binary, ['flex-uninstall', '--plugin-dir', plugins(), ...node.places.slice(0, 2)])
    t.is(removed.code, 0, removed.stderr)
    t.true(
      removed.stdout.includes('2 still mounted') && removed.stdout.includes(one) && removed.stdout.includes(two),
      removed.stdout
    )
    t.is(readFileSync(path.join(one, 'after'), 'utf8'), 'upgrade')
    t.is((await install()).code, 0)
    for (const target of [one, two]) t.is((await kubelet.flexUnmount(flex, target))?.answer.status, 'Success')
    t.deepEqual(mountsBelow(node.folder), [])
  } finally {
    await node.close()
    await server.close()
  }
})
