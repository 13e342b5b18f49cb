/**
 * kubelet's probing while the driver is installed and upgraded.
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Prober } from '../probe.ts'
import { require, type Bench, type Case } from '../judge.ts'

/** Looks up plugins all the time, as a busy kubelet does, while `work` goes on. */
async function probeDuring (prober: Prober, work: Promise<void>): Promise<void> {
  let working = true
  const ended = work.finally(() => { working = false })
  while (working) {
    await prober.lookUp()
    await sleep(5)
  }
  await ended
  // Events may still be on their way.
  await sleep(200)
  await prober.lookUp()
}

async function installAndUpgrade ({ scratch, install, plugin }: Bench): Promise<void> {
  if (install === undefined) return
  const folder = mkdtempSync(path.join(scratch, 'plugins-'))
  const name = path.basename(path.dirname(plugin.executable)).replace('~', '/')
  const prober = new Prober(folder)
  try {
    for (const what of ['install', 'repeat']) {
      await probeDuring(prober, install(folder))
      const bad = prober.probes.find(({ outcome }) => outcome.kind !== 'success')
      require(
        bad === undefined,
        `during ${what} a probe failed: ${bad?.outcome.kind ?? ''} ${bad?.outcome.output.slice(0, 200) ?? ''}`
      )
      require(prober.loaded.has(name), `after ${what} kubelet has no driver ${name}: ${[...prober.loaded].join()}`)
    }
    await probeDuring(prober, sleep(300))
    require(
      prober.probes.length < 20,
      `${prober.probes.length} probes for two installs: something in the folder changes all the time`
    )
    rmSync(path.join(folder, name.replace('/', '~')), { recursive: true })
    await probeDuring(prober, sleep(50))
    require(!prober.loaded.has(name), 'the removed driver is still loaded')
  } finally {
    prober.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

async function ignoreOthers ({ scratch, plugin }: Bench): Promise<void> {
  const folder = mkdtempSync(path.join(scratch, 'plugins-'))
  mkdirSync(path.join(folder, '.hidden~driver'))
  symlinkSync(path.dirname(plugin.executable), path.join(folder, path.basename(path.dirname(plugin.executable))))
  const prober = new Prober(folder)
  try {
    await prober.lookUp()
    require(prober.probes.length === 0, 'a dot folder or a link to a folder was probed')
  } finally {
    prober.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

export const cases: readonly Case[] = [
  {
    title: 'no probe fails while the driver is installed and installed again', needs: ['install'],
    run: installAndUpgrade
  },
  { title: 'a driver behind a symbolic link or a dot name is none', needs: [], run: ignoreOthers }
]
