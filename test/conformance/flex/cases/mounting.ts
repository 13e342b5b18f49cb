/**
 * Mount and unmount on a real share.
 */
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmdirSync,
  statSync,
  unlinkSync,
  writeFileSync
} from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { deviceAt, encodeOptions, mountsAt, type PodVolume } from '../kubelet.ts'
import {
  require,
  requireBare,
  requireFailure,
  requireMannered,
  requireSuccess,
  type Bench,
  type Case
} from '../judge.ts'

const volumeOf = ({ options = {} }: Bench, pod: string, more: Partial<PodVolume> = {}): PodVolume => ({
  pod, name: 'data', options, ...more
})

/** Set up, used, taken down: whatever `use` does, the pod is gone afterwards. */
async function withPod (
  bench: Bench,
  pod: string,
  more: Partial<PodVolume>,
  use: (target: string) => Promise<void> | void
): Promise<void> {
  const { plugin } = bench
  requireSuccess(await plugin.setUp(volumeOf(bench, pod, more)), `mount for ${pod}`)
  const target = plugin.target(pod, 'data')
  try {
    require(mountsAt(target) === 1, `after success ${mountsAt(target)} mounts lie at the target`)
    await use(target)
  } finally {
    const outcome = await plugin.tearDown(pod, 'data')
    requireSuccess(outcome, `unmount for ${pod}`)
    require(mountsAt(target) === 0 && !existsSync(target), `after unmount something is left at ${target}`)
  }
}

async function mountTwice (bench: Bench): Promise<void> {
  await withPod(bench, 'twice', {}, async (target) => {
    require(await bench.plugin.setUp(volumeOf(bench, 'twice')) === 'already mounted', 'kubelet would have called again')
    requireSuccess(await bench.plugin.run('mount', [target, encodeOptions(volumeOf(bench, 'twice'))]), 'a second mount')
    require(mountsAt(target) === 1, 'a second mount was stacked on the first')
  })
  requireSuccess(await bench.plugin.run('unmount', [bench.plugin.target('twice', 'data')]), 'a second unmount')
}

async function keepData (bench: Bench): Promise<void> {
  const name = `kept-${process.pid}`
  await withPod(bench, 'writer', {}, (target) => { writeFileSync(path.join(target, name), 'kept') })
  await withPod(bench, 'reader', {}, (target) => {
    require(readFileSync(path.join(target, name), 'utf8') === 'kept', 'what one pod wrote is not there for the next')
    unlinkSync(path.join(target, name))
  })
}

async function readOnly (bench: Bench): Promise<void> {
  await withPod(bench, 'read-only', { readOnly: true }, (target) => {
    try {
      writeFileSync(path.join(target, `no-${process.pid}`), 'x')
    } catch (error) {
      require((error as NodeJS.ErrnoException).code === 'EROFS', `a write says ${String(error)}, not EROFS`)
      return
    }
    unlinkSync(path.join(target, `no-${process.pid}`))
    require(false, 'a read-only volume can be written')
  })
}

async function twoPods (bench: Bench): Promise<void> {
  const name = `shared-${process.pid}`
  await withPod(bench, 'first', {}, async (first) => {
    await withPod(bench, 'second', {}, (second) => {
      writeFileSync(path.join(second, name), 'x')
      require(existsSync(path.join(first, name)), 'two pods of one share do not see each other\'s files')
    })
    require(readdirSync(first).includes(name), 'taking one pod down harmed the other')
    unlinkSync(path.join(first, name))
  })
}

/** Secrets in argv are public for as long as a call lives; after it no process may show them. */
async function hideSecrets (bench: Bench): Promise<void> {
  const secret = `conformance-secret-${process.pid}`
  const forms = [secret, Buffer.from(secret).toString('base64')]
  await withPod(bench, 'secret', { secrets: { token: secret } }, () => {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
      for (const file of ['cmdline', 'environ']) {
        let text = ''
        try { text = readFileSync(`/proc/${pid}/${file}`, 'latin1') } catch { continue }
        require(!forms.some((form) => text.includes(form)), `process ${pid} shows the secret in its ${file}`)
      }
    }
  })
}

async function endBySignal (bench: Bench): Promise<void> {
  const { plugin } = bench
  const target = plugin.target('signal', 'data')
  for (const ms of [20, 60, 120, 250, 500]) {
    mkdirSync(target, { recursive: true, mode: 0o750 })
    const outcome = await plugin.run('mount', [target, encodeOptions(volumeOf(bench, 'signal'))], {
      started: (pid) => {
        void sleep(ms).then(() => { try { process.kill(pid, 'SIGTERM') } catch { /* It was quicker. */ } })
      }
    })
    // Before it has run a line of its own a program cannot answer; after that it must.
    if (outcome.signal === null) requireMannered(outcome, `SIGTERM after ${ms} ms`)
    // kubelet's next call comes after its backoff; one that the driver still works on is repeated.
    for (let tries = 0; tries < 100; tries++) {
      const unmounted = await plugin.tearDown('signal', 'data')
      if (unmounted === 'no folder' || unmounted.kind === 'success') break
      requireMannered(unmounted, 'unmount after SIGTERM')
      await sleep(100)
    }
    require(mountsAt(target) === 0 && !existsSync(target), `SIGTERM after ${ms} ms leaves something at ${target}`)
  }
}

async function manyAtOnce (bench: Bench): Promise<void> {
  const { plugin } = bench
  const pods = Array.from({ length: bench.crowd }, (_, n) => `many-${n}`)
  const mounted = await Promise.all(pods.map(async (pod) => await plugin.setUp(volumeOf(bench, pod))))
  const unmounted = await Promise.all(pods.map(async (pod) => await plugin.tearDown(pod, 'data')))
  for (const [n, pod] of pods.entries()) {
    requireSuccess(mounted[n] ?? '', `mount for ${pod}`)
    requireSuccess(unmounted[n] ?? '', `unmount for ${pod}`)
    require(!existsSync(plugin.target(pod, 'data')), `${pod} is left`)
  }
}

async function failClean (bench: Bench): Promise<void> {
  const target = bench.plugin.target('failing', 'data')
  mkdirSync(target, { recursive: true, mode: 0o750 })
  requireFailure(
    await bench.plugin.run('mount', [
      target, encodeOptions(volumeOf(bench, 'failing', { options: bench.failing ?? {} }))
    ]),
    'a mount that cannot work'
  )
  requireBare(target, 'a mount that cannot work')
  // What kubelet does next: it must be allowed.
  rmdirSync(target)
  require(
    !bench.plugin.isUnsupported('mount'),
    'a failing mount was answered "Not supported": kubelet would never call mount again'
  )
}

/** The connection of a FUSE mount, ended as a crash of its server ends it. Other file systems have none. */
function abortFuse (target: string): boolean {
  const abort = `/sys/fs/fuse/connections/${(deviceAt(target) ?? '').split(':')[1] ?? 'none'}/abort`
  if (!existsSync(abort)) return false
  writeFileSync(abort, '1')
  return true
}

async function replaceDead (bench: Bench): Promise<void> {
  const volume = volumeOf(bench, 'dead')
  await withPod(bench, 'dead', {}, async (target) => {
    if (!abortFuse(target)) return
    for (let tries = 0;; tries++) {
      const outcome = await bench.plugin.run('mount', [target, encodeOptions(volume)])
      requireMannered(outcome, 'mount over a dead mount')
      if (outcome.kind === 'success') break
      require(tries < 100, `a dead mount is not replaced: ${outcome.output}`)
      await sleep(100)
    }
    require(statSync(target).isDirectory() && readdirSync(target) !== undefined, 'the target is not usable')
  })
  await withPod(bench, 'dead-2', {}, (target) => { abortFuse(target) })
}

const needing = (title: string, run: Case['run']): Case => ({ title, run, needs: ['options'] })

export const cases: readonly Case[] = [
  needing('a pod\'s volume is mounted, written, read and unmounted, and the folder can be removed', async (bench) => {
    await withPod(bench, 'plain', {}, (target) => {
      writeFileSync(path.join(target, `own-${process.pid}`), 'x')
      unlinkSync(path.join(target, `own-${process.pid}`))
    })
  }),
  needing('mount and unmount may be repeated', mountTwice),
  needing('what was written is there after unmount and mount', keepData),
  needing('a read-only volume refuses writes with EROFS', readOnly),
  needing('an fsGroup is no reason to fail', async (bench) => {
    await withPod(bench, 'group', { fsGroup: 2000 }, () => undefined)
  }),
  needing('two pods share what they share, and one leaves without harm to the other', twoPods),
  needing('no process shows a secret after the call', hideSecrets),
  needing(
    'SIGTERM in the middle is answered with one JSON, and leaves nothing that unmount does not take away',
    endBySignal
  ),
  needing('a crowd of pods at once is mounted and unmounted', manyAtOnce),
  { title: 'a mount that fails leaves its folder empty, unmounted and removable', needs: ['failing'], run: failClean },
  needing('a dead mount is replaced by mount and taken away by unmount', replaceDead)
]
