/** VOLUME_MOUNT_GROUP on real servers: one that lets root give folders away, and one that does not. */
import { chmodSync, chownSync, mkdirSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { Ganesha } from '../../peers/ganesha.ts'
import { Kubelet, type CsiVolume } from '../../peers/kubelet.ts'
import { testNeeding } from '../../peers/testing.ts'
import { TestNode, processesOf, run, shell } from '../endtoend/node.ts'
import type { ExecutionContext } from 'ava'

const check = testNeeding('root', 'fuse', 'ganesha')
const driver = 'csi.volbridge.io'
const group = 4321

interface Stage {
  readonly node: TestNode
  readonly kubelet: Kubelet
  readonly ganesha: Ganesha
  readonly publish: (pod: string, mountGroup: string) => Promise<string>
}

async function withShare (
  t: ExecutionContext,
  squash: 'No_Root_Squash' | 'Root_Squash',
  work: (stage: Stage) => Promise<void>
): Promise<void> {
  const ganesha = await Ganesha.start({ squash })
  const node = new TestNode()
  try {
    await node.startAgent()
    const kubelet = new Kubelet(node.kubelet)
    const capabilities = await kubelet.call(node.csiSocket, 'NodeGetCapabilities', {})
    t.true(capabilities.capabilities.some(({ rpc }) => rpc.type === 'VOLUME_MOUNT_GROUP'))
    mkdirSync(path.join(ganesha.folder, 'team'))
    chmodSync(path.join(ganesha.folder, 'team'), 0o755)
    const volume = (mountGroup: string): CsiVolume => ({
      handle: 'pv',
      attributes: { server: ganesha.host, share: ganesha.folder, subDir: 'team', mountOptions: ganesha.mountOptions },
      mountGroup
    })
    const publish = async (pod: string, mountGroup: string): Promise<string> => {
      await kubelet.stage(node.csiSocket, driver, volume(mountGroup))
      return await kubelet.publish(node.csiSocket, driver, volume(mountGroup), pod, 'pv')
    }
    await work({ node, kubelet, ganesha, publish })
  } finally {
    await node.close()
    await ganesha.close()
  }
}

const facts = (file: string): string => {
  const { gid, mode } = statSync(file)
  return `${gid} ${(mode & 0o7777).toString(8)}`
}

check('the mount group gets the root, once and with set-group-id, and what is made; what was there stays as the server says', async (t) => {
  await withShare(t, 'No_Root_Squash', async ({ node, ganesha, kubelet, publish }) => {
    const team = path.join(ganesha.folder, 'team')
    writeFileSync(path.join(team, 'old'), 'before')
    chmodSync(path.join(team, 'old'), 0o640)
    const target = await publish('pod-1', `${group}`)
    t.is(facts(team), `${group} 2775`)
    t.is(facts(target), `${group} 2775`)
    t.is(facts(path.join(target, 'old')), '0 640')
    // As kubelet starts a container with fsGroup: its user, with the group as a supplementary one.
    const made = await run('setpriv', [
      '--reuid', '1000', '--regid', '1000', '--groups', `${group}`, 'sh', '-c',
      'umask 022; echo x > file; mkdir folder; cat file'
    ], { cwd: target })
    t.is(made.stdout, 'x\n', made.stderr)
    t.is(facts(path.join(team, 'file')), `${group} 664`)
    t.is(facts(path.join(team, 'folder')), `${group} 2775`)
    const other = await run('setpriv', [
      '--reuid', '1001', '--regid', '1001', '--groups', `${group}`, 'sh', '-c', 'echo y >> file; cat file'
    ], { cwd: target })
    t.is(other.stdout, 'x\ny\n', other.stderr)

    // Once: a mode that the owner sets later is not undone by the next mount of the same group.
    t.false((await node.command(['status', ...node.places])).stdout.includes('note'))
    const second = await publish('pod-2', '5555')
    t.is(facts(team), `${group} 2775`, 'a second group does not take the root from the first')
    t.regex(
      (await node.command(['status', ...node.places])).stdout,
      /note +mount group 5555: .*belongs to group 4321 with set-group-id/
    )
    await shell(`chmod 2777 ${team}`)
    await shell('echo x > of-the-other', { cwd: second })
    t.is(facts(path.join(team, 'of-the-other')), '5555 664')
    t.is((await processesOf(node.runtime)).filter((line) => line.includes(' session ')).length, 2)
    for (const where of [target, second]) await kubelet.unpublish(node.csiSocket, 'pv', where)
    await kubelet.unstage(node.csiSocket, driver, 'pv')
    t.is((await processesOf(node.runtime)).filter((line) => line.includes(' session ')).length, 0)
  })
})

check('a server that squashes root keeps its root folder: the volume is mounted and status says why the group did not get it', async (t) => {
  await withShare(t, 'Root_Squash', async ({ node, ganesha, publish }) => {
    const team = path.join(ganesha.folder, 'team')
    chownSync(team, 1000, 1000)
    const target = await publish('pod-1', `${group}`)
    t.is(facts(team), '1000 755')
    const { stdout } = await node.command(['status', ...node.places])
    t.regex(
      stdout,
      /note +mount group 4321: the volume's root was not given to it: the server refuses .*no_root_squash/
    )
    const made = await run('setpriv', [
      '--reuid', '1000', '--regid', '1000', '--groups', `${group}`, 'sh', '-c', 'echo x > file'
    ], { cwd: target })
    t.is(made.code, 0, made.stderr)
    t.is(facts(path.join(team, 'file')), `${group} 664`)
  })
})
