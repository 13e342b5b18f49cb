/**
 * `client=kernel` with a real kernel: an agent in a virtual machine without any NFS tools, a real server on the host.
 */
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { monotonicMs, pause } from '../../../agent/base/deadline.ts'
import { CallError } from '../../../proto/csi/client.ts'
import { Ganesha } from '../../peers/ganesha.ts'
import { missing } from '../../peers/needs.ts'
import { testNeeding } from '../../peers/testing.ts'
import { hostAddress } from '../../peers/vm/machine.ts'
import { Guest, type GuestVolume } from './guest.ts'

const check = testNeeding('root', 'ganesha', 'qemu', 'gcc')

/** The kernel's client looks for a lost server this often at first. */
const reconnectMs = 8000

let server: Ganesha
let guest: Guest

test.before(async () => {
  if (missing('root', 'ganesha', 'qemu', 'gcc') !== undefined) return
  server = await Ganesha.start({ numericOwners: true })
  guest = await Guest.start(['sunrpc', 'nfs'])
  await guest.startAgent()
})

test.after.always(async () => {
  server?.resume()
  await guest?.close()
  await server?.close()
})

const version3 = (...more: string[]): string =>
  ['client=kernel', `port=${server.nfsPort}`, `mountport=${server.mountPort}`, 'vers=3', ...more].slice(1).join(',')
const version4 = (version: string, ...more: string[]): string =>
  [`port=${server.nfsPort}`, ...version === '' ? [] : [`vers=${version}`], ...more].join(',')

function volume (handle: string, mountOptions: string, more: Record<string, string> = {}): GuestVolume {
  const share = mountOptions.includes('vers=3') ? server.folder : server.pseudo
  return { handle, attributes: { server: hostAddress, share, client: 'kernel', mountOptions, ...more } }
}

async function mounted (
  t: ExecutionContext,
  wanted: GuestVolume,
  work: (target: string) => Promise<void>
): Promise<void> {
  await guest.stage(wanted)
  const target = await guest.publish(wanted, wanted.handle)
  try {
    await work(target)
  } finally {
    await guest.unpublish(wanted, wanted.handle)
    await guest.unstage(wanted)
  }
  t.deepEqual(await guest.mounts(), [])
}

const versions = [['3', '3'], ['4.0', '4.0'], ['4.1', '4.1'], ['4.2', '4.2'], ['', '4.2']] as const
for (const [asked, got] of versions) {
  check(`version ${asked === '' ? 'left open' : asked}: pod files reach the server, statistics are its own, and nothing is left`, async (t) => {
    const name = `v${asked}`
    const wanted = volume(name, asked === '3' ? version3() : version4(asked))
    await mounted(t, wanted, async (target) => {
      await guest.machine.shell(`echo written-${name} > ${target}/${name} && cat ${target}/${name}`)
      t.is(readFileSync(path.join(server.folder, name), 'utf8'), `written-${name}\n`)
      writeFileSync(path.join(server.folder, `${name}-from-server`), 'hello')
      t.is(await guest.machine.shell(`cat ${target}/${name}-from-server`), 'hello')
      const { usage, volumeCondition } = await guest.stats(wanted, name)
      const bytes = usage.find(({ unit }) => unit === 'BYTES')
      t.true(Number(bytes?.total) > 0 && Number(bytes?.used) > 0)
      t.false(volumeCondition?.abnormal)
      const [shown] = await guest.status()
      t.is(shown?.health, 'healthy')
      t.is(shown?.client, 'kernel')
      t.regex(shown?.clientReason ?? '', new RegExp(`NFS version ${got.replace('.', '\\.')}`))
      t.is(shown?.locks, asked === '3' ? 'node-local' : 'server')
    })
  })
}

check('the attributes of csi-driver-nfs\' examples mount version 4.1 without naming a client', async (t) => {
  const wanted = {
    handle: 'example', attributes: { server: hostAddress, share: '/' },
    mountFlags: ['nfsvers=4.1', `port=${server.nfsPort}`]
  }
  await mounted(t, wanted, async (target) => {
    t.is(await guest.machine.shell(`grep -c " ${target} .* - nfs4 .*vers=4.1" /proc/self/mountinfo`), '1\n')
    await guest.machine.shell(`echo hello > ${target}/export/from-example`)
    t.is(readFileSync(path.join(server.folder, 'from-example'), 'utf8'), 'hello\n')
  })
})

check('two pods of one volume share a mount, another volume of the same export has its own file system', async (t) => {
  const [one, same, other] = [
    volume('one', version4('4.2')), volume('same', version4('4.2')),
    volume('other', version4('4.2'), { subDir: 'team' })
  ]
  mkdirSync(path.join(server.folder, 'team'), { recursive: true })
  for (const each of [one, same, other]) await guest.stage(each)
  const [a, b, c] = [
    await guest.publish(one, 'pod-a'), await guest.publish(same, 'pod-b'), await guest.publish(other, 'pod-c')
  ]
  await guest.machine.shell(`echo all > ${a}/team/all`)
  t.is(await guest.machine.shell(`cat ${b}/team/all ${c}/all`), 'all\nall\n')
  t.is(
    await guest.machine.shell(
      'grep " - nfs4 " /proc/self/mountinfo | cut -d" " -f3 | sort | uniq -c | sed "s/ *\\([0-9]*\\) .*/\\1/" | sort -n | tr "\\n" " "'
    ),
    '2 3 '
  )
  await guest.unpublish(one, 'pod-a')
  await guest.unstage(one)
  t.is(await guest.machine.shell(`cat ${b}/team/all`), 'all\n')
  for (const [each, pod] of [[same, 'pod-b'], [other, 'pod-c']] as const) {
    await guest.unpublish(each, pod)
    await guest.unstage(each)
  }
  t.deepEqual(await guest.mounts(), [])
})

for (const [name, options] of [['version 3', () => version3()], ['version 4', () => version4('4.2')]] as const) {
  check(`subDir with ${name} shows that folder alone; one that is missing, a file or reached through a link is refused by name`, async (t) => {
    mkdirSync(path.join(server.folder, 'team/a b'), { recursive: true })
    writeFileSync(path.join(server.folder, 'team/a b/inside'), 'inside')
    writeFileSync(path.join(server.folder, 'file'), 'file')
    for (const [link, to] of [['link', 'team'], ['out', '/etc'], ['up', '..']] as const) {
      if (!existsSync(path.join(server.folder, link))) symlinkSync(to, path.join(server.folder, link))
    }
    const wanted = volume('sub', options(), { subDir: 'team/a b' })
    await mounted(t, wanted, async (target) => {
      t.is(await guest.machine.shell(`ls ${target}`), 'inside\n')
      t.is(await guest.machine.shell(`ls ${target}/.. | grep -c inside || true`), '0\n')
      t.is(
        (await guest.mounts()).filter((point) => point.includes('/mounts/')).length,
        1,
        'the share itself is mounted nowhere'
      )
      const { usage } = await guest.stats(wanted, 'sub')
      t.true(Number(usage.find(({ unit }) => unit === 'BYTES')?.total) > 0)
    })
    for (const [subDir, words] of [
      ['missing', /subDir: "missing" does not exist/], ['file', /subDir: "file" is not a directory/],
      ['link/a b', /subDir: "link\/a b" leads through a symbolic link/],
      ['out', /subDir: "out" leads through a symbolic link/], ['up', /subDir: "up" leads through/]
    ] as const) {
      await t.throwsAsync(guest.stage(volume('sub', options(), { subDir })), { instanceOf: CallError, message: words })
      t.deepEqual(await guest.mounts(), [], subDir)
    }
  })
}

check('what is wrong with server or export is said by field, and nothing is left', async (t) => {
  const refused = async (wanted: GuestVolume, words: RegExp): Promise<void> => {
    await t.throwsAsync(guest.stage(wanted), { instanceOf: CallError, message: words })
    t.deepEqual(await guest.mounts(), [])
  }
  await refused(
    volume('wrong', version4('4.2'), { share: '/nowhere' }),
    /share: "\/nowhere" .* no such path \(ENOENT\)/
  )
  await refused(volume('wrong', version3(), { share: '/nowhere' }), /share: "\/nowhere"/)
  await refused(volume('wrong', 'vers=4.2,port=1'), /server: .*port/)
  await refused(
    volume('wrong', version4('4.2'), { server: 'no-such-host.invalid' }),
    /server: "no-such-host\.invalid" cannot be resolved/
  )
})

check('the agent is killed: the mount goes on, the next agent knows it again and takes it away', async (t) => {
  const wanted = volume('survivor', version4('4.2'), { subDir: 'team' })
  mkdirSync(path.join(server.folder, 'team'), { recursive: true })
  await guest.stage(wanted)
  const target = await guest.publish(wanted, 'survivor')
  await guest.killAgent()
  await guest.machine.shell(`echo alone > ${target}/alone`)
  t.is(readFileSync(path.join(server.folder, 'team/alone'), 'utf8'), 'alone\n')
  await guest.startAgent()
  const [shown] = await guest.status()
  t.is(shown?.health, 'healthy')
  t.regex(shown?.clientReason ?? '', /NFS version 4\.2/)
  await guest.publish(wanted, 'survivor')
  t.is((await guest.mounts()).length, 2)
  await guest.unpublish(wanted, 'survivor')
  await guest.unstage(wanted)
  t.deepEqual(await guest.mounts(), [])
  t.is(await guest.machine.shell('ls /var/lib/volbridge/mounts /var/lib/volbridge/journal | grep -v : || true'), '\n')
})

check('volume_mount_group gives the root its group and set-group-id, once', async (t) => {
  mkdirSync(path.join(server.folder, 'grouped'))
  const wanted = { ...volume('grouped', version4('4.2'), { subDir: 'grouped' }), group: 4321 }
  await mounted(t, wanted, async (target) => {
    const { gid, mode } = statSync(path.join(server.folder, 'grouped'))
    t.is(gid, 4321)
    t.is(mode & 0o2070, 0o2070)
    await guest.machine.shell(`touch ${target}/new`)
    t.is(statSync(path.join(server.folder, 'grouped/new')).gid, 4321)
  })
})

check('a stopped server: statistics are the last known ones, the health says so, and both unpublish and unstage end in time', async (t) => {
  for (const [name, options] of [['dead3', version3()], ['dead4', version4('4.2')]] as const) {
    const wanted = volume(name, options)
    await guest.stage(wanted)
    const target = await guest.publish(wanted, name)
    await guest.machine.shell(`echo before > ${target}/${name}`)
    const before = await guest.stats(wanted, name)
    /* A writer with a file open, whose bytes no close will save: it is killed while it waits for the server. */
    await guest.machine.shell(
      `mkfifo /tmp/${name}; (exec > ${target}/${name}-late; read -r go < /tmp/${name}; head -c 300000 /dev/zero) 2> /dev/null & echo $! > /tmp/${name}.pid
      while ! [ -e ${target}/${name}-late ]; do sleep 0.1; done`
    )
    server.stop()
    try {
      await guest.machine.shell(`echo go > /tmp/${name}
        waiting () { grep -qE '^(Dirty|Writeback): *[1-9][0-9][0-9] kB' /proc/meminfo; }
        for n in $(seq 100); do waiting && break; sleep 0.1; done
        waiting || { cat /proc/meminfo; exit 1; }
        kill -9 $(cat /tmp/${name}.pid); killall -9 head || true`)
      const startedMs = monotonicMs()
      const { usage, volumeCondition } = await guest.stats(wanted, name)
      t.true(monotonicMs() - startedMs < 10_000)
      t.is(usage[0]?.total, before.usage[0]?.total)
      t.true(volumeCondition?.abnormal)
      t.regex(volumeCondition?.message ?? '', /does not answer/)
      for (const [what, work] of [['unpublish', guest.unpublish(wanted, name)], ['unstage', undefined]] as const) {
        const sinceMs = monotonicMs()
        await (work ?? guest.unstage(wanted))
        t.log(`${name}: ${what} ${Math.round(monotonicMs() - sinceMs)} ms`)
        t.true(monotonicMs() - sinceMs < 30_000, what)
      }
      t.deepEqual(await guest.mounts(), [])
    } finally {
      /* A new server: what a stopped one has received and not yet read would be done by it later, and was sent
       * before. */
      await server.restart()
    }
    await pause(reconnectMs)
    t.is(statSync(path.join(server.folder, `${name}-late`)).size, 0, 'nothing is sent once unstage has answered')
    t.regex(await guest.agentLog(), /[1-9]\d* bytes written to \S+ could not be saved/)
    t.is(readFileSync(path.join(server.folder, name), 'utf8'), 'before\n')
  }
})
