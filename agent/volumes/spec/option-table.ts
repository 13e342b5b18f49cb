/**
 * Every option of nfs(5) and mount(8), and those that people carry over from other places: what becomes of it here.
 * Owns the table. Each is honoured, or accepted with a note where it changes nothing that can be seen, or refused with
 * the reason. Does not know which client will be used; `spec.ts` judges what that one can do.
 */
import { choice, forKernel, noted, number, refused, silent, word, type Change, type OptionRow } from './option-rows.ts'

/** nfs(5): rounded down to a multiple of 1024, at most 1 MiB, and what is below 1024 becomes 4096. */
const ioBytes = (value: number): number => value < 1024 ? 4096 : Math.min(value - value % 1024, 1_048_576)

const daySeconds = 86_400
const seconds = (toChange: (value: number) => Change): OptionRow => number(0, daySeconds, toChange)
/** nfs(5): port 0 asks the server's rpcbind, as leaving it out does. */
const port = (setting: 'port' | 'mountPort'): OptionRow =>
  number(0, 65_535, (value) => value === 0 ? {} : { [setting]: value })

const version: OptionRow = {
  value: 'needed',
  change: (text, refuse, option) =>
    text === '2' || text === '2.0' ? refuse(...version2) : versions.change(text, refuse, option)
}
const version2 = ['is NFS version 2, which neither client speaks', 'use vers=3, or leave it out'] as const
const versions = choice({
  3: { version: '3' },
  '3.0': { version: '3' },
  4: { version: '4' },
  '4.0': { version: '4.0' },
  4.1: { version: '4.1' },
  4.2: { version: '4.2' }
})

const flavours = ['sys', 'none', 'krb5', 'krb5i', 'krb5p']
const flavourAliases: Readonly<Record<string, string>> = { null: 'none', unix: 'sys' }
/** nfs(5): several with colons between, of which the first that the server offers is used. */
const security: OptionRow = {
  value: 'needed',
  change: (text, refuse) => {
    const asked = text.split(':').map((flavour) => flavourAliases[flavour] ?? flavour)
    const unknown = asked.find((flavour) => !flavours.includes(flavour))
    if (unknown !== undefined) {
      refuse('is not a known value', `known are: ${flavours.join(', ')}, with ":" between several`)
    }
    return { sec: asked.join(':') }
  }
}

const mountHost = refused(
  'names another host for mountd, which is asked where NFS is', 'leave it out if that host is the server'
)

/** mount(8): what an ordinary user may mount is not to give that user more; later options may say otherwise. */
const byUser = (implies: Change): OptionRow => ({ ...silent, implies })
const noMore: Change = { exec: false, suid: false, dev: false }

const onDisk = refused('is for file systems on a disk of this node', 'leave it out')
const owners = refused(
  'is for file systems without owners; NFS has those of the server',
  'use fsGroup or mountPermissions, or set owner and mode on the server'
)
const cifs = refused('is an option of SMB, not of NFS', 'leave it out')
const efs = refused(
  'is an option of the Amazon EFS mount helper, which sets up a tunnel of its own', 'leave it out, or use that driver'
)
const deed = refused('is a deed of mount(8), not a property of a volume', 'leave it out')
const propagation = refused(
  'is decided where the volume is used', 'leave it out, and set mountPropagation in the pod\'s volumeMounts'
)
const seLinux = refused(
  'sets an SELinux context, which neither client passes on',
  'leave it out; the policy has a boolean that lets containers use network file systems'
)
const programs = refused('asks for another RPC program', 'leave it out: NFS and MOUNT are asked by their own numbers')

const access = noted('the server decides when a file\'s access time moves')
const quotas = noted('quotas are the server\'s')

/** Several names for which one row says everything. */
const each = (names: string, row: OptionRow): Readonly<Record<string, OptionRow>> =>
  Object.fromEntries(names.split(' ').map((name) => [name, row]))

export const mountOptionRows = {
  /* Version and way to the server. */
  vers: version,
  nfsvers: version,
  v2: refused(...version2),
  v3: word({ version: '3' }),
  v4: word({ version: '4' }),
  'v4.0': word({ version: '4.0' }),
  'v4.1': word({ version: '4.1' }),
  'v4.2': word({ version: '4.2' }),
  minorversion: choice({ 0: { minorVersion: 0 }, 1: { minorVersion: 1 }, 2: { minorVersion: 2 } }),
  port: port('port'),
  mountport: port('mountPort'),
  mounthost: mountHost,
  proto: choice({
    tcp: { proto: 'tcp' }, tcp6: { proto: 'tcp6' }, udp: { proto: 'udp' }, udp6: { proto: 'udp6' },
    rdma: { proto: 'rdma' }
  }),
  tcp: word({ proto: 'tcp' }),
  udp: word({ proto: 'udp' }),
  rdma: word({ proto: 'rdma' }),
  mountproto: {
    ...choice({ tcp: {}, tcp6: {}, udp: {}, udp6: {} }),
    note: { fuse: 'MOUNT is asked over TCP', kernel: 'MOUNT is asked over TCP' }
  },
  mountvers: {
    value: 'needed',
    change: (text, refuse) =>
      text === '3' ? {} : refuse('is not the MOUNT version of NFS version 3', 'write mountvers=3')
  },
  /* /proc/mounts shows these, and people copy them; mount.nfs(8) replaces two by what the name resolves to. */
  addr: noted('the address is what the server\'s name resolves to', 'needed'),
  mountaddr: noted('mountd is asked where NFS is', 'needed'),
  clientaddr: forKernel('kernelClientAddr', 'the server calls nobody back with NFS version 3', /^[0-9A-Fa-f.:]+$/),
  namlen: noted('the server says how long a name may be', 'needed'),
  nconnect: number(1, 16, (value) => ({ nconnect: value })),
  max_connect: forKernel(
    'kernelMaxConnect', 'trunking is of NFS version 4.1; nconnect= is the number of connections', /^([1-9]|1[0-6])$/
  ),
  trunkdiscovery: forKernel('kernelTrunkDiscovery', 'trunking is of NFS version 4.1'),
  notrunkdiscovery: forKernel('kernelTrunkDiscovery', 'trunking is of NFS version 4.1'),
  migration: forKernel('kernelMigration', 'migration is of NFS version 4'),
  nomigration: forKernel('kernelMigration', 'migration is of NFS version 4'),
  resvport: word({ resvport: true }),
  noresvport: word({ resvport: false }),
  sec: security,
  xprtsec: {
    value: 'needed',
    change: (text, refuse) =>
      text === 'none'
        ? {}
        : refuse(
          'asks for TLS, which the own client does not speak and the kernel\'s needs tlshd on the node for',
          'use xprtsec=none'
        )
  },
  ...each('nfsprog mountprog', programs),

  /* When the server does not answer. */
  hard: word({ recovery: 'hard' }),
  soft: word({ recovery: 'soft' }),
  softerr: word({ recovery: 'softerr' }),
  softreval: word({ softReval: true }),
  nosoftreval: word({ softReval: false }),
  timeo: number(1, 6000, (value) => ({ timeoDeciseconds: value })),
  retrans: number(0, 1000, (value) => ({ retrans: value })),
  retry: number(0, 10_000, (value) => ({ retryMinutes: value })),
  fatal_neterrors: forKernel(
    'kernelNetErrors', 'the own client waits for a network that comes back, as recovery options say',
    /^(default|none|ENETDOWN:ENETUNREACH|ENETUNREACH:ENETDOWN)$/
  ),
  /* Whoever asks for the mount repeats it (kubelet, Flex), so the background is where it already happens. */
  ...each('bg fg', silent),
  /* Ignored by the kernel since Linux 2.6.25 as well: a waiting process can always be killed. */
  ...each('intr nointr', silent),

  /* Transfer sizes and caching. */
  rsize: number(1, 1_073_741_824, (value) => ({ rsizeBytes: ioBytes(value) })),
  wsize: number(1, 1_073_741_824, (value) => ({ wsizeBytes: ioBytes(value) })),
  bsize: noted('the block size that statfs(2) shows is fixed', 'needed'),
  acregmin: seconds((value) => ({ acregminSeconds: value })),
  acregmax: seconds((value) => ({ acregmaxSeconds: value })),
  acdirmin: seconds((value) => ({ acdirminSeconds: value })),
  acdirmax: seconds((value) => ({ acdirmaxSeconds: value })),
  actimeo: seconds((value) => ({
    acregminSeconds: value, acregmaxSeconds: value, acdirminSeconds: value, acdirmaxSeconds: value
  })),
  ac: word({ noac: false }),
  noac: word({ noac: true }),
  cto: word({ cto: true }),
  nocto: word({ cto: false }),
  lookupcache: choice({
    all: { lookupCache: 'all' },
    pos: { lookupCache: 'positive' },
    positive: { lookupCache: 'positive' },
    none: { lookupCache: 'none' }
  }),
  rdirplus: {
    value: 'optional',
    change: (text, refuse) => {
      if (text === 'none') return { rdirplus: false }
      return text === '' || text === 'force'
        ? { rdirplus: true }
        : refuse('is not a known value', 'write rdirplus or nordirplus')
    }
  },
  nordirplus: word({ rdirplus: false }),
  write: forKernel(
    'kernelWrite',
    'close and fsync save what was written, whenever it leaves before',
    /^(lazy|eager|wait)$/
  ),
  alignwrite: forKernel('kernelAlignWrite', 'writes leave with the bytes that were written'),
  noalignwrite: forKernel('kernelAlignWrite', 'writes leave with the bytes that were written'),
  fsc: forKernel('kernelFsc', 'pages are kept in the node\'s memory, never on its disk'),
  nofsc: forKernel('kernelFsc', 'pages are never kept on the node\'s disk'),
  sharecache: noted('each volume is a file system of its own, whichever client serves it'),
  nosharecache: silent,

  /* Locks and ACLs. */
  nolock: word({ locks: 'local' }),
  lock: word({ locks: 'remote' }),
  local_lock: choice({
    all: { locks: 'local' }, none: { locks: 'remote' }, flock: { locks: 'remote' }, posix: { locks: 'remote' }
  }),
  acl: {
    ...word({ acl: true }),
    note: { fuse: 'the server judges by its ACLs; getfacl and setfacl do not reach them through the own client' }
  },
  noacl: word({ acl: false }),
  posix: noted('names and limits are those that the server tells'),
  noposix: silent,

  /* mount(8): what holds for every file system. */
  ro: word({ readOnly: true }),
  rw: word({ readOnly: false }),
  suid: word({ suid: true }),
  nosuid: word({ suid: false }),
  dev: word({ dev: true }),
  nodev: word({ dev: false }),
  exec: word({ exec: true }),
  noexec: word({ exec: false }),
  atime: word({ atime: true }),
  noatime: word({ atime: false }),
  diratime: word({ diratime: true }),
  nodiratime: word({ diratime: false }),
  relatime: word({ relatime: true }),
  norelatime: word({ relatime: false }),
  strictatime: access,
  nostrictatime: silent,
  lazytime: access,
  nolazytime: silent,
  iversion: noted('change counters of a file system on a disk are not asked for over NFS version 3'),
  noiversion: silent,
  sync: word({ sync: true }),
  async: word({ sync: false }),
  dirsync: word({ dirsync: true }),
  user: byUser(noMore),
  users: byUser(noMore),
  ...each('nouser nousers', silent),
  owner: byUser({ suid: false, dev: false }),
  noowner: silent,
  group: byUser({ suid: false, dev: false }),
  nogroup: silent,
  mand: refused('asks for mandatory locks, which Linux no longer has', 'leave it out'),
  nomand: silent,
  nosymfollow: refused('is not set by either client', 'leave it out'),
  ...each('symfollow silent loud', silent),
  ...each('context fscontext defcontext rootcontext', seLinux),
  seclabel: noted('labels are those of the node\'s policy'),
  ...each('quota noquota usrquota grpquota', quotas),
  /* For mount(8) and boot scripts only. */
  ...each('defaults auto noauto nofail _netdev bootwait nobootwait comment helper uhelper', silent),
  ...each('remount bind rbind move', deed),
  ...each('loop offset sizelimit', onDisk),
  ...each('private rprivate shared rshared slave rslave unbindable runbindable', propagation),

  /* Carried over from other file systems. */
  ...each('discard nodiscard errors barrier nobarrier data commit inode64', onDisk),
  user_xattr: refused('asks for extended attributes, which NFS version 3 does not have', 'leave it out'),
  ...each('uid gid umask fmask dmask mode', owners),
  ...each('file_mode dir_mode mfsymlinks noperm username password credentials domain', cifs),
  ...each('tls iam accesspoint', efs),
  allow_other: refused(
    'is an option of FUSE programs',
    'leave it out: everybody whom the server lets in may use the volume'
  )
} as const satisfies Record<string, OptionRow>

/** sloppy is about other options, so the parser knows it. */
export const sloppyWord = 'sloppy'

export const mountOptionNames: readonly string[] = [...Object.keys(mountOptionRows), sloppyWord]

/** The row of a name; undefined when it is not known. Names of `Object.prototype` are not. */
export function mountOptionRow (name: string): OptionRow | undefined {
  return Object.hasOwn(mountOptionRows, name) ? mountOptionRows[name as keyof typeof mountOptionRows] : undefined
}
