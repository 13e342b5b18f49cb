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

check('the mount group gets the volume: the root with set-group-id, what is in it, and what is made; the last group wins', async (t) => {
  await withShare(t, 'No_Root_Squash', async ({ node, ganesha, kubelet, publish }) => {
    const team = path.join(ganesha.folder, 'team')
    writeFileSync(path.join(team, 'old'), 'before')
    chmodSync(path.join(team, 'old'), 0o640)
    const target = await publish('pod-1', `${group}`)
    t.is(facts(team), `${group} 2775`)
    t.is(facts(target), `${group} 2775`)
    t.is(facts(path.join(team, 'old')), `${group} 660`)
    t.is(facts(path.join(target, 'old')), `${group} 660`)
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

    // Once: what the owner sets later is not undone by the next mount of the same group.
    t.false((await node.command(['status', ...node.places])).stdout.includes('note'))
    chmodSync(path.join(team, 'file'), 0o600)
    await kubelet.unpublish(node.csiSocket, 'pv', await publish('pod-3', `${group}`))
    t.is(facts(path.join(team, 'file')), `${group} 600`)
    const second = await publish('pod-2', '5555')
    for (const [name, mode] of [['', 2775], ['file', 660], ['old', 660], ['folder', 2775]] as const) {
      t.is(facts(path.join(team, name)), `5555 ${mode}`, name)
    }
    t.false((await node.command(['status', ...node.places])).stdout.includes('note'))
    await shell('echo x > of-the-other', { cwd: second })
    t.is(facts(path.join(team, 'of-the-other')), '5555 664')
    t.is((await processesOf(node.runtime)).filter((line) => line.includes(' session ')).length, 2)
    for (const where of [target, second]) await kubelet.unpublish(node.csiSocket, 'pv', where)
    await kubelet.unstage(node.csiSocket, driver, 'pv')
    t.is((await processesOf(node.runtime)).filter((line) => line.includes(' session ')).length, 0)
  })
})

check('a tree that a pod of one group has written is read and written by a pod of the next group', async (t) => {
  await withShare(t, 'No_Root_Squash', async ({ node, ganesha, kubelet, publish }) => {
    const team = path.join(ganesha.folder, 'team')
    const asUser = async (uid: number, gid: number, cwd: string, script: string): Promise<string> => {
      const { code, stdout, stderr } = await run('setpriv', [
        '--reuid', `${uid}`, '--regid', `${uid}`, '--groups', `${gid}`, 'sh', '-ec', script
      ], { cwd })
      t.is(code, 0, stderr)
      return stdout
    }
    const first = await publish('pod-1', '2000')
    await asUser(1000, 2000, first, `umask 077
      for a in 1 2 3 4 5; do mkdir -p d$a/e; for b in 1 2 3 4 5 6 7 8 9; do echo $a > d$a/f$b; echo $a > d$a/e/f$b; done; done
      ln -s /etc/passwd link; mkfifo pipe; printf x > set-id; chmod 2750 set-id; mkdir closed; chmod 700 closed`)
    await shell('mkdir locked; echo x > locked/file; chmod -R 0 locked; chown -R 7:7 locked', { cwd: team })
    await kubelet.unpublish(node.csiSocket, 'pv', first)
    await kubelet.unstage(node.csiSocket, driver, 'pv')
    const before = await shell('stat -c "%a %u:%g" /etc/passwd')

    const second = await publish('pod-2', '3000')
    const left = await shell('find . ! -group 3000', { cwd: team })
    t.is(left, '', 'the exported folder: nothing of another group')
    const closed = await shell('find . -type d ! -perm -2070 -o -type f ! -perm -060', { cwd: team })
    t.is(closed, '')
    t.is(facts(path.join(team, 'd1/f1')), '3000 660')
    t.is(facts(path.join(team, 'd1/e')), '3000 2770')
    t.is(facts(path.join(team, 'set-id')), '3000 2770', 'set-id bits of files stay, as with kubelet')
    t.is(await shell('stat -c %u d1/f1 locked/file', { cwd: team }), '1000\n7\n', 'owners stay')
    t.is(await shell('stat -c "%a %u:%g" /etc/passwd'), before, 'links are not followed')
    t.is(await asUser(1001, 3000, second, 'cat d*/f* d*/e/f* locked/file | wc -l'), '91\n')
    await asUser(
      1001,
      3000,
      second,
      'for f in d*/f* d*/e/f* locked/file; do echo new >> $f; done; rm d1/f1; touch closed/mine'
    )
    t.is(await shell('cat d*/f* d*/e/f* locked/file | grep -c new', { cwd: team }), '90\n')
    t.is(facts(path.join(team, 'closed/mine')), '3000 664')
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
