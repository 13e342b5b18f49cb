/**
 * Random sequences of CSI calls on the packed agent with real mounts of a real server: valid, repeated, out of order,
 * at once, the agent killed in between. After every batch what was answered, what mountinfo shows and what the journal
 * holds must agree with the reference. VOLBRIDGE_SEED repeats a run, SEQUENCES_ROUNDS says how many.
 */
import { spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import path from 'node:path'
import process from 'node:process'
import { status } from '@grpc/grpc-js'
import { pause } from '../../../agent/base/deadline.ts'
import { peekJournal } from '../../../agent/volumes/records/journal.ts'
import { stageKeyOf } from '../../../agent/volumes/spec/key.ts'
import type { BindRecord, JournalRecord } from '../../../agent/volumes/records/records.ts'
import { parseVolumeSpec } from '../../../agent/volumes/spec/spec.ts'
import { CallError, CsiClient } from '../../../proto/csi/client.ts'
import { loadServices } from '../../../proto/csi/load.ts'
import type { StringMap, VolumeCapability } from '../../../proto/csi/types.ts'
import { randomOf, shrink } from '../../model/exercise.ts'
import {
  explain,
  makeSequence,
  nothing,
  show,
  slots,
  targets,
  volumes,
  type Answer,
  type Batch,
  type Call,
  type Slot,
  type State,
  type Target,
  type Variant,
  type VolumeName
} from '../../model/volume-calls.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { Kubelet } from '../../peers/kubelet.ts'
import { testNeeding } from '../../peers/testing.ts'
import { TestNode, mountsBelow, type MountEntry } from '../endtoend/node.ts'
import { chooseSeed } from '../../model/seed.ts'

const isLong = process.env['VOLBRIDGE_LONG'] === '1'
const rounds = Number(process.env['SEQUENCES_ROUNDS'] ?? (isLong ? 1000 : 40))
const kills = isLong ? 0.1 : 0.04
const batches = 9
/** A smaller sequence is looked for so many times: each try has a node of its own. */
const shrinkTriesMax = 40

const folderOf = { v0: 'shared', v1: 'shared', v2: 'own' } as const satisfies Record<VolumeName, string>
const capability: VolumeCapability = {
  accessMode: { mode: 'MULTI_NODE_MULTI_WRITER' }, mount: { fsType: '', mountFlags: [], volumeMountGroup: '' }
}

/** What is to be seen of the volumes, and what is wrong with it beyond the reference's words. */
interface Seen { readonly state: State, readonly wrong: readonly string[] }

class World {
  readonly #ganesha: Ganesha
  readonly #node = new TestNode()
  readonly #kubelet = new Kubelet(this.#node.kubelet)
  readonly #services = loadServices()
  readonly #keys = new Map<string, string>()
  #states: readonly State[] = [nothing]

  constructor (ganesha: Ganesha) { this.#ganesha = ganesha }

  attributes (volume: VolumeName, variant: Variant): StringMap {
    const { host, folder, mountOptions } = this.#ganesha
    return {
      server: host, share: folder, subDir: folderOf[volume],
      mountOptions: variant === 'other' ? `${mountOptions},acdirmin=31` : mountOptions
    }
  }

  path (name: Slot | Target): string {
    return name.startsWith('s')
      ? path.join(this.#kubelet.stagingPath('d', name))
      : this.#kubelet.csiTarget(`pod-${name}`, 'pv')
  }

  /** A pod of another volume has the shared export all the time: sessions come and go beside it, and it must not notice
   * anything. */
  async start (): Promise<() => void> {
    for (const volume of volumes) {
      for (const variant of ['plain', 'other'] as const) {
        this.#keys.set(stageKeyOf(parseVolumeSpec(this.attributes(volume, variant))), variant)
      }
      const spec = parseVolumeSpec(this.attributes(volume, 'inline'))
      this.#keys.set(stageKeyOf({ ...spec, restraint: 'anonymous' }), 'inline')
    }
    for (const slot of slots) mkdirSync(this.path(slot), { recursive: true })
    for (const target of targets) mkdirSync(path.dirname(this.path(target)), { recursive: true })
    await this.#startAgent()
    const beside = { handle: 'beside', attributes: this.attributes('v0', 'plain') }
    await this.#kubelet.stage(this.#node.csiSocket, 'd', beside)
    const target = await this.#kubelet.publish(this.#node.csiSocket, 'd', beside, 'pod-beside', 'pv')
    const pod = spawn('/bin/sh', ['-c', 'while echo line >> log; do sleep 0.1; done'], { cwd: target, stdio: 'ignore' })
    return () => {
      const { exitCode, signalCode } = pod
      pod.kill('SIGKILL')
      if (exitCode !== null || signalCode !== null) throw new Error('the pod beside has met an error')
    }
  }

  async #startAgent (): Promise<void> {
    await this.#node.startAgent(['--ephemeral-allow', this.#ganesha.host])
  }

  async close (): Promise<void> { await this.#node.close() }

  async #answer (call: Call, isKilled: boolean): Promise<Answer> {
    const { csiSocket } = this.#node
    const volume = { volumeId: call.volume }
    try {
      if (call.do === 'stage') {
        await this.#kubelet.call(csiSocket, 'NodeStageVolume', {
          ...volume, stagingTargetPath: this.path(call.slot), volumeCapability: capability,
          volumeContext: this.attributes(call.volume, call.variant)
        })
      } else if (call.do === 'unstage') {
        await this.#kubelet.call(csiSocket, 'NodeUnstageVolume', { ...volume, stagingTargetPath: this.path(call.slot) })
      } else if (call.do === 'unpublish') {
        await this.#kubelet.call(csiSocket, 'NodeUnpublishVolume', { ...volume, targetPath: this.path(call.target) })
      } else if (call.do === 'stats') {
        await this.#kubelet.call(csiSocket, 'NodeGetVolumeStats', { ...volume, volumePath: this.path(call.at) })
      } else {
        await this.#kubelet.call(csiSocket, 'NodePublishVolume', {
          ...volume, targetPath: this.path(call.target),
          stagingTargetPath: call.slot === undefined ? '' : this.path(call.slot), readonly: call.readOnly,
          volumeCapability: capability,
          volumeContext: {
            ...this.attributes(call.volume, call.variant),
            ...call.slot === undefined
              ? { 'csi.storage.k8s.io/ephemeral': 'true', 'csi.storage.k8s.io/pod.uid': `pod-${call.target}` }
              : {}
          }
        })
      }
      return 'OK'
    } catch (error) {
      if (!(error instanceof CallError)) throw error
      // A machine that is busy enough does not let a forked child look at a path in time: then the call is over, and
      // what it has done is seen.
      const isOpen = error.agentAnswered ? error.code === status.DEADLINE_EXCEEDED : isKilled
      return isOpen ? 'lost' : status[error.code] ?? '?'
    }
  }

  async #batch ({ calls, killAfterMs }: Batch): Promise<readonly Answer[]> {
    const answering = Promise.all(calls.map(async (call) => await this.#answer(call, killAfterMs !== undefined)))
    if (killAfterMs === undefined) return await answering
    await Promise.race([answering, pause(killAfterMs)])
    await this.#node.stopAgent('SIGKILL')
    const answers = await answering
    for (const socket of [this.#node.csiSocket, this.#node.agentSocket]) rmSync(socket, { force: true })
    await this.#startAgent()
    return answers
  }

  /** @throws Error saying which batch could not be explained, or what is to be seen that must not be. */
  async run (sequence: readonly Batch[]): Promise<void> {
    for (const [index, batch] of sequence.entries()) await this.#step(batch, `batch ${index}`)
    await this.#checkStatus()
    await this.#checkFiles()
    for (const [target, held] of Object.entries(this.#state.published)) {
      await this.#step({ calls: [{ do: 'unpublish', volume: held.volume, target: target as Target }] }, 'the end')
    }
    for (const [slot, held] of Object.entries(this.#state.staged)) {
      await this.#step({ calls: [{ do: 'unstage', volume: held.volume, slot: slot as Slot }] }, 'the end')
    }
    if (this.#state !== nothing && show(this.#state) !== show(nothing)) {
      throw new Error(`at the end there is still ${show(this.#state)}`)
    }
  }

  get #state (): State { return this.#states[0] ?? nothing }

  async #step (batch: Batch, where: string): Promise<void> {
    const before = this.#states
    const answers = await this.#batch(batch)
    const possible = explain(before, batch.calls, answers)
    const { state, wrong } = await this.#see()
    const told =
      `${where}: ${JSON.stringify(batch)} answered ${answers.join(', ')}; before: ${before.map(show).join(' | ')}; seen: ${show(state)}`
    if (wrong.length > 0) throw new Error(`${told}\n${wrong.join('\n')}\n${this.#node.agentLog.slice(-1500)}`)
    if (!possible.some((one) => show(one) === show(state))) {
      throw new Error(
        `${told}; possible: ${possible.map(show).join(' | ') || 'no order explains the answers'}\n${this.#node.agentLog.slice(-1500)}`
      )
    }
    this.#states = [state]
  }

  /** mountinfo and journal as they are, after every call has been answered. */
  async #see (): Promise<Seen> {
    const records = await peekJournal(path.join(this.#node.state, 'journal'))
    const mounts = mountsBelow(this.#node.folder)
    const binds = records.filter((record) => record.kind === 'bind')
    const held = (record: BindRecord): { volume: VolumeName, variant: Variant } => ({
      volume: record.volume as string as VolumeName, variant: (this.#keys.get(record.key) ?? '?') as Variant
    })
    const at = (name: Slot | Target): BindRecord | undefined =>
      binds.find(({ path: where }) => where as string === this.path(name))
    const state: State = {
      staged: Object.fromEntries(slots.flatMap((slot) => {
        const record = at(slot)
        return record === undefined ? [] : [[slot, held(record)]]
      })),
      published: Object.fromEntries(targets.flatMap((target) => {
        const record = at(target)
        return record === undefined ? [] : [[target, { ...held(record), readOnly: record.readOnly }]]
      }))
    }
    return { state, wrong: this.#wrong(records, binds, mounts) }
  }

  #wrong (
    records: readonly JournalRecord[],
    binds: readonly BindRecord[],
    mounts: readonly MountEntry[]
  ): readonly string[] {
    const wrong: string[] = []
    const expect = (isSo: boolean, what: string): void => { if (!isSo) wrong.push(what) }
    const shared = records.filter((record) => record.kind === 'mount')
    for (const record of records) {
      expect(record.phase === 'attached' || record.phase === 'mounted', `the journal holds ${JSON.stringify(record)}`)
    }
    expect(
      new Set(binds.map(({ key }) => key)).size === shared.length,
      `${shared.length} shared mounts for ${binds.length} users`
    )
    expect(shared.every(({ key }) => binds.some((bind) => bind.key === key)), 'a shared mount that nobody has')
    const known: string[] = []
    for (const { mountPoint, facts } of shared) {
      known.push(mountPoint)
      expect(
        mounts.filter(({ point }) => point === mountPoint).map(({ device }) => device).join() ===
          (facts.device as string | undefined),
        `${mountPoint} is not one mount of ${facts.device}`
      )
      expect(existsSync(`/proc/${facts.process?.pid}`), `the session ${facts.process?.pid} is not there`)
    }
    for (const { role, resolved, readOnly, key } of binds) {
      const here = mounts.filter(({ point }) => point === resolved)
      if (role === 'target') known.push(resolved)
      expect(here.length === (role === 'target' ? 1 : 0), `${here.length} mounts at ${resolved}`)
      const [mount] = here
      if (mount === undefined) continue
      expect(
        mount.device === shared.find((record) => record.key === key)?.facts.device,
        `${resolved} shows another file system`
      )
      expect(mount.options.split(',').includes('ro') === readOnly, `${resolved} has the options ${mount.options}`)
    }
    for (const { point } of mounts) expect(known.includes(point), `nobody knows the mount at ${point}`)
    for (const target of targets) {
      expect(
        existsSync(this.path(target)) === known.includes(this.path(target)),
        `the folder ${this.path(target)} is there though nothing is published, or the other way round`
      )
    }
    expect(readdirSync(path.join(this.#node.state, 'mounts')).length === shared.length, 'a mount point without a mount')
    return wrong
  }

  /** What the agent tells is what the reference says. */
  async #checkStatus (): Promise<void> {
    const client = new CsiClient(this.#services, this.#node.agentSocket)
    try {
      const { volumes: told } = await client.call('Agent', 'Status', {}, { deadlineMs: 60_000 })
      const paths = told.filter(({ volumeId }) => volumeId !== 'beside').flatMap((view) =>
        view.targets.map(({ path: where, readOnly, problem }) =>
          `${where}=${view.volumeId}${readOnly ? ' ro' : ''}${problem}`
        )
      )
      const expected = Object.entries(this.#state.published).map(([target, { volume, readOnly }]) =>
        `${this.path(target as Target)}=${volume}${readOnly ? ' ro' : ''}`
      )
      if (paths.sort().join() !== expected.sort().join()) {
        throw new Error(`status tells ${paths.join()} and not ${expected.join()}`)
      }
      const sick = told.filter(({ health }) => health !== 'healthy')
      if (sick.length > 0) {
        throw new Error(
          `status calls ${sick.map(({ volumeId, healthReason }) => `${volumeId}: ${healthReason}`).join()}`
        )
      }
    } finally {
      client.close()
    }
  }

  /** Each target shows its own export, and can be written to if it was asked for so. */
  async #checkFiles (): Promise<void> {
    for (const [target, { volume, variant, readOnly }] of Object.entries(this.#state.published)) {
      const where = this.path(target as Target)
      const found = await readFile(path.join(where, 'marker'), 'utf8')
      if (found !== folderOf[volume]) throw new Error(`${where} shows ${found}`)
      // Its owner is root or nobody: each has files of its own.
      const file = path.join(where, `written-${target}-${variant}`)
      const outcome = await open(file, 'w').then(async (opened) => {
        await opened.close()
        return 'written'
      }, (error: NodeJS.ErrnoException) => error.code)
      if (outcome !== (readOnly ? 'EROFS' : 'written')) throw new Error(`writing at ${where} ends in ${outcome}`)
    }
  }
}

async function withWorld<T> (ganesha: Ganesha, work: (world: World) => Promise<T>): Promise<T> {
  const world = new World(ganesha)
  let pod: (() => void) | undefined
  try {
    pod = await world.start()
    const result = await work(world)
    const checked = pod
    pod = undefined
    checked()
    return result
  } finally {
    try { pod?.() } catch { /* The first failure is the one to tell. */ }
    await world.close()
  }
}

const failureOf = async (work: Promise<unknown>): Promise<Error | undefined> =>
  await work.then(() => undefined, (error: unknown) => error instanceof Error ? error : new Error(String(error)))

testNeeding('root', 'fuse', 'ganesha')('random sequences of calls, repeated, out of order, at once, with the agent killed in between: answers, mountinfo and journal agree', async (t) => {
  t.timeout(isLong ? 7_200_000 : 290_000)
  const firstSeed = chooseSeed((line) => { t.log(line) })
  const ganesha = await Ganesha.start()
  t.teardown(async () => { await ganesha.close() })
  for (const name of Object.values(folderOf)) {
    mkdirSync(path.join(ganesha.folder, name), { recursive: true })
    // Nobody's, which is what this process is on the server through an inline volume.
    chmodSync(path.join(ganesha.folder, name), 0o777)
    writeFileSync(path.join(ganesha.folder, name, 'marker'), name)
  }
  let failed: { readonly seed: number, readonly error: Error } | undefined
  const sequenceOf = (seed: number): Batch[] => makeSequence(randomOf(seed * 7919), batches, kills)
  await withWorld(ganesha, async (world) => {
    for (let seed = firstSeed; seed < firstSeed + rounds && failed === undefined; seed++) {
      const error = await failureOf(world.run(sequenceOf(seed)))
      if (error !== undefined) failed = { seed, error }
    }
  }).catch((error: unknown) => { if (failed === undefined) throw error })
  if (failed === undefined) {
    t.pass()
    return
  }
  let tries = 0
  const fails = async (sequence: readonly Batch[]): Promise<boolean> =>
    tries++ < shrinkTriesMax && await failureOf(withWorld(ganesha, async (world) => {
        await world.run(sequence)
      })) !== undefined
  const smallest = await shrink(sequenceOf(failed.seed), fails)
  t.fail(
    `VOLBRIDGE_SEED=${failed.seed} SEQUENCES_ROUNDS=1: ${failed.error.message}\nas short as it still fails:\n${smallest.map((batch) => JSON.stringify(batch)).join('\n')}`
  )
})
