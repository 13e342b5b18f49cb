/*
 * What a server may do: the scripted server plays it, and programs on a real mount of our client see what they should.
 */
import { execFile } from 'node:child_process'
import * as files from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import type { ExecutionContext } from 'ava'
import { mebibyteBytes } from '../../../agent/base/limits.ts'
import { openNfsVolume } from '../../../agent/roles/nfs-volume.ts'
import { parseVolumeSpec } from '../../../agent/volumes/spec/spec.ts'
import { NfsServer, type NfsServerOptions } from '../../peers/nfs-server/server.ts'
import type { Script, Verdict } from '../../peers/nfs-server/script.ts'
import { testNeeding } from '../../peers/testing.ts'
import { mountMemory } from '../fuse/mounted.ts'

const test = testNeeding('root', 'fuse')
const run = promisify(execFile)

const quiet = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
const missing: Verdict = { acceptStatus: 3 }
const notSupported: Verdict = { status: 'NOTSUPP' }
const on = (procedure: string, verdict: Verdict): Script => (call) => call.procedure === procedure ? verdict : undefined

interface World {
  readonly server: NfsServer
  /** What a shell prints, with the mount as its working directory; what goes wrong is part of it. */
  sh (script: string): Promise<string>
  readonly volume: Awaited<ReturnType<typeof openNfsVolume>>
}

/** A mount of a server that does what `script` says from the first call on. */
async function world (
  t: ExecutionContext,
  options: Partial<NfsServerOptions> = {},
  mountOptions = ''
): Promise<World> {
  const folder = await files.mkdtemp(path.join(tmpdir(), 'volbridge-odd-'))
  await files.chmod(folder, 0o755)
  await files.mkdir(path.join(folder, 'sub'))
  await files.writeFile(path.join(folder, 'file'), 'hello\n')
  const server = await NfsServer.start({ folder, ...options })
  t.teardown(async () => {
    await server.stop()
    await files.rm(folder, { recursive: true })
  })
  const spec = parseVolumeSpec({
    server: server.host, share: server.share,
    mountOptions: `port=${server.nfsPort},mountport=${server.mountPort}${mountOptions}`
  })
  const volume = await openNfsVolume({ spec, softReval: false, dirtyBytesMax: 8 * mebibyteBytes }, {
    log: quiet,
    invalidator: {
      inode: () => undefined, entry: () => undefined, canExpire: true, isHeard: () => true, canPrune: false,
      prune: () => undefined,
      whenHeard: async () => { await Promise.resolve() }
    }
  })
  const mount = await mountMemory(volume.operations)
  t.teardown(async () => {
    await mount.close()
    await volume.close()
  })
  // The shell goes there itself: spawn would enter a working directory while this process waits, and it serves that.
  const sh = async (script: string): Promise<string> => {
    const { stdout } = await run('bash', ['-c', `cd ${mount.path} && { ${script}\n} 2>&1; true`], {
      env: { ...process.env, LC_ALL: 'C' }, timeout: 60_000
    })
    return stdout.trim()
  }
  return { server, sh, volume }
}

for (const [what, verdict] of Object.entries({ 'is not known': missing, 'is not supported': notSupported })) {
  test(`a server whose READDIRPLUS ${what} is listed by READDIR, and asked for the other once`, async (t) => {
    const { server, sh } = await world(t, { script: on('READDIRPLUS', verdict) })
    t.is(await sh('ls -l | tail -n +2 | wc -l; ls; ls sub; stat -c %s file'), '2\nfile\nsub\n6')
    t.is(server.calls['READDIRPLUS'], 1)
    t.true((server.calls['READDIR'] ?? 0) > 0)
  })

  test(`a server whose ACCESS ${what} is believed to judge by mode bits`, async (t) => {
    const { sh } = await world(t, { script: on('ACCESS', verdict) })
    t.is(
      await sh('cat file; echo more >> file; cat file; chmod 600 file; chown 1000:1000 file sub; chmod 700 sub'),
      'hello\nhello\nmore'
    )
    t.is(await sh('setpriv --reuid 1000 --regid 1000 --clear-groups cat file'), 'hello\nmore')
    t.is(await sh('setpriv --reuid 1001 --regid 1001 --clear-groups cat file'), 'cat: file: Permission denied')
    t.regex(await sh('setpriv --reuid 1001 --regid 1001 --clear-groups ls sub'), /Permission denied/)
  })

  test(`a server whose MKNOD ${what} makes no FIFO: EPERM`, async (t) => {
    const { sh } = await world(t, { script: on('MKNOD', verdict) })
    t.regex(await sh('mkfifo pipe'), /Operation not permitted/)
  })

  test(`a server whose LINK ${what} makes no link: EPERM`, async (t) => {
    const { sh } = await world(t, { script: on('LINK', verdict) })
    t.regex(await sh('ln file second'), /Operation not permitted/)
  })

  test(`a server whose COMMIT ${what} gets the bytes again, on its disk before it answers`, async (t) => {
    const { server, sh } = await world(t, { script: on('COMMIT', verdict) })
    t.is(
      await sh('dd if=/dev/zero of=new bs=64k count=16 conv=fsync status=none; echo $?; stat -c %s new'),
      '0\n1048576'
    )
    t.is((await files.stat(path.join(server.folder, 'new'))).size, 1048576)
    const commits = server.calls['COMMIT'] ?? 0
    t.is(
      await sh('for n in 1 2 3; do dd if=/dev/zero of=other$n bs=64k count=1 conv=fsync status=none; echo $?; done'),
      '0\n0\n0'
    )
    t.log(`${commits} COMMITs for the first file, ${(server.calls['COMMIT'] ?? 0) - commits} for three more`)
  })

  test(`a server whose PATHCONF ${what} is mounted, with names of 255 bytes`, async (t) => {
    const { sh, server } = await world(t, { script: on('PATHCONF', verdict) })
    t.is(await sh('touch $(printf %0255d 0); ls | wc -l; touch $(printf %0256d 0) 2>/dev/null || echo no'), '3\nno')
    t.true((await files.readdir(server.folder)).some((name) => name.length === 255))
  })

  test(`a server whose FSSTAT ${what} gives no statistics and is well otherwise`, async (t) => {
    const { sh, volume } = await world(t, { script: on('FSSTAT', verdict) })
    t.regex(await sh('stat -f .'), /Operation not supported/)
    t.is(await sh('cat file'), 'hello')
    await t.throwsAsync(volume.statistics(2000), { message: /EOPNOTSUPP/ })
    t.like(await volume.probe(2000), { health: 'healthy' })
  })
}

test('statistics with bytes behind their end are answered, and nobody else notices', async (t) => {
  const { sh, volume } = await world(t, { script: on('FSSTAT', { trailing: Buffer.alloc(4, 0xff) }) })
  t.regex(
    await sh(
      'df . | tail -1 | wc -l; for n in $(seq 20); do echo $n > n$n; df . > /dev/null || echo bad; done; rm -r n*; ls'
    ),
    /^1\nfile\nsub$/
  )
  t.like(volume.report().counters, { disconnects: 0, retransmissions: 0 })
  t.true((volume.report().counters['trailing'] ?? 0) > 10)
})

test('statistics that cannot be decoded are EIO, and nobody else notices', async (t) => {
  const { sh, volume } = await world(t, { script: on('FSSTAT', { truncateBytes: 60 }) })
  t.regex(await sh('stat -f .'), /Input\/output error/)
  t.is(await sh('for n in $(seq 20); do echo $n > n$n; done; rm n*; ls'), 'file\nsub')
  t.like(volume.report().counters, {
    disconnects: 0, retransmissions: 2 * (volume.report().counters['undecodable'] ?? 0) / 3
  })
})

const most = 2n ** 64n - 1n
/** As df(1) sees it: blocks of 4 KiB in all, free and available, inodes in all. */
const statistics: Readonly<Record<string, { told: NonNullable<Verdict['statistics']>, seen: string }>> = {
  'no limit': {
    told: [most, most, most, most, most, most], seen: `${2n ** 51n - 1n} ${2n ** 51n - 1n} ${2n ** 51n - 1n} ${most}`
  },
  'more available than there is': { told: [8192n, 16384n, 16384n, 2n, 4n, 4n], seen: '2 4 4 2' },
  'nothing at all': { told: [0n, 0n, 0n, 0n, 0n, 0n], seen: '0 0 0 0' }
}
for (const [what, { told, seen }] of Object.entries(statistics)) {
  test(`FSSTAT that says ${what} is shown to programs as far as signed 64 bits go`, async (t) => {
    const { sh } = await world(t, { script: on('FSSTAT', { statistics: told }) })
    t.is(await sh('stat -f -c "%b %f %a %c" .; df . > /dev/null 2>&1 || [ $? = 1 ]; echo $?'), `${seen}\n0`)
  })
}

const sizes: Readonly<Record<string, { information: NonNullable<Verdict['information']>, bytes: number }>> = {
  'no maximum, no preference': { information: { rtmax: 0, rtpref: 0, wtmax: 0, wtpref: 0, dtpref: 0 }, bytes: 4096 },
  'no maximum, a preference': { information: { rtmax: 0, rtpref: 65536, wtmax: 0, wtpref: 65536 }, bytes: 65536 },
  'a tiny maximum': { information: { rtmax: 512, rtpref: 512, wtmax: 512, wtpref: 512, dtpref: 512 }, bytes: 512 },
  'a maximum that nobody means': { information: { rtmax: 1, rtpref: 1, wtmax: 1, wtpref: 1, dtpref: 1 }, bytes: 4096 },
  'a huge maximum': {
    information: {
      rtmax: 2 ** 32 - 1, rtpref: 2 ** 32 - 1, wtmax: 2 ** 32 - 1, wtpref: 2 ** 32 - 1, dtpref: 2 ** 32 - 1
    },
    bytes: mebibyteBytes
  },
  'a preference below the maximum': { information: { rtpref: 32768, wtpref: 32768 }, bytes: 32768 }
}
for (const [what, { information, bytes }] of Object.entries(sizes)) {
  test(`FSINFO with ${what}: data goes in pieces of ${bytes} bytes, and is whole`, async (t) => {
    const { server, sh } = await world(t, { script: on('FSINFO', { information }) })
    t.is(
      await sh('head -c 3000000 /dev/zero | tr "\\0" x > big; sha1sum < big'),
      await sh('head -c 3000000 /dev/zero | tr "\\0" x | sha1sum')
    )
    t.is((await files.stat(path.join(server.folder, 'big'))).size, 3_000_000)
    t.true((server.calls['WRITE'] ?? 0) >= Math.floor(3_000_000 / bytes))
  })
}

test('nordirplus lists folders by name alone, and everything is found all the same', async (t) => {
  const { server, sh } = await world(t, {}, ',nordirplus')
  t.is(
    await sh('for n in $(seq 40); do echo $n > n$n; done; ls -l | tail -n +2 | wc -l; cat n* | wc -l; ls -l | wc -l'),
    '42\n40\n43'
  )
  t.is(server.calls['READDIRPLUS'], undefined)
  t.true((server.calls['READDIR'] ?? 0) > 0)
})

test('FSINFO with a largest file of 0 bytes says nothing, and files grow', async (t) => {
  const { sh } = await world(t, { script: on('FSINFO', { information: { maxFileSize: 0, properties: 0 } }) })
  t.is(
    await sh('truncate -s 5G file; stat -c %s file; ln file second; stat -c %h second; ln -s file soft; readlink soft'),
    '5368709120\n2\nfile'
  )
})

test('PATHCONF with names of 0 bytes and one link says nothing', async (t) => {
  const { sh } = await world(t, { script: on('PATHCONF', { pathLimits: { linkMax: 1, nameMax: 0 } }) })
  t.is(await sh('touch $(printf %0255d 0); ln file second; stat -c %h second; ls | wc -l'), '2\n4')
})

for (const nlink of [0n, 1n]) {
  test(`link counts that are always ${nlink}: files are made, opened, removed while open and listed`, async (t) => {
    const { sh } = await world(t, { disguise: () => ({ nlink }) })
    t.is(
      await sh('find . -type f; cat file; echo new > made; cat made; exec 3<file; rm file; cat <&3; ls'),
      './file\nhello\nnew\nhello\nmade\nsub'
    )
    t.is(await sh('mkdir deep; touch deep/x; rm -r deep; ls'), 'made\nsub')
  })
}

test('inode numbers that are always 0: names are found, read and removed', async (t) => {
  const { sh } = await world(t, { disguise: () => ({ ino: 0n }) })
  t.is(
    await sh('cat file; stat -c %i file; echo new > made; cat made; rm made; cat made'),
    'hello\n0\nnew\ncat: made: No such file or directory'
  )
})

const flavours: readonly (readonly [readonly number[], boolean])[] = [
  [[1], true], [[], true], [[0], true], [[390003, 0], true], [[390003, 1], true], [[390003], false],
  [[390003, 390004], false]
]
for (const [list, isAllowed] of flavours) {
  test(`MOUNT with the flavours [${list.join(', ')}] ${isAllowed ? 'may be used with' : 'refuses'} sec=sys`, async (t) => {
    const opened = world(t, { script: on('MNT', { flavours: list }) })
    if (isAllowed) t.is(await (await opened).sh('cat file'), 'hello')
    else await t.throwsAsync(opened, { message: /does not allow sec=sys \(it offers krb5/ })
  })
}
