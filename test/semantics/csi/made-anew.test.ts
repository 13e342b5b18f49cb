/** Folders and exports that are made anew on the server while a volume is staged: what new and older pods see. */
import { copyFileSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import type { StatusResponse, StatusVolume } from '../../../proto/csi/types.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { Kubelet } from '../../peers/kubelet.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { binary, mountsBelow, processesOf, TestNode } from '../endtoend/node.ts'

const driver = 'csi.volbridge.io'
const check = testNeeding('root', 'fuse', 'ganesha')

let server: Ganesha
let node: TestNode
let kubelet: Kubelet
/** The whole export, mounted elsewhere: ganesha does not look for what is changed behind its back where MOUNT asks. */
let elsewhere: string

test.before(async () => {
  if (missing('root', 'fuse', 'ganesha') !== undefined) return
  server = await Ganesha.start()
  node = new TestNode()
  await node.startAgent()
  kubelet = new Kubelet(node.kubelet)
  elsewhere = node.makeFolder('elsewhere')
  await node.mount(`${server.host}:${server.folder}`, elsewhere, server.mountOptions)
})

test.after.always(async () => {
  await node?.close()
  await server?.close()
})

const makeFolder = (name: string, content: string): void => {
  mkdirSync(path.join(elsewhere, name))
  writeFileSync(path.join(elsewhere, name, 'file'), content)
}
/** Of pods: not the export's own mount. */
const volumes = async (): Promise<readonly StatusVolume[]> => {
  const { volumes: all } = JSON.parse(
    (await node.command(['status', '--json', ...node.places])).stdout
  ) as StatusResponse
  return all.filter(({ targets }) => targets.every(({ path: target }) => target !== elsewhere))
}
const sessions = async (): Promise<number> =>
  (await processesOf(node.folder)).filter((line) => line.includes(' session ')).length - 1
const read = (folder: string): string => {
  try {
    return readFileSync(path.join(folder, 'file'), 'utf8')
  } catch (error) {
    // Node has no name for ESTALE.
    const { errno, code } = error as NodeJS.ErrnoException
    return errno === -116 ? 'ESTALE' : code ?? String(error)
  }
}

interface Pods { readonly publish: (pod: string) => Promise<string>, readonly end: () => Promise<void> }

function csiPods (handle: string, more: Record<string, string>): Pods {
  const socket = node.csiSocket
  const attributes = {
    server: server.host, share: server.folder, mountOptions: `${server.mountOptions},timeo=20`, ...more
  }
  const volume = { handle, attributes }
  const targets: string[] = []
  let isStaged = false
  return {
    publish: async (pod) => {
      // Before each pod kubelet asks for staging again, unless it remembers it.
      if (!isStaged) await kubelet.stage(socket, driver, volume)
      isStaged = true
      const target = await kubelet.publish(socket, driver, volume, pod, handle)
      targets.push(target)
      return target
    },
    end: async () => {
      for (const target of targets) await kubelet.unpublish(socket, handle, target)
      await kubelet.unstage(socket, driver, handle)
    }
  }
}

function flexPods (name: string, more: Record<string, string>): Pods {
  const folder = node.makeFolder(`plugins-${name}/volbridge.io~volbridge`)
  copyFileSync(binary, path.join(folder, 'volbridge'))
  const flex = {
    file: path.join(folder, 'volbridge'), env: { VOLBRIDGE_STATE_DIR: node.state, VOLBRIDGE_RUN_DIR: node.runtime }
  }
  const options = {
    server: server.host, share: server.folder, mountOptions: `${server.mountOptions},timeo=20`, ...more
  }
  const targets: string[] = []
  return {
    publish: async (pod) => {
      const target = kubelet.flexTarget(pod, 'volbridge.io/volbridge', name)
      const mounted = await kubelet.flexMount(flex, target, options)
      if (mounted?.answer.status !== 'Success') throw new Error(mounted?.answer.message)
      targets.push(target)
      return target
    },
    end: async () => {
      for (const target of targets) {
        const unmounted = await kubelet.flexUnmount(flex, target)
        if (unmounted?.answer.status !== 'Success') throw new Error(unmounted?.answer.message)
      }
    }
  }
}

async function healthBecomes (state: string): Promise<readonly StatusVolume[]> {
  for (let n = 0; n < 600; n++) {
    const found = await volumes()
    if (found.some(({ health }) => health === state)) return found
    await sleep(100)
  }
  return await volumes()
}

async function nothingIsLeft (t: ExecutionContext): Promise<void> {
  t.is(await sessions(), 0)
  t.deepEqual(mountsBelow(node.kubelet), [])
  t.deepEqual(await volumes(), [])
}

for (const [door, podsOf] of [['CSI', csiPods], ['Flex', flexPods]] as const) {
  for (const how of ['share', 'subDir'] as const) {
    check(`${door}: the folder of a ${how} is moved away and made anew: a new pod sees the new one, the older pod its own, and status says so`, async (t) => {
      const name = `${door}-${how}`
      const pods = podsOf(
        name.toLowerCase(),
        how === 'share' ? { share: `${server.folder}/${name}` } : { subDir: name }
      )
      makeFolder(name, 'old')
      const older = await pods.publish('older')
      t.is(read(older), 'old')
      renameSync(path.join(elsewhere, name), path.join(elsewhere, `${name}-away`))
      makeFolder(name, 'new')
      const newer = await pods.publish('newer')
      t.is(read(newer), 'new')
      t.is(read(older), 'old', 'as with the kernel’s client')
      t.is(read(await pods.publish('newest')), 'new')
      t.is(await sessions(), 2)
      const stale = (await volumes()).filter(({ health }) => health === 'stale')
      t.is(stale.length, 1)
      t.regex(stale[0]?.healthReason ?? '', /leads to another folder/)
      t.deepEqual(stale[0]?.targets.map(({ path: target }) => target), [older])
      await pods.end()
      await nothingIsLeft(t)
    })
  }

  check(`${door}: the folder is removed and made anew: the older pod gets ESTALE, a new one works, and nobody blames the network`, async (t) => {
    const name = `${door}-removed`
    const pods = podsOf(name.toLowerCase(), { subDir: name })
    makeFolder(name, 'old')
    const older = await pods.publish('older')
    rmSync(path.join(elsewhere, name), { recursive: true })
    makeFolder(name, 'new')
    t.is(read(older), 'ESTALE')
    t.is(read(await pods.publish('newer')), 'new')
    const stale = (await volumes()).filter(({ health }) => health !== 'healthy')
    t.deepEqual(stale.map(({ health }) => health), ['stale'])
    t.notRegex(stale[0]?.healthReason ?? '', /did not answer|network/)
    await pods.end()
    await nothingIsLeft(t)
  })
}

check('CSI: a server that does not answer keeps no new pod of a staged volume waiting, and it shares the mount that is there', async (t) => {
  makeFolder('silent', 'here')
  const pods = csiPods('csi-silent', { subDir: 'silent' })
  await pods.publish('older')
  server.stop()
  try {
    await pods.publish('newer')
    t.is(await sessions(), 1)
  } finally {
    server.resume()
  }
  await pods.end()
  await nothingIsLeft(t)
})

check('CSI: the export is made anew under another id: a new pod works, health of the older says stale, kubelet’s statistics do not wait', async (t) => {
  const pods = csiPods('csi-export', {})
  writeFileSync(path.join(server.folder, 'file'), 'exported')
  const older = await pods.publish('older')
  t.is(read(older), 'exported')
  await server.restart({ exportId: 77 })
  t.is((await healthBecomes('stale'))[0]?.health, 'stale')
  const { volumeCondition } = await kubelet.stats(node.csiSocket, 'csi-export', older)
  t.like(volumeCondition, { abnormal: true })
  t.notRegex(volumeCondition?.message ?? '', /did not answer/)
  t.is(read(await pods.publish('newer')), 'exported')
  await pods.end()
  await nothingIsLeft(t)
})
