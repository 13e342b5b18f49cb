/** Volume attributes: what is accepted and what it means, what is refused and how it is said. */
import test from 'ava'
import { kernelOptions } from '../../../../../agent/nfs/kernel-options.ts'
import { VolumeError } from '../../../../../agent/base/errors.ts'
import { showSource } from '../../../../../agent/base/volume-spec.ts'
import { stageKeyOf } from '../../../../../agent/volumes/spec/key.ts'
import { parseVolumeSpec, type SpecExtras } from '../../../../../agent/volumes/spec/spec.ts'
import { editDistance, suggest } from '../../../../../agent/volumes/spec/suggestion.ts'

const minimal = { server: 'nas', share: '/export' }
const parse = (extra: Record<string, string> = {}, mountFlags: string[] = [], more: Partial<SpecExtras> = {}) =>
  parseVolumeSpec({ ...minimal, ...extra }, { mountFlags, ...more })
const options = (...list: string[]) => parse({}, list).target.options

test('two attributes are enough; the rest are the documented defaults', (t) => {
  const spec = parse()
  t.deepEqual(JSON.parse(JSON.stringify(spec)), {
    type: 'nfs',
    target: {
      servers: ['nas'], share: '/export', subDir: [],
      options: {
        version: '3', nconnect: 1, recovery: 'hard', timeoMs: 60_000, retrans: 2, acregminMs: 3000, acregmaxMs: 60_000,
        acdirminMs: 30_000,
        acdirmaxMs: 60_000, noac: false, lookupCache: 'all', resvport: true, cto: true, sec: 'sys', retryMs: 0
      }
    },
    client: 'fuse',
    clientReason: 'auto: no NFS version was asked for, the own client speaks version 3',
    consistency: 'standard',
    flags: {
      readOnly: false, nosuid: true, nodev: true, noexec: false, noatime: false, nodiratime: false, relatime: false,
      sync: false, dirsync: false
    }
  })
  t.true(
    Object.isFrozen(spec) && Object.isFrozen(spec.target) && Object.isFrozen(spec.target.options) &&
      Object.isFrozen(spec.flags)
  )
})

test('csi-driver-nfs\'s own example StorageClass works unchanged', (t) => {
  const spec = parseVolumeSpec({
    server: 'nfs-server.default.svc.cluster.local', share: '/', subDir: 'pvc-1/x', mountPermissions: '0777',
    onDelete: 'retain',
    'csi.storage.k8s.io/pv/name': 'pv', 'storage.kubernetes.io/csiProvisionerIdentity': '1-2-nfs.csi.k8s.io',
    'kubernetes.io/fsType': ''
  }, { mountFlags: ['nfsvers=4.1'] })
  t.is(spec.client, 'kernel')
  t.is(spec.clientReason, 'auto: NFS version 4.1 is spoken by the kernel\'s client only')
  t.is(spec.target.options.version, '4.1')
  t.is(spec.mountPermissions, 0o777)
  t.is(showSource(spec), 'nfs-server.default.svc.cluster.local:/pvc-1/x')
})

test('attribute names are taken in any case, as csi-driver-nfs does', (t) => {
  t.is(showSource(parseVolumeSpec({ Server: 'nas', SHARE: '/a', subdir: 'b' })), 'nas:/a/b')
})

test('servers: names, addresses, IPv6 with and without brackets, several of one server', (t) => {
  const servers = (server: string) => parse({ server }).target.servers
  t.deepEqual(servers('10.0.0.1'), ['10.0.0.1'])
  t.deepEqual(servers('[2001:db8::1]'), ['2001:db8::1'])
  t.deepEqual(servers('fe80::1%eth0'), ['fe80::1%eth0'])
  t.deepEqual(servers('a.example.org., [fd00::1],10.0.0.1,a.example.org'), ['a.example.org', 'fd00::1', '10.0.0.1'])
  t.is(showSource(parse({ server: '[fd00::1]' })), '[fd00::1]:/export')
})

test('mount options mean what nfs(5) says', (t) => {
  t.like(options('vers=3', 'port=2050,mountport=20048', 'proto=tcp', 'nconnect=4'), {
    version: '3', port: 2050, mountPort: 20048, nconnect: 4
  })
  t.like(options('port=0'), { port: undefined })
  t.like(options('rsize=1500,wsize=4194304'), { rsizeBytes: 1024, wsizeBytes: 1_048_576 })
  t.like(options('rsize=100'), { rsizeBytes: 4096 })
  t.like(options('soft,timeo=50,retrans=5'), { recovery: 'soft', timeoMs: 5000, retrans: 5 })
  t.like(options('softerr'), { recovery: 'softerr' })
  t.like(options('actimeo=7'), { acregminMs: 7000, acregmaxMs: 7000, acdirminMs: 7000, acdirmaxMs: 7000 })
  t.like(options('noac,lookupcache=pos,nocto,noresvport,retry=2'), {
    noac: true, lookupCache: 'positive', cto: false, resvport: false, retryMs: 120_000
  })
  t.like(options('nolock,local_lock=all,bg,intr,sec=sys,_netdev,x-systemd.automount'), { sec: 'sys' })
  t.like(parse({}, ['ro,suid,dev,noexec,noatime,nodiratime']).flags, {
    readOnly: true, nosuid: false, nodev: false, noexec: true, noatime: true, nodiratime: true
  })
  t.like(parse({ mountOptions: 'soft' }, ['soft', 'v3', 'vers=3', 'nfsvers=3']), { client: 'fuse' })
})

test('words that only the kernel\'s client heeds make no difference to a volume of the own one', (t) => {
  const words = ['nolock', 'softreval', 'noacl']
  t.is(stageKeyOf(parse({}, words)), stageKeyOf(parse()))
  t.like(parse({ client: 'kernel' }, words).target.options, { locks: 'local', softReval: true, noAcl: true })
  t.not(stageKeyOf(parse({ client: 'kernel' }, words)), stageKeyOf(parse({ client: 'kernel' })))
})

test('version 4 spellings', (t) => {
  const version = (...list: string[]) => parse({ client: 'kernel' }, list).target.options.version
  t.is(version('v4.1'), '4.1')
  t.is(version('vers=4,minorversion=1'), '4.1')
  t.is(version('vers=4'), '4')
  t.is(version('minorversion=0'), '4.0')
  t.is(version(), undefined)
})

test('read-only of a door becomes the flag; the mount group is kept', (t) => {
  t.true(parse({}, [], { readOnly: true }).flags.readOnly)
  t.is(parse({}, [], { mountGroup: 1000 }).mountGroup, 1000)
  t.is(parse({ mountPermissions: '0' }).mountPermissions, undefined)
})

const refusals: ReadonlyArray<readonly [Record<string, string>, string[], string, RegExp]> = [
  [{ server: '' }, [], 'server', /"" is empty; set it to the name/],
  [{ share: '' }, [], 'share', /is empty; set it to the exported path/],
  [{ type: 's3' }, [], 'type', /"s3" is not a known type.*use nfs/],
  [{ serverr: 'x' }, [], 'volume attributes', /"serverr" is not a known attribute; did you mean "server"\?/],
  [{ zzz: 'x' }, [], 'volume attributes', /"zzz".*known are: type, server/],
  [{ Server: 'other' }, [], 'server', /given twice/],
  [{ server: 'nas:2049' }, [], 'server', /"nas:2049" contains a port; put the port into mountOptions/],
  [{ server: 'nfs://nas' }, [], 'server', /is a URL/],
  [{ server: '[nas]' }, [], 'server', /not an IPv6 address in brackets/],
  [{ server: '300.1.1.1' }, [], 'server', /not an IPv4 address/],
  [{ server: 'a,,b' }, [], 'server', /has an empty name/],
  [{ server: 'na s' }, [], 'server', /not a host name/],
  [{ server: '-nas' }, [], 'server', /not a host name/],
  [{ server: `${'a.'.repeat(130)}x` }, [], 'server', /not a host name/],
  [{ server: 'a,b,c,d,e,f,g,h,i' }, [], 'server', /names 9 addresses; give at most 8/],
  [{ share: 'export' }, [], 'share', /"export" is not absolute; start it with "\/"/],
  [{ share: '/a/../b' }, [], 'share', /contains "\." or "\.\."/],
  [{ share: `/${'a'.repeat(1024)}` }, [], 'share', /longer than 1024 bytes/],
  [{ subDir: '../x' }, [], 'subDir', /contains "\.\."; a subDir never leaves its share/],
  [{ subDir: 'a/../../x' }, [], 'subDir', /contains "\.\."/],
  [{ subDir: 'ä'.repeat(128) }, [], 'subDir', /more than 255 bytes/],
  [{ subDir: '${pvc.metadata.name}' }, [], 'subDir', /template that nobody has filled in/],
  [{ subDir: 'a\0b' }, [], 'subDir', /NUL/],
  [{ client: 'fues' }, [], 'client', /"fues" is not a known client; did you mean "fuse"\?/],
  [
    { client: 'fuse' }, ['vers=4.1'], 'mountOptions',
    /"vers=4\.1" is not spoken by client=fuse.*use vers=3, or client=kernel/
  ],
  [{ consistency: 'strict' }, [], 'consistency', /"strict" is not known/],
  [{ consistency: 'solowriter', client: 'kernel' }, [], 'consistency', /client=fuse only/],
  [{ identity: 'alice' }, [], 'identity', /"alice" is not UID:GID/],
  [{ identity: '' }, [], 'identity', /"" is not UID:GID/],
  [{ identity: '1000' }, [], 'identity', /is not UID:GID/],
  [{ identity: '1000:100:10' }, [], 'identity', /is not UID:GID/],
  [{ identity: '-1:0' }, [], 'identity', /is not UID:GID/],
  [{ identity: '4294967295:0' }, [], 'identity', /is not UID:GID/],
  [{ idmap: 'yes' }, [], 'idmap', /"yes" is neither true nor false/],
  [{ idmap: '' }, [], 'idmap', /"" is neither true nor false/],
  [{ idmap: 'true', client: 'kernel' }, [], 'idmap', /client=fuse only/],
  [{ idmap: 'true', mountOptions: 'vers=4.1' }, [], 'idmap', /client=fuse only/],
  [{ fsGroupContents: 'Always' }, [], 'fsGroupContents', /"Always" is not known; did you mean "always"/],
  [{ fsGroupContents: '' }, [], 'fsGroupContents', /"" is not known/],
  [{ fsGroupContents: 'always', client: 'kernel' }, [], 'fsGroupContents', /client=fuse only.*fsGroupContents=never/],
  [{ identity: '1000:1000', client: 'kernel' }, [], 'identity', /client=fuse only/],
  [{ mountPermissions: '0999' }, [], 'mountPermissions', /"0999" is not an octal mode; write it like 0770/],
  [{ mountPermissions: '77777' }, [], 'mountPermissions', /not an octal mode/],
  [{ onDelete: 'purge' }, [], 'onDelete', /"purge" is not known/],
  [{ mountOptions: 'rsise=4096' }, [], 'mountOptions', /"rsise=4096" is not a known option; did you mean "[rw]size"\?/],
  [{ mountOptions: 'toString' }, [], 'mountOptions', /"toString" is not a known option/],
  [{ mountOptions: 'rsize' }, [], 'mountOptions', /"rsize" needs a value; write rsize=VALUE/],
  [{ mountOptions: 'hard=1' }, [], 'mountOptions', /"hard=1" takes no value; write hard/],
  [{ mountOptions: 'hard' }, ['soft'], 'mountOptions', /"soft" contradicts "hard"; keep one/],
  [{}, ['rsize=4096', 'rsize=8192'], 'mountOptions', /contradicts "rsize=4096"/],
  [{}, ['ro', 'rw'], 'mountOptions', /"rw" contradicts "ro"/],
  [{}, ['vers=3', 'v4.1'], 'mountOptions', /contradicts/],
  [{}, ['actimeo=3', 'acregmax=9'], 'mountOptions', /contradicts "actimeo=3"/],
  [{}, ['vers=3,minorversion=1'], 'mountOptions', /contradicts version 3/],
  [{}, ['vers=2'], 'mountOptions', /"vers=2" is NFS version 2, which neither client speaks; use vers=3/],
  [
    {}, ['context=system_u:object_r:nfs_t:s0'], 'mountOptions',
    /sets an SELinux context, which neither client passes on/
  ],
  [{}, ['uid=1000'], 'mountOptions', /"uid=1000" is for file systems without owners.*use fsGroup/],
  [{}, ['xprtsec=tls'], 'mountOptions', /asks for TLS.*use xprtsec=none/],
  [{}, ['mounthost=other'], 'mountOptions', /names another host for mountd/],
  [{}, ['mountvers=1'], 'mountOptions', /"mountvers=1" is not the MOUNT version of NFS version 3/],
  [{}, ['write=soon'], 'mountOptions', /"write=soon" is not a known value/],
  [{}, ['rdirplus', 'nordirplus'], 'mountOptions', /"nordirplus" contradicts "rdirplus"/],
  [{}, ['sec=sys:krb9'], 'mountOptions', /"sec=sys:krb9" is not a known value/],
  [{}, ['bind'], 'mountOptions', /"bind" is a deed of mount\(8\)/],
  [{}, ['vers=__proto__'], 'mountOptions', /not a known value/],
  [{}, ['port=65536'], 'mountOptions', /"port=65536" is not a whole number from 0 to 65535/],
  [{}, ['timeo=0'], 'mountOptions', /whole number from 1 to 6000/],
  [{}, ['timeo=1e3'], 'mountOptions', /whole number/],
  [{}, ['nconnect=17'], 'mountOptions', /whole number from 1 to 16/],
  [{}, ['acregmin=90'], 'mountOptions', /"acregmin=90" makes acregmin \(90 s\) larger than acregmax \(60 s\)/],
  [{}, ['acdirmax=5'], 'mountOptions', /"acdirmax=5" makes acdirmin \(30 s\) larger/],
  [{}, ['proto=udp'], 'mountOptions', /"proto=udp" is not supported.*use proto=tcp/],
  [{}, ['rdma'], 'mountOptions', /"proto=rdma" is not supported.*use proto=tcp/],
  [{}, ['sec=krb5p'], 'mountOptions', /"sec=krb5p" is not spoken by client=fuse.*sec=sys, or client=kernel/],
  [{}, ['lock'], 'mountOptions', /"lock" asks for locks on the server.*use nolock/],
  [{}, ['local_lock=flock'], 'mountOptions', /asks for locks on the server/],
  [{}, ['local_lock=all', 'lock'], 'mountOptions', /contradicts/]
]

for (const [attributes, flags, field, message] of refusals) {
  test(`refused by name: ${JSON.stringify(attributes).slice(0, 60)} ${flags.join(',')}`, (t) => {
    const error = t.throws(() => parse(attributes, flags), { instanceOf: VolumeError, message })
    t.is(error?.code, 'INVALID')
    t.is(error?.field, field)
    t.truthy(error?.remedy)
  })
}

test('a secret among the options is in no message', (t) => {
  for (const option of ['password=hunter2', 'secret_token=hunter2']) {
    const error = t.throws(() => parse({}, [option]), { instanceOf: VolumeError })
    t.false(JSON.stringify([error?.message, error?.remedy]).includes('hunter2'))
  }
})

/* Names in the order of nfs(5) (nfs-utils 2.8) and mount(8) (util-linux 2.41), with a value where they have one. */
const documented = `nfsvers=3 vers=3 soft softerr hard softreval nosoftreval intr nointr timeo=600 retrans=2 rsize=4096
  wsize=4096 ac noac acregmin=3 acregmax=60 acdirmin=30 acdirmax=60 actimeo=5 bg fg nconnect=2 max_connect=4 rdirplus
  nordirplus rdirplus=none rdirplus=force retry=2 sec=sys sec=sys:krb5 sharecache nosharecache resvport noresvport
  lookupcache=pos fsc fsc=tag nofsc sloppy xprtsec=none proto=tcp tcp port=2049 mountport=20048 mountproto=udp
  mountproto=tcp mountvers=3 namlen=255 nolock cto nocto acl noacl local_lock=all minorversion=1 clientaddr=10.0.0.1
  migration nomigration trunkdiscovery notrunkdiscovery write=lazy write=eager write=wait alignwrite noalignwrite
  fatal_neterrors=none addr=10.0.0.1 mountaddr=10.0.0.1 async atime noatime auto noauto defaults dev nodev diratime
  nodiratime dirsync exec noexec group iversion noiversion nomand _netdev nofail relatime norelatime strictatime
  nostrictatime lazytime nolazytime suid nosuid silent loud owner ro rw sync user nouser users comment=x x-systemd.automount
  X-mount.mkdir vers=3.0 vers=4.1`
  .split(/\s+/)

for (const option of documented) {
  test(`an option that nfs(5) or mount(8) has is accepted: ${option}`, (t) => {
    t.notThrows(() => parse({ client: 'kernel' }, [option]))
    if (!/^(vers=4|minorversion)/.test(option)) t.notThrows(() => parse({}, [option]))
  })
}

test('options that change nothing are noted, and make no other volume', (t) => {
  const noted = [
    'fsc', 'acl', 'lazytime', 'mountproto=udp', 'addr=10.0.0.1', 'max_connect=4', 'write=eager', 'iversion'
  ]
  for (const option of noted) {
    const spec = parse({}, [option])
    t.is(spec.optionNotes?.length, 1)
    t.true(spec.optionNotes?.[0]?.startsWith(`${option}: `))
    t.is(stageKeyOf(spec), stageKeyOf(parse()))
  }
  t.is(parse({}, ['defaults', '_netdev', 'nofail', 'hard', 'x-foo']).optionNotes, undefined)
  t.deepEqual(parse({}, ['sloppy', 'whatever=1']).optionNotes, ['whatever=1: is not a known option (sloppy)'])
})

test('what only the kernel\'s client heeds is told to it as it was written', (t) => {
  const { target, optionNotes } = parse({ client: 'kernel' }, ['fsc=pod', 'max_connect=4', 'nomigration', 'acl'])
  t.deepEqual(target.options.kernelWords, ['fsc=pod', 'max_connect=4', 'nomigration'])
  t.is(optionNotes, undefined)
  t.true(
    kernelOptions(target.options, {
      version: '4.1', address: '10.0.0.1', port: 2049, mountPort: undefined, clientAddress: '10.0.0.2'
    }).includes(',fsc=pod,max_connect=4,nomigration,')
  )
})

test('nordirplus and nosoftreval are heeded by the own client, and make another volume', (t) => {
  const { options } = parse({}, ['nordirplus', 'nosoftreval']).target
  t.like(options, { nordirplus: true, softReval: false })
  t.is(new Set([parse(), parse({}, ['nordirplus']), parse({}, ['nosoftreval'])].map(stageKeyOf)).size, 3)
  t.is(stageKeyOf(parse({}, ['rdirplus', 'softreval'])), stageKeyOf(parse()))
  t.is(parse({}, ['sec=sys:krb5']).target.options.sec, 'sys')
})

test('user means noexec, nosuid and nodev, unless something else is said', (t) => {
  t.like(parse({}, ['user']).flags, { noexec: true, nosuid: true, nodev: true })
  t.like(parse({}, ['user', 'exec']).flags, { noexec: false, nosuid: true })
  t.like(parse({}, ['exec', 'user']).flags, { noexec: false })
})

test('a solo writer believes longer and opens without asking, unless its options say otherwise', (t) => {
  const { consistency, target } = parse({ consistency: 'solowriter' })
  t.is(consistency, 'solowriter')
  t.like(target.options, {
    acregminMs: 60_000, acregmaxMs: 3_600_000, acdirminMs: 60_000, acdirmaxMs: 3_600_000, cto: false
  })
  t.like(parse({ consistency: 'solowriter' }, ['actimeo=5', 'cto']).target.options, {
    acregminMs: 5000, acregmaxMs: 5000, cto: true
  })
  const error = t.throws(() => parse({ consistency: 'solowriter' }, ['noac']), {
    instanceOf: VolumeError, message: /noac.*contradicts consistency=solowriter/
  })
  t.like(error, { code: 'INVALID', field: 'mountOptions' })
})

test('a missing attribute is named', (t) => {
  t.throws(() => parseVolumeSpec({ share: '/a' }), { message: /^server: is missing; set it to/ })
  t.throws(() => parseVolumeSpec({ server: 'a' }), { message: /^share: is missing/ })
})

test('keys: the same volume in other words is one, any difference that can be seen makes two', (t) => {
  const key = (extra: Record<string, string> = {}, flags: string[] = [], more = {}) =>
    stageKeyOf(parse(extra, flags, more))
  const base = key()
  t.regex(base, /^[0-9a-f]{64}$/)
  for (const same of [
    key({}, ['hard']), key({}, ['ro']), key({}, ['vers=3']), key({ client: 'fuse' }), key({ share: '/export/' }),
    key({}, ['retry=5'])
  ]) t.is(same, base)
  t.is(key({ server: 'a,b' }), key({ server: 'b,a' }))
  const others = [
    key({ server: 'b' }), key({ share: '/x' }), key({ subDir: 'x' }), key({}, ['soft']), key({}, ['noexec']),
    key({}, ['rsize=4096']), key({}, ['port=2050']),
    stageKeyOf({ ...parse(), consistency: 'solowriter' }), key({ mountPermissions: '0770' }),
    key({}, [], { mountGroup: 5 }), key({ client: 'kernel' })
  ]
  t.is(new Set([base, ...others]).size, others.length + 1)
})

test('the nearest word is suggested, and none when nothing is near', (t) => {
  t.is(editDistance('sahre', 'share'), 1)
  t.is(editDistance('', 'abc'), 3)
  t.is(suggest('shrae', ['server', 'share']), 'did you mean "share"?')
  t.is(suggest('qqqq', ['a', 'b']), 'known are: a, b')
  t.is(suggest('x'.repeat(10_000), ['a']), 'known are: a')
})

test('idmap is part of what a mount is only when it is given', (t) => {
  t.true(parse({ idmap: 'true' }).idmap)
  t.is(parse({ IdMap: 'false', client: 'kernel' }).idmap, undefined)
  t.not(stageKeyOf(parse({ idmap: 'true' })), stageKeyOf(parse({})))
  t.is(stageKeyOf(parse({ idmap: 'false' })), stageKeyOf(parse({})))
})

test('an identity is two numbers, and part of what a mount is only when it is given', (t) => {
  t.deepEqual(parse({ identity: ' 1000:100 ' }).target.identity, { uid: 1000, gid: 100 })
  t.deepEqual(parse({ identity: '0:0' }).target.identity, { uid: 0, gid: 0 })
  t.false('identity' in parse({}).target)
  t.not(stageKeyOf(parse({ identity: '1000:100' })), stageKeyOf(parse({})))
})

test('when files get a pod’s group is no part of what a mount is', (t) => {
  for (const contents of ['always', 'root-mismatch', 'never'] as const) {
    t.is(parse({ fsGroupContents: contents }).fsGroupContents, contents)
    t.is(stageKeyOf(parse({ fsGroupContents: contents })), stageKeyOf(parse({})))
  }
  t.is(parse({ fsGroupContents: 'never', client: 'kernel' }).fsGroupContents, 'never')
})
