/**
 * Pods with user namespaces of their own (`hostUsers: false`) on a volume with `idmap`: their binds are idmapped, as
 * runc 1.2 and later make them, and what they make and may do is what the same user of any other pod makes and may do.
 */
import { chmodSync, chownSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { Ganesha, type GaneshaOptions } from '../../peers/ganesha.ts'
import { runInPod } from '../../peers/runc-pod.ts'
import { testNeeding } from '../../peers/testing.ts'
import { run, TestNode, type Ran } from './node.ts'

const check = testNeeding('root', 'fuse', 'ganesha', 'idmappedFuse')
const helper = path.resolve(import.meta.dirname, '../../peers/pod_in_user_namespace.py')

interface User { readonly uid: number, readonly gid?: number, readonly groups?: readonly number[] }
interface Pod {
  /** The node's id that is 0 in the pod. */
  readonly base: number
  readonly bind?: 'idmapped' | 'plain' | 'both'
}

/** A shell command as this user of a pod, whose volume is its working directory. */
type InPod = (pod: Pod, user: User, command: string) => Promise<Ran>

interface Share {
  readonly folder: string
  readonly mounted: string
  readonly node: TestNode
  readonly inPod: InPod
}

async function withShare (
  options: GaneshaOptions & { attributes?: string, prepare?: (folder: string) => void },
  work: (share: Share) => Promise<void>
): Promise<void> {
  const node = new TestNode()
  try {
    const folder = node.makeFolder('export')
    chmodSync(folder, 0o777)
    options.prepare?.(folder)
    await using server = await Ganesha.start({ folder, ...options })
    await node.startAgent()
    const [mounted, target] = [node.makeFolder('mnt'), node.makeFolder('pod')]
    await node.mount(
      `${server.host}:${folder}`,
      mounted,
      [server.mountOptions, options.attributes ?? 'idmap=true'].filter((text) => text !== '').join(',')
    )
    const inPod: InPod = async ({ base, bind = 'idmapped' }, { uid, gid = uid, groups = [] }, command) =>
      await run('python3', [
        helper,
        JSON.stringify({
          source: mounted, target, base, count: 65_536, bind, uid, gid, groups,
          command: ['/bin/bash', '-euo', 'pipefail', '-c', `cd ${target}; ${command}`]
        })
      ], { cwd: '/' })
    await work({ folder, mounted, node, inPod })
    const ended = await node.unmount(mounted)
    if (ended.code !== 0) throw new Error(ended.stderr)
  } finally {
    await node.close()
  }
}

const [one, other] = [{ base: 655_360 }, { base: 1_310_720 }]
const owners = (file: string): readonly number[] => {
  const { uid, gid } = statSync(file)
  return [uid, gid]
}

check('a pod in a user namespace makes, reads, writes, lists, chmods and chowns as the user that it is inside', async (t) => {
  await withShare({}, async ({ folder, inPod }) => {
    const user = await inPod(one, { uid: 1000, gid: 100 }, `
      umask 022; mkdir d; echo hello > d/f; echo more >> d/f; cat d/f; ls d; stat -c %u:%g d/f
      ln -s f d/l; mkfifo d/p; ln d/f d/g; mv d/g d/h; chmod 600 d/f; truncate -s 5 d/f; touch d/f; rm d/h d/l
      test -w d/f; df . > /dev/null`)
    t.is(user.code, 0, user.stderr)
    t.is(user.stdout, 'hello\nmore\nf\n1000:100\n')
    for (const name of ['d', 'd/f', 'd/p']) t.deepEqual(owners(path.join(folder, name)), [1000, 100], name)
    t.is(statSync(path.join(folder, 'd/f')).mode & 0o777, 0o600)
    t.is(readFileSync(path.join(folder, 'd/f'), 'utf8'), 'hello')
    const root = await inPod(one, { uid: 0 }, 'echo root > r; chown 7:8 r d/f; chmod 4711 r; stat -c %u:%g r d/f')
    t.is(root.code, 0, root.stderr)
    t.is(root.stdout, '7:8\n7:8\n')
    for (const name of ['r', 'd/f']) t.deepEqual(owners(path.join(folder, name)), [7, 8], name)
  })
})

check('two pods with different user namespaces, and the node itself, are the same users on one idmapped volume', async (t) => {
  await withShare({}, async ({ folder, mounted, inPod }) => {
    const made = await inPod(one, { uid: 1000 }, 'umask 077; echo private > f; mkdir h; echo x > h/y')
    t.is(made.code, 0, made.stderr)
    const same = await inPod(other, { uid: 1000 }, 'cat f h/y; echo again >> f; stat -c %u f')
    t.is(same.code, 0, same.stderr)
    t.is(same.stdout, 'private\nx\n1000\n')
    const stranger = await inPod(
      other,
      { uid: 1001 },
      'for t in "cat f" "ls h" "chmod 777 f" "cat h/y" "truncate -s 0 f"; do if $t; then echo "$t"; fi; done'
    )
    t.is(stranger.stdout, '', stranger.stderr)
    t.is(stranger.stderr.match(/Permission denied|not permitted/g)?.length, 5, stranger.stderr)
    const root = await run('/bin/bash', [
      '-ec', `echo r > ${mounted}/r; cat ${mounted}/f; chown 5:6 ${mounted}/r; chmod 640 ${mounted}/f`
    ])
    t.is(root.code, 0, root.stderr)
    t.is(root.stdout, 'private\nagain\n')
    t.deepEqual(owners(path.join(folder, 'r')), [5, 6])
    const plain = await run('setpriv', [
      '--reuid', '1000', '--regid', '1000', '--clear-groups', '/bin/bash', '-ec',
      `cat ${mounted}/h/y; echo n > ${mounted}/n`
    ], { cwd: '/' })
    t.is(plain.code, 0, plain.stderr)
    t.deepEqual(owners(path.join(folder, 'n')), [1000, 1000])
  })
})

check('supplementary groups of a pod in a user namespace open what these groups may, and others do not', async (t) => {
  await withShare({
    prepare: (folder) => {
      mkdirSync(path.join(folder, 'team'))
      writeFileSync(path.join(folder, 'team/plan'), 'plan\n')
      for (const name of ['team', 'team/plan']) chownSync(path.join(folder, name), 0, 7001)
      chmodSync(path.join(folder, 'team'), 0o770)
      chmodSync(path.join(folder, 'team/plan'), 0o660)
    }
  }, async ({ inPod }) => {
    const member = await inPod(one, { uid: 1300, groups: [9, 7001] }, 'cat team/plan; echo more >> team/plan')
    t.is(member.code, 0, member.stderr)
    t.is(member.stdout, 'plan\n')
    const stranger = await inPod(one, { uid: 1300, groups: [9, 7001 + 1] }, 'cat team/plan')
    t.regex(stranger.stderr, /Permission denied/)
  })
})

check('a program that becomes another user in its pod is that user at its next request', async (t) => {
  await withShare({ squash: 'Root_Squash' }, async ({ folder, inPod }) => {
    writeFileSync(path.join(folder, 'f'), 'mine\n', { mode: 0o600 })
    chownSync(path.join(folder, 'f'), 1000, 1000)
    writeFileSync(path.join(folder, 'g'), 'everybody’s\n', { mode: 0o644 })
    // The shell opens one file, and becomes the program that opens the other, within a moment.
    const ran = await inPod(
      one,
      { uid: 0 },
      'read -r line < g; exec setpriv --reuid 1000 --regid 1000 --clear-groups cat f'
    )
    t.is(ran.stdout, 'mine\n', ran.stderr)
  })
})

check('who makes itself root in a user namespace of its own is not root on the volume, in a pod or without one', async (t) => {
  // Root is nobody on this server: whatever a namespace says, only uid 1000 is let into its folder.
  await withShare({
    squash: 'Root_Squash',
    prepare: (folder) => {
      mkdirSync(path.join(folder, 'home'), { mode: 0o700 })
      writeFileSync(path.join(folder, 'home/f'), 'mine\n', { mode: 0o600 })
      for (const name of ['home', 'home/f']) chownSync(path.join(folder, name), 1000, 1000)
      writeFileSync(path.join(folder, 'closed'), 'no', { mode: 0o600 })
    }
  }, async ({ mounted, inPod, node }) => {
    const inside = 'id -u; cat home/f; echo x >> home/f; if cat closed; then echo open; fi'
    const nested = await inPod(one, { uid: 1000 }, `unshare --user --map-root-user /bin/bash -ec '${inside}'; true`)
    t.is(nested.code, 0, nested.stderr)
    t.is(nested.stdout, '0\nmine\n', nested.stderr)
    t.regex(nested.stderr, /closed: Permission denied/)
    const plain = await run('setpriv', [
      '--reuid', '1000', '--regid', '1000', '--clear-groups', 'unshare', '--user', '--map-root-user', '/bin/bash',
      '-ec',
      `cd ${mounted}; ${inside}`
    ], { cwd: '/' })
    t.is(plain.code, 0, plain.stderr)
    t.is(plain.stdout, '0\nmine\nx\n', plain.stderr)
    // The first process of a container, which nobody above it speaks for.
    const first = await inPod(
      one,
      { uid: 1000 },
      `exec unshare --user --map-root-user /bin/bash -c 'cat home/f closed'`
    )
    t.not(first.code, 0)
    t.is(first.stdout, '')
    t.true(node.agentPid !== undefined)
  })
})

check('a user namespace whose bind is not idmapped, or beside one that is, gets no more than its ids of the node get', async (t) => {
  await withShare({
    prepare: (folder) => {
      for (const [name, owner] of [['thousand', 1000], ['shifted', 655_360 + 1000]] as const) {
        writeFileSync(path.join(folder, name), `${name}\n`, { mode: 0o600 })
        chownSync(path.join(folder, name), owner, owner)
      }
      writeFileSync(path.join(folder, 'all'), 'all\n', { mode: 0o644 })
    }
  }, async ({ folder, inPod }) => {
    const plain = await inPod(
      { ...one, bind: 'plain' },
      { uid: 1000 },
      'cat all shifted; echo x > new; if cat thousand; then echo open; fi'
    )
    t.is(plain.stdout, 'all\nshifted\n', plain.stderr)
    t.deepEqual(owners(path.join(folder, 'new')), [656_360, 656_360])
    const both = await inPod(
      { ...one, bind: 'both' },
      { uid: 1000 },
      'cat all; if cat thousand; then echo open; fi; df . > /dev/null'
    )
    t.is(both.stdout, 'all\n', both.stderr)
    t.regex(both.stderr, /thousand: Permission denied/)
  })
})

check('with identity and idmap everybody is that user to the server', async (t) => {
  await withShare({
    squash: 'Root_Squash', attributes: 'idmap=true,identity=3000:3000',
    prepare: (folder) => { chownSync(folder, 3000, 3000) }
  }, async ({ folder, node, inPod }) => {
    const ran = await inPod(one, { uid: 1000 }, 'echo x > f')
    t.is(ran.code, 0, ran.stderr)
    t.deepEqual(owners(path.join(folder, 'f')), [3000, 3000])
    const { stdout } = await node.command(['status', ...node.places])
    t.regex(stdout, /idmap: pods in user namespaces may use the volume/)
    t.regex(stdout, /identity: every call goes to the server as uid 3000/)
  })
})

check('with idmap the node judges by mode bits before the server does, also with identity', async (t) => {
  const server = {
    squash: 'All_Squash', exportLines: ['  Anonymous_Uid = 1024;', '  Anonymous_Gid = 100;'],
    prepare: (folder: string) => {
      chownSync(folder, 1024, 100)
      chmodSync(folder, 0o755)
    }
  } as const
  for (const attributes of ['idmap=true', 'idmap=true,identity=1024:100']) {
    await withShare({ ...server, attributes }, async ({ folder, inPod }) => {
      const stranger = await inPod(one, { uid: 1000 }, 'ls; echo x > f')
      t.regex(stranger.stderr, /f: Permission denied/, attributes)
      const owner = await inPod(one, { uid: 1024, gid: 100 }, 'echo x > f; echo y >> f')
      t.is(owner.code, 0, owner.stderr)
      t.deepEqual(owners(path.join(folder, 'f')), [1024, 100])
    })
  }
})

testNeeding('root', 'fuse', 'ganesha', 'idmappedFuse', 'runcWithIdmap')(
  'runc starts pods in user namespaces on the volume, read-only mounts included',
  async (t) => {
    await withShare({
      squash: 'Root_Squash',
      prepare: (folder) => {
        writeFileSync(path.join(folder, 'f'), 'private\n', { mode: 0o600 })
        chownSync(path.join(folder, 'f'), 1000, 1000)
      }
    }, async ({ folder, mounted, node }) => {
      const pod = async (base: number, uid: number, command: string): Promise<Ran> =>
        await runInPod({ folder: path.join(node.folder, `pod-${base}-${uid}`), base, uid, volume: mounted, command })
      const script =
        'set -e; cat f /read-only/f; echo x > n; mkdir d; stat -c %u:%g f n d; df . > n; ! echo x > /read-only/g'
      const user = await pod(655_360, 1000, script)
      t.is(user.code, 0, user.stderr)
      t.is(user.stdout, 'private\nprivate\n1000:1000\n1000:1000\n1000:1000\n')
      t.regex(user.stderr, /Read-only file system/)
      t.deepEqual(owners(path.join(folder, 'd')), [1000, 1000])
      const same = await pod(
        1_310_720,
        1000,
        'cat f && echo more >> n && rmdir d && unshare --user --map-root-user cat f'
      )
      t.is(same.stdout, 'private\nprivate\n', same.stderr)
      const root = await pod(1_310_720, 0, 'id -u; cat f')
      t.is(root.stdout, '0\n', 'root is nobody on this server')
      t.regex(root.stderr, /Permission denied/)
    })
  }
)

check('without idmap the kernel refuses to idmap a bind of the volume', async (t) => {
  await withShare({ attributes: '' }, async ({ inPod }) => {
    const ran = await inPod(one, { uid: 0 }, 'ls')
    t.is(ran.code, 101)
    t.regex(ran.stderr, /mount_setattr: Invalid argument/)
  })
})
