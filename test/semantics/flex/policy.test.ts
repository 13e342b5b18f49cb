/**
 * What the author of a pod gets by the options of a flexVolume, which may be the pod's own, through the packed binary:
 * no right of root on the node or on the server unless the node's operator has agreed, and no word about its network.
 */
import { chmodSync, copyFileSync, mkdirSync, readFileSync, statSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import type { ExecutionContext } from 'ava'
import type { StringMap } from '../../../proto/csi/types.ts'
import { Ganesha, freePort } from '../../peers/ganesha.ts'
import { Kubelet, type FlexDriver } from '../../peers/kubelet.ts'
import { testNeeding } from '../../peers/testing.ts'
import { binary, mountsBelow, TestNode } from '../endtoend/node.ts'

const check = testNeeding('root', 'fuse', 'ganesha')

interface Stage {
  readonly ganesha: Ganesha
  readonly node: TestNode
  /** What kubelet's event would say; empty for a success. */
  readonly mount: (pod: string, options: StringMap) => Promise<string>
  readonly target: (pod: string) => string
  readonly unmount: (pod: string) => Promise<void>
}

/** The agent is started by the first call, with kubelet's environment. */
async function withFlex (t: ExecutionContext, environment: StringMap): Promise<Stage> {
  const ganesha = await Ganesha.start()
  const node = new TestNode()
  t.teardown(async () => {
    await node.close()
    await ganesha.close()
  })
  const kubelet = new Kubelet(node.kubelet)
  const flex: FlexDriver = {
    file: path.join(node.makeFolder('plugins/volbridge.io~volbridge'), 'volbridge'),
    env: { VOLBRIDGE_STATE_DIR: node.state, VOLBRIDGE_RUN_DIR: node.runtime, ...environment }
  }
  copyFileSync(binary, flex.file)
  const target = (pod: string): string => kubelet.flexTarget(pod, 'volbridge.io/volbridge', 'data')
  const mount = async (pod: string, options: StringMap): Promise<string> => {
    const good = { server: ganesha.host, share: ganesha.folder, mountOptions: ganesha.mountOptions }
    const called = await kubelet.flexMount(flex, target(pod), { ...good, ...options })
    return called?.answer.status === 'Success' ? '' : called?.answer.message ?? 'not called'
  }
  const unmount = async (pod: string): Promise<void> => {
    t.is((await kubelet.flexUnmount(flex, target(pod)))?.answer.status, 'Success')
  }
  return { ganesha, node, mount, target, unmount }
}

const auditOf = ({ state }: TestNode): readonly Readonly<Record<string, unknown>>[] =>
  readFileSync(path.join(state, 'agent.log'), 'utf8').split('\n').filter((line) => line.includes('"op":"audit"'))
    .map((line) => JSON.parse(line) as Record<string, unknown>)

check('suid, dev and mountPermissions of a flexVolume are refused by name, and its fsGroup changes nothing on the server', async (t) => {
  const { ganesha, node, mount, target, unmount } = await withFlex(t, {})
  const secret = path.join(ganesha.folder, 'private')
  mkdirSync(secret)
  chmodSync(secret, 0o700)
  const before = statSync(secret)
  t.regex(
    await mount('a', { mountOptions: `${ganesha.mountOptions},suid` }),
    /^mountOptions: "suid" .*VOLBRIDGE_ALLOW_SUID_DEV=1/
  )
  t.regex(
    await mount('a', { mountOptions: `${ganesha.mountOptions},dev` }),
    /^mountOptions: "dev" .*VOLBRIDGE_ALLOW_SUID_DEV=1/
  )
  t.regex(await mount('a', { mountPermissions: '0777' }), /^mountPermissions: .*VOLBRIDGE_TRUST_FLEX_OPTIONS=1/)
  t.regex(await mount('a', { 'kubernetes.io/fsType': 'ext4' }), /fs_type "ext4" is not a file system of this driver/)
  t.is(await mount('a', { subDir: 'private', 'kubernetes.io/mounterArgs.FsGroup': '4321' }), '')
  const after = statSync(secret)
  t.deepEqual([after.gid, after.mode & 0o7777, after.ctimeMs], [before.gid, 0o700, before.ctimeMs])
  t.regex(
    (await node.command(['status', ...node.places])).stdout,
    /mount group 4321: the volume's root is left as it is/
  )
  t.deepEqual(auditOf(node).map(({ outcome, rule }) => `${String(outcome)} ${String(rule)}`), [
    'refused --allow-suid-dev', 'refused --allow-suid-dev', 'refused --trust-flex-options', 'refused request',
    'allowed flexVolume'
  ])
  t.like(auditOf(node).at(-1), {
    door: 'flex', source: `${ganesha.host}:${ganesha.folder}/private`, mountGroup: 4321, restraint: 'no-changes',
    pod: { namespace: 'default', name: 'pod', uid: 'a', saidBy: 'the volume\'s options' }
  })
  t.is(mountsBelow(target('a')).length, 1)
  await unmount('a')
})

check('an agent that a call starts has the consents of kubelet\'s environment', async (t) => {
  const { ganesha, node, mount, target, unmount } = await withFlex(t, {
    VOLBRIDGE_ALLOW_SUID_DEV: '1', VOLBRIDGE_TRUST_FLEX_OPTIONS: '1'
  })
  mkdirSync(path.join(ganesha.folder, 'sub'), { mode: 0o700 })
  t.is(await mount('a', { subDir: 'sub', mountPermissions: '0755', mountOptions: `${ganesha.mountOptions},suid` }), '')
  t.regex(mountsBelow(target('a'))[0]?.options ?? '', /^(?!.*nosuid).*nodev/)
  t.is(statSync(path.join(ganesha.folder, 'sub')).mode & 0o7777, 0o755)
  t.like(auditOf(node).at(-1), {
    outcome: 'allowed', rule: 'flexVolume, --trust-flex-options, --allow-suid-dev', suid: true, mountPermissions: '755'
  })
  await unmount('a')
})

check('a flexVolume\'s failure reads the same for a closed, a silent and another service\'s port', async (t) => {
  const { mount } = await withFlex(t, {})
  const listen = async (serve: (socket: net.Socket) => void): Promise<number> => {
    const listener = net.createServer((socket) => {
      socket.on('error', () => undefined)
      serve(socket)
    })
    t.teardown(() => { listener.close() })
    await new Promise<void>((resolve) => { listener.listen(0, '127.0.0.1', resolve) })
    return (listener.address() as net.AddressInfo).port
  }
  const ports = [
    await freePort(), await listen(() => undefined), await listen((socket) => { socket.write('220 mail ready\r\n') })
  ]
  const told = await Promise.all(
    ports.map(async (port, n) => await mount(`pod-${n}`, { mountOptions: `port=${port},mountport=${port}` }))
  )
  t.deepEqual([...new Set(told)], [
    'server: the share cannot be mounted from "127.0.0.1" now; ask the operator of the node: the agent\'s log says why'
  ])
})
