/**
 * nfs(5) and mount(8) options as a table: each row says which setting a word changes, and to what.
 * Owns names, values and contradictions. Does not know which client will be used; `spec.ts` judges what that client can
 * do.
 */
import { VolumeError } from '../../base/errors.ts'
import type { LookupCache, MountFlags, NfsVersion, Recovery } from '../../base/volume-spec.ts'
import { defaultFlags } from './defaults.ts'
import { suggest } from './suggestion.ts'

/** Every setting an option can change. Two words that change one setting to different values contradict each other. */
export interface OptionSettings {
  version?: NfsVersion
  minorVersion?: 0 | 1 | 2
  port?: number
  mountPort?: number
  proto?: 'tcp' | 'tcp6' | 'udp' | 'udp6' | 'rdma'
  rsizeBytes?: number
  wsizeBytes?: number
  nconnect?: number
  recovery?: Recovery
  timeoDeciseconds?: number
  retrans?: number
  acregminSeconds?: number
  acregmaxSeconds?: number
  acdirminSeconds?: number
  acdirmaxSeconds?: number
  noac?: boolean
  lookupCache?: LookupCache
  locks?: 'local' | 'remote'
  softReval?: true
  noAcl?: true
  resvport?: boolean
  cto?: boolean
  sec?: string
  retryMinutes?: number
  readOnly?: boolean
  suid?: boolean
  dev?: boolean
  exec?: boolean
  atime?: boolean
  diratime?: boolean
  relatime?: boolean
  sync?: boolean
  dirsync?: boolean
}
type Setting = keyof OptionSettings
type Change = Partial<Record<Setting, OptionSettings[Setting]>>

interface Row {
  /** Whether the option is written `name=value`. */
  readonly takesValue: boolean
  readonly change: (value: string, refuse: Refuse) => Change
}
type Refuse = (why: string, remedy: string) => never

const word = (change: Change): Row => ({ takesValue: false, change: () => change })
/** Understood and without effect here; the comment in the table says why that is not a lie. */
const noEffect: Row = word({})
const noEffectWithValue: Row = { takesValue: true, change: () => ({}) }

const number = (min: number, max: number, toChange: (value: number) => Change): Row => ({
  takesValue: true,
  change: (text, refuse) => {
    const value = Number(text)
    if (!/^\d{1,10}$/.test(text) || value < min || value > max) {
      refuse(`is not a whole number from ${min} to ${max}`, 'correct the number')
    }
    return toChange(value)
  }
})

const choice = (choices: Readonly<Record<string, Change>>): Row => ({
  takesValue: true,
  change: (text, refuse) => {
    const change = Object.hasOwn(choices, text) ? choices[text] : undefined
    return change ?? refuse('is not a known value', suggest(text, Object.keys(choices)))
  }
})

/** nfs(5): rounded down to a multiple of 1024, at most 1 MiB, and what is below 1024 becomes 4096. */
const ioBytes = (value: number): number => value < 1024 ? 4096 : Math.min(value - value % 1024, 1_048_576)

const daySeconds = 86_400
const seconds = (toChange: (value: number) => Change): Row => number(0, daySeconds, toChange)
/** nfs(5): port 0 asks the server's rpcbind, as leaving it out does. */
const port = (setting: 'port' | 'mountPort'): Row =>
  number(0, 65_535, (value) => value === 0 ? {} : { [setting]: value })

const versions: Readonly<Record<string, Change>> = {
  3: { version: '3' },
  4: { version: '4' },
  '4.0': { version: '4.0' },
  4.1: { version: '4.1' },
  4.2: { version: '4.2' }
}
const version: Row = choice(versions)

const rows: Readonly<Record<string, Row>> = {
  vers: version,
  nfsvers: version,
  v3: word({ version: '3' }),
  v4: word({ version: '4' }),
  'v4.0': word({ version: '4.0' }),
  'v4.1': word({ version: '4.1' }),
  'v4.2': word({ version: '4.2' }),
  minorversion: choice({ 0: { minorVersion: 0 }, 1: { minorVersion: 1 }, 2: { minorVersion: 2 } }),
  port: port('port'),
  mountport: port('mountPort'),
  proto: choice({
    tcp: { proto: 'tcp' }, tcp6: { proto: 'tcp6' }, udp: { proto: 'udp' }, udp6: { proto: 'udp6' },
    rdma: { proto: 'rdma' }
  }),
  tcp: word({ proto: 'tcp' }),
  udp: word({ proto: 'udp' }),
  rdma: word({ proto: 'rdma' }),
  /* MOUNT is spoken in version 3 over TCP only. */
  mountproto: choice({ tcp: {}, tcp6: {} }),
  mountvers: choice({ 3: {} }),
  rsize: number(1, 1_073_741_824, (value) => ({ rsizeBytes: ioBytes(value) })),
  wsize: number(1, 1_073_741_824, (value) => ({ wsizeBytes: ioBytes(value) })),
  nconnect: number(1, 16, (value) => ({ nconnect: value })),
  hard: word({ recovery: 'hard' }),
  soft: word({ recovery: 'soft' }),
  softerr: word({ recovery: 'softerr' }),
  /* The own client always answers from memory what is known when the server is silent. */
  softreval: word({ softReval: true }),
  timeo: number(1, 6000, (value) => ({ timeoDeciseconds: value })),
  retrans: number(0, 1000, (value) => ({ retrans: value })),
  retry: number(0, 10_000, (value) => ({ retryMinutes: value })),
  acregmin: seconds((value) => ({ acregminSeconds: value })),
  acregmax: seconds((value) => ({ acregmaxSeconds: value })),
  acdirmin: seconds((value) => ({ acdirminSeconds: value })),
  acdirmax: seconds((value) => ({ acdirmaxSeconds: value })),
  actimeo: seconds((value) => ({
    acregminSeconds: value, acregmaxSeconds: value, acdirminSeconds: value, acdirmaxSeconds: value
  })),
  ac: word({ noac: false }),
  noac: word({ noac: true }),
  lookupcache: choice({
    all: { lookupCache: 'all' }, pos: { lookupCache: 'positive' }, positive: { lookupCache: 'positive' },
    none: { lookupCache: 'none' }
  }),
  nolock: word({ locks: 'local' }),
  lock: word({ locks: 'remote' }),
  local_lock: choice({
    all: { locks: 'local' }, none: { locks: 'remote' }, flock: { locks: 'remote' }, posix: { locks: 'remote' }
  }),
  resvport: word({ resvport: true }),
  noresvport: word({ resvport: false }),
  cto: word({ cto: true }),
  nocto: word({ cto: false }),
  sec: choice({
    sys: { sec: 'sys' }, none: { sec: 'none' }, krb5: { sec: 'krb5' }, krb5i: { sec: 'krb5i' }, krb5p: { sec: 'krb5p' }
  }),
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
  sync: word({ sync: true }),
  async: word({ sync: false }),
  dirsync: word({ dirsync: true }),
  /* Whoever asks for the mount repeats it (kubelet, Flex), so the background is where it already happens. */
  bg: noEffect,
  fg: noEffect,
  /* Ignored by the kernel since Linux 2.6.25 as well: a waiting process can always be killed. */
  intr: noEffect,
  nointr: noEffect,
  /* Both clients prefetch names with their attributes; the own one never speaks the ACL side protocol. */
  rdirplus: noEffect,
  noacl: word({ noAcl: true }),
  /* Each volume has a file system of its own, whichever client serves it. */
  nosharecache: noEffect,
  /* For mount(8) and boot scripts only. */
  defaults: noEffect,
  auto: noEffect,
  noauto: noEffect,
  nofail: noEffect,
  _netdev: noEffect,
  comment: noEffectWithValue
}

export const mountOptionNames: readonly string[] = Object.keys(rows)

/** Splits `a,b=c` lists; empty items are tolerated as mount(8) does. */
export function splitOptions (lists: readonly string[]): readonly string[] {
  return lists.flatMap((list) => list.split(',')).map((item) => item.trim()).filter((item) => item !== '')
}

/**
 * Settings of all options together.
 * @throws VolumeError INVALID, field `mountOptions`, naming the option, what is wrong and what to write.
 */
export function parseMountOptions (options: readonly string[]): OptionSettings {
  const settings: OptionSettings = {}
  const writtenBy = new Map<Setting, string>()
  for (const option of options) {
    for (const [name, value] of Object.entries(parseOption(option)) as Array<[Setting, OptionSettings[Setting]]>) {
      const earlier = writtenBy.get(name)
      if (earlier !== undefined && settings[name] !== value) {
        throw refusal(
          option,
          `contradicts "${earlier}"`,
          'keep one of them (the volume\'s attribute and the PV\'s mountOptions are merged)'
        )
      }
      writtenBy.set(name, option)
      Object.assign(settings, { [name]: value })
    }
  }
  return settings
}

function parseOption (option: string): Change {
  const equals = option.indexOf('=')
  const name = equals < 0 ? option : option.slice(0, equals)
  /* fstab(5) reserves x-… for other programs. */
  if (name.startsWith('x-')) return {}
  const row = Object.hasOwn(rows, name) ? rows[name] : undefined
  if (row === undefined) throw refusal(option, 'is not a known option', suggest(name, mountOptionNames))
  if (row.takesValue && equals < 0) throw refusal(option, 'needs a value', `write ${name}=VALUE`)
  if (!row.takesValue && equals >= 0) throw refusal(option, 'takes no value', `write ${name}`)
  return row.change(option.slice(equals + 1), (why, remedy) => { throw refusal(option, why, remedy) })
}

function refusal (option: string, why: string, remedy: string): VolumeError {
  return new VolumeError('INVALID', `mountOptions: ${JSON.stringify(option.slice(0, 200))} ${why}`, {
    field: 'mountOptions', remedy
  })
}

/** The VFS flags of the settings; nosuid and nodev unless switched off, because a share's owner is not this node's
 * root. */
export function toMountFlags (settings: OptionSettings): MountFlags {
  const usual = defaultFlags
  const not = (setting: boolean | undefined): boolean | undefined => setting === undefined ? undefined : !setting
  return Object.freeze({
    readOnly: settings.readOnly ?? usual.readOnly,
    nosuid: not(settings.suid) ?? usual.nosuid,
    nodev: not(settings.dev) ?? usual.nodev,
    noexec: not(settings.exec) ?? usual.noexec,
    noatime: not(settings.atime) ?? usual.noatime,
    nodiratime: not(settings.diratime) ?? usual.nodiratime,
    relatime: settings.relatime ?? usual.relatime,
    sync: settings.sync ?? usual.sync,
    dirsync: settings.dirsync ?? usual.dirsync
  })
}
