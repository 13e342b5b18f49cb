/**
 * What an agent finds when it starts, and what it does when its state cannot be kept: a damaged, newer or older
 * journal, a reboot, a full disk, an end in the middle of calls. The packed agent, real mounts, a pod's program that
 * must not notice.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { status } from '@grpc/grpc-js'
import test, { type ExecutionContext } from 'ava'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import { CallError } from '../../../proto/csi/client.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { Kubelet, type CsiVolume } from '../../peers/kubelet.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { TestNode, mountsBelow, processesOf, shell } from '../endtoend/node.ts'
import { repeating } from './repeating.ts'

const needs = ['root', 'fuse', 'ganesha'] as const
const check = testNeeding(...needs)
const driver = 'csi.volbridge.io'

let server: Ganesha

test.before(async () => {
  if (missing(...needs) !== undefined) return
  server = await Ganesha.start()
  for (const name of ['a', 'b']) {
    mkdirSync(path.join(server.folder, name))
    writeFileSync(path.join(server.folder, name, 'marker'), name)
  }
})
test.after.always(async () => { await server?.close() })

/** A node with two volumes, each staged and at one pod. */
class Scene {
  readonly node = new TestNode()
  readonly kubelet = new Kubelet(this.node.kubelet)
  readonly volumes: readonly CsiVolume[] = ['a', 'b'].map((subDir) => ({
    handle: subDir,
    attributes: { server: server.host, share: server.folder, subDir, mountOptions: server.mountOptions }
  }))

  target (volume: CsiVolume): string { return this.kubelet.csiTarget(`pod-${volume.handle}`, 'pv') }
  get journal (): string { return path.join(this.node.state, 'journal') }
  records (): readonly string[] { return readdirSync(this.journal).filter((name) => name.endsWith('.json')).sort() }
  async sessions (): Promise<readonly number[]> {
    return (await processesOf(this.node.runtime)).filter((line) => line.includes(' session ')).map((line) =>
      Number(line.split(' ')[0])
    )
  }

  async up (): Promise<void> {
    for (const volume of this.volumes) {
      await repeating(async () => await this.kubelet.stage(this.node.csiSocket, driver, volume))
      await repeating(async () =>
        await this.kubelet.publish(this.node.csiSocket, driver, volume, `pod-${volume.handle}`, 'pv')
      )
    }
  }

  async down (): Promise<void> {
    for (const volume of this.volumes) {
      await repeating(async () => {
        await this.kubelet.unpublish(this.node.csiSocket, volume.handle, this.target(volume))
      })
      await repeating(async () => { await this.kubelet.unstage(this.node.csiSocket, driver, volume.handle) })
    }
  }

  /** The next agent, after this one has ended in whatever way. */
  async next (): Promise<void> {
    for (const socket of [this.node.csiSocket, this.node.agentSocket]) rmSync(socket, { force: true })
    await this.node.startAgent()
  }

  /** Every pod's folder is one mount that shows its own export. */
  async isServed (t: ExecutionContext, why: string): Promise<void> {
    for (const volume of this.volumes) {
      t.is(mountsBelow(this.target(volume)).length, 1, why)
      t.is(
        (await shell(`cat ${this.target(volume)}/marker && echo ${why.length} > ${this.target(volume)}/written`, {
          timeoutMs: 60_000
        })).trim(),
        volume.handle,
        why
      )
    }
  }

  async isGone (t: ExecutionContext, why: string): Promise<void> {
    t.deepEqual(mountsBelow(this.node.folder).filter(({ type }) => type !== 'tmpfs'), [], why)
    t.deepEqual([this.records(), readdirSync(path.join(this.node.state, 'mounts'))], [[], []], why)
    for (const endMs = monotonicMs() + 90_000; (await this.sessions()).length > 0 && monotonicMs() < endMs;) {
      await pause(100)
    }
    t.deepEqual(await this.sessions(), [], why)
  }
}

const sumOf = (text: string): string => createHash('sha256').update(text).digest('hex')
const withHeader = (
  file: string,
  change: (header: Record<string, unknown>, body: string) => readonly [Record<string, unknown>, string]
): void => {
  const [head = '', text = ''] = readFileSync(file, 'utf8').split('\n')
  const [header, body] = change(JSON.parse(head) as Record<string, unknown>, text)
  writeFileSync(file, `${JSON.stringify(header)}\n${body}\n`)
}

const damages: Readonly<Record<string, (file: string) => void>> = {
  'a changed byte': (file) => { withHeader(file, (header, body) => [header, body.replace('"phase"', '"phasf"')]) },
  'a missing end': (file) => { truncateSync(file, 100) },
  'nothing in it': (file) => { truncateSync(file, 0) },
  'a newer format': (file) => { withHeader(file, (header, body) => [{ ...header, volbridge: 1000 }, body]) },
  'another kind of record': (file) => {
    withHeader(
      file,
      (header) => [
        { ...header, sha256: sumOf('{"kind":"odd","key":"k","phase":"p"}') }, '{"kind":"odd","key":"k","phase":"p"}'
      ]
    )
  }
}

check('F37: a journal damaged in any record and any way is said and set aside; pods go on, repeats mount nothing twice, and everything can be taken away', async (t) => {
  const scene = new Scene()
  t.teardown(async () => { await scene.node.close() })
  await scene.node.startAgent()
  await scene.up()
  const names = scene.records()
  t.is(names.length, 6, 'for each volume the shared mount, the staging and the target')
  const kinds = Object.entries(damages)
  for (let round = 0; round < 3; round++) {
    // Two records a round, each damaged in a way of its own; after three rounds every record and every way had its
    // turn.
    const victims = names.filter((_name, at) => at % 3 === round)
    const before = await scene.sessions()
    await scene.node.stopAgent('SIGKILL')
    const told = victims.map((name, nth) => {
      const [what = '', damage] = kinds[(round * 2 + nth) % kinds.length] ?? []
      damage?.(path.join(scene.journal, name))
      return `${what} in ${name.slice(0, 12)}`
    })
    await scene.next()
    const why = told.join()
    t.deepEqual(
      readdirSync(scene.journal).filter((name) => name.endsWith('.damaged')).sort(),
      victims.map((name) => `${name}.damaged`),
      why
    )
    t.true(
      scene.node.agentLog.split('\n').filter((line) => line.includes('journal-damaged') && line.includes('set aside'))
        .length >= victims.length,
      why
    )
    await scene.isServed(t, why)
    t.deepEqual(await scene.sessions(), before, `${why}: no session is harmed by a start`)
    await scene.up()
    await scene.isServed(t, `${why}, repeated`)
    await scene.down()
    for (const name of victims) rmSync(path.join(scene.journal, `${name}.damaged`))
    await scene.isGone(t, why)
    await scene.up()
    t.deepEqual(scene.records(), names, why)
  }
  await scene.down()
})

check('a record of an earlier version, without what later ones added, is understood', async (t) => {
  const scene = new Scene()
  t.teardown(async () => { await scene.node.close() })
  await scene.node.startAgent()
  await scene.up()
  await scene.node.stopAgent('SIGKILL')
  for (const name of scene.records()) {
    withHeader(path.join(scene.journal, name), (header, text) => {
      const record = JSON.parse(text) as Record<string, unknown>
      for (const later of ['exclusive', 'protection', 'owner']) delete record[later]
      const body = JSON.stringify(record)
      return [{ ...header, sha256: sumOf(body) }, body]
    })
  }
  await scene.next()
  t.deepEqual(readdirSync(scene.journal).filter((name) => name.endsWith('.damaged')), [])
  await scene.isServed(t, 'older records')
  await scene.up()
  await scene.down()
  await scene.isGone(t, 'older records')
})

check('F38: after a reboot the journal is there and no mount is: it is cleaned, kubelet mounts anew, and a foreign mount at an old place is left alone', async (t) => {
  const scene = new Scene()
  t.teardown(async () => { await scene.node.close() })
  await scene.node.startAgent()
  await scene.up()
  await scene.node.stopAgent('SIGKILL')
  for (const pid of await scene.sessions()) process.kill(pid, 'SIGKILL')
  for (const { point } of [...mountsBelow(scene.node.folder)].reverse()) await shell(`umount -l ${point}`)
  rmSync(scene.node.runtime, { recursive: true })
  for (const name of scene.records()) {
    withHeader(path.join(scene.journal, name), (header, text) => {
      const body = JSON.stringify({ ...JSON.parse(text) as object, bootId: '00000000-0000-0000-0000-000000000000' })
      return [{ ...header, sha256: sumOf(body) }, body]
    })
  }
  const [, taken] = scene.volumes.map((volume) => scene.target(volume))
  await shell(`mount -t tmpfs tmpfs ${taken}`)
  await scene.next()
  t.deepEqual(scene.records(), [])
  t.deepEqual(mountsBelow(scene.node.folder).map(({ type }) => type), ['tmpfs'])
  t.true(scene.node.agentLog.includes('the node was rebooted'))
  await shell(`umount ${taken}`)
  // The folders are still there, as kubelet's are after a reboot.
  await scene.up()
  await scene.isServed(t, 'after the reboot')
  await scene.down()
  await scene.isGone(t, 'after the reboot')
})

check('with a full state disk kubelet\'s mounts are refused with a remedy and its unmounts work; an agent starts there; with room all is well', async (t) => {
  const scene = new Scene()
  mkdirSync(scene.node.state)
  await shell(`mount -t tmpfs -o size=1m,mode=755 tmpfs ${scene.node.state}`)
  t.teardown(async () => { await scene.node.close() })
  const { node, kubelet, volumes: [a, b] } = scene
  if (a === undefined || b === undefined) throw new Error('two volumes')
  await node.startAgent()
  await kubelet.stage(node.csiSocket, driver, a)
  const target = await kubelet.publish(node.csiSocket, driver, a, 'pod-a', 'pv')
  const full = path.join(node.state, 'full')
  await shell(`dd if=/dev/zero of=${full} bs=4k 2>/dev/null || true`)
  for (const refused of [
    kubelet.stage(node.csiSocket, driver, b), kubelet.publish(node.csiSocket, driver, a, 'pod-second', 'pv')
  ]) {
    const error = await t.throwsAsync(refused, { instanceOf: CallError })
    t.is(error?.code, status.RESOURCE_EXHAUSTED, error?.message)
    t.regex(error?.details ?? '', /no space left.*make room/i)
  }
  await kubelet.publish(node.csiSocket, driver, a, 'pod-a', 'pv')
  t.is((await shell(`cat ${target}/marker`)).trim(), 'a')
  await node.stopAgent('SIGKILL')
  await scene.next()
  t.false((await kubelet.stats(node.csiSocket, 'a', target)).volumeCondition?.abnormal)
  await kubelet.unpublish(node.csiSocket, 'a', target)
  await kubelet.unstage(node.csiSocket, driver, 'a')
  t.deepEqual(mountsBelow(node.folder).map(({ type }) => type), ['tmpfs'])
  rmSync(full)
  await scene.up()
  await scene.isServed(t, 'with room')
  await scene.down()
  await scene.isGone(t, 'with room')
})

check('F39: SIGTERM in the middle of calls: each is answered or repeated by kubelet, the next agent goes on, and nothing is left half made', async (t) => {
  const scene = new Scene()
  const silent = await Ganesha.start()
  t.teardown(async () => {
    silent.resume()
    await scene.node.close()
    await silent.close()
  })
  const { node, kubelet } = scene
  await node.startAgent()
  silent.stop()
  const waiting: CsiVolume = {
    handle: 'silent', attributes: { server: silent.host, share: silent.folder, mountOptions: silent.mountOptions }
  }
  for (const moment of [0, 100]) {
    const cut = kubelet.stage(node.csiSocket, driver, waiting).then(() => 'staged', () => 'cut')
    const going = Promise.allSettled(scene.volumes.map(async (volume) => {
      await kubelet.stage(node.csiSocket, driver, volume)
    }))
    await pause(moment)
    await node.stopAgent('SIGTERM')
    // Before a call has arrived there is nobody to answer it. What has arrived ends within the grace on any machine
    // that is not overloaded.
    for (const outcome of await going) {
      if (outcome.status === 'rejected') {
        t.is((outcome.reason as CallError).code, status.UNAVAILABLE, String(outcome.reason))
      }
    }
    t.is(await cut, 'cut', 'a call that waits for a dead server is not waited for')
    await scene.next()
    await scene.up()
    await scene.isServed(t, `SIGTERM after ${moment} ms`)
    await scene.down()
    await scene.isGone(t, `SIGTERM after ${moment} ms`)
  }
})
