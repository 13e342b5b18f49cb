/**
 * What the author of a pod gets by an inline volume, on the packed agent and real servers: nothing that the operator
 * has not allowed, no right of root on the server, and no word about the node's network.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { status } from '@grpc/grpc-js'
import type { ExecutionContext } from 'ava'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import { CallError } from '../../../proto/csi/client.ts'
import type { StringMap } from '../../../proto/csi/types.ts'
import { Ganesha, freePort } from '../../peers/ganesha.ts'
import { Kubelet, inlineHandle, type InlineVolume, type Pod } from '../../peers/kubelet.ts'
import { NfsServer } from '../../peers/nfs-server/server.ts'
import type { SeenCall } from '../../peers/nfs-server/script.ts'
import { testNeeding } from '../../peers/testing.ts'
import { TestNode, mountsBelow, processesOf, run } from '../endtoend/node.ts'

const check = testNeeding('root', 'fuse', 'ganesha')
const driver = 'csi.volbridge.io'
const pod: Pod = { namespace: 'team', name: 'pod', uid: '5d0aa3f2-0000-4000-8000-000000000001' }
const volumeOf = (attributes: StringMap, more: Partial<InlineVolume> = {}): InlineVolume => ({
  name: 'data', attributes, ...more
})
const attributesOf = (server: Ganesha, more: StringMap = {}): StringMap => ({
  server: server.host, share: server.folder, mountOptions: server.mountOptions, ...more
})

interface Stage { readonly node: TestNode, readonly kubelet: Kubelet, readonly ganesha: Ganesha }

async function withNode (
  agent: (ganesha: Ganesha) => readonly string[],
  work: (stage: Stage) => Promise<void>
): Promise<void> {
  const ganesha = await Ganesha.start()
  const node = new TestNode()
  try {
    await node.startAgent(agent(ganesha))
    await work({ node, kubelet: new Kubelet(node.kubelet), ganesha })
  } finally {
    await node.close()
    await ganesha.close()
  }
}

async function refused (
  t: ExecutionContext,
  deed: Promise<unknown>
): Promise<{ readonly code: string, readonly details: string }> {
  const error = await t.throwsAsync(deed, { instanceOf: CallError })
  return { code: status[error?.code ?? -1] ?? '?', details: error?.details ?? '' }
}

const auditOf = (node: TestNode): readonly Readonly<Record<string, unknown>>[] =>
  node.agentLog.split('\n').filter((line) => line.includes('"op":"audit"')).map((line) =>
    JSON.parse(line) as Record<string, unknown>
  )

const sessionsOf = async (node: TestNode): Promise<number> =>
  (await processesOf(node.runtime)).filter((line) => line.includes(' session ')).length

check('an inline volume is refused unless the operator has allowed it, by server, share and namespace', async (t) => {
  await withNode(() => [], async ({ node, kubelet, ganesha }) => {
    const off = await refused(t, kubelet.publishInline(node.csiSocket, volumeOf(attributesOf(ganesha)), pod))
    t.is(off.code, 'PERMISSION_DENIED')
    t.regex(off.details, /switched off on this node; use a PersistentVolume, or start the agent with --ephemeral-allow/)
    await node.stopAgent()

    mkdirSync(path.join(ganesha.folder, 'sub'))
    await node.startAgent(['--ephemeral-allow', `team=${ganesha.host}:${ganesha.folder}/sub`])
    const stranger = await refused(
      t,
      kubelet.publishInline(node.csiSocket, volumeOf(attributesOf(ganesha, { subDir: 'sub' })), {
        ...pod, namespace: 'other'
      })
    )
    t.is(stranger.code, 'PERMISSION_DENIED')
    t.regex(stranger.details, /is not allowed for inline volumes of the namespace "other"/)
    t.is(
      (await refused(t, kubelet.publishInline(node.csiSocket, volumeOf(attributesOf(ganesha)), pod))).code,
      'PERMISSION_DENIED',
      'the whole share'
    )
    t.is(
      (await refused(
        t,
        kubelet.publishInline(
          node.csiSocket,
          volumeOf({ ...attributesOf(ganesha, { subDir: 'sub' }), server: `${ganesha.host},10.0.0.1` }),
          pod
        )
      )).code,
      'PERMISSION_DENIED',
      'one more address'
    )
    const target = await kubelet.publishInline(node.csiSocket, volumeOf(attributesOf(ganesha, { subDir: 'sub' })), pod)
    t.is(mountsBelow(target).length, 1)
    // Without podInfoOnMount the author could write kubelet's marks; the uid in the path is kubelet's own.
    const forged = kubelet.call(node.csiSocket, 'NodePublishVolume', {
      volumeId: 'forged', targetPath: kubelet.csiTarget('5d0aa3f2-0000-4000-8000-000000000002', 'data'),
      volumeContext: {
        ...attributesOf(ganesha, { subDir: 'sub' }), 'csi.storage.k8s.io/ephemeral': 'true',
        'csi.storage.k8s.io/pod.namespace': 'team'
      },
      volumeCapability: {
        accessMode: { mode: 'SINGLE_NODE_WRITER' }, mount: { fsType: '', mountFlags: [], volumeMountGroup: '' }
      }
    })
    t.is((await refused(t, forged)).code, 'FAILED_PRECONDITION')
    await kubelet.unpublish(node.csiSocket, inlineHandle(pod, { name: 'data' }), target)

    const told = auditOf(node)
    t.like(told.at(-2), {
      outcome: 'allowed', asker: 'ephemeral', rule: `--ephemeral-allow team=${ganesha.host}:${ganesha.folder}/sub`,
      source: `${ganesha.host}:${ganesha.folder}/sub`, suid: false, dev: false, restraint: 'anonymous',
      pod: { namespace: 'team', name: 'pod', uid: pod.uid, saidBy: 'kubelet' }
    })
    t.like(told.at(-1), {
      outcome: 'refused', rule: 'podInfoOnMount', pod: { namespace: 'team', saidBy: 'the volume\'s attributes' }
    })
  })
})

check('an inline volume with subDir, mountPermissions and fsGroup changes nothing of a closed folder, and root in the pod does not get in', async (t) => {
  await withNode((ganesha) => ['--ephemeral-allow', ganesha.host], async ({ node, kubelet, ganesha }) => {
    const secret = path.join(ganesha.folder, 'private')
    mkdirSync(path.join(secret, 'deep'), { recursive: true })
    writeFileSync(path.join(secret, 'file'), 'of the server\'s owner')
    chmodSync(secret, 0o700)
    chmodSync(path.join(secret, 'deep'), 0o777)
    const before = statSync(secret)

    const mode = await refused(
      t,
      kubelet.publishInline(
        node.csiSocket,
        volumeOf(attributesOf(ganesha, { subDir: 'private', mountPermissions: '0777' })),
        pod
      )
    )
    t.like(mode, { code: 'PERMISSION_DENIED' })
    t.regex(mode.details, /^mountPermissions: .*not for inline volumes/)
    const through = await refused(
      t,
      kubelet.publishInline(node.csiSocket, volumeOf(attributesOf(ganesha, { subDir: 'private/deep' })), pod)
    )
    t.is(through.code, 'PERMISSION_DENIED', 'nobody walks through a closed folder')

    const target = await kubelet.publishInline(
      node.csiSocket,
      volumeOf(attributesOf(ganesha, { subDir: 'private' }), { mountGroup: '4321' }),
      pod
    )
    for (const user of ['0', '4321']) {
      const inside = await run('sh', [
        '-c',
        `cd ${target} && setpriv --reuid ${user} --regid ${user} --groups 0,4321 sh -c 'cat file; ls .; chmod 0777 .; touch new'`
      ])
      t.not(inside.code, 0)
      t.notRegex(inside.stdout, /owner|deep/)
    }
    const after = statSync(secret)
    t.deepEqual([after.uid, after.gid, after.mode & 0o7777, after.ctimeMs], [
      before.uid, before.gid, 0o700, before.ctimeMs
    ])
    t.regex(
      (await node.command(['status', ...node.places])).stdout,
      /mount group 4321: the volume's root is left as it is/
    )
  })
})

check('no call to the server carries uid 0 or gid 0 for an inline volume, whoever works in it, also after its session was killed', async (t) => {
  const folder = mkdtempSync('/var/tmp/volbridge-inline-')
  const seen: SeenCall[] = []
  const server = await NfsServer.start({ folder, script: (call) => { seen.push(call); return undefined } })
  const node = new TestNode()
  t.teardown(async () => {
    await node.close()
    await server.close()
    rmSync(folder, { recursive: true, force: true })
  })
  chmodSync(folder, 0o777)
  await node.startAgent(['--ephemeral-allow', server.host])
  const kubelet = new Kubelet(node.kubelet)
  const target = await kubelet.publishInline(
    node.csiSocket,
    volumeOf({ server: server.host, share: server.share, mountOptions: server.mountOptions }, { mountGroup: '4321' }),
    pod
  )
  const work = async (): Promise<void> => {
    // Root of the node, as root in a pod is, with root's group as a further one.
    const ran = await run('setpriv', [
      '--groups', '0,7', 'sh', '-c',
      `cd ${target} && echo x > file && mkdir -p folder && cat file && mv file folder/file && rm -r folder`
    ])
    t.is(ran.code, 0, ran.stderr)
  }
  t.false(seen.some(({ procedure }) => procedure === 'SETATTR'), 'the mount itself changes nothing')
  await work()
  const [line = ''] = (await processesOf(node.runtime)).filter((one) => one.includes(' session '))
  process.kill(Number(line.split(' ')[0]), 'SIGKILL')
  for (const endMs = monotonicMs() + 60_000; monotonicMs() < endMs;) {
    if ((await run('stat', [target])).code === 0) break
    await pause(100)
  }
  await work()
  const asked = seen.filter(({ program }) => program !== 'PORTMAP')
  t.true(asked.some(({ procedure }) => procedure === 'MNT') && asked.some(({ procedure }) => procedure === 'CREATE'))
  t.deepEqual(
    asked.filter(({ procedure, uid, gid, groups }) =>
      procedure !== 'NULL' && (uid === 0 || gid === 0 || groups.includes(0))
    ),
    []
  )
  await kubelet.unpublish(node.csiSocket, inlineHandle(pod, { name: 'data' }), target)
})

check('suid and dev are never for inline volumes, and for persistent ones only with the agent\'s consent', async (t) => {
  await withNode((ganesha) => ['--ephemeral-allow', ganesha.host], async ({ node, kubelet, ganesha }) => {
    const withOption = (option: string): StringMap =>
      attributesOf(ganesha, { mountOptions: `${ganesha.mountOptions},${option}` })
    const volume = { handle: 'pv', attributes: attributesOf(ganesha) }
    for (const option of ['suid', 'dev', 'suid,dev']) {
      const inline = await refused(t, kubelet.publishInline(node.csiSocket, volumeOf(withOption(option)), pod))
      t.is(inline.code, 'PERMISSION_DENIED')
      const persistent = await refused(t, kubelet.stage(node.csiSocket, driver, { ...volume, mountFlags: [option] }))
      t.is(persistent.code, 'PERMISSION_DENIED')
      t.regex(persistent.details, /^mountOptions: "(suid|dev)" .*--allow-suid-dev/)
    }
    await node.stopAgent()
    await node.startAgent(['--ephemeral-allow', ganesha.host, '--allow-suid-dev'])
    await kubelet.stage(node.csiSocket, driver, { ...volume, mountFlags: ['suid,dev'] })
    const target = await kubelet.publish(node.csiSocket, driver, { ...volume, mountFlags: ['suid,dev'] }, 'pod', 'pv')
    t.notRegex(mountsBelow(target)[0]?.options ?? 'nosuid', /nosuid|nodev/)
    t.like(auditOf(node).at(-1), {
      outcome: 'allowed', asker: 'persistent', rule: 'persistent volume, --allow-suid-dev', suid: true, dev: true
    })
    t.is(
      (await refused(t, kubelet.publishInline(node.csiSocket, volumeOf(withOption('suid')), pod))).code,
      'PERMISSION_DENIED'
    )
    await kubelet.unpublish(node.csiSocket, 'pv', target)
    await kubelet.unstage(node.csiSocket, driver, 'pv')
  })
})

check('what is mounted stays and can be asked for again when the rules are other ones, and no more than that', async (t) => {
  await withNode((ganesha) => ['--ephemeral-allow', ganesha.host, '--allow-suid-dev'], async (stage) => {
    const { node, kubelet, ganesha } = stage
    const other: Pod = { ...pod, uid: '5d0aa3f2-0000-4000-8000-000000000003' }
    const inline = volumeOf(attributesOf(ganesha))
    const volume = { handle: 'pv', attributes: attributesOf(ganesha), mountFlags: ['suid'] }
    const askAgain = async (): Promise<readonly string[]> => [
      await kubelet.publishInline(node.csiSocket, inline, pod), await kubelet.stage(node.csiSocket, driver, volume),
      await kubelet.publish(node.csiSocket, driver, volume, 'pod', 'pv')
    ]
    const [inlineTarget = '', , target = ''] = await askAgain()
    await node.stopAgent()
    await node.startAgent()
    await askAgain()
    t.deepEqual([mountsBelow(inlineTarget).length, mountsBelow(target).length], [1, 1])
    t.deepEqual(
      auditOf(node).slice(-3).map(({ outcome, rule }) => [outcome, rule]),
      Array(3).fill(['allowed', 'as it is'])
    )
    for (const deed of [
      kubelet.publishInline(node.csiSocket, inline, other),
      kubelet.publishInline(node.csiSocket, { ...inline, attributes: attributesOf(ganesha, { subDir: 'sub' }) }, pod),
      kubelet.publish(node.csiSocket, driver, volume, 'other', 'pv'),
      kubelet.publish(node.csiSocket, driver, { ...volume, mountFlags: ['dev'] }, 'pod', 'pv')
    ]) t.is((await refused(t, deed)).code, 'PERMISSION_DENIED')
    await kubelet.unpublish(node.csiSocket, inlineHandle(pod, { name: 'data' }), inlineTarget)
    t.is((await refused(t, kubelet.publishInline(node.csiSocket, inline, pod))).code, 'PERMISSION_DENIED', 'it is gone')
    await kubelet.unpublish(node.csiSocket, 'pv', target)
    await kubelet.unstage(node.csiSocket, driver, 'pv')
  })
})

check('the kernel\'s client and another file system are refused to an inline volume by name', async (t) => {
  await withNode((ganesha) => ['--ephemeral-allow', ganesha.host], async ({ node, kubelet, ganesha }) => {
    const kernel = await refused(
      t,
      kubelet.publishInline(node.csiSocket, volumeOf(attributesOf(ganesha, { client: 'kernel' })), pod)
    )
    t.is(kernel.code, 'PERMISSION_DENIED')
    t.regex(kernel.details, /^client: /)
    const disk = await refused(
      t,
      kubelet.publishInline(node.csiSocket, volumeOf(attributesOf(ganesha), { fsType: 'ext4' }), pod)
    )
    t.is(disk.code, 'INVALID_ARGUMENT')
    t.regex(
      disk.details,
      /^volume_capability\.mount\.fs_type "ext4" is not a file system of this driver.*; leave fsType out/
    )
    const target = await kubelet.publishInline(node.csiSocket, volumeOf(attributesOf(ganesha), { fsType: 'nfs' }), pod)
    await kubelet.unpublish(node.csiSocket, inlineHandle(pod, { name: 'data' }), target)
  })
})

/** What may stand behind a port. Answers its number. */
const services: Readonly<Record<string, (socket: net.Socket) => void>> = {
  'that is silent': () => undefined,
  'that closes': (socket) => { socket.end() },
  'that greets': (socket) => { socket.write('SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n') },
  'that answers in bytes of its own': (socket) => {
    socket.on('data', () => { socket.write(Buffer.from('80000018deadbeef0000000700000000', 'hex')) })
  },
  'that sends back what it gets': (socket) => { socket.pipe(socket) }
}

check('what stands behind a port is not told to the author of a pod: every failure reads the same and takes as long', async (t) => {
  const node = new TestNode()
  const listeners: net.Server[] = []
  t.teardown(async () => {
    for (const listener of listeners) listener.close()
    await node.close()
  })
  await node.startAgent(['--ephemeral-allow', '127.0.0.1'])
  const kubelet = new Kubelet(node.kubelet)
  const ports = new Map([['that is closed', await freePort()]])
  for (const [what, serve] of Object.entries(services)) {
    const listener = net.createServer((socket) => {
      socket.on('error', () => undefined)
      serve(socket)
    })
    listeners.push(listener)
    await new Promise<void>((resolve) => { listener.listen(0, '127.0.0.1', resolve) })
    ports.set(what, (listener.address() as net.AddressInfo).port)
  }
  const told = await Promise.all([...ports].map(async ([what, port], n) => {
    const startedMs = monotonicMs()
    const attributes = { server: '127.0.0.1', share: '/data', mountOptions: `port=${port},mountport=${port}` }
    const answer = await refused(
      t,
      kubelet.publishInline(node.csiSocket, volumeOf(attributes), { ...pod, uid: `uid-${n}` })
    )
    return { what, ...answer, ms: monotonicMs() - startedMs }
  }))
  t.deepEqual([...new Set(told.map(({ code, details }) => `${code} ${details}`))], [
    'UNAVAILABLE server: the share cannot be mounted from "127.0.0.1" now; ask the operator of the node: the agent\'s log says why'
  ])
  // No answer comes before the slowest of them can be known.
  for (const { what, ms } of told) t.true(ms >= 10_900, `a port ${what} is told after ${Math.round(ms)} ms`)
  const causes = node.agentLog.split('\n').filter((line) => line.includes('"op":"NodePublishVolume"')).map((line) =>
    (JSON.parse(line) as { cause?: string }).cause ?? ''
  )
  t.true(
    causes.some((cause) => /refuses connections/.test(cause)) && causes.some((cause) => /does not answer/.test(cause)),
    'the log tells more'
  )
  t.notRegex(node.agentLog, /deadbeef|SSH|3735928559|1396918322/)
  t.is(readFileSync('/proc/self/mountinfo', 'utf8').includes(node.folder), false)
})

check('a thousand inline volumes cost the node no more than it allows, and a pod no more than its share', async (t) => {
  await withNode(
    (ganesha) => ['--ephemeral-allow', ganesha.host, '--ephemeral-max', '6'],
    async ({ node, kubelet, ganesha }) => {
      t.is((await kubelet.call(node.csiSocket, 'NodeGetInfo', {})).maxVolumesPerNode, '256')
      const ask = async (n: number, name: string): Promise<string> => {
        try {
          // Each is a session of its own.
          const mountOptions = `${ganesha.mountOptions},timeo=${100 + n}`
          const volume = volumeOf(attributesOf(ganesha, { mountOptions }), { name })
          return await kubelet.publishInline(node.csiSocket, volume, { ...pod, uid: `uid-${n}` })
        } catch (error) {
          if (!(error instanceof CallError) || error.code !== status.RESOURCE_EXHAUSTED) throw error
          return error.details
        }
      }
      const greedy = await Promise.all(Array.from({ length: 10 }, async (_, n) => await ask(0, `volume-${n}`)))
      t.is(greedy.filter((text) => text.startsWith('/')).length, 4)
      t.regex(
        greedy.find((text) => !text.startsWith('/')) ?? '',
        /^volume_id: the pod has 4 inline volumes, at most 4 are allowed; use fewer/
      )
      t.like(auditOf(node).find(({ outcome }) => outcome === 'refused'), {
        rule: 'inline volumes per pod', pod: { uid: 'uid-0' }
      })
      // A hundred at once: more connections at a time than the socket's backlog takes are turned away by the kernel.
      const many: string[] = []
      for (let round = 0; round < 10; round++) {
        many.push(
          ...await Promise.all(Array.from({ length: 100 }, async (_, n) => await ask(1 + 100 * round + n, 'data')))
        )
      }
      t.is(many.filter((text) => text.startsWith('/')).length, 2)
      t.regex(
        many.find((text) => !text.startsWith('/')) ?? '',
        /^volume_id: the node has 6 inline volumes, at most 6 are allowed; .*--ephemeral-max/
      )
      t.true(await sessionsOf(node) <= 6)
      t.is(mountsBelow(path.join(node.kubelet, 'pods')).length, 6)
      // A repeat of what is there is no further one, and a persistent volume has its place.
      const again = greedy.findIndex((text) => text.startsWith('/'))
      t.is(await ask(0, `volume-${again}`), greedy[again] ?? '')
      const persistent = { handle: 'pv', attributes: attributesOf(ganesha) }
      await kubelet.stage(node.csiSocket, driver, persistent)
      await kubelet.unstage(node.csiSocket, driver, 'pv')
    }
  )
})
