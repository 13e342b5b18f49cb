/** Many volumes in little time, with the limits that deploy/ ships: the agent's memory is its own alone. */
import process from 'node:process'
import type { ExecutionContext } from 'ava'
import { until } from '../../scripts/kubernetes/api.ts'
import type { Declare } from '../peers/testing.ts'
import { restartsOf } from './csi.ts'
import { fromClaim, makeFolder, podMs, shareOf, type Stage, type World } from './world.ts'

const atOnce = 60
/** Where sessions were charged to the agent it was ended at the twenty-fourth. */
const inTurn = process.env['VOLBRIDGE_LONG'] === '1' ? 110 : 30
/** A hang, not a figure. */
const lateMs = 20 * 60_000
/** kubelet of this cluster takes 110 pods, and there are others. */
const together = 100

const namesOf = (prefix: string, count: number): readonly string[] =>
  Array.from({ length: count }, (_, n) => `${prefix}-${n}`)

async function makeVolumes (world: World, names: readonly string[]): Promise<void> {
  const [server] = world.servers
  for (const name of names) makeFolder(server!, name)
  await Promise.all(names.map(async (name) => {
    await world.makeVolume(name, { share: shareOf(server!), attributes: { subDir: name } })
  }))
}

/** The agent's container is the one that it was, and no process of it was ended for its memory. */
async function isUnharmed (t: ExecutionContext, world: World, uid: string | undefined): Promise<void> {
  const pod = await world.daemonPod('volbridge-agent')
  t.is(pod.metadata.uid, uid)
  t.is(restartsOf(pod), 0, JSON.stringify(pod.status).slice(0, 2000))
}

/** kubelet unstages a volume some time after its last pod is gone. */
async function sessionsAre (world: World, count: number): Promise<void> {
  const show = async (): Promise<string> => `${count} sessions, not ${(await world.sessions()).length}`
  await until(show, async () => (await world.sessions()).length === count ? true : undefined, podMs)
}

export function manyTests (declare: Declare, stage: Stage): void {
  declare(`${atOnce} pods at once, each with a volume of its own, and more one after the other: the agent keeps its memory limit`, async (t) => {
    t.timeout(lateMs)
    const { world } = stage
    const { uid } = (await world.daemonPod('volbridge-agent')).metadata
    const [crowd, row] = [namesOf('crowd', atOnce), namesOf('row', inTurn)]
    await makeVolumes(world, [...crowd, ...row])
    const startedMs = performance.now()
    const up = async (name: string): Promise<void> => {
      await world.runPod(name, { volumes: { data: fromClaim(name) } })
    }
    await Promise.all(crowd.map(up))
    t.log(`${atOnce} pods run after ${Math.round((performance.now() - startedMs) / 1000)} s`)
    await isUnharmed(t, world, uid)
    await world.deletePods(...crowd)
    const running: string[] = []
    for (const name of row) {
      await up(name)
      running.push(name)
      if (running.length >= together) await world.deletePods(...running.splice(0, 1))
    }
    await sessionsAre(world, running.length)
    await isUnharmed(t, world, uid)
    await world.deletePods(...running)
    await sessionsAre(world, 0)
  })
}
