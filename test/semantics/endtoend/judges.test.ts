/**
 * The server judges: exports that map users, that know groups of their own, that are read-only, and rights that do not
 * follow from mode bits. What the kernel's NFS client lets a program do there, the mount lets it do, and no more.
 */
import { chmodSync, chownSync, mkdirSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import type { ExecutionContext } from 'ava'
import { Ganesha, type GaneshaOptions } from '../../peers/ganesha.ts'
import { testNeeding } from '../../peers/testing.ts'
import { run, TestNode, type Ran } from './node.ts'

const check = testNeeding('root', 'fuse', 'ganesha')

interface Share { readonly folder: string, readonly mounted: string, status (): Promise<string> }

/** A share of its own for one test; `prepare` makes what is in it. */
async function withShare (
  options: GaneshaOptions & { prepare?: (folder: string) => void, attributes?: string },
  work: (share: Share) => Promise<void>
): Promise<void> {
  const node = new TestNode()
  try {
    const folder = node.makeFolder('export')
    options.prepare?.(folder)
    await using server = await Ganesha.start({ folder, ...options })
    await node.startAgent()
    const mounted = node.makeFolder('mnt')
    const more = options.attributes === undefined ? '' : `,${options.attributes}`
    await node.mount(`${server.host}:${folder}`, mounted, `${server.mountOptions}${more}`)
    await work({ folder, mounted, status: async () => (await node.command(['status', ...node.places])).stdout })
    const ended = await node.unmount(mounted)
    if (ended.code !== 0) throw new Error(ended.stderr)
  } finally {
    await node.close()
  }
}

/** A shell command as this user, without supplementary groups; root without any capability when that is asked for. */
async function as (uid: number, command: string, { powerless = false, groups = '' } = {}): Promise<Ran> {
  return await run('setpriv', [
    '--reuid', String(uid), '--regid', String(uid), ...groups === '' ? ['--clear-groups'] : ['--groups', groups],
    ...powerless ? ['--bounding-set=-all', '--inh-caps=-all'] : [],
    '/bin/bash', '-c', command
  ], { cwd: '/' })
}

const works = async (t: ExecutionContext, uid: number, command: string): Promise<void> => {
  const ran = await as(uid, command)
  t.is(ran.code, 0, `${command}: ${ran.stderr}`)
}
const isRefused = async (t: ExecutionContext, uid: number, command: string): Promise<void> => {
  const ran = await as(uid, command)
  t.not(ran.code, 0, command)
  t.regex(ran.stderr, /Permission denied|not permitted/, command)
}

const squashed = {
  squash: 'All_Squash', exportLines: ['  Anonymous_Uid = 1024;', '  Anonymous_Gid = 100;']
} as const

check('an export that makes every user one: who may do what is what that one may, whoever asks', async (t) => {
  await withShare({
    ...squashed,
    prepare: (folder) => {
      chownSync(folder, 1024, 100)
      chmodSync(folder, 0o755)
    }
  }, async ({ folder, mounted }) => {
    await works(
      t,
      1000,
      `cd ${mounted} && echo one > a && echo two >> a && mkdir -p d/e && echo x > d/e/f && cat d/e/f`
    )
    await works(
      t,
      2000,
      `cd ${mounted} && echo three >> a && mv a d/b && ln d/b c && rm -r d/e && chmod 600 c && cat c`
    )
    const { uid, gid } = statSync(path.join(folder, 'c'))
    t.deepEqual([uid, gid], [1024, 100])
    await works(t, 2000, `test -w ${mounted}/c && test ! -x ${mounted}/c && cd ${mounted}/d`)
  })
})

check('an export that makes every user one, with a root for everybody: files and folders just made can be used', async (t) => {
  await withShare({ ...squashed, prepare: (folder) => { chmodSync(folder, 0o777) } }, async ({ mounted }) => {
    await works(
      t,
      1000,
      `cd ${mounted} && echo one > log && echo two >> log && mkdir job && echo x > job/out && cat job/out`
    )
    await works(t, 1000, `cd ${mounted} && umask 077 && mkdir own && echo x > own/f && cat own/f && rm -r own job log`)
  })
})

check('root of a node is what the server makes of it: access(2) says so too', async (t) => {
  await withShare({
    squash: 'Root_Squash',
    prepare: (folder) => {
      chmodSync(folder, 0o755)
      writeFileSync(path.join(folder, 'readable'), 'x', { mode: 0o644 })
      writeFileSync(path.join(folder, 'closed'), 'x', { mode: 0o600 })
      mkdirSync(path.join(folder, 'home'), { mode: 0o700 })
      chownSync(path.join(folder, 'home'), 1000, 1000)
    }
  }, async ({ mounted }) => {
    t.is((await as(0, `test -r ${mounted}/readable`)).code, 0)
    for (const test of ['-w readable', '-r closed', '-w .', '-x home', '-e home/nothing']) {
      const [flag = '', name = ''] = test.split(' ')
      t.not((await as(0, `test ${flag} ${mounted}/${name}`)).code, 0, test)
    }
    await isRefused(t, 0, `cat ${mounted}/closed`)
    await isRefused(t, 0, `ls ${mounted}/home`)
    await works(t, 1000, `cd ${mounted}/home && echo mine > f && cat f`)
    await isRefused(t, 0, `stat ${mounted}/home/f`)
  })
})

check('access(2) on a read-only export says that nothing can be written', async (t) => {
  await withShare({
    accessType: 'RO',
    prepare: (folder) => {
      chmodSync(folder, 0o777)
      writeFileSync(path.join(folder, 'f'), 'x')
      chmodSync(path.join(folder, 'f'), 0o666)
    }
  }, async ({ mounted }) => {
    for (const uid of [0, 1000]) {
      t.is((await as(uid, `test -r ${mounted}/f && test -x ${mounted}`)).code, 0)
      t.not((await as(uid, `test -w ${mounted}/f`)).code, 0)
      t.not((await as(uid, `test -w ${mounted}`)).code, 0)
      t.not((await as(uid, `echo x > ${mounted}/f`)).code, 0)
    }
  })
})

check('root without capabilities may do what the server lets root do', async (t) => {
  await withShare({
    prepare: (folder) => {
      mkdirSync(path.join(folder, 'home'), { mode: 0o700 })
      writeFileSync(path.join(folder, 'home/f'), 'private', { mode: 0o600 })
      for (const name of ['home', 'home/f']) chownSync(path.join(folder, name), 1000, 1000)
    }
  }, async ({ mounted }) => {
    const ran = await as(
      0,
      `grep CapEff /proc/self/status; cat ${mounted}/home/f && echo more >> ${mounted}/home/f && ls ${mounted}/home`,
      {
        powerless: true
      }
    )
    t.regex(ran.stdout, /CapEff:\s+0+\n/)
    t.is(ran.code, 0, ran.stderr)
  })
})

check('a server that knows its users’ groups itself: those count, and what the node says of groups does not', async (t) => {
  await withShare({
    manageGids: true,
    accounts: {
      passwd: ['root:x:0:0::/:/bin/sh', 'ann:x:1000:1000::/:/bin/sh', 'bob:x:2000:2000::/:/bin/sh'],
      group: ['root:x:0:', 'ann:x:1000:', 'bob:x:2000:', 'team:x:3000:ann']
    },
    prepare: (folder) => {
      chmodSync(folder, 0o755)
      mkdirSync(path.join(folder, 'team'))
      chownSync(path.join(folder, 'team'), 0, 3000)
      chmodSync(path.join(folder, 'team'), 0o2770)
    }
  }, async ({ folder, mounted }) => {
    await works(t, 1000, `cd ${mounted}/team && echo x > f && chmod 660 f && test -w . && cat f && mkdir d && ls d`)
    t.is(statSync(path.join(folder, 'team/f')).gid, 3000)
    await isRefused(t, 2000, `ls ${mounted}/team`)
    // The node counts this user in, and the server does not.
    const counted = await as(2000, `cat ${mounted}/team/f || test -r ${mounted}/team`, { groups: '3000' })
    t.not(counted.code, 0, counted.stdout)
    await works(t, 1000, `rm -r ${mounted}/team/d ${mounted}/team/f`)
  })
})

check('a sticky folder: who may not remove a name there is told so by the server', async (t) => {
  await withShare({ prepare: (folder) => { chmodSync(folder, 0o1777) } }, async ({ mounted }) => {
    await works(t, 1000, `echo x > ${mounted}/mine`)
    await isRefused(t, 2000, `rm -f ${mounted}/mine`)
    await isRefused(t, 2000, `echo y > ${mounted}/other && mv -f ${mounted}/other ${mounted}/mine`)
    await works(t, 1000, `rm ${mounted}/mine`)
  })
})

check('with an identity every call goes to the server as that user, from any uid and on a squashed export', async (t) => {
  await withShare({
    squash: 'Root_Squash',
    attributes: 'identity=1024:100,subDir=home/data',
    prepare: (folder) => {
      mkdirSync(path.join(folder, 'home/data'), { recursive: true })
      for (const name of ['home', 'home/data']) {
        chownSync(path.join(folder, name), 1024, 100)
        chmodSync(path.join(folder, name), 0o700)
      }
    }
  }, async ({ folder, mounted, status }) => {
    await works(t, 0, `cd ${mounted} && echo root > a && mkdir -m 700 d && test -w a`)
    await works(
      t,
      5000,
      `cd ${mounted} && echo more >> a && cat a && echo x > d/f && chmod 600 d/f && test -w d/f && mv d/f d/g`
    )
    await works(t, 6000, `cd ${mounted} && cat d/g && rm -r d`)
    const { uid, gid } = statSync(path.join(folder, 'home/data/a'))
    t.deepEqual([uid, gid], [1024, 100])
    t.regex(await status(), /uid 1024, gid 100/)
  })
})

check('sockets and FIFOs of somebody else: who may not write does not get through, and the owner does', async (t) => {
  await withShare({ prepare: (folder) => { chmodSync(folder, 0o777) } }, async ({ mounted }) => {
    const server = `import socket,os,sys
s=socket.socket(socket.AF_UNIX); s.bind('${mounted}/sock'); os.chmod('${mounted}/sock', 0o755); s.listen()
def connect(uid):
    pid=os.fork()
    if pid==0:
        os.setgid(uid); os.setuid(uid)
        c=socket.socket(socket.AF_UNIX)
        try: c.connect('${mounted}/sock'); os._exit(0)
        except OSError as e: os._exit(e.errno)
    return os.waitstatus_to_exitcode(os.waitpid(pid,0)[1])
os.setresuid(0,0,0)
print(connect(1000), connect(2000), connect(1000))`
    const ran = await run('python3', [
      '-c',
      server.replace(`s.bind(`, 'os.setegid(1000); os.seteuid(1000); s.bind(').replace(
        'os.setresuid(0,0,0)',
        'os.seteuid(0); os.setegid(0)'
      )
    ])
    // 13 is EACCES.
    t.is(ran.stdout.trim(), '0 13 0', ran.stderr)
    await works(t, 1000, `mkfifo -m 600 ${mounted}/closed && mkfifo -m 644 ${mounted}/pipe`)
    for (const how of ['<', '>']) await isRefused(t, 2000, `timeout 5 bash -c ': ${how} ${mounted}/closed'`)
    await works(t, 1000, `(timeout 20 bash -c 'echo through > ${mounted}/pipe' > /dev/null 2>&1 &)`)
    const read = await as(2000, `timeout 20 cat ${mounted}/pipe`)
    t.is(read.stdout, 'through\n', read.stderr)
    t.is((await as(2000, `stat -c %F ${mounted}/pipe`)).stdout, 'fifo\n')
    await works(t, 1000, `rm ${mounted}/closed ${mounted}/pipe ${mounted}/sock`)
  })
})
